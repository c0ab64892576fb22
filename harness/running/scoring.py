"""The second stage: a worker that measures saved predictions. It never runs a system."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from harness.api import Codes, Evidence, Item, Metric, MetricInfo, Need, NotApplicable, NotScorable, Sample, Side, Signal, Status
from harness.data.audio import UnreadableAudio, read_recording, resample
from harness.data.digests import Contents
from harness.errors import HarnessError
from harness.foreign import attempt, bounded, message_of
from harness.kept import Kept
from harness.running.costs import Spent
from harness.running.metric_set import MetricBuilder, MetricCards, MetricSet
from harness.running.plan import AUDIO_ONLY
from harness.running.worker import StageWorker, unread
from harness.storing.outcomes import Outcome
from harness.storing.store import DamagedPrediction, key_of
from harness.workers.jobs import Job


@dataclass(frozen=True)
class Measure:
    """A step: one metric on one saved prediction."""

    prediction: str  # key in the store
    metric: str  # registry key
    key: str  # under which the outcome is stored
    signature: str  # of the metric when the run was planned


@dataclass(frozen=True)
class Subject:
    """What a job of measurements is about."""

    item: Item  # whose outputs are measured
    contents: Contents  # of its files when the run was planned


@dataclass(frozen=True)
class Measured:
    """What the parent learns of a measurement."""

    spent: Spent
    changed: tuple[str, ...] = ()  # what a plug-in metric changed that is not its own and was put back, in words


@dataclass(frozen=True)
class DescribeMetrics:
    """A step: build the metrics and say what they are."""


class ScoreWorker(StageWorker):
    """Measures all outputs of one item together, so that what is derived from its recording is computed once."""

    _set: MetricSet | None = None
    _subject: Subject

    def __init__(self, store: Path, builder: MetricBuilder) -> None:
        super().__init__(store)
        self._builder = builder
        self._private: dict[str, _Private] = {}
        self.end()

    def begin(self, job: Job) -> None:
        if self._set is None:
            try:
                self._set, self._refusal = self._builder.build(), None
            except HarnessError as error:
                self._refusal = error
        self._subject = job.payload
        self._odd: dict[str, str] = {}
        self.end()

    def step(self, step: Measure | DescribeMetrics) -> MetricCards | Measured:
        """The declarations; or what became of a measurement, whose outcome is in the store."""
        self._refuse(describing=isinstance(step, DescribeMetrics))
        assert self._set is not None
        if isinstance(step, DescribeMetrics):
            return self._set.cards
        self._changed: tuple[str, ...] = ()
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        self._keep(step.key, self._measure(self._set, step))
        sample = self._output[1] if self._output is not None else None
        audio_s = sample.output.audio.duration_s if sample is not None else 0.0
        return Measured(Spent(1, audio_s, time.perf_counter() - wall_s, time.process_time() - cpu_s), self._changed)

    def end(self) -> None:
        """Forgets the item."""
        self._reference: Signal | Outcome | None = None
        self._prompt: Signal | Outcome | None = None
        self._output: tuple[str, Sample] | None = None
        self._private.clear()

    def _measure(self, metrics: MetricSet, step: Measure) -> Outcome:
        info = metrics.cards.metrics[step.metric]
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
        if info.needs <= AUDIO_ONLY:
            # Its number is stored for all outputs that sound the same (`harness.running.plan.score_key`): it sees nothing else of them.
            sample = replace(sample, encoded=None, timing=None, stop_reason="", prompt_resynthesis=None, encoded_again={})
        try:
            metric, foreign = metrics.metrics[step.metric], step.metric in metrics.foreign
            evidence = self._foreign_evidence(metric, step.metric, sample) if foreign else metric.measure(sample)
        except NotScorable as undefined:
            blamed = Side.REFERENCE if undefined.side == Side.REFERENCE else Side.OUTPUT
            return Outcome(
                Status.METRIC_UNDEFINED, side=str(blamed), reason=str(undefined.reason) or "the metric is undefined, and says not why"
            )
        except NotApplicable as reason:
            return Outcome(Status.SKIPPED_BY_POLICY, reason=message_of(reason) or "not applicable, and the metric says not why")
        counts = {**evidence.counts, **_narrow(info, evidence, sample)}
        return Outcome(Status.OK, float(evidence.value), float(evidence.weight), counts=counts, detail={**evidence.detail, **self._odd})

    def _foreign_evidence(self, metric: Metric, key: str, sample: Sample) -> Evidence:
        """What a plug-in says. It gets a sample of its own, and what it changes beside that is put back."""
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
        item, contents = self._subject.item, self._subject.contents
        if self._reference is None and item.path is not None:
            self._reference = self._read("reference", item.path, item.channel, contents.recording)
        if self._prompt is None and item.prompt_path is not None:
            self._prompt = self._read("prompt", item.prompt_path, item.channel, contents.prompt)
        if self._output is None or self._output[0] != prediction_key:
            self._odd.pop("output_flags", None)
            try:
                prediction = self._store.load_prediction(prediction_key)
            except DamagedPrediction as error:
                self._store.set_aside(prediction_key)
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
                encoded_again=prediction.encoded_again,
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
    """Where the store keeps what is odd about a channel of a recording or prompt (of that content); nothing lies there where nothing is."""
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
            encoded_again={name: codes.copy() for name, codes in sample.encoded_again.items()},
        )

    def intact(self, view: Sample) -> bool:
        """Whether the metric left the audio as it was; a copy that it did not is made anew for its next call."""
        return all(signal is None or signal.intact() for signal in (self.reference, self.prompt, view.output, view.prompt_resynthesis))


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
    known = {
        Need.REFERENCE: (sample.reference, "the item has no reference recording"),
        Need.TEXT: (sample.item.text, "the item has no text"),
        Need.PROMPT: (sample.prompt, "the item has no prompt"),
        Need.ENCODED: (sample.encoded, "the system gives no codes or packets"),
        Need.CODES: (isinstance(sample.encoded, Codes), "the system emits no token codes"),
        Need.TIMING: (sample.timing, "no timing was taken"),
        Need.STOP_REASON: (sample.stop_reason, "the system gives no stop reason"),
        Need.PROMPT_RESYNTHESIS: (sample.prompt_resynthesis, "the system has no codec to resynthesise the prompt with"),
        Need.ENCODED_AGAIN: (sample.encoded_again, "the system is no codec of tokens, which could encode its output again"),
    }
    return "; ".join(known[need][1] for need in sorted(info.needs - {Need.OUTPUT}) if not known[need][0])
