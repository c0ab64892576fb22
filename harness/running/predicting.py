"""The first stage: a worker that builds one system at a time and makes its predictions."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.api import (
    Audio,
    Bitstream,
    Codec,
    CodecSpec,
    CodecSynthesizer,
    Codes,
    Encoded,
    Item,
    MissingOutput,
    Prediction,
    Recorded,
    RecordedFiles,
    Side,
    Speech,
    Status,
    Suite,
    Synthesizer,
    SystemInfo,
    Timing,
    Utterance,
    Weights,
)
from harness.data.audio import ChangedAudio, UnreadableAudio, changed, flags, out_of_scale, read_recording, resample, unmixable
from harness.data.copies import repeated
from harness.data.digests import file_digest
from harness.errors import ConfigError, HarnessError, MissingDependency
from harness.foreign import attempt, bounded, loading, message_of, reason_of
from harness.kept import Kept
from harness.running.plan import Attempt, Card, Entrant
from harness.running.provenance import timed_with
from harness.settings.registry import resolve
from harness.settings.sources import source_digest
from harness.storing.aliases import without_secrets
from harness.storing.outcomes import Outcome, OutcomeWriter
from harness.storing.store import Store
from harness.timing.clock import timed
from harness.timing.load import time_under_load
from harness.timing.systems import TimingContext, time_codec, time_synthesizer
from harness.torchaudio import ensure_torchaudio
from harness.workers.jobs import Job

CALIBRATION_INFO = SystemInfo(family="calibration", version="1", description="a recording of the dataset itself")


@dataclass(frozen=True)
class Describe:
    """A step: build the system and say what it is."""

    suite: Suite


@dataclass(frozen=True)
class Predicted:
    """What the parent hears of a prediction.

    Args:
        outcome: None when it was stored, else why not.
        warmup_s: wall time of the untimed first call, when this step made it.
        changed: settings of the whole process that the system changed and that were put back, in words.
        timed_with: what its times depend on.
    """

    outcome: Outcome | None
    warmup_s: float | None = None
    changed: tuple[str, ...] = ()
    timed_with: Mapping[str, str] = field(default_factory=dict)


class NothingAsked(Exception):
    """The item lacks what the task is about: a recording to encode, a text to speak."""


class CannotBeBuilt(Exception):
    """A system that could be built when it was described, and in the place of a lost worker could not."""


@dataclass
class PredictWorker:
    """Builds the entrant of the current job and predicts attempt by attempt.

    Args:
        store_root: of the store.
        items: of the dataset, by id.
        threads: CPU threads a system may use.
    """

    store_root: Path
    items: Mapping[str, Item]
    threads: int
    _system: Any = field(default=None, repr=False)
    _card: Card | None = None
    _identity: str = ""
    _entrant: Entrant | None = None
    _refusal: HarnessError | None = field(default=None, repr=False)
    _warm: bool = False
    _prompt_heard: tuple[str, Audio] | None = field(default=None, repr=False)
    _writer: OutcomeWriter | None = field(default=None, repr=False)

    def begin(self, job: Job) -> None:
        if self._entrant == job.payload:
            return
        self._system = self._refusal = None  # freed before the next one is built
        self._entrant, self._warm, self._prompt_heard = job.payload, False, None
        self._card, self._identity = None, ""
        try:
            self._system = build_system(job.payload)
            card = writable(job.payload, attempt(lambda: described(self._system)))
            self._card = replace(card, timed_with={} if self._system is None else timed_with(self.threads, card.info.device))
            self._identity = self._card.digest()
        except HarnessError as error:
            self._refusal = error

    def step(self, step: Attempt | Describe) -> Any:
        if isinstance(step, Describe):
            if self._refusal is not None:
                raise self._refusal  # the run cannot begin
            assert self._card is not None
            planned = self._card
            with Kept():
                card = attempt(lambda: describe(planned, self._system, step.suite, self.items))
            return writable(self._entrant, card)
        if self._refusal is not None:
            raise CannotBeBuilt(str(self._refusal))
        predicted = self._predict(step)
        if predicted.outcome is not None:
            if self._writer is None:
                self._writer = Store(self.store_root).outcomes.writer()
            self._writer.append(step.key, predicted.outcome)
        return predicted

    def end(self) -> None:
        pass

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _predict(self, asked: Attempt) -> Predicted:
        if self._identity != asked.card:
            return Predicted(Outcome(Status.FAILED, side=str(Side.OUTPUT), reason=_OTHER))
        with Kept() as kept:
            made = attempt(lambda: self._made(asked))
        if isinstance(made, Outcome):
            return Predicted(made, changed=kept.changed)
        prediction, loud, warmup_s = made
        if reason := _unusable(prediction.audio) or ("" if loud else out_of_scale(prediction.audio) or unmixable(prediction.audio)):
            return Predicted(Outcome(Status.FAILED, side=str(Side.OUTPUT), reason=f"output: {reason}"), warmup_s, kept.changed)
        if prediction.prompt_resynthesis and (reason := _unusable(prediction.prompt_resynthesis)):
            blamed = Outcome(Status.FAILED, side=str(Side.OUTPUT), reason=f"resynthesis of the prompt: {reason}")
            return Predicted(blamed, warmup_s, kept.changed)
        odd = (*flags(prediction.audio), *self._repeated(self.items[asked.item], asked, prediction.audio))
        taken_with: Mapping[str, str] = {}
        if prediction.timing is not None and self._card is not None:
            taken_with = self._card.timed_with
            prediction = replace(prediction, timing=replace(prediction.timing, taken_with=dict(taken_with)))
        Store(self.store_root).save_prediction(asked.key, prediction, odd)
        return Predicted(None, warmup_s, kept.changed, taken_with)

    def _made(self, asked: Attempt) -> tuple[Prediction, bool, float | None] | Outcome:
        """The prediction, whether it may be of any loudness, and how long the untimed first call took, if there was one; or why there is none."""
        item = self.items[asked.item]
        try:
            if isinstance(self._system, Synthesizer):
                call = self._synthesis(item, asked)
            elif isinstance(self._system, Codec):
                call = self._resynthesis(item, asked)
            else:
                call = self._lookup(item, asked)
        except NothingAsked as error:
            return Outcome(Status.INVALID_INPUT, side=str(Side.REFERENCE), reason=str(error))
        except UnreadableAudio as error:
            return unread(error)
        warmup_s = None
        try:
            if asked.timing is None and not self._warm and isinstance(self._system, (Codec, Synthesizer)):
                warmup_s = timed(call, self._system.info.device).wall_s
                self._warm = True
            return call(), asked.timing is not None or self._untrained, warmup_s  # nobody listens to what is timed or random
        except MissingOutput as error:
            gone = f"; {changed(asked.output)}" if asked.output and ":" not in asked.output else ""
            return Outcome(Status.FAILED, side=str(Side.OUTPUT), reason=f"no output: {message_of(error)}{gone}")
        except UnreadableAudio as error:
            if self._system is None:  # a reference row: the recording is the dataset's
                return unread(error)
            return Outcome(Status.FAILED, side=str(Side.OUTPUT), reason=f"output: {message_of(error)}")

    @property
    def _untrained(self) -> bool:
        return self._system is not None and self._system.info.weights == Weights.RANDOM

    def _repeated(self, item: Item, asked: Attempt, output: Audio) -> tuple[str, ...]:
        """A flag where speech that was to follow a prompt repeats it."""
        if item.prompt_path is None or asked.timing is not None or self._system is None or isinstance(self._system, Codec):
            return ()
        try:
            prompt = read_recording(item.prompt_path, item.channel, asked.contents.prompt).audio
        except UnreadableAudio:  # recorded outputs need none; whatever compares with the prompt says that it cannot
            return ()
        return tuple(filter(None, [repeated(prompt, output)]))

    def _resynthesis(self, item: Item, asked: Attempt) -> Callable[[], Prediction]:
        codec: Codec = self._system
        if item.path is None:
            raise NothingAsked("the item has no recording to encode")
        recording = read_recording(item.path, item.channel, asked.contents.recording).audio
        audio = Audio.mono(resample(recording.mixed(), recording.sample_rate, codec.spec.sample_rate), codec.spec.sample_rate)
        codebooks = json.loads(asked.settings).get("codebooks")
        if asked.timing is not None:
            context = TimingContext(asked.timing, self.threads).under(asked.settings)
            return lambda: _checked(time_codec(codec, audio, context))

        def call() -> Prediction:
            given = audio.copy()
            encoding = timed(lambda: codec.encode(given), codec.info.device)
            encoded: Encoded = _received(encoding.result, (Codes, Bitstream), "encode")
            if codebooks is not None:
                if not isinstance(encoded, Codes):
                    raise TypeError(f"{codec.info.family} emits packets: it has no codebooks to cut")
                encoded = encoded.first(codebooks)
            handed = encoded.copy()
            decoding = timed(lambda: codec.decode(handed), codec.info.device)
            timing = Timing(
                total_s=encoding.wall_s + decoding.wall_s,
                audio_s=audio.duration_s,
                encode_s=encoding.wall_s,
                decode_s=decoding.wall_s,
                threads=self.threads,
                device=codec.info.device,
                precision=codec.info.precision,
            )
            return Prediction(_heard(decoding.result, "decode"), encoded, timing if audio.num_samples else None)

        return call

    def _synthesis(self, item: Item, asked: Attempt) -> Callable[[], Prediction]:
        synthesizer: Synthesizer = self._system
        if not item.text.strip():
            raise NothingAsked("the item has no text to speak")
        prompt = read_recording(item.prompt_path, item.channel, asked.contents.prompt).audio if item.prompt_path else None
        utterance = Utterance(item.text, item.language, prompt, item.prompt_text)
        if asked.timing is not None:
            context = TimingContext(asked.timing, self.threads).under(asked.settings)
            loaded = context.concurrent is not None or context.arrivals_hz is not None
            time = time_under_load if loaded else time_synthesizer
            return lambda: _checked(time(synthesizer, utterance, context))

        def call() -> Prediction:
            given = replace(utterance, prompt=prompt.copy() if prompt is not None else None)
            speaking = timed(lambda: synthesizer.synthesize(given, asked.seed), synthesizer.info.device)
            speech: Speech = _received(speaking.result, (Speech,), "synthesize")
            audio = _heard(speech.audio, "synthesize")
            timing = Timing(
                total_s=speaking.wall_s,
                audio_s=audio.duration_s,
                threads=self.threads,
                device=synthesizer.info.device,
                precision=synthesizer.info.precision,
            )
            return Prediction(
                audio=audio,
                encoded=None if speech.codes is None else _received(speech.codes, (Codes,), "synthesize"),
                timing=timing if audio.num_samples else None,
                stop_reason=bounded(str(speech.stop_reason), STOP_CHARACTERS),
                prompt_resynthesis=self._resynthesized(prompt),
            )

        return call

    def _resynthesized(self, prompt: Audio | None) -> Audio | None:
        """The prompt through the synthesizer's codec, once for the seeds of an item; None without a codec or a prompt."""
        if prompt is None or not isinstance(self._system, CodecSynthesizer):
            return None
        digest = prompt.digest()
        if self._prompt_heard is None or self._prompt_heard[0] != digest:
            self._prompt_heard = digest, _heard(self._system.resynthesize(prompt.copy()), "resynthesize")
        return self._prompt_heard[1]

    def _lookup(self, item: Item, asked: Attempt) -> Callable[[], Prediction]:
        assert self._entrant is not None
        if self._entrant.recordings is not None:
            path = self._entrant.recordings[item.id]
            return lambda: Prediction(read_recording(path, item.channel, asked.output).audio)
        if isinstance(self._system, RecordedFiles):
            return lambda: Prediction(read_recording(self._system.locate(item.id), planned=asked.output).audio)
        return lambda: Prediction(_heard(self._system.recall(item.id), "recall"))


STOP_CHARACTERS = 200
"""The most that is kept of a synthesizer's word for how it stopped."""


def _received(given: Any, kinds: tuple[type, ...], call: str) -> Any:
    """What a system returned, made anew: of the right kind, and checked whatever was done to it since it was made."""
    if not isinstance(given, kinds):
        raise TypeError(f"{call}() returned {type(given).__name__}, wanted {' or '.join(kind.__name__ for kind in kinds)} of harness.api")
    made: Any = given
    return replace(made)


def _heard(given: Any, call: str) -> Audio:
    audio: Audio = _received(given, (Audio,), call)
    return audio


def _checked(timed: Prediction) -> Prediction:
    """What was timed, as if it had been asked for once."""
    encoded = None if timed.encoded is None else _received(timed.encoded, (Codes, Bitstream), "encode")
    return replace(
        timed, audio=_heard(timed.audio, "the timed call"), encoded=encoded, stop_reason=bounded(str(timed.stop_reason), STOP_CHARACTERS)
    )


_OTHER = (
    "the system is another one than when the run was planned: its weights, its code or whatever else it is made of were replaced since; run the same "
    "command again"
)


def unread(error: UnreadableAudio) -> Outcome:
    """How a measurement ends whose recording or prompt was refused: for good, but for a file that changed, which is asked about again."""
    status = Status.FAILED if isinstance(error, ChangedAudio) else Status.INVALID_INPUT
    return Outcome(status, side=str(Side.REFERENCE), reason=message_of(error))


def build_system(entrant: Entrant) -> Any:
    """The system behind an entrant, built from its registry family.

    Raises:
        UnknownName, MissingDependency, ConfigError: it cannot be built, and what to do.
        Exception: any other that its constructor raised.
    """
    if entrant.calibration:
        return None
    parameters = dict(entrant.config)
    family = parameters.pop("family", None)
    if family is None:
        raise ConfigError(f"system '{entrant.label}' names no registry family; its YAML wants 'family: NAME'")
    ensure_torchaudio()  # a system's libraries may import it, and systems cannot ask for it themselves
    build = resolve("systems", family)
    loading(f"system '{entrant.label}' ({family})")
    try:
        with Kept(settling=True):
            system, reason = attempt(lambda: _built(build, parameters))
    except (TypeError, ValueError) as error:
        accepted = ", ".join(inspect.signature(build).parameters)
        raise ConfigError(
            f"system '{entrant.label}' ({family}) cannot be built from {without_secrets(parameters)}: {message_of(error)}. It takes: {accepted}"
        ) from error
    if reason:
        raise MissingDependency(f"system '{entrant.label}': {reason}")
    if not attempt(lambda: isinstance(system, (Codec, Synthesizer, Recorded, RecordedFiles))):
        raise ConfigError(
            f"system '{entrant.label}' ({family}) is neither a Codec, a Synthesizer, Recorded nor RecordedFiles (see harness.api)"
        )
    return system


def _built(build: Any, parameters: Mapping[str, Any]) -> tuple[Any, str]:
    """A system; or what it says is missing."""
    missing = getattr(build, "missing", None)
    if missing is not None and (reason := missing(**parameters)):
        return None, bounded(str(reason))
    return build(**parameters), ""


def writable(entrant: Entrant | None, card: Card) -> Card:
    """The card, which is written to the manifest and is part of every key.

    Raises:
        ConfigError: the system says of itself what cannot be written down.
    """
    try:
        if type(card.info) is not SystemInfo or type(card.spec) not in (CodecSpec, type(None)):
            raise TypeError(f"info is a {type(card.info).__name__}, wanted harness.api.SystemInfo; spec, of a codec, harness.api.CodecSpec")
        told = [asdict(card.info), asdict(card.spec) if card.spec else None, *map(dict, card.settings)]
        json.dumps(told, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        label = entrant.label if entrant is not None else ""
        raise ConfigError(f"system '{label}' says of itself what cannot be written down: {reason_of(error)}") from error
    return card


def described(system: Any) -> Card:
    """What a built system (None for a calibration row) says of itself, before anything is asked of it."""
    if system is None:
        return Card(CALIBRATION_INFO, None, "calibration", ({},))
    kind = "codec" if isinstance(system, Codec) else "synthesizer" if isinstance(system, Synthesizer) else "recorded"
    spec = system.spec if isinstance(system, Codec) else None
    return Card(system.info, spec, kind, (), source=source_digest(system))


def describe(card: Card, system: Any, suite: Suite, items: Iterable[str] = ()) -> Card:
    """The card of a built system (None for a calibration row).

    Args:
        card: as `described` gives it.
        system: built.
        suite: that asks.
        items: ids of what it asks about; the files with recorded outputs for them are read and hashed.
    """
    if system is None:
        return card
    files = {item: _file_of(system, item) for item in items} if isinstance(system, RecordedFiles) else {}
    return replace(card, settings=tuple(suite.variants(card.spec)), files=files)


def _file_of(system: RecordedFiles, item: str) -> str:
    """Digest of a recorded output; where there is none, or no one, what is said of it comes when it is asked for."""
    try:
        return file_digest(system.locate(item))
    except MissingOutput:
        return "missing:"
    except ValueError:
        return "unreadable:"


def _unusable(audio: Audio) -> str:
    """Why an output is no audio at all, or ""."""
    if audio.num_samples == 0:
        return "empty (0 samples)"
    if bad := int(audio.samples.size - np.isfinite(audio.samples).sum()):
        return f"{bad} of {audio.samples.size} samples are NaN or Inf"
    return ""


def default_threads() -> int:
    """One per core this process may use."""
    return len(os.sched_getaffinity(0))
