"""What a metric is: a pure measurement of one output, with a declared direction, rate and bounds; and the models that judge for it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from harness.api.audio import Codes, Encoded, FloatArray, Signal
from harness.api.suite import Item
from harness.api.systems import Scalar, Timing


class Better(StrEnum):
    """The direction of improvement. NEITHER is for descriptions such as a bit rate or a lag."""

    HIGHER = "higher"
    LOWER = "lower"
    NEITHER = "neither"


class Need(StrEnum):
    """What a metric cannot do without; items or suites lacking it are skipped with that reason."""

    OUTPUT = "output"
    REFERENCE = "reference"
    TEXT = "text"
    PROMPT = "prompt"
    ENCODED = "encoded"
    CODES = "codes"
    TIMING = "timing"
    STOP_REASON = "stop_reason"
    PROMPT_RESYNTHESIS = "prompt_resynthesis"
    ENCODED_AGAIN = "encoded_again"


class Side(StrEnum):
    """Who is to blame for a missing number: the reference (left out for every system) or the output (its system's failure)."""

    REFERENCE = "reference"
    OUTPUT = "output"


class NotScorable(Exception):
    """The metric is not defined on this pair (silent, too short, empty transcript ...). Never turned into a number.

    Args:
        side: whose fault.
        reason: short, with the measured figure, e.g. "0.12 s, PESQ needs 0.25 s".
    """

    def __init__(self, side: Side, reason: str) -> None:
        super().__init__(reason)
        self.side = side
        self.reason = reason


class NotApplicable(Exception):
    """The metric says nothing about this item by design (English words error rate on Mandarin, say): skipped, not failed."""


_LARGEST_INT = 2**53
"""Above it a whole number is kept as a float: not everything that reads a record has integers of any size."""


@dataclass(frozen=True)
class MetricInfo:
    """The declaration of a metric."""

    name: str  # as in tables and `harness list metrics`, with its unit as suffix where it has one
    version: str  # raising it recomputes every stored score
    unit: str  # "dB", "%", "MOS", "bit/s", "samples", "" ...
    better: Better
    needs: frozenset[Need]  # what `measure` reads
    sample_rate: int | None  # at which both sides are compared, in Hz; None where no audio is compared
    bounds: tuple[float, float]  # closed range of possible values; no interval leaves it
    description: str  # one line, with the source
    params: Mapping[str, Scalar] = field(default_factory=dict)  # all else that changes the number (judge, digest, preset); in the signature
    aggregation: str = "mean"  # or "weighted mean" (a ratio of sums; say of what), or another word for a metric with its own `pool`
    # What an output without a figure counts as in the pessimistic mean: what silence or noise gets, no mere end of the scale (STOI 0, not
    # -1). None where no such value is natural: no sum of decibels tells how bad a missing output is.
    worst: float | None = None
    # An item's value is a ratio of counts (words wrong, one of two outcomes), so that equal values say little of the next item; False for
    # what is computed from a signal, where equal outputs are equal for a reason.
    counted: bool = False

    def signature(self) -> str:
        """One line that two comparable numbers share: ``name|version|rate|aggregation|params``."""
        params = json.dumps(dict(sorted(self.params.items())), separators=(",", ":"), ensure_ascii=False)
        return f"{self.name}|v{self.version}|{self.sample_rate or '-'}Hz|{self.aggregation}|{params}"


@dataclass(frozen=True)
class Evidence:
    """What `measure` found on one pair. Numbers of numpy or torch are kept as Python's.

    Args:
        value: finite.
        weight: of this item in the pooled figure ``sum(weight * value) / sum(weight)``: 1 for a mean over items, the audio's
            seconds for a real-time factor or a bit rate, so that a ratio of sums is stored as counts.
        counts: what the value was made from (hits, substitutions, active frames ...).
        detail: text worth keeping (transcripts), flags.
    """

    value: float
    weight: float = 1.0
    counts: Mapping[str, float] = field(default_factory=dict)
    detail: Mapping[str, Scalar] = field(default_factory=dict)

    def __post_init__(self) -> None:
        value, weight = (_number(name, getattr(self, name)) for name in ("value", "weight"))
        if not (math.isfinite(value) and math.isfinite(weight) and weight >= 0):
            raise ValueError(f"evidence must be finite with weight >= 0, got value {value}, weight {weight}")
        counts = {_word(name): _number(f"count '{name}'", count) for name, count in self.counts.items()}
        if bad := [name for name, count in counts.items() if not math.isfinite(count)]:
            raise ValueError(f"evidence must be finite, got {', '.join(f'{counts[name]} as count {name!r}' for name in bad)}")
        detail = {_word(name): _scalar(name, found) for name, found in self.detail.items()}
        for name, kept in (("value", value), ("weight", weight), ("counts", counts), ("detail", detail)):
            object.__setattr__(self, name, kept)


def _number(name: str, given: Any) -> float:
    """A Python number of whatever holds exactly one: a scalar of numpy, a tensor, an array of one element."""
    plain = given.item() if hasattr(given, "item") else given  # raises ValueError for several elements
    if not isinstance(plain, (int, float)):
        raise TypeError(f"{name} of evidence is a number, got {type(given).__name__}")
    return int(plain) if isinstance(plain, int) and abs(plain) <= _LARGEST_INT else float(plain)


def _scalar(name: str, given: Any) -> Scalar:
    plain = given if given is None or isinstance(given, (int, float, str)) else given.item() if hasattr(given, "item") else given
    if isinstance(plain, str):
        return str(plain)
    if isinstance(plain, float) and not math.isfinite(plain):
        raise ValueError(f"detail '{name}' of evidence is {plain}, which no record can hold")
    if plain is None or isinstance(plain, bool):
        return plain
    if isinstance(plain, (int, float)):
        return _number(f"detail '{name}'", plain)
    raise TypeError(f"detail '{name}' of evidence is text, a number, a truth value or None, got {type(given).__name__}")


def _word(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"counts and details of evidence have names, got {name!r}")
    return str(name)


@dataclass(frozen=True, eq=False)
class Sample:
    """One system's output beside what it is judged against; what there is not is None."""

    item: Item  # whose output this is
    output: Signal  # what the system produced
    reference: Signal | None = None  # the item's own recording
    prompt: Signal | None = None  # the voice prompt
    encoded: Encoded | None = None  # tokens or packets
    timing: Timing | None = None
    stop_reason: str = ""  # of a synthesizer
    prompt_resynthesis: Signal | None = None  # the prompt through the system's own codec
    encoded_again: Mapping[str, Codes] = field(default_factory=dict)  # see `Prediction`; empty unless a metric of the run needs it

    def require_reference(self) -> Signal:
        """The reference; a metric that declares the need is never called without."""
        if self.reference is None:
            raise NotApplicable("the item has no reference recording")
        return self.reference


@runtime_checkable
class Metric(Protocol):
    """A pure function of one sample. Deterministic, no global state, one thread."""

    @property
    def info(self) -> MetricInfo: ...
    def measure(self, sample: Sample) -> Evidence:
        """The evidence for one pair.

        Raises:
            NotScorable: undefined on this pair.
            NotApplicable: not meant for this item.
        """
        ...


@runtime_checkable
class PooledMetric(Metric, Protocol):
    """A metric whose corpus figure is not a weighted mean (codebook perplexity, say)."""

    def pool(self, evidence: Sequence[Evidence], resamples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The corpus figure under each resample.

        Args:
            evidence: of n items.
            resamples: ``[R, n]``, how often each item counts in each of R resamples (a row of ones is the plain figure).

        Returns:
            ``[R]``.
        """
        ...


# -- models that judge: metrics see these protocols only --------------------------------------------------------------------------


@dataclass(frozen=True)
class JudgeInfo:
    """Identity of a judge; all of it goes into the signature of every number it makes."""

    family: str  # name in the registry ("pocketsphinx", "funasr", ...)
    model: str  # folder name, hub id or packaged model's name, with its revision
    digest: str  # content hash of the weights (16 or more hex digits)
    package: str  # "name==version" of the libraries that make its numbers
    sample_rate: int = 16000  # of the audio it takes, in Hz
    languages: tuple[str, ...] = ()  # ISO 639-1 codes it understands; empty for any


@runtime_checkable
class Recogniser(Protocol):
    """Speech to text, deterministic."""

    @property
    def info(self) -> JudgeInfo: ...
    def transcribe(self, samples: FloatArray, language: str) -> str:
        """Raw transcript of mono ``samples [N]`` at ``info.sample_rate``; "" when nothing was heard."""
        ...


@runtime_checkable
class SpeakerEncoder(Protocol):
    """A voice as a vector."""

    @property
    def info(self) -> JudgeInfo: ...
    def embed(self, samples: FloatArray) -> npt.NDArray[np.float64]:
        """Unit-length ``[D]`` embedding of mono ``samples [N]`` at ``info.sample_rate``."""
        ...


@runtime_checkable
class MosPredictor(Protocol):
    """Predicted opinion scores from the output alone."""

    @property
    def info(self) -> JudgeInfo: ...
    def predict(self, samples: FloatArray) -> Mapping[str, float]:
        """Scores by name (e.g. overall, signal, background) of mono ``samples [N]`` at ``info.sample_rate``."""
        ...


@runtime_checkable
class FeatureExtractor(Protocol):
    """Speech as the frames of a model's inner layer."""

    @property
    def info(self) -> JudgeInfo: ...
    def frames(self, samples: FloatArray) -> FloatArray:
        """``[T, D]`` of mono ``samples [N]`` at ``info.sample_rate``."""
        ...
