"""The first stage: a worker that builds one system at a time and makes its predictions."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.aliases import without_secrets
from harness.api import (
    Audio,
    Codec,
    CodecSynthesizer,
    Codes,
    Encoded,
    Item,
    MissingOutput,
    Prediction,
    Recorded,
    RecordedFiles,
    Side,
    Status,
    Suite,
    Synthesizer,
    SystemInfo,
    Timing,
    Utterance,
    Weights,
)
from harness.clock import timed
from harness.data.audio import ChangedAudio, UnreadableAudio, changed, flags, out_of_scale, read_recording, resample, unmixable
from harness.data.digests import file_digest
from harness.errors import ConfigError, HarnessError, MissingDependency
from harness.executors import Job
from harness.plan import Attempt, Card, Entrant
from harness.registry import resolve
from harness.store import Outcome, OutcomeWriter, Store
from harness.timing.occasion import Occasion, time_codec, time_synthesizer
from harness.timing.under_load import time_under_load
from harness.torchaudio import ensure_torchaudio

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
    """

    outcome: Outcome | None
    warmup_s: float | None = None


class NothingAsked(Exception):
    """The item lacks what the task is about: a recording to encode, a text to speak."""


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
    _card: str = ""
    _entrant: Entrant | None = None
    _warm: bool = False
    _prompt_heard: tuple[str, Audio] | None = field(default=None, repr=False)
    _writer: OutcomeWriter | None = field(default=None, repr=False)

    def begin(self, job: Job) -> None:
        if self._entrant == job.payload:
            return
        self._system = None  # freed before the next one is built
        self._entrant, self._warm, self._prompt_heard = job.payload, False, None
        self._system = build_system(job.payload)
        self._card = described(self._system).digest()

    def step(self, step: Attempt | Describe) -> Any:
        if isinstance(step, Describe):
            return describe(self._system, step.suite, self.items)
        predicted = self._predict(step)
        if predicted.outcome is not None:
            if self._writer is None:
                self._writer = Store(self.store_root).writer()
            self._writer.append(step.key, predicted.outcome)
        return predicted

    def end(self) -> None:
        pass

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _predict(self, attempt: Attempt) -> Predicted:
        if self._card != attempt.card:
            return Predicted(Outcome(Status.FAILED, side=str(Side.OUTPUT), reason=_OTHER))
        item = self.items[attempt.item]
        try:
            if isinstance(self._system, Synthesizer):
                call = self._synthesis(item, attempt)
            elif isinstance(self._system, Codec):
                call = self._resynthesis(item, attempt)
            else:
                call = self._lookup(item, attempt)
        except NothingAsked as error:
            return Predicted(Outcome(Status.INVALID_INPUT, side=str(Side.REFERENCE), reason=str(error)))
        except UnreadableAudio as error:
            return Predicted(unread(error))
        warmup_s = None
        try:
            if attempt.timing is None and not self._warm and isinstance(self._system, (Codec, Synthesizer)):
                warmup_s = timed(call, self._system.info.device).wall_s
                self._warm = True
            prediction = call()
        except MissingOutput as error:
            gone = f"; {changed(attempt.output)}" if attempt.output and ":" not in attempt.output else ""
            return Predicted(Outcome(Status.FAILED, side=str(Side.OUTPUT), reason=f"no output: {error}{gone}"))
        except UnreadableAudio as error:
            if self._system is None:  # a reference row: the recording is the dataset's
                return Predicted(unread(error))
            return Predicted(Outcome(Status.FAILED, side=str(Side.OUTPUT), reason=f"output: {error}"))
        loud = attempt.timing is not None or self._untrained  # nobody listens to it
        if reason := _unusable(prediction.audio) or ("" if loud else out_of_scale(prediction.audio) or unmixable(prediction.audio)):
            return Predicted(Outcome(Status.FAILED, side=str(Side.OUTPUT), reason=f"output: {reason}"), warmup_s)
        if prediction.prompt_resynthesis and (reason := _unusable(prediction.prompt_resynthesis)):
            return Predicted(Outcome(Status.FAILED, side=str(Side.OUTPUT), reason=f"resynthesis of the prompt: {reason}"), warmup_s)
        Store(self.store_root).save_prediction(attempt.key, prediction, flags(prediction.audio))
        return Predicted(None, warmup_s)

    @property
    def _untrained(self) -> bool:
        return self._system is not None and self._system.info.weights == Weights.RANDOM

    def _resynthesis(self, item: Item, attempt: Attempt) -> Any:
        codec: Codec = self._system
        if item.path is None:
            raise NothingAsked("the item has no recording to encode")
        recording = read_recording(item.path, item.channel, attempt.contents.recording).audio
        audio = Audio.mono(resample(recording.mixed(), recording.sample_rate, codec.spec.sample_rate), codec.spec.sample_rate)
        codebooks = json.loads(attempt.settings).get("codebooks")
        if attempt.timing is not None:
            occasion = Occasion(attempt.timing, self.threads).under(attempt.settings)
            return lambda: time_codec(codec, audio, occasion)

        def call() -> Prediction:
            encoding = timed(lambda: codec.encode(audio), codec.info.device)
            encoded: Encoded = encoding.result
            if codebooks is not None:
                if not isinstance(encoded, Codes):
                    raise ConfigError(f"{codec.info.family} emits packets: it has no codebooks to cut")
                encoded = encoded.first(codebooks)
            decoding = timed(lambda: codec.decode(encoded), codec.info.device)
            timing = Timing(
                total_s=encoding.wall_s + decoding.wall_s,
                audio_s=audio.duration_s,
                encode_s=encoding.wall_s,
                decode_s=decoding.wall_s,
                threads=self.threads,
                device=codec.info.device,
                precision=codec.info.precision,
            )
            return Prediction(decoding.result, encoded, timing if audio.num_samples else None)

        return call

    def _synthesis(self, item: Item, attempt: Attempt) -> Any:
        synthesizer: Synthesizer = self._system
        if not item.text.strip():
            raise NothingAsked("the item has no text to speak")
        prompt = read_recording(item.prompt_path, item.channel, attempt.contents.prompt).audio if item.prompt_path else None
        utterance = Utterance(item.text, item.language, prompt, item.prompt_text)
        if attempt.timing is not None:
            occasion = Occasion(attempt.timing, self.threads).under(attempt.settings)
            loaded = occasion.concurrent is not None or occasion.arrivals_hz is not None
            time = time_under_load if loaded else time_synthesizer
            return lambda: time(synthesizer, utterance, occasion)

        def call() -> Prediction:
            speaking = timed(lambda: synthesizer.synthesize(utterance, attempt.seed), synthesizer.info.device)
            speech = speaking.result
            timing = Timing(
                total_s=speaking.wall_s,
                audio_s=speech.audio.duration_s,
                threads=self.threads,
                device=synthesizer.info.device,
                precision=synthesizer.info.precision,
            )
            return Prediction(
                audio=speech.audio,
                encoded=speech.codes,
                timing=timing if speech.audio.num_samples else None,
                stop_reason=speech.stop_reason,
                prompt_resynthesis=self._resynthesized(prompt),
            )

        return call

    def _resynthesized(self, prompt: Audio | None) -> Audio | None:
        """The prompt through the synthesizer's codec, once for the seeds of an item; None without a codec or a prompt."""
        if prompt is None or not isinstance(self._system, CodecSynthesizer):
            return None
        digest = prompt.digest()
        if self._prompt_heard is None or self._prompt_heard[0] != digest:
            self._prompt_heard = digest, self._system.resynthesize(prompt)
        return self._prompt_heard[1]

    def _lookup(self, item: Item, attempt: Attempt) -> Any:
        assert self._entrant is not None
        if self._entrant.recordings is not None:
            path = self._entrant.recordings[item.id]
            return lambda: Prediction(read_recording(path, item.channel, attempt.output).audio)
        if isinstance(self._system, RecordedFiles):
            return lambda: Prediction(read_recording(self._system.locate(item.id), planned=attempt.output).audio)
        return lambda: Prediction(self._system.recall(item.id))


_OTHER = (
    "the system is another one than when the run was planned: its weights or whatever else it is made of were replaced since; run the same "
    "command again"
)


def unread(error: UnreadableAudio) -> Outcome:
    """How a measurement ends whose recording or prompt was refused: for good, but for a file that changed, which is asked about again."""
    status = Status.FAILED if isinstance(error, ChangedAudio) else Status.INVALID_INPUT
    return Outcome(status, side=str(Side.REFERENCE), reason=str(error))


def build_system(entrant: Entrant) -> Any:
    """The system behind an entrant, built from its registry family.

    Raises:
        UnknownName, MissingDependency, ConfigError: it cannot be built, and what to do.
    """
    if entrant.calibration:
        return None
    parameters = dict(entrant.config)
    family = parameters.pop("family", None)
    if family is None:
        raise ConfigError(f"system '{entrant.label}' names no registry family; its YAML wants 'family: NAME'")
    ensure_torchaudio()  # a system's libraries may import it, and systems cannot ask for it themselves
    build = resolve("systems", family)
    missing = getattr(build, "missing", None)
    try:
        if missing is not None and (reason := missing(**parameters)):
            raise MissingDependency(f"system '{entrant.label}': {reason}")
        system = build(**parameters)
    except HarnessError:
        raise
    except (TypeError, ValueError) as error:
        accepted = ", ".join(inspect.signature(build).parameters)
        raise ConfigError(
            f"system '{entrant.label}' ({family}) cannot be built from {without_secrets(parameters)}: {error}. It takes: {accepted}"
        ) from error
    if not isinstance(system, (Codec, Synthesizer, Recorded, RecordedFiles)):
        raise ConfigError(
            f"system '{entrant.label}' ({family}) is neither a Codec, a Synthesizer, Recorded nor RecordedFiles (see harness.api)"
        )
    return system


def described(system: Any) -> Card:
    """What a built system (None for a calibration row) says of itself, before anything is asked of it."""
    if system is None:
        return Card(CALIBRATION_INFO, None, "calibration", ({},))
    if isinstance(system, Codec):
        return Card(system.info, system.spec, "codec", ())
    return Card(system.info, None, "synthesizer" if isinstance(system, Synthesizer) else "recorded", ())


def describe(system: Any, suite: Suite, items: Iterable[str] = ()) -> Card:
    """The card of a built system (None for a calibration row).

    Args:
        system: built.
        suite: that asks.
        items: ids of what it asks about; the files with recorded outputs for them are read and hashed.
    """
    card = described(system)
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
