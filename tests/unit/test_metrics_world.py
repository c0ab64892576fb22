"""Metrics of WORLD's analysis: F0, voicing and MCD, and the warping under it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from harness.api import Side
from harness.metrics import warping, world
from harness.metrics.warping import banded_path, warp
from tests.stubs.signal_pairs import RATE, Wave, blame, build, noisy, sample, signal, value


def test_unvoiced_sides_are_blamed(clean: Wave) -> None:
    hiss = (0.1 * np.random.default_rng(0).standard_normal(clean.size)).astype(np.float32)
    for key in ("f0_rmse_cents", "f0_correlation"):
        assert blame(key, clean, hiss).side is Side.REFERENCE
        assert blame(key, hiss, clean).side is Side.OUTPUT
    assert value("voicing_error", hiss, clean) > 0.2


def test_a_transposed_voice_is_off_by_its_interval() -> None:
    time = np.arange(2 * RATE) / RATE
    glide = 120 * 2 ** (0.3 * np.sin(2 * np.pi * 0.7 * time))
    tones = [
        sum(np.sin(k * phase) / k for k in range(1, 12)) for phase in (2 * np.pi * np.cumsum(glide * r) / RATE for r in (1, 2 ** (2 / 12)))
    ]
    low, high = (0.2 * tone for tone in tones)
    assert value("f0_rmse_cents", high, low) == pytest.approx(200, abs=3)
    assert value("f0_correlation", high, low) > 0.99


def test_world_analysis_of_a_reference_is_made_once(clean: Wave, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyworld

    calls: list[str] = []
    for name in ("dio", "cheaptrick"):
        original = getattr(pyworld, name)
        monkeypatch.setattr(pyworld, name, lambda *a, _f=original, _n=name, **k: (calls.append(_n), _f(*a, **k))[1])
    reference = signal(clean)
    for snr in (30, 20):
        pair = sample(signal(noisy(clean, snr)), reference)
        for key in ("mcd_db", "mcd_dtw_db", "f0_rmse_cents", "voicing_error", "f0_correlation"):
            build(key).measure(pair)
    assert sorted(calls) == ["cheaptrick"] * 3 + ["dio"] * 3


def test_pauses_do_not_enter_mcd(clean: Wave) -> None:
    """Digital silence against a -100 dB noise floor in a pause: a large cepstral distance that nobody hears."""
    rng = np.random.default_rng(0)
    pause = np.zeros(RATE, np.float32)
    reference = np.concatenate([clean, pause])
    output = np.concatenate([noisy(clean, 20), (1e-5 * rng.standard_normal(RATE)).astype(np.float32)])
    without = build("mcd_db").measure(sample(noisy(clean, 20), clean))
    found = build("mcd_db").measure(sample(output, reference))
    assert found.value == pytest.approx(without.value, rel=0.02)
    assert found.counts["active_frames"] == pytest.approx(without.counts["active_frames"], abs=4)


def test_warped_mcd_forgives_tempo(clean: Wave) -> None:
    """The same vowels held for other times: far apart frame by frame, close after warping."""
    x, fs = clean.astype(np.float64), RATE
    import pyworld

    f0, times = pyworld.dio(x, fs)
    envelope, aperiodicity = pyworld.cheaptrick(x, f0, times, fs), pyworld.d4c(x, f0, times, fs)
    order = np.sort(np.concatenate([np.arange(f0.size), np.arange(f0.size // 3, f0.size // 2)]))
    slow = pyworld.synthesize(f0[order], envelope[order], aperiodicity[order], fs)
    plain = pyworld.synthesize(f0, envelope, aperiodicity, fs)
    warped = value("mcd_dtw_db", slow, clean)
    n = min(slow.size, clean.size)
    assert warped < 0.7 * value("mcd_db", slow[:n], clean[:n])
    assert warped == pytest.approx(value("mcd_dtw_db", plain, clean), rel=0.35)


def test_warping_handles_any_shape() -> None:
    rng = np.random.default_rng(0)
    for n, m in ((1, 1), (1, 5), (5, 1), (2, 40), (40, 2), (30, 37)):
        a, b = rng.standard_normal((n, 3)), rng.standard_normal((m, 3))
        path = warp(a, b, 4)
        assert math.isfinite(path.cost)
        assert max(n, m) <= path.steps <= n + m - 1
        slope = (m - 1) / max(n - 1, 1)
        assert (path.cost, path.steps) == pytest.approx(banded_path(a, b, slope, max(4, math.ceil(slope) + 1)))
    with pytest.raises(ValueError, match="at least one frame"):
        warp(np.zeros((0, 3)), np.zeros((4, 3)), 4)


def test_warping_works_where_no_cache_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    compile_for = numba.njit

    def unwritable(*, cache: bool) -> Callable[..., object]:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return compile_for(cache=False)

    expected = warp(np.zeros((3, 2)), np.ones((4, 2)), 4)
    warping._compiled.cache_clear()
    monkeypatch.setattr(numba, "njit", unwritable)
    try:
        assert warp(np.zeros((3, 2)), np.ones((4, 2)), 4) == expected
    finally:
        warping._compiled.cache_clear()


def test_level_of_frames_survives_digital_silence() -> None:
    silence_then_tone = np.concatenate([np.zeros(RATE), 0.1 * np.sin(np.arange(RATE) * 0.3)])
    cepstra = world.mel_cepstra(signal(silence_then_tone))
    assert np.isfinite(cepstra.coefficients).all()
    assert cepstra.level_db[300] == pytest.approx(20 * math.log10(0.1 / math.sqrt(2)), abs=0.2)
    assert cepstra.level_db.size == world.f0_hz(signal(silence_then_tone)).size == 401
