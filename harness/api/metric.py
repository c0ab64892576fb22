"""What a metric is: a pure measurement of one output, with a declared direction, rate and bounds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from harness.api.audio import Signal
from harness.api.codes import Encoded
from harness.api.items import Item
from harness.api.prediction import Timing


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


Scalar = float | int | str | bool | None


@dataclass(frozen=True)
class MetricInfo:
    """The declaration of a metric.

    Args:
        name: as in tables and `harness list metrics`, with its unit as suffix where it has one.
        version: raising it recomputes every stored score.
        unit: "dB", "%", "MOS", "bit/s", "samples", "" ...
        better: direction.
        needs: what `measure` reads.
        sample_rate: at which both sides are compared, in Hz; None where no audio is compared.
        bounds: closed range of possible values; the worse end is the value of a failure in the pessimistic bound.
        description: one line, with the source.
        params: everything else that changes the number (backend, digest, preset, variant); part of the signature.
        aggregation: "mean", "weighted mean" (a ratio of sums; say of what), or another word for a metric with its own `pool`.
    """

    name: str
    version: str
    unit: str
    better: Better
    needs: frozenset[Need]
    sample_rate: int | None
    bounds: tuple[float, float]
    description: str
    params: Mapping[str, Scalar] = field(default_factory=dict)
    aggregation: str = "mean"

    @property
    def worst(self) -> float:
        """The bound that a failure is counted as in a pessimistic mean; NaN where no direction is declared or it is infinite."""
        if self.better is Better.NEITHER:
            return float("nan")
        value = self.bounds[0] if self.better is Better.HIGHER else self.bounds[1]
        return value if np.isfinite(value) else float("nan")

    def signature(self) -> str:
        """One line that two comparable numbers share: ``name|version|rate|aggregation|params``."""
        params = json.dumps(dict(sorted(self.params.items())), separators=(",", ":"), ensure_ascii=False)
        return f"{self.name}|v{self.version}|{self.sample_rate or '-'}Hz|{self.aggregation}|{params}"


@dataclass(frozen=True)
class Evidence:
    """What `measure` found on one pair.

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
        if not (np.isfinite(self.value) and np.isfinite(self.weight) and self.weight >= 0):
            raise ValueError(f"evidence must be finite with weight >= 0, got value {self.value}, weight {self.weight}")


@dataclass(frozen=True, eq=False)
class Sample:
    """One system's output beside what it is judged against.

    Args:
        item: whose output this is.
        output: what the system produced.
        reference: the item's own recording, or None.
        prompt: the voice prompt, or None.
        encoded: tokens or packets, or None.
        timing: or None.
        stop_reason: of a synthesizer, else "".
        prompt_resynthesis: the prompt through the system's own codec, or None.
    """

    item: Item
    output: Signal
    reference: Signal | None = None
    prompt: Signal | None = None
    encoded: Encoded | None = None
    timing: Timing | None = None
    stop_reason: str = ""
    prompt_resynthesis: Signal | None = None

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
