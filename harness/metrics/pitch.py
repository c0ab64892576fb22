"""Fundamental frequency: how far off, how often wrongly voiced, how well followed. Frame against frame, every 5 ms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.api import Better, Evidence, NotScorable, Sample, Scalar, Side
from harness.metrics import world
from harness.metrics.alignment import POLICY, aligned_pair
from harness.metrics.declaration import on_arrays

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


def _params(**more: Scalar) -> dict[str, Scalar]:
    return {**world.analysis_params(), **more, **POLICY}


@on_arrays(
    lambda: _params(fewest_frames=FEWEST_FRAMES), unit="cents", better=Better.LOWER, sample_rate=SAMPLE_RATE_HZ, bounds=(0.0, math.inf)
)
def f0_rmse_cents(sample: Sample) -> Evidence:
    """Root-mean-square error of F0 in cents (100 are a semitone) over the frames voiced on both sides; Hz would weigh high voices more.

    Raises:
        NotScorable: a side is empty, silent, not finite or shorter than .1 s, lengths differ beyond the policy, or fewer than ten frames
            of 5 ms are voiced on both sides.

    >>> from harness.testing.signals import speechlike
    >>> speech = speechlike(1.0).samples
    >>> f0_rmse_cents(speech, speech, 16000)
    0.0
    """
    contours = _contours(sample)
    reference, output = contours.common_cents()
    return Evidence(float(np.sqrt(np.square(output - reference).mean())), counts=contours.counts)


@on_arrays(_params, better=Better.LOWER, sample_rate=SAMPLE_RATE_HZ, bounds=(0.0, 1.0))
def voicing_error(sample: Sample) -> Evidence:
    """Share of all frames of 5 ms that are voiced on one side only, 0 to 1, lower is better.

    Raises:
        NotScorable: a side is empty, silent, not finite or shorter than .1 s, or lengths differ beyond the policy.

    >>> from harness.testing.signals import noisy, speechlike
    >>> clean = speechlike(1.0)
    >>> 0 < voicing_error(clean.samples, noisy(clean, 0).samples, 16000) < 1
    True
    """
    contours = _contours(sample)
    return Evidence(float(np.mean((contours.reference > 0) != (contours.output > 0))), counts=contours.counts)


@on_arrays(lambda: _params(scale="log", fewest_frames=FEWEST_FRAMES), better=Better.HIGHER, sample_rate=SAMPLE_RATE_HZ, bounds=(-1.0, 1.0))
def f0_correlation(sample: Sample) -> Evidence:
    """Pearson correlation of log F0 over the frames voiced on both sides, -1 to 1: whether the melody is kept, whatever the register.

    Raises:
        NotScorable: as `f0_rmse_cents`, or F0 is constant.

    >>> from harness.testing.signals import speechlike
    >>> speech = speechlike(1.0).samples
    >>> round(f0_correlation(speech, speech, 16000), 6)
    1.0
    """
    contours = _contours(sample)
    reference, output = (c - c.mean() for c in contours.common_cents())
    spread = [float(np.sqrt(np.square(c).sum())) for c in (reference, output)]
    for side, s in zip((Side.REFERENCE, Side.OUTPUT), spread, strict=True):
        if s < 1e-6:
            raise NotScorable(side, "F0 is constant over the frames voiced on both sides")
    return Evidence(float(np.clip((reference @ output) / (spread[0] * spread[1]), -1, 1)), counts=contours.counts)
