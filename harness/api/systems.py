"""The three things that can be under test: a codec, a synthesizer, or a folder of somebody's outputs; what one may tell while timed, what it
produced for one item, and one measured (or failed) number: run x system x settings x item x seed x metric.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol, runtime_checkable

from harness.api.audio import Audio, CodecSpec, Codes, Encoded
from harness.api.suite import Utterance


class Weights(StrEnum):
    """Where a system's parameters come from. Random weights never produce a quality number."""

    NONE = "none"
    TRAINED = "trained"
    RANDOM = "random"


@dataclass(frozen=True)
class SystemInfo:
    """What a table prints about a system, and what its predictions are keyed by."""

    family: str  # name in the registry
    version: str  # of the adapter's behaviour; raising it discards stored predictions
    description: str = ""  # one line
    size: str = ""  # "paper", "small", or "" where there is only one
    weights: Weights = Weights.NONE
    weights_digest: str = ""  # content hash of the parameters, where there are any
    num_parameters: int = 0
    training_data: str = ""  # what the weights were trained on
    device: str = "cpu"  # "cuda:0", ...
    precision: str = "float32"  # "bfloat16", ...
    tools: tuple[tuple[str, str], ...] = ()  # outside programs and libraries that shape the output, each with its version
    anchor: bool = False  # known to be bad, to show the low end of each scale: what it loses is listed, and counted against no system


@runtime_checkable
class Codec(Protocol):
    """Speech in, codes out, speech back. The harness resamples to ``spec.sample_rate`` and mixes to mono before `encode`.

    Laws, checked by `harness.testing.check_codec`: the output is as long as the input; indices are in range; the same
    input gives the same codes; `decode` needs nothing but what `encode` returned; empty, one-sample and silent inputs work;
    a wrong sample rate raises ValueError.
    """

    @property
    def info(self) -> SystemInfo: ...
    @property
    def spec(self) -> CodecSpec: ...
    def encode(self, audio: Audio) -> Encoded: ...
    def decode(self, encoded: Encoded) -> Audio: ...


@runtime_checkable
class BatchedCodec(Codec, Protocol):
    """A codec that takes several utterances at once, of different lengths, with the same result as one by one."""

    def encode_batch(self, audios: Sequence[Audio]) -> Sequence[Encoded]: ...
    def decode_batch(self, encoded: Sequence[Encoded]) -> Sequence[Audio]: ...


@runtime_checkable
class ChunkedCodec(Codec, Protocol):
    """A causal codec that decodes frames as they come; the chunks joined equal `decode` of the whole."""

    def decode_chunks(self, chunks: Iterable[Codes]) -> Iterator[Audio]: ...


@dataclass(frozen=True, eq=False)
class Speech:
    """What a synthesizer returns."""

    audio: Audio  # at the system's own rate
    codes: Codes | None = None  # the tokens it was decoded from
    # "end" (the model ended itself), "length" (a runaway, cut at the limit), another word of the system's own, or "" where it does not say
    stop_reason: str = "end"


@runtime_checkable
class Synthesizer(Protocol):
    """Text (and a voice prompt) in, speech out; the same request and seed give the same speech."""

    @property
    def info(self) -> SystemInfo: ...
    @property
    def sample_rate(self) -> int: ...
    def synthesize(self, utterance: Utterance, seed: int) -> Speech:
        """The speech.

        Raises:
            MissingOutput: it does not speak this (another language); a prompt it cannot follow is simply not followed.
        """
        ...

    def stream(self, utterance: Utterance, seed: int) -> Iterator[Audio]:
        """The same speech in chunks, each as soon as it can be heard; joined they equal `synthesize`."""
        ...


@runtime_checkable
class CodecSynthesizer(Synthesizer, Protocol):
    """A synthesizer that speaks through a codec, which can be heard alone.

    What the codec leaves of a voice is the most that the model over its codes can follow: SIM-r compares with it, SIM-o with the
    original prompt. The harness asks for it outside the timed call.
    """

    def resynthesize(self, prompt: Audio) -> Audio:
        """The prompt, at its own rate, encoded and decoded; at the system's ``sample_rate``."""
        ...


@runtime_checkable
class Recorded(Protocol):
    """Outputs made elsewhere, looked up by item id, so that any outside system can be scored.

    For audio that is made of something else (an archive, a database): every run recalls it again, because nothing tells the harness
    before whether it is still the same. Outputs that lie in files are `RecordedFiles`.
    """

    @property
    def info(self) -> SystemInfo: ...
    def recall(self, item_id: str) -> Audio:
        """The output for an item.

        Raises:
            MissingOutput: there is none.
        """
        ...


@runtime_checkable
class RecordedFiles(Protocol):
    """Outputs made elsewhere that lie in files, looked up by item id.

    The harness reads them itself, as it reads recordings: the content of a file is what a result is stored under, and one that is cut,
    corrupt or replaced while a run goes on is refused.
    """

    @property
    def info(self) -> SystemInfo: ...
    def locate(self, item_id: str) -> Path:
        """The file with the output for an item.

        Raises:
            MissingOutput: there is none.
        """
        ...


class MissingOutput(LookupError):
    """No output for an item, counted as that system's failure: a recorded system lacks the file, a synthesizer does not speak the language."""


System = Codec | Synthesizer | Recorded | RecordedFiles


# -- while it is timed: the system names moments and amounts, the clock is the harness's -------------------------------------------


@dataclass(frozen=True)
class Work:
    """The least that a stage has to move and to compute, whatever the implementation."""

    weight_bytes: float = 0.0  # of parameters that must be read, each time they are read
    cache_bytes: float = 0.0  # of key-value cache that must be read
    flops: float = 0.0  # multiplications and additions


class Observer(Protocol):
    """Told by a system what it is doing; one that overrides nothing listens to nothing."""

    def stage(self, name: str) -> AbstractContextManager[object]:
        """Around a stage: "prompt", "text", "prefill", "lm", "codec", "vocoder" ..."""
        return nullcontext()

    def event(self, name: str) -> None:
        """Something is there now: "token" (the first one), "frame" (every codebook of the first frame)."""
        return

    def work(self, stage: str, work: Work) -> None:
        """The least a stage has to do, added to what was told of it before."""
        return

    def memory(self, name: str, num_bytes: int) -> None:
        """Memory that was taken, e.g. "kv_cache"."""
        return


class Unobserved(Observer):
    """An `Observer` that nobody listens to."""


UNOBSERVED = Unobserved()


@runtime_checkable
class ObservedSynthesizer(Synthesizer, Protocol):
    """A synthesizer that can be timed from inside, at a length that is fixed: faster by saying less is no win."""

    def num_tokens(self, utterance: Utterance) -> int:
        """Text tokens that its model reads of an utterance."""
        ...

    def synthesize_observed(self, utterances: Sequence[Utterance], seconds: float, observer: Observer) -> Sequence[Speech]:
        """``seconds`` of speech of each utterance, all of them together as one batch.

        Raises:
            ValueError: an utterance or a length that does not fit the model.
        """
        ...

    def stream_observed(self, utterance: Utterance, seconds: float, observer: Observer) -> Iterator[Audio]:
        """``seconds`` of speech, in chunks as they can be heard.

        Raises:
            ValueError: as `synthesize_observed`.
        """
        ...


Scalar = float | int | str | bool | None
"""What a record may keep as a detail."""


@dataclass(frozen=True)
class Timing:
    """Wall time of one prediction, warm-up and file reading left out, device synchronised on both sides."""

    total_s: float  # the whole call; what RTF is made from
    audio_s: float  # seconds of audio put in (codec) or out (synthesizer)
    encode_s: float = 0.0  # of a codec, as the next
    decode_s: float = 0.0
    threads: int = 1  # of the CPU, that the system could use
    device: str = "cpu"
    precision: str = "float32"  # of its arithmetic
    batch: int = 1  # utterances at once; the seconds are those of all of them together
    figures: Mapping[str, float] = field(default_factory=dict)  # all else that was measured, by name with its unit: "ttfa_s", "laps" ...
    refusal: str = ""  # why this timing is no number: a busy machine, a compilation inside the timed call ...
    applicable: bool = True  # False: the system cannot do what was asked (a batch, a longer text), as the refusal says; no failure of it
    # Machine, processor, cores, threads, device and versions that the time is of; written by the harness. A time found in the store
    # counts only where all of them are the same.
    taken_with: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Prediction:
    """A system's output for one item, as saved in the store."""

    audio: Audio  # at the system's own rate
    encoded: Encoded | None = None
    timing: Timing | None = None  # None of recorded outputs
    stop_reason: str = ""  # of a synthesizer
    prompt_resynthesis: Audio | None = None  # the voice prompt through the synthesizer's own codec, where it has one
    # What a codec of tokens makes of nearly the same: of its own output ("output"), and of the input 1 ms later ("shifted"). Empty unless
    # a metric of the run needs it (`Need.ENCODED_AGAIN`).
    encoded_again: Mapping[str, Codes] = field(default_factory=dict)


class Status(StrEnum):
    """How a measurement ended. Only OK carries a value and enters a mean."""

    OK = "ok"
    INVALID_INPUT = "invalid_input"
    METRIC_UNDEFINED = "metric_undefined"
    FAILED = "failed"
    TIMEOUT = "timeout"
    SKIPPED_BY_POLICY = "skipped_by_policy"


@dataclass(frozen=True)
class Record:
    """What is stored for one metric on one output.

    Raises:
        ValueError: a value without ok, ok without a finite value, or a failure without a reason.
    """

    suite: str
    system: str
    item: str
    metric: str
    status: Status
    seed: int = 0
    settings: str = "{}"  # the variant of the system, JSON text with sorted keys
    signature: str = ""  # of the metric (`MetricInfo.signature`); "" where it was never built
    value: float | None = None  # finite, or None unless status is ok
    weight: float | None = None  # of the item in the pooled figure; None unless ok
    side: str = ""  # "reference" or "output" where one of them is to blame
    reason: str = ""  # why there is no value, with path, stage and exception; "" when ok
    dataset: str = ""  # of the item, as the next three: for filters and clustered intervals
    language: str = ""
    speaker: str = ""
    synthetic: bool = False
    counts: Mapping[str, float] = field(default_factory=dict)  # of the `Evidence`, as the next
    detail: Mapping[str, Scalar] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ok = self.status is Status.OK
        if ok != (self.value is not None) or (ok and not math.isfinite(self.value or 0.0)):
            raise ValueError(f"a record has a finite value exactly when its status is ok, got status {self.status} and value {self.value}")
        if not ok and not self.reason:
            raise ValueError(f"a record with status {self.status} must give its reason")
