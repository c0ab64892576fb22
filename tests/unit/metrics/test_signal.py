"""What every signal metric keeps on speech-like audio beside the laws (tests/contract/test_builtin_contract.py): ceilings, directions, faults of every kind and whom they are blamed on."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import lfilter

from harness.api import Better, Metric, Need, NotApplicable, NotScorable, Side
from tests.stubs.signal_pairs import (
    FAULTS,
    FREE_LENGTH,
    INTRUSIVE,
    RATE,
    Wave,
    blame,
    build,
    noisy,
    resample,
    sample,
    signal,
    speech,
    value,
)

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
    "visqol_speech": 5.0,
    "visqol_audio": 4.7321,
    "mel_distance_dac": 0.0,
    "stft_distance_dac": 0.0,
    "stft_distance_pwg": 0.0,
    "f0_rmse_cents": 0.0,
    "voicing_error": 0.0,
    "vuv_f1": 1.0,
    "gross_pitch_error": 0.0,
    "f0_correlation": 1.0,
    "level_rms_db": 0.0,
    "level_lufs_db": 0.0,
}


@pytest.mark.parametrize("key", [*INTRUSIVE, "clipped_samples", "length_ratio"])
def test_declaration(key: str, clean: Wave) -> None:
    info = build(key).info
    assert isinstance(build(key), Metric)
    assert info.name == key
    assert info.signature() == build(key).info.signature()
    evidence = build(key).measure(sample(noisy(clean, 15), clean))
    assert info.bounds[0] <= evidence.value <= info.bounds[1]
    assert (Need.REFERENCE in info.needs) == (key != "clipped_samples")


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
    if key == "gross_pitch_error":
        assert worse.sum() >= 0  # noise makes frames unvoiced before it makes them wrong
    elif key.startswith(("f0", "voicing", "vuv")):
        assert worse.sum() > 0
    else:
        assert (worse > 0).all(), ladder


@pytest.mark.parametrize("key", ["pesq_wb", "pesq_nb", "stoi", "level_rms_db", "level_lufs_db", "lag_samples"])
def test_swapping_the_arguments_is_noticed(key: str, clean: Wave) -> None:
    late = np.concatenate([np.zeros(37, np.float32), noisy(clean, 10)[:-37]])
    assert abs(value(key, late, clean) - value(key, clean, late)) > 1e-3


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


def test_point_two_seconds(clean: Wave) -> None:
    short = clean[4000:7200]
    for key in ("pesq_wb", "pesq_nb", "stoi", "estoi", "visqol_speech", "visqol_audio", "level_lufs_db"):
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
