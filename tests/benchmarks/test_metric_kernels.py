"""Time per pair of five seconds, one thread: ``python -m pytest tests/benchmarks --benchmark-only``."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import harness.metrics
from harness.api import Audio, Item, Metric, Sample, Signal
from harness.metrics import shared

pytest.importorskip("pytest_benchmark")

RATE = 16000
METRICS = (
    "si_sdr_db", "si_sdr_aligned_db", "mcd_db", "mcd_dtw_db", "log_mel_distance_db", "f0_rmse_cents", "stoi", "estoi", "pesq_wb", "pesq_nb",
    "level_lufs_db", "visqol_speech", "visqol_audio", "vuv_f1", "mel_distance_dac", "stft_distance_dac", "stft_distance_pwg",
)  # fmt: skip


def resample(samples: npt.NDArray[np.float32], source_hz: int, target_hz: int) -> npt.NDArray[np.float32]:
    import soxr

    return np.asarray(soxr.resample(samples, source_hz, target_hz, quality="VHQ"), dtype=np.float32)


@pytest.fixture(scope="module")
def pair() -> tuple[Audio, Audio]:
    """Five seconds of harmonics that glide, swell and pause, and the same in noise."""
    rng = np.random.default_rng(0)
    time = np.arange(5 * RATE) / RATE
    phase = 2 * np.pi * np.cumsum(120 * 2 ** (0.3 * np.sin(2 * np.pi * 0.4 * time))) / RATE
    voice = sum(np.sin(k * phase) / k**1.2 for k in range(1, 25)) * np.maximum(0, np.sin(2 * np.pi * 1.6 * time)) ** 0.5
    clean = 0.1 * voice + 1e-4 * rng.standard_normal(time.size)
    return Audio.mono(clean, RATE), Audio.mono(clean + 0.01 * rng.standard_normal(time.size), RATE)


@pytest.mark.parametrize("name", METRICS)
def test_five_seconds(name: str, pair: tuple[Audio, Audio], benchmark: Any) -> None:
    metric: Metric = getattr(harness.metrics, name).metric()

    def fresh() -> tuple[tuple[Sample], dict[str, Any]]:
        shared._recent.clear()
        reference, output = (Signal(audio, resample) for audio in pair)  # nothing derived yet, nor kept of an earlier round
        return (Sample(Item("item", "benchmark"), output, reference),), {}

    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        evidence = benchmark.pedantic(metric.measure, setup=fresh, rounds=5, warmup_rounds=1)
    assert metric.info.bounds[0] < evidence.value < metric.info.bounds[1]
