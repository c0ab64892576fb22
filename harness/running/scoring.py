"""The second stage: a worker that measures saved predictions. It never runs a system."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.api import Codes, Evidence, Item, Metric, MetricInfo, Need, NotApplicable, NotScorable, Sample, Side, Signal, Status
from harness.api.libraries import library
from harness.data.audio import UnreadableAudio, read_recording, resample
from harness.data.digests import Contents
from harness.errors import ConfigError, HarnessError
from harness.foreign import attempt, bounded, message_of, reason_of
from harness.kept import Kept
from harness.running.metric_set import MetricBuilder, MetricSet
from harness.running.plan import HEARD
from harness.running.predicting import unread
from harness.settings.sources import source_digest
from harness.storing.outcomes import Outcome, OutcomeWriter
from harness.storing.store import DamagedPrediction, Store, key_of
from harness.workers.jobs import Job


@dataclass(frozen=True)
class Measure:
    """A step: one metric on one saved prediction.

    Args:
        prediction: key in the store.
        metric: registry key.
        key: under which the outcome is stored.
        signature: of the metric when the run was planned.
    """

    prediction: str
    metric: str
    key: str
    signature: str


@dataclass(frozen=True)
class Subject:
    """What a job of measurements is about.

    Args:
        item: whose outputs are measured.
        contents: of its files when the run was planned.
    """

    item: Item
    contents: Contents


@dataclass(frozen=True)
class DescribeMetrics:
    """A step: build the metrics and say what they are."""


@dataclass(frozen=True)
class Measured:
    """What the parent hears of a measurement, whose outcome is in the store.

    Args:
        status: how it ended.
        changed: what a plug-in metric changed that is not its own and was put back, in words.
    """

    status: Status
    changed: tuple[str, ...] = ()


class CannotBeBuilt(Exception):
    """Metrics that could be built when they were described, and in the place of a lost worker could not."""


@dataclass(frozen=True)
class MetricCards:
    """Declarations of the metrics that were built, and the reasons of those that were not."""

    metrics: dict[str, MetricInfo]
    absent: dict[str, str]


@dataclass
class ScoreWorker:
    """Measures all outputs of one item together, so that what is derived from its recording is computed once.

    Args:
        store_root: of the store.
        recipe: of the metrics.
    """

    store_root: Path
    recipe: MetricBuilder
    _panel: MetricSet | None = field(default=None, repr=False)
    _refusal: HarnessError | None = field(default=None, repr=False)
    _infos: dict[str, MetricInfo] = field(default_factory=dict)
    _subject: Subject | None = None
    _reference: Signal | Outcome | None = field(default=None, repr=False)
    _prompt: Signal | Outcome | None = field(default=None, repr=False)
    _output: tuple[str, Sample] | None = field(default=None, repr=False)
    _odd: dict[str, str] = field(default_factory=dict)
    _private: dict[str, _Private] = field(default_factory=dict, repr=False)
    _changed: tuple[str, ...] = ()
    _writer: OutcomeWriter | None = field(default=None, repr=False)

    def begin(self, job: Job) -> None:
        if self._panel is None:
            try:
                self._panel, self._refusal = self.recipe.build(), None
                self._infos = {key: _info(key, metric) for key, metric in self._panel.metrics.items()}
            except HarnessError as error:
                self._panel, self._refusal = None, error
        self._subject = job.payload
        self._odd = {}
        self._forget()

    def step(self, step: Measure | DescribeMetrics) -> Measured | MetricCards:
        if self._panel is None:
            assert self._refusal is not None
            if isinstance(step, DescribeMetrics):
                raise self._refusal  # the run cannot begin
            raise CannotBeBuilt(str(self._refusal))
        if isinstance(step, DescribeMetrics):
            return MetricCards(dict(self._infos), self._panel.absent)
        self._changed = ()
        outcome = self._measure(self._panel.metrics[step.metric], step)
        self._keep(step.key, outcome)
        return Measured(outcome.status, self._changed)

    def end(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._reference = self._prompt = self._output = None
        self._private.clear()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _keep(self, key: str, outcome: Outcome) -> None:
        if self._writer is None:
            self._writer = Store(self.store_root).outcomes.writer()
        self._writer.append(key, outcome)

    def _measure(self, metric: Metric, step: Measure) -> Outcome:
        info = self._infos[step.metric]
        if info.signature() != step.signature:
            reason = f"the metric is {info.signature()} here and was {step.signature} when the run was planned: the files of its "
            return Outcome(Status.FAILED, side=str(Side.REFERENCE), reason=f"{reason}model were replaced since; run the same command again")
        sample = self._sample(step.prediction)
        if isinstance(sample, Outcome):
            return sample
        # What cannot be read is missing from what needs it, and from nothing else.
        for need, side in ((Need.REFERENCE, self._reference), (Need.PROMPT, self._prompt)):
            if isinstance(side, Outcome) and (need in info.needs or side.retry):  # what changed meanwhile is another item
                return side
        if lacking := _lacking(info, sample):
            return Outcome(Status.SKIPPED_BY_POLICY, reason=lacking)
        if info.needs <= HEARD:
            # Its number is stored for all outputs that sound the same (`harness.running.plan.score_key`): it sees nothing else of them.
            sample = replace(sample, encoded=None, timing=None, stop_reason="", prompt_resynthesis=None)
        try:
            evidence = self._asked(metric, step.metric, sample)
        except NotScorable as undefined:
            blamed = Side.REFERENCE if undefined.side == Side.REFERENCE else Side.OUTPUT
            return Outcome(
                Status.METRIC_UNDEFINED, side=str(blamed), reason=str(undefined.reason) or "the metric is undefined, and says not why"
            )
        except NotApplicable as reason:
            return Outcome(Status.SKIPPED_BY_POLICY, reason=message_of(reason) or "not applicable, and the metric says not why")
        counts = {**evidence.counts, **_narrow(info, evidence, sample)}
        return Outcome(Status.OK, float(evidence.value), float(evidence.weight), counts=counts, detail={**evidence.detail, **self._odd})

    def _asked(self, metric: Metric, key: str, sample: Sample) -> Evidence:
        """What the metric says. A plug-in gets a sample of its own, and what it changes beside that is put back."""
        assert self._panel is not None
        if key not in self._panel.foreign:
            return metric.measure(sample)
        mine = self._private.setdefault(key, _Private())
        view = mine.of(sample)
        kept = Kept()
        try:
            with kept:
                evidence = attempt(lambda: metric.measure(view))
        finally:
            self._changed = kept.changed
            if not mine.intact(view):
                del self._private[key]
                self._changed += ("the audio it was given",)
        if not isinstance(evidence, Evidence):
            raise TypeError(f"measure() returned {type(evidence).__name__}, wanted Evidence of harness.api")
        length = sum(len(name) + (len(kept) if isinstance(kept, str) else 0) for name, kept in evidence.detail.items())
        if length > DETAIL_CHARACTERS:
            raise ValueError(f"the detail of its evidence has {length} characters; {DETAIL_CHARACTERS} are kept at most")
        detail = {name: bounded(kept, DETAIL_CHARACTERS) if isinstance(kept, str) else kept for name, kept in evidence.detail.items()}
        return Evidence(evidence.value, evidence.weight, evidence.counts, detail)

    def _sample(self, prediction_key: str) -> Sample | Outcome:
        """The output beside its recording and prompt, as far as these can be read; or why the output cannot."""
        assert self._subject is not None
        item, contents = self._subject.item, self._subject.contents
        if self._reference is None and item.path is not None:
            self._reference = self._read("reference", item.path, item.channel, contents.recording)
        if self._prompt is None and item.prompt_path is not None:
            self._prompt = self._read("prompt", item.prompt_path, item.channel, contents.prompt)
        if self._output is None or self._output[0] != prediction_key:
            self._odd.pop("output_flags", None)
            store = Store(self.store_root)
            try:
                prediction = store.load_prediction(prediction_key)
            except DamagedPrediction as error:
                store.set_aside(prediction_key)
                return Outcome(Status.FAILED, side=str(Side.OUTPUT), reason=f"{error}; set aside, the same command makes it again")
            if prediction.audio.num_channels > 1:
                self._odd["output_flags"] = "channels_averaged"
            sample = Sample(
                item=item,
                output=Signal(prediction.audio, resample),
                reference=self._reference if isinstance(self._reference, Signal) else None,
                prompt=self._prompt if isinstance(self._prompt, Signal) else None,
                encoded=prediction.encoded,
                timing=prediction.timing,
                stop_reason=prediction.stop_reason,
                prompt_resynthesis=Signal(prediction.prompt_resynthesis, resample) if prediction.prompt_resynthesis else None,
            )
            self._output = (prediction_key, sample)
        return self._output[1]

    def _read(self, side: str, path: Path, channel: int | None, planned: str) -> Signal | Outcome:
        """The item's recording or prompt; what is odd about it is kept, once, and goes into every number made with it."""
        try:
            recording = read_recording(path, channel, planned)
        except UnreadableAudio as error:
            return unread(error)
        if recording.flags:
            self._odd[f"{side}_flags"] = " ".join(recording.flags)
            odd = Outcome(Status.OK, float(len(recording.flags)), 1.0, detail={"flags": " ".join(recording.flags)})
            self._keep(flags_key(recording.digest, channel), odd)
        return Signal(recording.audio, resample)


def flags_key(content: str, channel: int | None) -> str:
    """Where the store keeps what is odd about a recording or prompt; nothing lies there where nothing is.

    Args:
        content: digest of the file.
        channel: of it that was taken, or None.
    """
    return key_of("flags", {"content": content, "channel": channel})


DETAIL_CHARACTERS = 1_000_000
"""The most that a text among the details of a plug-in's evidence may have: far more than an hour's words."""


@dataclass
class _Private:
    """What one plug-in metric is given of one item: copies, so that no other metric sees what it writes into them.

    Recording and prompt stay the same for all outputs of the item, and with them what the metric derived from them.
    """

    reference: Signal | None = None
    prompt: Signal | None = None

    def of(self, sample: Sample) -> Sample:
        """A copy of the sample."""
        if self.reference is None and sample.reference is not None:
            self.reference = sample.reference.private()
        if self.prompt is None and sample.prompt is not None:
            self.prompt = sample.prompt.private()
        resynthesis = sample.prompt_resynthesis
        return replace(
            sample,
            item=replace(sample.item, notes=dict(sample.item.notes)),
            output=sample.output.private(),
            reference=self.reference,
            prompt=self.prompt,
            encoded=sample.encoded.copy() if sample.encoded is not None else None,
            timing=replace(sample.timing, figures=dict(sample.timing.figures)) if sample.timing is not None else None,
            prompt_resynthesis=resynthesis.private() if resynthesis is not None else None,
        )

    def intact(self, view: Sample) -> bool:
        """Whether the metric left the audio as it was; a copy that it did not is made anew for its next call."""
        return all(signal is None or signal.intact() for signal in (self.reference, self.prompt, view.output, view.prompt_resynthesis))


def _info(key: str, metric: Metric) -> MetricInfo:
    """The declaration of a metric, checked: it is written to the manifest and is part of every key.

    Raises:
        ConfigError: it declares what cannot be written down.
    """
    try:
        info = attempt(lambda: metric.info)
        if type(info) is not MetricInfo:
            raise TypeError(f"info is a {type(info).__name__}, wanted harness.api.MetricInfo")
        worst, *_ = map(float, info.bounds)
        told = [info.signature(), info.unit, str(info.better), sorted(map(str, info.needs)), info.description, info.sample_rate, worst]
        json.dumps(told, ensure_ascii=False).encode()
    except HarnessError:
        raise
    except Exception as error:
        raise ConfigError(f"metric '{key}' declares what cannot be written down: {reason_of(error)}") from error
    # What it cannot know of itself: the harness resamples for it, and a plug-in's code is another without a new version.
    beside = {"resampler": library("soxr")} if info.sample_rate is not None else {}
    if source := source_digest(metric):
        beside["source"] = source
    return replace(info, params={**beside, **info.params})


def _narrow(info: MetricInfo, evidence: Evidence, sample: Sample) -> dict[str, float]:
    """The rate of a recording that a metric could only compare at a higher one, as the count ``reference_hz``.

    What a metric says its own rate was for this item (``rate_hz`` in its counts) goes before the rate it declares.
    """
    if sample.reference is None or info.sample_rate is None or Need.REFERENCE not in info.needs:
        return {}
    own = sample.reference.audio.sample_rate
    return {"reference_hz": float(own)} if own < evidence.counts.get("rate_hz", info.sample_rate) else {}


def _lacking(info: MetricInfo, sample: Sample) -> str:
    """What the metric needs and this sample has not, or ""."""
    have: Mapping[Need, bool] = {
        Need.OUTPUT: True,
        Need.REFERENCE: sample.reference is not None,
        Need.TEXT: bool(sample.item.text),
        Need.PROMPT: sample.prompt is not None,
        Need.ENCODED: sample.encoded is not None,
        Need.CODES: isinstance(sample.encoded, Codes),
        Need.TIMING: sample.timing is not None,
        Need.STOP_REASON: bool(sample.stop_reason),
        Need.PROMPT_RESYNTHESIS: sample.prompt_resynthesis is not None,
    }
    words = {
        Need.REFERENCE: "the item has no reference recording",
        Need.TEXT: "the item has no text",
        Need.PROMPT: "the item has no prompt",
        Need.ENCODED: "the system gives no codes or packets",
        Need.CODES: "the system emits no token codes",
        Need.TIMING: "no timing was taken",
        Need.STOP_REASON: "the system gives no stop reason",
        Need.PROMPT_RESYNTHESIS: "the system has no codec to resynthesise the prompt with",
    }
    return "; ".join(words[need] for need in sorted(info.needs) if not have[need])
