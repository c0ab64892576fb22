"""Segmental signal-to-noise ratio."""

from __future__ import annotations

import numpy as np

from harness.api import Better, Evidence, MetricInfo, Need, NotScorable, Sample, Side

RATE_HZ = 16000
SEGMENT = 320  # samples, 20 ms
LOW_DB, HIGH_DB = -10.0, 35.0
ACTIVE_DB = -40.0  # below the loudest segment a segment is a pause


class SegmentalSnr:
    """Mean over the active 20-ms segments of the reference of its energy over the error's, each within -10 and 35 dB.

    Hansen and Pellom, "An effective quality evaluation protocol for speech enhancement algorithms", ICSLP 1998.
    """

    info = MetricInfo(
        name="segmental_snr_db",
        version="1",
        unit="dB",
        better=Better.HIGHER,
        needs=frozenset({Need.OUTPUT, Need.REFERENCE}),
        sample_rate=RATE_HZ,
        bounds=(LOW_DB, HIGH_DB),
        description="segmental signal-to-noise ratio over active 20 ms, -10 to 35 dB each (Hansen and Pellom 1998)",
    )

    def measure(self, sample: Sample) -> Evidence:
        """The ratio of one pair.

        Raises:
            NotScorable: a side is silent, not finite or shorter than a segment, or their lengths differ.
        """
        reference, output = sample.require_reference().at(RATE_HZ), sample.output.at(RATE_HZ)
        for side, x in ((Side.REFERENCE, reference), (Side.OUTPUT, output)):
            if x.size < SEGMENT:
                raise NotScorable(side, f"{x.size} samples, a segment has {SEGMENT}")
            if not np.isfinite(x).all():
                raise NotScorable(side, "NaN or Inf")
            if not x.any():
                raise NotScorable(side, "silent")
        if reference.size != output.size:
            raise NotScorable(Side.OUTPUT, f"{output.size} samples beside {reference.size} of the reference")
        signal = _energies(reference)
        error = _energies(output.astype(np.float64) - reference)
        active = signal > signal.max() * 10 ** (ACTIVE_DB / 10)
        ratios = 10 * np.log10(signal[active] / np.maximum(error[active], 1e-20))
        return Evidence(float(np.clip(ratios, LOW_DB, HIGH_DB).mean()), counts={"segments": float(active.sum())})


def _energies(x: np.ndarray) -> np.ndarray:
    """Of each whole segment of ``x [N]``."""
    whole = x[: x.size // SEGMENT * SEGMENT].astype(np.float64)
    return np.square(whole).reshape(-1, SEGMENT).sum(axis=1)
