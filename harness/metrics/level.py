"""How loud, how clipped, how long. Nothing is ever normalised: a change of level is a result."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.api import Better, Evidence, FloatArray, MetricInfo, Need, NotScorable, Sample, Side, Signal
from harness.metrics.alignment import require_finite, unaligned_pair
from harness.metrics.declaration import ON_ARRAYS, Measured, declared, on_arrays, signal_of

RMS_RATE_HZ = 16000
LUFS_RATE_HZ = 48000
"""The rate for which BS.1770 gives its filter coefficients."""

BLOCK_S = 0.4
ABSOLUTE_GATE_LUFS = -70.0
RELATIVE_GATE_LU = -10.0

SHELF = ((1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585))
HIGH_PASS = ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621))
"""K-weighting at 48 kHz: numerators and denominators of ITU-R BS.1770-4, tables 1 and 2."""

CLIP_LEVEL = 32767 / 32768
"""The largest positive value of 16-bit audio: a sample at or beyond it, of either sign, is counted as clipped."""


def rms_db(samples: FloatArray) -> float:
    """Root mean square of ``samples [N]`` without their mean, in dB re full scale (a full-scale sine is -3.01)."""
    return float(20 * np.log10(np.std(samples, dtype=np.float64)))


def loudness_lufs(samples: npt.NDArray[np.floating]) -> float | None:
    """Integrated loudness of mono ``samples [N]`` at 48 kHz after ITU-R BS.1770-4, or None where every block lies below the absolute gate.

    K-weighting, 400 ms blocks overlapping by 75 %, gates at -70 LUFS and 10 LU below the mean of what passed. A 997 Hz sine of full scale
    gives -3.01.

    Raises:
        ValueError: shorter than one block.
    """
    from scipy.signal import lfilter

    block, hop = round(BLOCK_S * LUFS_RATE_HZ), round(BLOCK_S * LUFS_RATE_HZ / 4)
    if samples.size < block:
        raise ValueError(f"loudness wants at least {BLOCK_S} s")
    weighted = lfilter(*HIGH_PASS, lfilter(*SHELF, samples.astype(np.float64)))
    quarters = np.square(weighted[: samples.size // hop * hop]).reshape(-1, hop).sum(axis=1)
    energy = (quarters[:-3] + quarters[1:-2] + quarters[2:-1] + quarters[3:]) / block
    energy = energy[energy > _energy(ABSOLUTE_GATE_LUFS)]
    if energy.size == 0:
        return None
    energy = energy[energy > energy.mean() * 10 ** (RELATIVE_GATE_LU / 10)]
    return float(-0.691 + 10 * np.log10(energy.mean()))


def _energy(lufs: float) -> float:
    return float(10 ** ((lufs + 0.691) / 10))


def _info(sample_rate: int | None, unit: str, low: float = -math.inf) -> dict[str, Any]:
    return {"sample_rate": sample_rate, "unit": unit, "bounds": (low, math.inf)}


@on_arrays(**_info(RMS_RATE_HZ, "dB"))
def level_rms_db(sample: Sample) -> Evidence:
    """Level of the output minus that of the reference, in dB: root mean squares without means, over each whole length, at 16 kHz.

    Raises:
        NotScorable: a side is empty, silent or not finite.

    >>> from harness.testing.signals import speechlike
    >>> speech = speechlike(1.0).samples
    >>> round(level_rms_db(speech, speech / 2, 16000), 2)
    -6.02
    """
    pair = unaligned_pair(sample, RMS_RATE_HZ)
    reference, output = rms_db(pair.reference), rms_db(pair.output)
    return Evidence(output - reference, counts=pair.counts(reference_db=reference, output_db=output))


@on_arrays(lambda: {"block_s": BLOCK_S, "gates": "-70 LUFS, -10 LU"}, **_info(LUFS_RATE_HZ, "dB"))
def level_lufs_db(sample: Sample) -> Evidence:
    """Loudness of the output minus that of the reference, in LU: integrated loudness after ITU-R BS.1770-4 (`loudness_lufs`), at 48 kHz.

    Raises:
        NotScorable: a side is empty, silent, not finite or shorter than .4 s, or has no 400 ms above the gate of -70 LUFS.

    >>> from harness.testing.signals import speechlike
    >>> speech = speechlike(1.0).samples
    >>> round(level_lufs_db(speech, speech / 2, 16000), 2)
    -6.02
    """
    pair = unaligned_pair(sample, LUFS_RATE_HZ, BLOCK_S)
    reference = _loudness(sample.require_reference(), Side.REFERENCE)
    output = _loudness(sample.output, Side.OUTPUT)
    return Evidence(output - reference, counts=pair.counts(reference_lufs=reference, output_lufs=output))


def _loudness(signal: Signal, side: Side) -> float:
    value = signal.derive("BS.1770 loudness", lambda: loudness_lufs(signal.at(LUFS_RATE_HZ)))
    if value is None:
        raise NotScorable(side, f"no 400 ms above the gate of {ABSOLUTE_GATE_LUFS:g} LUFS")
    return value


@on_arrays(**_info(None, "", 0.0))
def length_ratio(sample: Sample) -> Evidence:
    """Duration of the output over that of the reference, each at its own rate.

    Raises:
        NotScorable: a side is empty or not finite.

    >>> length_ratio([0.1] * 16000, [0.1] * 12000, 16000)
    0.75
    """
    reference_s, output_s = sample.require_reference().audio.duration_s, sample.output.audio.duration_s
    for side, signal in ((Side.REFERENCE, sample.require_reference()), (Side.OUTPUT, sample.output)):
        require_finite(signal, side)
        if signal.audio.num_samples == 0:
            raise NotScorable(side, "no samples")
    return Evidence(output_s / reference_s, counts={"reference_s": reference_s, "output_s": output_s})


def _clipped_info() -> MetricInfo:
    about = {**_info(None, "samples", 0.0), "better": Better.LOWER, "params": {"level": CLIP_LEVEL}}
    return declared("clipped_samples", Need.OUTPUT, **about)


def _clipped(sample: Sample) -> Evidence:
    samples = sample.output.audio.samples
    if samples.size == 0:
        raise NotScorable(Side.OUTPUT, "no samples")
    require_finite(sample.output, Side.OUTPUT)
    magnitude = np.abs(samples)
    counts = {"samples": float(samples.size), "beyond_full_scale": float(np.count_nonzero(magnitude > 1))}
    if sample.reference is not None:
        counts["clipped_in_reference"] = float(np.count_nonzero(np.abs(sample.reference.audio.samples) >= CLIP_LEVEL))
    return Evidence(float(np.count_nonzero(magnitude >= CLIP_LEVEL)), counts=counts)


def clipped_samples(output: npt.ArrayLike) -> float:
    """Samples of the output at or beyond 32767/32768 of full scale, of either sign, in all its channels.

    Args:
        output: float ``[N]`` or ``[C, N]``, full scale at +-1.

    Raises:
        NotScorable: empty or not finite.

    >>> clipped_samples([0.5, 1.0, -1.2, 0.99])
    2.0
    """
    return _clipped(Sample(ON_ARRAYS, signal_of(output, LUFS_RATE_HZ))).value


clipped_samples.metric = partial(Measured, _clipped_info, _clipped)  # type: ignore[attr-defined]
