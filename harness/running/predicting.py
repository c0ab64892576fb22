"""The first stage: a worker that builds one system at a time and makes its predictions."""

from __future__ import annotations

import inspect
import json
import time
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
    RecordedFiles,
    Side,
    Speech,
    Status,
    Suite,
    Synthesizer,
    System,
    SystemInfo,
    Timing,
    Utterance,
    Weights,
)
from harness.data.audio import UnreadableAudio, changed, flags, out_of_scale, read_recording, repeated, resample, unmixable
from harness.data.digests import file_digest
from harness.errors import ConfigError, HarnessError, MissingDependency
from harness.foreign import attempt, bounded, loading, message_of, reason_of
from harness.kept import Kept
from harness.metrics.tokens import SHIFT_S
from harness.running.costs import Spent
from harness.running.plan import Attempt, Card, Entrant
from harness.running.provenance import timed_with
from harness.running.worker import StageWorker, unread
from harness.settings.registry import resolve, source_digest
from harness.storing.aliases import without_secrets
from harness.storing.outcomes import Outcome
from harness.timing.clock import timed
from harness.torchaudio import ensure_torchaudio
from harness.workers.jobs import Job

CALIBRATION_INFO = SystemInfo(family="calibration", version="1", description="a recording of the dataset itself")


def build_system(entrant: Entrant) -> Any:
    """The system behind an entrant, None for a calibration row. Raises UsageError: it cannot be built, and what to do; and what it raised."""
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
    if not attempt(lambda: isinstance(system, System)):
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


def card_of(label: str, system: Any) -> Card:
    """What a built system (None for a calibration row) says of itself, before anything is asked. Raises ConfigError as `_writable`."""
    if system is None:
        return Card(CALIBRATION_INFO, None, "calibration", ({},))

    def described() -> Card:
        kind = "codec" if isinstance(system, Codec) else "synthesizer" if isinstance(system, Synthesizer) else "recorded"
        return Card(system.info, system.spec if isinstance(system, Codec) else None, kind, (), source=source_digest(system))

    return _writable(label, attempt(described))


def card_for(card: Card, label: str, system: Any, suite: Suite, items: Iterable[str]) -> Card:
    """The card of `card_of` with the variants that a suite asks for, and digests of the files with recorded outputs for these items."""
    if system is None:
        return card

    def described() -> Card:
        files = {item: _file_digest(system, item) for item in items} if isinstance(system, RecordedFiles) else {}
        return replace(card, settings=tuple(suite.variants(card.spec)), files=files)

    return _writable(label, attempt(described))


def _writable(label: str, card: Card) -> Card:
    """The card, which is written to the manifest and is part of every key. Raises ConfigError where that cannot be."""
    try:
        if type(card.info) is not SystemInfo or type(card.spec) not in (CodecSpec, type(None)):
            raise TypeError(f"info is a {type(card.info).__name__}, wanted harness.api.SystemInfo; spec, of a codec, harness.api.CodecSpec")
        written = [asdict(card.info), asdict(card.spec) if card.spec else None, *map(dict, card.settings)]
        json.dumps(written, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"system '{label}' says of itself what cannot be written down: {reason_of(error)}") from error
    return card


def _file_digest(system: RecordedFiles, item: str) -> str:
    """Digest of a recorded output; where there is none, or no one, what is said of it comes when it is asked for."""
    try:
        return file_digest(system.locate(item))
    except MissingOutput:
        return "missing:"
    except ValueError:
        return "unreadable:"


@dataclass(frozen=True)
class Describe:
    """A step: build the system and say what it is, as this suite asks of it."""

    suite: Suite


@dataclass(frozen=True)
class Predicted:
    """What the parent learns of a prediction that was made or not: either is in the store."""

    warmup_s: float | None = None  # wall time of the untimed first call, when this step made it
    changed: tuple[str, ...] = ()  # settings of the whole process that the system changed and that were put back, in words
    timed_with: Mapping[str, str] = field(default_factory=dict)  # what its times depend on
    spent: Spent = field(default_factory=Spent)  # with the untimed first call; what other processes of the system's take is in none of it


class _NoPrediction(Exception):
    """How a prediction ended that is none."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


def _failed(reason: str) -> _NoPrediction:
    return _NoPrediction(Outcome(Status.FAILED, side=str(Side.OUTPUT), reason=reason))


def _nothing_asked(reason: str) -> _NoPrediction:
    """The item lacks what the task is about: a recording to encode, a text to speak."""
    return _NoPrediction(Outcome(Status.INVALID_INPUT, side=str(Side.REFERENCE), reason=reason))


class PredictWorker(StageWorker):
    """Builds the entrant of the current job and predicts attempt by attempt, each system with so many CPU threads."""

    _system: Any
    _card: Card
    _entrant: Entrant | None = None

    def __init__(self, store: Path, items: Mapping[str, Item], threads: int) -> None:
        super().__init__(store)
        self._items, self._threads = items, threads

    def begin(self, job: Job) -> None:
        entrant: Entrant = job.payload
        if self._entrant == entrant:
            return
        self._system = self._refusal = None  # freed before the next one is built
        self._entrant, self._identity, self._warm = entrant, "", False
        self._prompt_resynthesis: tuple[str, Audio] | None = None
        try:
            self._system = build_system(entrant)
            card = card_of(entrant.label, self._system)
            self._card = replace(card, timed_with={} if self._system is None else timed_with(self._threads, card.info.device))
            self._identity = self._card.digest()
        except HarnessError as error:
            self._refusal = error

    def step(self, step: Attempt | Describe) -> Card | Predicted:
        self._refuse(describing=isinstance(step, Describe))
        if isinstance(step, Describe):
            with Kept():
                return card_for(self._card, self._entrant.label if self._entrant else "", self._system, step.suite, self._items)
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        made = self._predict(step)
        return replace(made, spent=Spent(1, made.spent.audio_s, time.perf_counter() - wall_s, time.process_time() - cpu_s))

    def _predict(self, asked: Attempt) -> Predicted:
        kept, warmup_s = Kept(), None
        try:
            if self._identity != asked.card:
                raise _failed(_OTHER)
            with kept:
                prediction, warmup_s = attempt(lambda: self._made(asked))
            untrained = self._system is not None and self._card.info.weights == Weights.RANDOM
            unheard = asked.timing is not None or untrained  # nobody listens to it, and it may be of any loudness
            if reason := _unusable(prediction.audio) or (not unheard and (out_of_scale(prediction.audio) or unmixable(prediction.audio))):
                raise _failed(f"output: {reason}")
            if prediction.prompt_resynthesis and (reason := _unusable(prediction.prompt_resynthesis)):
                raise _failed(f"resynthesis of the prompt: {reason}")
        except _NoPrediction as ended:
            self._keep(asked.key, ended.outcome)
            return Predicted(warmup_s, kept.changed)
        odd = (*flags(prediction.audio), *self._repeated(asked, prediction.audio))
        taken_with: Mapping[str, str] = {}
        if prediction.timing is not None:
            taken_with = self._card.timed_with
            prediction = replace(prediction, timing=replace(prediction.timing, taken_with=dict(taken_with)))
        self._store.save_prediction(asked.key, prediction, odd)
        return Predicted(warmup_s, kept.changed, taken_with, Spent(audio_s=prediction.audio.duration_s))

    def _made(self, asked: Attempt) -> tuple[Prediction, float | None]:
        """The prediction, and how long the untimed first call took, if there was one."""
        try:
            call = self._call(self._items[asked.item], asked)
        except UnreadableAudio as error:
            raise _NoPrediction(unread(error)) from error
        warmup_s = None
        try:
            if asked.timing is None and not self._warm and isinstance(self._system, (Codec, Synthesizer)):
                warmup_s = timed(call, self._system.info.device).wall_s
                self._warm = True
            return call(), warmup_s
        except MissingOutput as error:
            gone = f"; {changed(asked.output)}" if asked.output and ":" not in asked.output else ""
            raise _failed(f"no output: {message_of(error)}{gone}") from error
        except UnreadableAudio as error:
            if self._system is None:  # a calibration row: the recording is the dataset's
                raise _NoPrediction(unread(error)) from error
            raise _failed(f"output: {message_of(error)}") from error

    def _call(self, item: Item, asked: Attempt) -> Callable[[], Prediction]:
        """What makes the prediction, with everything read that it needs."""
        if isinstance(self._system, Synthesizer):
            return self._synthesis(item, asked)
        if isinstance(self._system, Codec):
            return self._resynthesis(item, asked)
        if self._entrant is not None and self._entrant.recordings is not None:
            path = self._entrant.recordings[item.id]
            return lambda: Prediction(read_recording(path, item.channel, asked.output).audio)
        if isinstance(self._system, RecordedFiles):
            return lambda: Prediction(read_recording(self._system.locate(item.id), planned=asked.output).audio)
        return lambda: Prediction(_audio(self._system.recall(item.id), "recall"))

    def _repeated(self, asked: Attempt, output: Audio) -> tuple[str, ...]:
        """A flag where speech that was to follow a prompt repeats it."""
        item = self._items[asked.item]
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
            raise _nothing_asked("the item has no recording to encode")
        recording = read_recording(item.path, item.channel, asked.contents.recording).audio
        audio = Audio.mono(resample(recording.mixed(), recording.sample_rate, codec.spec.sample_rate), codec.spec.sample_rate)
        codebooks = json.loads(asked.settings).get("codebooks")
        if asked.timing is not None:
            from harness.timing.systems import TimingContext, time_codec

            context = TimingContext(asked.timing, self._threads).under(asked.settings)
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
            encode_s, decode_s = encoding.wall_s, decoding.wall_s
            timing = self._timing(encode_s + decode_s, audio, encode_s, decode_s)
            decoded = _audio(decoding.result, "decode")
            again = _encoded_again(codec, audio, decoded, codebooks) if asked.again and not _unusable(decoded) else {}
            return Prediction(decoded, encoded, timing, encoded_again=again)

        return call

    def _synthesis(self, item: Item, asked: Attempt) -> Callable[[], Prediction]:
        synthesizer: Synthesizer = self._system
        if not item.text.strip():
            raise _nothing_asked("the item has no text to speak")
        prompt = read_recording(item.prompt_path, item.channel, asked.contents.prompt).audio if item.prompt_path else None
        utterance = Utterance(item.text, item.language, prompt, item.prompt_text)
        if asked.timing is not None:
            from harness.timing.systems import TimingContext, time_synthesizer, time_under_load

            context = TimingContext(asked.timing, self._threads).under(asked.settings)
            under_load = context.concurrent is not None or context.arrivals_hz is not None
            time = time_under_load if under_load else time_synthesizer
            return lambda: _checked(time(synthesizer, utterance, context))

        def call() -> Prediction:
            given = replace(utterance, prompt=prompt.copy() if prompt is not None else None)
            speaking = timed(lambda: synthesizer.synthesize(given, asked.seed), synthesizer.info.device)
            speech: Speech = _received(speaking.result, (Speech,), "synthesize")
            audio = _audio(speech.audio, "synthesize")
            return Prediction(
                audio=audio,
                encoded=None if speech.codes is None else _received(speech.codes, (Codes,), "synthesize"),
                timing=self._timing(speaking.wall_s, audio),
                stop_reason=bounded(str(speech.stop_reason), STOP_CHARACTERS),
                prompt_resynthesis=self._resynthesized(prompt),
            )

        return call

    def _timing(self, total_s: float, audio: Audio, encode_s: float = 0.0, decode_s: float = 0.0) -> Timing | None:
        """Of one call for this audio; None where it holds nothing."""
        if not audio.num_samples:
            return None
        info = self._system.info
        return Timing(total_s, audio.duration_s, encode_s, decode_s, self._threads, info.device, info.precision)

    def _resynthesized(self, prompt: Audio | None) -> Audio | None:
        """The prompt through the synthesizer's codec, once for the seeds of an item; None without a codec or a prompt."""
        if prompt is None or not isinstance(self._system, CodecSynthesizer):
            return None
        digest = prompt.digest()
        if self._prompt_resynthesis is None or self._prompt_resynthesis[0] != digest:
            self._prompt_resynthesis = digest, _audio(self._system.resynthesize(prompt.copy()), "resynthesize")
        return self._prompt_resynthesis[1]


STOP_CHARACTERS = 200
"""The most that is kept of a synthesizer's word for how it stopped."""
_OTHER = (
    "the system is another one than when the run was planned: its weights, its code or whatever else it is made of were replaced since; run the same "
    "command again"
)


def _received(given: Any, kinds: tuple[type, ...], call: str) -> Any:
    """What a system returned, made anew: of the right kind, and checked whatever was done to it since it was made."""
    if not isinstance(given, kinds):
        raise TypeError(f"{call}() returned {type(given).__name__}, wanted {' or '.join(kind.__name__ for kind in kinds)} of harness.api")
    made: Any = given
    return replace(made)


def _audio(given: Any, call: str) -> Audio:
    audio: Audio = _received(given, (Audio,), call)
    return audio


def _encoded_again(codec: Codec, audio: Audio, decoded: Audio, codebooks: int | None) -> dict[str, Codes]:
    """The codes of a codec's own output, and of its input ``SHIFT_S`` later (silence first, the end cut off): see `Prediction`."""
    rate = codec.spec.sample_rate
    late = np.concatenate([np.zeros(round(SHIFT_S * rate), np.float32), audio.samples[0]])[: audio.num_samples]
    given = {"output": resample(decoded.mixed(), decoded.sample_rate, rate), "shifted": late}
    again = {name: _received(codec.encode(Audio.mono(samples, rate)), (Codes,), "encode") for name, samples in given.items()}
    return again if codebooks is None else {name: codes.first(codebooks) for name, codes in again.items()}


def _checked(timed: Prediction) -> Prediction:
    """What was timed, as if it had been asked for once."""
    encoded = None if timed.encoded is None else _received(timed.encoded, (Codes, Bitstream), "encode")
    stop_reason = bounded(str(timed.stop_reason), STOP_CHARACTERS)
    return replace(timed, audio=_audio(timed.audio, "the timed call"), encoded=encoded, stop_reason=stop_reason)


def _unusable(audio: Audio) -> str:
    """Why an output is no audio at all, or ""."""
    if audio.num_samples == 0:
        return "empty (0 samples)"
    if bad := int(audio.samples.size - np.isfinite(audio.samples).sum()):
        return f"{bad} of {audio.samples.size} samples are NaN or Inf"
    return ""
