"""One measured (or failed) number: run x system x settings x item x seed x metric."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from harness.api.metric import Scalar


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

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready mapping (strict JSON: no NaN); it shares ``counts`` and ``detail`` with the record."""
        return {**vars(self), "status": str(self.status)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Record:
        """The inverse of `as_dict`; unknown keys are refused."""
        known = {f.name for f in fields(cls)}
        if extra := set(data) - known:
            raise ValueError(f"unknown record fields {sorted(extra)}; known: {sorted(known)}")
        return cls(**{**data, "status": Status(data["status"])})
