"""Fundamental frequency: how far off, how often wrongly voiced, how well followed. Frame against frame, every 5 ms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.api import Better, Evidence, MetricInfo, Need, NotScorable, Sample, Scalar, Side
from harness.metrics import world
from harness.metrics.alignment import aligned_pair, policy_params

SAMPLE_RATE_HZ = 16000
FEWEST_FRAMES = 10
"""50 ms of common voice; a correlation over less is chance."""


@dataclass(frozen=True, eq=False)
class _Contours:
    """F0 of both sides over their common frames.

    Args:
        reference: float64 ``[T]`` in Hz, 0 where unvoiced.
        output: likewise.
        counts: evidence kept.
    """

    reference: world.Float64Array
    output: world.Float64Array
    counts: dict[str, float]

    def common_cents(self) -> tuple[world.Float64Array, world.Float64Array]:
        """Both contours in cents re 1 Hz over the frames voiced on both sides.

        Raises:
            NotScorable: there are fewer than ten.
        """
        if np.count_nonzero(self.reference) < FEWEST_FRAMES:
            raise NotScorable(Side.REFERENCE, f"{np.count_nonzero(self.reference)} voiced frames, needs {FEWEST_FRAMES}")
        both = (self.reference > 0) & (self.output > 0)
        if np.count_nonzero(both) < FEWEST_FRAMES:
            raise NotScorable(Side.OUTPUT, f"{np.count_nonzero(both)} frames voiced on both sides, needs {FEWEST_FRAMES}")
        return 1200 * np.log2(self.reference[both]), 1200 * np.log2(self.output[both])


def _contours(sample: Sample) -> _Contours:
    pair = aligned_pair(sample, SAMPLE_RATE_HZ, world.SHORTEST_S)
    reference, output = world.f0_hz(sample.require_reference()), world.f0_hz(sample.output)
    frames = min(reference.size, output.size)
    reference, output = reference[:frames], output[:frames]
    counts = pair.counts(
        frames=frames,
        voiced_reference=int(np.count_nonzero(reference)),
        voiced_output=int(np.count_nonzero(output)),
        voiced_both=int(np.count_nonzero((reference > 0) & (output > 0))),
    )
    return _Contours(reference, output, counts)


def _info(name: str, unit: str, better: Better, bounds: tuple[float, float], description: str, **params: Scalar) -> MetricInfo:
    return MetricInfo(
        name=name,
        version="1",
        unit=unit,
        better=better,
        needs=frozenset({Need.OUTPUT, Need.REFERENCE}),
        sample_rate=SAMPLE_RATE_HZ,
        bounds=bounds,
        description=description,
        params={**world.analysis_params(), **params, **policy_params()},
    )


@dataclass(frozen=True)
class F0Rmse:
    """Root-mean-square pitch error in cents (100 cents = one semitone); Hz would weigh high voices more."""

    @property
    def info(self) -> MetricInfo:
        description = "root mean square of the F0 ratio in cents over frames voiced on both sides"
        return _info("f0_rmse_cents", "cents", Better.LOWER, (0.0, math.inf), description, fewest_frames=FEWEST_FRAMES)

    def measure(self, sample: Sample) -> Evidence:
        contours = _contours(sample)
        reference, output = contours.common_cents()
        return Evidence(float(np.sqrt(np.square(output - reference).mean())), counts=contours.counts)


@dataclass(frozen=True)
class VoicingError:
    """Share of all frames that are voiced on one side only."""

    @property
    def info(self) -> MetricInfo:
        return _info("voicing_error", "", Better.LOWER, (0.0, 1.0), "share of frames voiced on one side only")

    def measure(self, sample: Sample) -> Evidence:
        contours = _contours(sample)
        return Evidence(float(np.mean((contours.reference > 0) != (contours.output > 0))), counts=contours.counts)


@dataclass(frozen=True)
class F0Correlation:
    """Pearson correlation of log F0: whether the melody is kept, whatever the register."""

    @property
    def info(self) -> MetricInfo:
        description = "Pearson correlation of log F0 over frames voiced on both sides"
        return _info("f0_correlation", "", Better.HIGHER, (-1.0, 1.0), description, scale="log", fewest_frames=FEWEST_FRAMES)

    def measure(self, sample: Sample) -> Evidence:
        contours = _contours(sample)
        reference, output = (c - c.mean() for c in contours.common_cents())
        spread = [float(np.sqrt(np.square(c).sum())) for c in (reference, output)]
        for side, s in zip((Side.REFERENCE, Side.OUTPUT), spread, strict=True):
            if s < 1e-6:
                raise NotScorable(side, "F0 is constant over the frames voiced on both sides")
        return Evidence(float(np.clip((reference @ output) / (spread[0] * spread[1]), -1, 1)), counts=contours.counts)
