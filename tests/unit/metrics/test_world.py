"""Metrics of WORLD's analysis: F0, voicing and MCD, and the warping under it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import fftconvolve, firwin

from harness.api import Audio, Side, Signal
from harness.data import embedded_set
from harness.metrics import world
from harness.metrics.alignment import banded_path, compiled, warp
from harness.metrics.shared import Library
from systems.classical.ffmpeg import FFmpegCodec
from tests.stubs.signal_pairs import RATE, Wave, blame, build, noisy, resample, sample, signal, value


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
    monkeypatch.setattr(world, "_WORLD", Library())  # which has not seen these before
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


EVAL = Path(__file__).resolve().parents[3] / "../shared/data/eval"
SPEECH = {"embedded": sorted(embedded_set.ROOT.glob("*/02.flac"))[::5], "human": sorted(EVAL.glob("en*/*.flac"))[::30]}


@pytest.fixture(scope="module", params=SPEECH)
def recordings(request: pytest.FixtureRequest) -> list[Signal]:
    """Two seconds each of three voices or more."""
    if not SPEECH[request.param]:
        pytest.skip("the human evaluation set (shared/data/eval beside the checkout) is not here")
    return [signal(soundfile.read(path, dtype="float32")[0][RATE // 2 : 5 * RATE // 2]) for path in SPEECH[request.param]]


def mean_mcd(change: Callable[[Wave], Wave], recordings: list[Signal]) -> Wave:
    """``[mcd_db, mcd_dtw_db]`` of a change, mean over recordings."""
    pairs = [sample(signal(change(x.at(RATE))), x) for x in recordings]
    return np.mean([[build(key).measure(pair).value for key in ("mcd_db", "mcd_dtw_db")] for pair in pairs], axis=0)


def low_passed(x: Wave, edge_hz: float) -> Wave:
    return fftconvolve(x, firwin(513, edge_hz, fs=RATE, window=("kaiser", 8.0)), "same").astype(np.float32)


@pytest.mark.cases(
    "C1", before="3.0 dB for an identity through 24 kHz, 7 for a low-pass at 7.3 kHz, 18 to 21 at 6 kHz", after="below .1, .2 and 7 dB"
)
def test_mcd_hears_no_edge_of_the_band(recordings: list[Signal]) -> None:
    for rate in (24000, 44100, 48000):
        assert (mean_mcd(lambda x, rate=rate: resample(resample(x, RATE, rate), rate, RATE)[: x.size], recordings) < 0.1).all()
    assert (mean_mcd(lambda x: low_passed(x, 7300), recordings) < 0.2).all()
    assert (mean_mcd(lambda x: low_passed(x, 6000), recordings) < 7).all()
    assert mean_mcd(lambda x: x * 10 ** (3 / 20), recordings) == pytest.approx([0, 0], abs=0.01)


@pytest.mark.cases("C1", before="so it did", after="MCD rises with noise from 40 to 10 dB")
def test_mcd_rises_with_noise(recordings: list[Signal]) -> None:
    ladder = np.array([mean_mcd(lambda x, snr=snr: noisy(x, snr), recordings) for snr in (40, 30, 20, 10)])
    assert (np.diff(ladder, axis=0) > 1).all(), ladder


@pytest.mark.cases("C1", before="so it did", after="MCD falls with Opus' rate from 9 to 32 kbit/s")
def test_mcd_falls_with_opus_rate(recordings: list[Signal]) -> None:
    ladder = []
    for rate in (9000, 12000, 16000, 24000, 32000):
        codec = FFmpegCodec("opus", bitrate_bps=rate)
        ladder.append(mean_mcd(lambda x, codec=codec: codec.decode(codec.encode(Audio.mono(x, RATE))).samples[0], recordings))
    assert (np.diff(ladder, axis=0) < 0).all(), ladder


def test_one_loud_tone_moves_no_other_frame(clean: Wave) -> None:
    """The floor hangs on the frame: what happens elsewhere in a recording changes nothing here."""
    loud = np.concatenate([clean, np.zeros(RATE // 5, np.float32), 0.9 * np.sin(np.arange(800) * 0.5).astype(np.float32)])
    here = world.mel_cepstra(signal(clean)).coefficients[:400]
    assert world.mel_cepstra(signal(loud)).coefficients[:400] == pytest.approx(here, abs=1e-3)


def test_band_and_floor_stand_in_the_signature() -> None:
    for key in ("mcd_db", "mcd_dtw_db"):
        assert (build(key).info.version, build(key).info.params["top_hz"], build(key).info.params["floor_db"]) == ("2", 7000.0, 60.0)


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
        cost, steps = warp(a, b, 4)
        assert math.isfinite(cost)
        assert max(n, m) <= steps <= n + m - 1
        slope = (m - 1) / max(n - 1, 1)
        assert (cost, steps) == pytest.approx(banded_path(a, b, slope, max(4, math.ceil(slope) + 1)))
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
    compiled.cache_clear()
    monkeypatch.setattr(numba, "njit", unwritable)
    try:
        assert warp(np.zeros((3, 2)), np.ones((4, 2)), 4) == expected
    finally:
        compiled.cache_clear()


def test_level_of_frames_survives_digital_silence() -> None:
    silence_then_tone = np.concatenate([np.zeros(RATE), 0.1 * np.sin(np.arange(RATE) * 0.3)])
    cepstra = world.mel_cepstra(signal(silence_then_tone))
    assert np.isfinite(cepstra.coefficients).all()
    assert cepstra.level_db[300] == pytest.approx(20 * math.log10(0.1 / math.sqrt(2)), abs=0.2)
    assert cepstra.level_db.size == world.f0_hz(signal(silence_then_tone)).size == 401
