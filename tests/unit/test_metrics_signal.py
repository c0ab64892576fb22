"""The signal metrics on speech-like audio: ceilings, directions, faults of every kind and whom they are blamed on."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import soxr
from scipy.signal import lfilter

from harness.api import Audio, Better, Evidence, Item, Metric, Need, NotApplicable, NotScorable, Sample, Side, Signal
from harness.metrics import alignment, level, warping, waveform, world
from harness.metrics.warping import banded_path, warp
from harness.testing import check_metric

RATE = 16000
Wave = npt.NDArray[np.float32]

INTRUSIVE = {
    "pesq_wb": "perceptual:PesqWb",
    "pesq_nb": "perceptual:PesqNb",
    "stoi": "perceptual:Stoi",
    "estoi": "perceptual:Estoi",
    "si_sdr_db": "waveform:SiSdr",
    "si_sdr_aligned_db": "waveform:SiSdrAligned",
    "lag_samples": "waveform:Lag",
    "mcd_db": "spectral:Mcd",
    "mcd_dtw_db": "spectral:McdDtw",
    "log_mel_distance_db": "spectral:LogMelDistance",
    "f0_rmse_cents": "pitch:F0Rmse",
    "voicing_error": "pitch:VoicingError",
    "f0_correlation": "pitch:F0Correlation",
    "level_rms_db": "level:LevelRms",
    "level_lufs_db": "level:LevelLufs",
}
CEILING = {
    "pesq_wb": 4.6439,
    "pesq_nb": 4.5486,
    "stoi": 1.0,
    "estoi": 1.0,
    "si_sdr_db": 100.0,
    "si_sdr_aligned_db": 100.0,
    "lag_samples": 0.0,
    "mcd_db": 0.0,
    "mcd_dtw_db": 0.0,
    "log_mel_distance_db": 0.0,
    "f0_rmse_cents": 0.0,
    "voicing_error": 0.0,
    "f0_correlation": 1.0,
    "level_rms_db": 0.0,
    "level_lufs_db": 0.0,
}
FREE_LENGTH = {"mcd_dtw_db", "level_rms_db", "level_lufs_db"}


def build(key: str) -> Metric:
    module, name = {**INTRUSIVE, "clipped_samples": "level:ClippedSamples", "length_ratio": "level:LengthRatio"}[key].split(":")
    metric: Metric = getattr(importlib.import_module(f"harness.metrics.{module}"), name)()
    return metric


def resample(samples: npt.NDArray[np.float32], source_hz: int, target_hz: int) -> npt.NDArray[np.float32]:
    return np.asarray(soxr.resample(samples, source_hz, target_hz, quality="VHQ"), dtype=np.float32)


def signal(samples: npt.ArrayLike, rate: int = RATE) -> Signal:
    array = np.asarray(samples, dtype=np.float32)
    return Signal(Audio(array, rate) if array.ndim == 2 else Audio.mono(array, rate), resample)


def sample(output: npt.ArrayLike | Signal, reference: npt.ArrayLike | Signal | None, rate: int = RATE) -> Sample:
    sides = [x if isinstance(x, Signal) or x is None else signal(x, rate) for x in (output, reference)]
    assert sides[0] is not None
    return Sample(Item("item", "test"), sides[0], sides[1])


def speech(duration_s: float = 2.4, seed: int = 7) -> Wave:
    """Syllables: glottal pulses of gliding pitch or noise through three formants, with pauses over a faint noise floor."""
    rng = np.random.default_rng(seed)
    out = 1e-4 * rng.standard_normal(round(duration_s * RATE))
    at = round(0.08 * RATE)
    while at < out.size - round(0.3 * RATE):
        n = round(rng.uniform(0.12, 0.26) * RATE)
        f0 = rng.uniform(105, 170) * 2 ** np.linspace(rng.uniform(-0.2, 0.2), rng.uniform(-0.2, 0.2), n)
        pulses = (np.diff(np.floor(np.cumsum(f0) / RATE), prepend=0) > 0).astype(float)
        source = pulses + 0.01 * rng.standard_normal(n)
        if rng.random() < 0.25:
            source = 0.08 * rng.standard_normal(n)
        for hz, width in ((rng.uniform(300, 800), 90), (rng.uniform(1000, 2200), 120), (rng.uniform(2400, 3200), 180)):
            r = math.exp(-math.pi * width / RATE)
            source = lfilter([1.0], [1, -2 * r * math.cos(2 * math.pi * hz / RATE), r * r], source)
        source *= np.hanning(n) ** 0.5 / np.abs(source).max()
        out[at : at + n] += 0.4 * rng.uniform(0.5, 1) * source[: out.size - at]
        at += n + round(rng.uniform(0.02, 0.18) * RATE)
    return out.astype(np.float32)


def noisy(clean: Wave, snr_db: float, seed: int = 1) -> Wave:
    noise = np.random.default_rng(seed).standard_normal(clean.size)
    return (clean + noise * np.std(clean) * 10 ** (-snr_db / 20)).astype(np.float32)


@pytest.fixture(scope="module")
def clean() -> Wave:
    return speech()


def value(key: str, output: npt.ArrayLike | Signal, reference: npt.ArrayLike | Signal, rate: int = RATE) -> float:
    return build(key).measure(sample(output, reference, rate)).value


@pytest.mark.parametrize("key", [*INTRUSIVE, "clipped_samples", "length_ratio"])
def test_declaration(key: str, clean: Wave) -> None:
    info = build(key).info
    assert isinstance(build(key), Metric)
    assert info.name == key
    assert info.signature() == build(key).info.signature()
    evidence = build(key).measure(sample(noisy(clean, 15), clean))
    assert info.bounds[0] <= evidence.value <= info.bounds[1]
    assert (Need.REFERENCE in info.needs) == (key != "clipped_samples")


@pytest.mark.parametrize("key", [*INTRUSIVE, "clipped_samples", "length_ratio"])
def test_contract(key: str) -> None:
    report = check_metric(build(key), factory=lambda: build(key))
    assert {"declaration", "determinism", "NaN output", "faulty output", "equal instance"} <= set(report.checked)


@pytest.mark.parametrize("key", INTRUSIVE)
def test_identity_gives_the_ceiling(key: str, clean: Wave) -> None:
    evidence = build(key).measure(sample(clean, clean))
    assert evidence.value == pytest.approx(CEILING[key], abs=2e-4)
    assert evidence.counts["length_ratio"] == 1.0
    assert evidence.detail.get("saturated", False) is (key in {"si_sdr_db", "si_sdr_aligned_db"})


@pytest.mark.parametrize("key", INTRUSIVE)
def test_same_pair_same_evidence(key: str, clean: Wave) -> None:
    before = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    lowpassed = lfilter(np.ones(8) / 8, [1.0], noisy(clean, 20)).astype(np.float32)
    first, second = (build(key).measure(sample(lowpassed, clean)) for _ in range(2))
    assert first == second
    assert np.array_equal(before, np.random.get_state()[1])  # type: ignore[index]


@pytest.mark.parametrize("key", INTRUSIVE)
def test_threads_do_not_change_a_bit(key: str) -> None:
    limits = pytest.importorskip("threadpoolctl").threadpool_limits
    long = speech(5.0)  # long enough for the linear algebra library to split its work
    values = []
    for threads in (1, 2, 4):
        with limits(threads):
            values.append(value(key, noisy(long, 15), long))
    assert len(set(values)) == 1


@pytest.mark.parametrize("key", INTRUSIVE)
def test_inputs_are_left_alone(key: str, clean: Wave) -> None:
    pair = sample(noisy(clean, 20), clean)
    digests = pair.output.audio.digest(), pair.require_reference().audio.digest()
    build(key).measure(pair)
    assert digests == (pair.output.audio.digest(), pair.require_reference().audio.digest())


@pytest.mark.parametrize("key", [k for k in INTRUSIVE if build(k).info.better is not Better.NEITHER])
def test_degradation_moves_in_the_declared_direction(key: str, clean: Wave) -> None:
    ladder = [value(key, noisy(clean, snr), clean) for snr in (40, 20, 5)]
    worse = np.diff(ladder) * (1 if build(key).info.better is Better.LOWER else -1)
    if key.startswith(("f0", "voicing")):
        assert worse.sum() > 0
    else:
        assert (worse > 0).all(), ladder


@pytest.mark.parametrize("key", ["pesq_wb", "pesq_nb", "stoi", "level_rms_db", "level_lufs_db", "lag_samples"])
def test_swapping_the_arguments_is_noticed(key: str, clean: Wave) -> None:
    late = np.concatenate([np.zeros(37, np.float32), noisy(clean, 10)[:-37]])
    assert abs(value(key, late, clean) - value(key, clean, late)) > 1e-3


def test_one_sample_of_delay(clean: Wave) -> None:
    late = np.concatenate([[0], clean[:-1]]).astype(np.float32)
    assert value("si_sdr_db", late, clean) < 30
    assert value("si_sdr_aligned_db", late, clean) == 100
    assert value("lag_samples", late, clean) == 1
    assert value("lag_samples", clean, late) == -1


@pytest.mark.parametrize("delay", [1, 20, 400, 1600, -400])
def test_any_delay_within_the_range_is_found(delay: int, clean: Wave) -> None:
    shifted = np.roll(noisy(clean, 15), delay)
    assert value("lag_samples", shifted, clean) == delay
    apart = 16 * abs(delay)
    assert value("si_sdr_aligned_db", shifted, clean) == pytest.approx(
        value("si_sdr_db", noisy(clean, 15), clean), abs=max(0.01, apart / RATE)
    )
    assert value("lag_samples", -shifted, clean) == delay


def test_declared_delay_equals_aligned(clean: Wave) -> None:
    for delay in (1, 20, 400):
        degraded = noisy(clean, 15)
        late = np.concatenate([np.zeros(delay, np.float32), degraded[:-delay]])
        compensated = value("si_sdr_db", late[delay:], clean[:-delay])
        assert value("si_sdr_aligned_db", late, clean) == pytest.approx(compensated, abs=0.01)


def test_half_gain(clean: Wave) -> None:
    worse = noisy(clean, 20)
    for key in ("si_sdr_db", "mcd_db", "stoi", "estoi", "pesq_wb", "f0_rmse_cents"):
        assert value(key, 0.5 * worse, clean) == pytest.approx(value(key, worse, clean), abs=0.02), key
    assert value("level_rms_db", 0.5 * clean, clean) == pytest.approx(-6.0206, abs=1e-4)
    assert value("level_lufs_db", 0.5 * clean, clean) == pytest.approx(-6.0206, abs=0.05)
    assert value("log_mel_distance_db", 0.5 * worse, worse) == pytest.approx(6.0206, abs=0.01)  # no band at the floor


def test_dc_offset(clean: Wave) -> None:
    worse = noisy(clean, 20)
    for key, within in (("si_sdr_db", 1e-4), ("mcd_db", 0.01), ("lag_samples", 0), ("level_rms_db", 1e-4), ("f0_rmse_cents", 0.2)):
        assert value(key, worse + 0.02, clean) == pytest.approx(value(key, worse, clean), abs=within), key


def test_sign_flip_leaves_scale_invariant_sdr(clean: Wave) -> None:
    worse = noisy(clean, 20)
    assert value("si_sdr_db", -worse, clean) == pytest.approx(value("si_sdr_db", worse, clean), abs=1e-9)


@pytest.mark.parametrize("rate", [8000, 24000, 44100, 48000])
@pytest.mark.parametrize("key", ["pesq_wb", "stoi", "si_sdr_db", "mcd_db", "level_rms_db"])
def test_the_metric_fixes_the_rate(key: str, rate: int, clean: Wave) -> None:
    worse = resample(noisy(clean, 15), RATE, rate)
    assert value(key, signal(worse, rate), clean) == pytest.approx(value(key, resample(worse, rate, RATE), clean), abs=1e-6)


@pytest.mark.parametrize("key", INTRUSIVE)
def test_stereo_is_averaged(key: str, clean: Wave) -> None:
    left, right = noisy(clean, 20, 1), noisy(clean, 20, 2)
    mixed = np.stack([left, right]).mean(axis=0)
    assert value(key, np.stack([left, right]), np.stack([clean, clean])) == pytest.approx(value(key, mixed, clean), abs=1e-6)


def blame(key: str, output: npt.ArrayLike, reference: npt.ArrayLike) -> NotScorable:
    with pytest.raises(NotScorable) as caught:
        build(key).measure(sample(output, reference))
    return caught.value


FAULTS: dict[str, Callable[[Wave], Wave]] = {
    "nan": lambda x: np.where(np.arange(x.size) == 1000, np.nan, x).astype(np.float32),
    "inf": lambda x: np.where(np.arange(x.size) == 1000, np.inf, x).astype(np.float32),
    "silent": lambda x: np.zeros_like(x),
    "dc only": lambda x: np.full_like(x, 0.3),
    "below one step": lambda x: (x * 1e-5 / np.abs(x).max()).astype(np.float32),
    "empty": lambda x: x[:0],
    "half missing": lambda x: x[: x.size // 2],
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("key", INTRUSIVE)
def test_a_broken_side_is_named(key: str, fault: str, clean: Wave) -> None:
    broken = FAULTS[fault](clean)
    if fault == "half missing":
        if key in FREE_LENGTH:
            assert build(key).measure(sample(broken, clean)).counts["length_ratio"] == 0.5
            return
        assert "length ratio 0.5000" in blame(key, broken, clean).reason
        assert "length ratio 2.0000" in blame(key, clean, broken).reason
        return
    assert blame(key, broken, clean).side is Side.OUTPUT
    assert blame(key, clean, broken).side is Side.REFERENCE
    assert blame(key, broken, broken).side is Side.REFERENCE


@pytest.mark.parametrize("factor", [0.75, 1.25])
@pytest.mark.parametrize("key", [k for k in INTRUSIVE if k not in FREE_LENGTH])
def test_a_quarter_shorter_or_longer_is_refused(key: str, factor: float, clean: Wave) -> None:
    other = np.resize(clean, round(clean.size * factor))
    found = blame(key, other, clean)
    assert found.side is Side.OUTPUT
    assert f"length ratio {factor:.4f}" in found.reason
    assert value("length_ratio", other, clean) == pytest.approx(factor, abs=1e-3)


def test_small_length_differences_are_kept_in_the_counts(clean: Wave) -> None:
    evidence = build("si_sdr_db").measure(sample(clean[:-320], clean))
    assert evidence.counts["length_ratio"] == pytest.approx(1 - 320 / clean.size)
    assert evidence.value == 100


def test_length_tolerance() -> None:
    seconds = np.array([0.3, 1.0, 5.0, 30.0])
    got = [alignment.length_tolerance(round(s * RATE), RATE) / RATE for s in seconds]
    assert got == pytest.approx([0.03, 0.1, 0.12, 0.3])


def test_point_two_seconds(clean: Wave) -> None:
    short = clean[4000:7200]
    for key in ("pesq_wb", "pesq_nb", "stoi", "estoi", "level_lufs_db"):
        found = blame(key, noisy(short, 20), short)
        assert found.side is Side.REFERENCE
        assert "0.2" in found.reason
    for key in ("si_sdr_db", "mcd_db", "mcd_dtw_db", "log_mel_distance_db", "lag_samples", "level_rms_db", "voicing_error"):
        assert math.isfinite(value(key, noisy(short, 20), short))
    for key in INTRUSIVE:
        with pytest.raises(NotScorable):
            build(key).measure(sample(short[:100], np.zeros(100)))


def test_no_reference_is_not_applicable(clean: Wave) -> None:
    for key in INTRUSIVE:
        with pytest.raises(NotApplicable):
            build(key).measure(sample(clean, None))


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


def test_loudness_gates() -> None:
    time = np.arange(4 * 48000) / 48000
    tone = np.sin(2 * np.pi * 997 * time)
    assert level.loudness_lufs(tone) == pytest.approx(-3.01, abs=0.01)
    assert level.loudness_lufs(0.1 * tone) == pytest.approx(-23.01, abs=0.01)
    padded = np.concatenate([0.1 * tone, np.zeros(8 * 48000)])
    assert level.loudness_lufs(padded) == pytest.approx(-23.01, abs=0.3)
    assert level.loudness_lufs(1e-4 * tone) is None
    with pytest.raises(ValueError, match=r"0\.4 s"):
        level.loudness_lufs(tone[:19199])


def test_a_whisper_below_the_gate_has_no_loudness(clean: Wave) -> None:
    faint = (clean * 3e-4 / np.abs(clean).max()).astype(np.float32)
    found = blame("level_lufs_db", faint, clean)
    assert found.side is Side.OUTPUT
    assert "gate" in found.reason


def test_clipped_samples_are_counted_at_the_own_rate(clean: Wave) -> None:
    loud = np.clip(clean * 4, -1, 32767 / 32768)
    expected = int(np.sum(np.abs(clean * 4) >= 32767 / 32768))
    assert expected > 10
    evidence = build("clipped_samples").measure(sample(signal(np.stack([loud, clean]), 44100), clean))
    assert evidence.value == expected
    assert evidence.counts["samples"] == 2 * clean.size
    assert evidence.counts["clipped_in_reference"] == 0
    over = build("clipped_samples").measure(sample(clean * 4, None))
    assert over.counts["beyond_full_scale"] == int(np.sum(np.abs(clean * 4) > 1))
    for fault in ("nan", "inf", "empty"):
        assert blame("clipped_samples", FAULTS[fault](clean), clean).side is Side.OUTPUT


def test_length_ratio_at_each_side_own_rate(clean: Wave) -> None:
    evidence = build("length_ratio").measure(sample(signal(np.zeros(48000), 48000), signal(np.zeros(8000), 16000)))
    assert evidence == Evidence(2.0, counts={"reference_s": 0.5, "output_s": 1.0})
    assert blame("length_ratio", clean, clean[:0]).side is Side.REFERENCE
    assert blame("length_ratio", clean[:0], clean).side is Side.OUTPUT


def test_si_sdr_refuses_what_it_cannot_mean() -> None:
    with pytest.raises(ValueError, match="equal lengths"):
        waveform.si_sdr_db(np.ones(4), np.ones(5))
    with pytest.raises(ValueError, match="constant"):
        waveform.si_sdr_db(np.ones(4), np.arange(4.0))


def test_si_sdr_saturates_at_both_ends(clean: Wave) -> None:
    orthogonal = np.where(np.arange(clean.size) % 2, np.roll(clean, 1), -np.roll(clean, -1))
    s = clean.astype(np.float64) - clean.mean(dtype=np.float64)
    y = orthogonal.astype(np.float64)
    y -= y.mean()
    y -= s * (y @ s) / (s @ s)
    assert waveform.si_sdr_db(s, y) == -100
    assert waveform.si_sdr_db(s, 3 * s) == 100


def test_level_of_frames_survives_digital_silence() -> None:
    silence_then_tone = np.concatenate([np.zeros(RATE), 0.1 * np.sin(np.arange(RATE) * 0.3)])
    cepstra = world.mel_cepstra(signal(silence_then_tone))
    assert np.isfinite(cepstra.coefficients).all()
    assert cepstra.level_db[300] == pytest.approx(20 * math.log10(0.1 / math.sqrt(2)), abs=0.2)
    assert cepstra.level_db.size == world.f0_hz(signal(silence_then_tone)).size == 401


def test_a_changed_output_is_never_scored_from_the_memo(clean: Wave) -> None:
    """Every metric gives the same number whether or not other metrics and systems were measured on the reference before."""
    reference = signal(clean)
    first = sample(signal(noisy(clean, 30)), reference)
    for key in INTRUSIVE:
        build(key).measure(first)
    second = replace(first, output=signal(noisy(clean, 10, 5)[:-160]))
    for key in INTRUSIVE:
        fresh = sample(noisy(clean, 10, 5)[:-160], clean)
        assert build(key).measure(second) == build(key).measure(fresh), key
