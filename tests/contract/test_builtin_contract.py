"""The harness's own metrics of audio, and its suites, keep the laws that plug-ins are held to."""

from __future__ import annotations

import pytest

from harness.api import Need
from harness.registry import METRICS, SUITES, resolve
from harness.testing import check_metric, check_suite

_OF_AUDIO = [
    "pesq_wb", "pesq_nb", "stoi", "estoi", "si_sdr_db", "si_sdr_aligned_db", "lag_samples", "mcd_db", "mcd_dtw_db", "log_mel_distance_db",
    "f0_rmse_cents", "voicing_error", "f0_correlation", "level_rms_db", "level_lufs_db", "clipped_samples", "length_ratio",
]  # fmt: skip


@pytest.mark.parametrize("name", _OF_AUDIO)
def test_metrics_of_audio(name: str) -> None:
    assert name in METRICS
    kind = resolve("metrics", name)
    assert kind().info.needs <= {Need.OUTPUT, Need.REFERENCE}
    assert "determinism" in check_metric(kind(), factory=kind).checked


@pytest.mark.parametrize("name", SUITES)
def test_suites(name: str) -> None:
    check_suite(resolve("suites", name)())
