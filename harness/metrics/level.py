"""How loud, how clipped, how long. Nothing is ever normalised: a change of level is a result."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.api import Better, Evidence, FloatArray, MetricInfo, Need, NotScorable, Sample, Side, Signal
from harness.metrics.alignment import require_finite, unaligned_pair

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


@dataclass(frozen=True)
class LevelRms:
    """Level of the output minus that of the reference."""

    @property
    def info(self) -> MetricInfo:
        return MetricInfo(
            name="level_rms_db",
            version="1",
            unit="dB",
            better=Better.NEITHER,
            needs=frozenset({Need.OUTPUT, Need.REFERENCE}),
            sample_rate=RMS_RATE_HZ,
            bounds=(-math.inf, math.inf),
            description="root-mean-square level of the output minus the reference, each over its whole length, means removed",
        )

    def measure(self, sample: Sample) -> Evidence:
        pair = unaligned_pair(sample, RMS_RATE_HZ)
        reference, output = rms_db(pair.reference), rms_db(pair.output)
        return Evidence(output - reference, counts=pair.counts(reference_db=reference, output_db=output))


@dataclass(frozen=True)
class LevelLufs:
    """Loudness of the output minus that of the reference."""

    @property
    def info(self) -> MetricInfo:
        return MetricInfo(
            name="level_lufs_db",
            version="1",
            unit="dB",
            better=Better.NEITHER,
            needs=frozenset({Need.OUTPUT, Need.REFERENCE}),
            sample_rate=LUFS_RATE_HZ,
            bounds=(-math.inf, math.inf),
            description="integrated loudness (ITU-R BS.1770-4, mono) of the output minus the reference",
            params={"block_s": BLOCK_S, "gates": "-70 LUFS, -10 LU"},
        )

    def measure(self, sample: Sample) -> Evidence:
        pair = unaligned_pair(sample, LUFS_RATE_HZ, BLOCK_S)
        reference = _loudness(sample.require_reference(), Side.REFERENCE)
        output = _loudness(sample.output, Side.OUTPUT)
        return Evidence(output - reference, counts=pair.counts(reference_lufs=reference, output_lufs=output))


def _loudness(signal: Signal, side: Side) -> float:
    value = signal.derive("BS.1770 loudness", lambda: loudness_lufs(signal.at(LUFS_RATE_HZ)))
    if value is None:
        raise NotScorable(side, f"no 400 ms above the gate of {ABSOLUTE_GATE_LUFS:g} LUFS")
    return value


@dataclass(frozen=True)
class ClippedSamples:
    """Samples of the output at full scale, at the output's own rate and in all its channels."""

    @property
    def info(self) -> MetricInfo:
        return MetricInfo(
            name="clipped_samples",
            version="1",
            unit="samples",
            better=Better.LOWER,
            needs=frozenset({Need.OUTPUT}),
            sample_rate=None,
            bounds=(0.0, math.inf),
            description="samples of the output at or beyond 32767/32768 of full scale, before any resampling",
            params={"level": CLIP_LEVEL},
        )

    def measure(self, sample: Sample) -> Evidence:
        samples = sample.output.audio.samples
        if samples.size == 0:
            raise NotScorable(Side.OUTPUT, "no samples")
        require_finite(sample.output, Side.OUTPUT)
        magnitude = np.abs(samples)
        clipped = int(np.count_nonzero(magnitude >= CLIP_LEVEL))
        counts = {"samples": float(samples.size), "beyond_full_scale": float(np.count_nonzero(magnitude > 1))}
        if sample.reference is not None:
            counts["clipped_in_reference"] = float(np.count_nonzero(np.abs(sample.reference.audio.samples) >= CLIP_LEVEL))
        return Evidence(float(clipped), counts=counts)


@dataclass(frozen=True)
class LengthRatio:
    """Duration of the output over that of the reference, each at its own rate."""

    @property
    def info(self) -> MetricInfo:
        return MetricInfo(
            name="length_ratio",
            version="1",
            unit="",
            better=Better.NEITHER,
            needs=frozenset({Need.OUTPUT, Need.REFERENCE}),
            sample_rate=None,
            bounds=(0.0, math.inf),
            description="seconds of output over seconds of reference",
        )

    def measure(self, sample: Sample) -> Evidence:
        reference_s, output_s = sample.require_reference().audio.duration_s, sample.output.audio.duration_s
        for side, signal in ((Side.REFERENCE, sample.require_reference()), (Side.OUTPUT, sample.output)):
            require_finite(signal, side)
            if signal.audio.num_samples == 0:
                raise NotScorable(side, "no samples")
        return Evidence(output_s / reference_s, counts={"reference_s": reference_s, "output_s": output_s})
