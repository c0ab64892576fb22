"""What a system produced for one item, and one measured (or failed) number: run x system x settings x item x seed x metric."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from harness.api.audio import Audio
from harness.api.codes import Codes, Encoded

Scalar = float | int | str | bool | None
"""What a record may keep as a detail."""


@dataclass(frozen=True)
class Timing:
    """Wall time of one prediction, warm-up and file reading left out, device synchronised on both sides.

    Args:
        encode_s: codec encoder (0 for a synthesizer).
        decode_s: codec decoder.
        total_s: the whole call; what RTF is made from.
        audio_s: seconds of audio put in (codec) or out (synthesizer).
        threads: CPU threads the system could use.
        device: where it ran.
        precision: of its arithmetic.
        batch: utterances at once; the seconds are those of all of them together.
        figures: everything else that was measured, by name with its unit: "ttfa_s", "stage.lm_s", "laps" ...
        refusal: why this timing is no number (a busy machine, a compilation inside the timed call ...), or "".
        applicable: False where the refusal says that the system cannot do what was asked (a batch, a longer text): no failure of it.
        taken_with: machine, processor, cores, threads, device and versions that the time is of; written by the harness. A time found in
            the store counts only where all of them are the same.
    """

    total_s: float
    audio_s: float
    encode_s: float = 0.0
    decode_s: float = 0.0
    threads: int = 1
    device: str = "cpu"
    precision: str = "float32"
    batch: int = 1
    figures: Mapping[str, float] = field(default_factory=dict)
    refusal: str = ""
    applicable: bool = True
    taken_with: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Prediction:
    """A system's output for one item, as saved in the store.

    Args:
        audio: the output, at the system's own rate.
        encoded: tokens or packets, or None where there are none.
        timing: or None where none was taken (recorded outputs).
        stop_reason: of a synthesizer, else "".
        prompt_resynthesis: the voice prompt through the synthesizer's own codec, or None where it has none.
        encoded_again: what a codec of tokens makes of nearly the same: of its own output ("output"), and of the input 1 ms later
            ("shifted"). Empty unless a metric of the run needs it (`Need.ENCODED_AGAIN`).
    """

    audio: Audio
    encoded: Encoded | None = None
    timing: Timing | None = None
    stop_reason: str = ""
    prompt_resynthesis: Audio | None = None
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

    Args:
        suite, system, item, seed, metric: which number this is.
        settings: the variant of the system, JSON text with sorted keys ("{}" for the plain one).
        signature: of the metric (`MetricInfo.signature`) or "" where it was never built.
        status: how it ended.
        value: finite, or None unless status is ok.
        weight: of the item in the pooled figure; None unless ok.
        side: "reference" or "output" where one of them is to blame, else "".
        reason: why there is no value, with path, stage and exception; "" when ok.
        dataset, language, speaker, synthetic: of the item, for filters and clustered intervals.
        counts, detail: evidence.

    Raises:
        ValueError: a value without ok, ok without a finite value, or a failure without a reason.
    """

    suite: str
    system: str
    item: str
    metric: str
    status: Status
    seed: int = 0
    settings: str = "{}"
    signature: str = ""
    value: float | None = None
    weight: float | None = None
    side: str = ""
    reason: str = ""
    dataset: str = ""
    language: str = ""
    speaker: str = ""
    synthetic: bool = False
    counts: Mapping[str, float] = field(default_factory=dict)
    detail: Mapping[str, Scalar] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ok = self.status is Status.OK
        if ok != (self.value is not None) or (ok and not math.isfinite(self.value or 0.0)):
            raise ValueError(f"a record has a finite value exactly when its status is ok, got status {self.status} and value {self.value}")
        if not ok and not self.reason:
            raise ValueError(f"a record with status {self.status} must give its reason")
