"""The check of metrics: a sound one passes, and for every law there is a broken one that it catches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from harness.api import Better, Evidence, MetricInfo, Need, NotScorable, Sample, Side
from harness.testing import BrokenLaw, check_metric


class SoundMetric:
    """Share of the reference's energy that the output gets wrong."""

    info = MetricInfo(
        name="error_share", version="1", unit="", better=Better.LOWER, needs=frozenset({Need.OUTPUT, Need.REFERENCE}), sample_rate=16000,
        bounds=(0.0, float("inf")), description="squared error over the reference's energy",
    )  # fmt: skip

    def measure(self, sample: Sample) -> Evidence:
        output, reference = sample.output.at(16000), sample.require_reference().at(16000)
        if output.size != reference.size:
            raise NotScorable(Side.OUTPUT, f"{output.size} samples for {reference.size}")
        if not np.isfinite(output).all():
            raise NotScorable(Side.OUTPUT, "NaN or Inf")
        return Evidence(self.value(output, reference))

    def value(self, output: npt.NDArray[Any], reference: npt.NDArray[Any]) -> float:
        return float(np.sum((output - reference) ** 2) / np.sum(reference**2))


class CapitalName(SoundMetric):
    info = replace(SoundMetric.info, name="Error")


class ShiftingSignature(SoundMetric):
    calls = 0

    @property
    def info(self) -> MetricInfo:  # type: ignore[override]
        self.calls += 1
        return replace(SoundMetric.info, params={"calls": self.calls})


class TooGood(SoundMetric):
    info = replace(SoundMetric.info, bounds=(0.0, 0.05))


class FailsAsZero(SoundMetric):
    def measure(self, sample: Sample) -> Evidence:
        try:
            return super().measure(sample)
        except NotScorable:
            return Evidence(0.0)


class BlamesTheReference(SoundMetric):
    def measure(self, sample: Sample) -> Evidence:
        try:
            return super().measure(sample)
        except NotScorable as refusal:
            raise NotScorable(Side.REFERENCE, refusal.reason) from None


class CrashesOnShort(SoundMetric):
    def measure(self, sample: Sample) -> Evidence:
        output = sample.output.at(16000)
        if np.isfinite(output).all():
            return Evidence(self.value(output, sample.require_reference().at(16000)))
        raise NotScorable(Side.OUTPUT, "NaN or Inf")


class RandomValue(SoundMetric):
    rng = np.random.default_rng(0)

    def measure(self, sample: Sample) -> Evidence:
        return Evidence(super().measure(sample).value + float(self.rng.random()))


class RemovesTheMean(SoundMetric):
    def measure(self, sample: Sample) -> Evidence:
        found = super().measure(sample)
        sample.output.audio.samples[:] -= 0.01
        return found


class WrongDirection(SoundMetric):
    info = replace(SoundMetric.info, better=Better.HIGHER)


class NotFollowing(SoundMetric):
    """Best in the middle: a bug of sign below some level."""

    def value(self, output: npt.NDArray[Any], reference: npt.NDArray[Any]) -> float:
        share = super().value(output, reference)
        return 2.0 if 0 < share < 0.01 else share + 3.0 if share > 0.5 else share


class InstancesDiffer(SoundMetric):
    born = 0

    def __init__(self) -> None:
        type(self).born += 1
        self.number = self.born

    def value(self, output: npt.NDArray[Any], reference: npt.NDArray[Any]) -> float:
        return super().value(output, reference) * self.number + self.number


class SoundPool(SoundMetric):
    """Root of the mean: not a weighted mean of roots."""

    info = replace(SoundMetric.info, aggregation="root of the mean")

    def pool(self, evidence: Sequence[Evidence], resamples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        values = np.array([e.value for e in evidence])
        pooled: npt.NDArray[np.float64] = np.sqrt(resamples @ values / resamples.sum(axis=1))
        return pooled


class PoolIgnoresCounts(SoundPool):
    def pool(self, evidence: Sequence[Evidence], resamples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return super().pool(evidence, (resamples > 0).astype(float))


class PoolMixesRows(SoundPool):
    def pool(self, evidence: Sequence[Evidence], resamples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.full(len(resamples), super().pool(evidence, resamples.sum(axis=0, keepdims=True))[0])


class PoolCalledMean(SoundPool):
    info = SoundMetric.info


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (CapitalName, "declaration"),
        (ShiftingSignature, "declaration"),
        (PoolCalledMean, "declaration"),
        (TooGood, "evidence"),
        (RandomValue, "determinism"),
        (RemovesTheMean, "samples untouched"),
        (InstancesDiffer, "equal instance"),
        (FailsAsZero, "NaN output"),
        (BlamesTheReference, "NaN output"),
        (CrashesOnShort, "faulty output"),
        (WrongDirection, "direction"),
        (NotFollowing, "direction"),
        (PoolIgnoresCounts, "pool"),
        (PoolMixesRows, "pool"),
    ],
)
def test_a_broken_metric_is_caught(broken: Callable[[], SoundMetric], law: str) -> None:
    with pytest.raises(BrokenLaw) as caught:
        check_metric(broken(), factory=broken)
    assert caught.value.law == law, str(caught.value)


@pytest.mark.parametrize("kind", [SoundMetric, SoundPool])
def test_a_sound_metric_passes(kind: Callable[[], SoundMetric]) -> None:
    report = check_metric(kind(), factory=kind)
    assert {"NaN output", "faulty output", "direction"} <= set(report.checked)


def test_a_metric_of_text_needs_probes() -> None:
    class NeedsText(SoundMetric):
        info = replace(SoundMetric.info, needs=frozenset({Need.OUTPUT, Need.TEXT}))

    with pytest.raises(ValueError, match="give check_metric probes"):
        check_metric(NeedsText())
