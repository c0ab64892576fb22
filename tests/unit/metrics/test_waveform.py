"""Metrics of the samples themselves: delays and SI-SDR, lengths, levels, loudness and clipping."""

from __future__ import annotations

import numpy as np
import pytest

from harness.api import Evidence, NotScorable, Side
from harness.metrics import alignment, waveform
from tests.stubs.signal_pairs import FAULTS, RATE, Wave, blame, build, noisy, resample, sample, signal, speech, value


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


@pytest.mark.cases(
    "A20",
    before="SI-SDR -13 where aligned it is +15, and nothing said",
    after="lag, its strength and the aligned figure in every SI-SDR record, to 1 s",
)
@pytest.mark.parametrize("delay", [8, 320, 4800, -160])
def test_si_sdr_tells_the_delay_that_spoils_it(delay: int, clean: Wave) -> None:
    late = np.roll(noisy(clean, 15), delay)
    told = build("si_sdr_db").measure(sample(late, clean)).counts
    assert told["lag_samples"] == delay
    assert told["correlation"] > 0.9 - abs(delay) / clean.size
    assert told["aligned_db"] == pytest.approx(value("si_sdr_aligned_db", late, clean), abs=1e-3)
    assert value("si_sdr_db", late, clean) < told["aligned_db"] - 10
    assert "lag_meaningless" not in build("lag_samples").measure(sample(late, clean)).detail
    in_step = build("si_sdr_db").measure(sample(noisy(clean, 15), clean)).counts
    assert in_step["lag_samples"] == 0
    assert "aligned_db" not in in_step


@pytest.mark.cases("A20", before="a lag of noise or of other speech looked like any other", after="such a lag is told to be meaningless")
def test_a_meaningless_lag_is_told(clean: Wave) -> None:
    hiss = np.random.default_rng(0).standard_normal(clean.size).astype(np.float32)
    beyond = np.concatenate([np.zeros(RATE * 6 // 5, np.float32), clean])[: clean.size]  # 1.2 s late
    for output in (hiss, beyond, speech(clean.size / RATE, 99)):
        found = build("si_sdr_db").measure(sample(output, clean)).counts
        assert abs(found["correlation"]) < waveform.MEANINGFUL_PEAK
        assert "aligned_db" not in found
        assert build("lag_samples").measure(sample(output, clean)).detail == {"lag_meaningless": True}
        assert build("si_sdr_aligned_db").measure(sample(output, clean)).detail["lag_meaningless"] is True


def test_the_lag_of_a_pair_is_looked_for_once(clean: Wave, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    once = waveform.estimate_lag
    monkeypatch.setattr(waveform, "estimate_lag", lambda *a: (calls.append(a), once(*a))[1])
    output = signal(noisy(clean, 20))
    for reference in (signal(clean), signal(np.roll(clean, 5))):
        for key in ("si_sdr_db", "si_sdr_aligned_db", "lag_samples"):
            build(key).measure(sample(output, reference))
    assert len(calls) == 2


@pytest.mark.cases("A20", before="16-kHz samples called 24 kHz: a length ratio", after="the refusal says which rate the samples would fit")
def test_samples_under_another_rate_are_recognised(clean: Wave) -> None:
    for stated, true, words in ((24000, 16000, "at 16 kHz were called 24 kHz"), (16000, 24000, "at 24 kHz were called 16 kHz")):
        output = signal(resample(clean, RATE, true), stated)
        with pytest.raises(NotScorable, match=f"length ratio {true / stated:.4f}.*as if samples {words}"):
            build("si_sdr_db").measure(sample(output, clean))
    assert "as if" not in blame("si_sdr_db", clean[: clean.size * 3 // 5], clean).reason


def test_declared_delay_equals_aligned(clean: Wave) -> None:
    for delay in (1, 20, 400):
        degraded = noisy(clean, 15)
        late = np.concatenate([np.zeros(delay, np.float32), degraded[:-delay]])
        compensated = value("si_sdr_db", late[delay:], clean[:-delay])
        assert value("si_sdr_aligned_db", late, clean) == pytest.approx(compensated, abs=0.01)


def test_sign_flip_leaves_scale_invariant_sdr(clean: Wave) -> None:
    worse = noisy(clean, 20)
    assert value("si_sdr_db", -worse, clean) == pytest.approx(value("si_sdr_db", worse, clean), abs=1e-9)


def test_small_length_differences_are_kept_in_the_counts(clean: Wave) -> None:
    evidence = build("si_sdr_db").measure(sample(clean[:-320], clean))
    assert evidence.counts["length_ratio"] == pytest.approx(1 - 320 / clean.size)
    assert evidence.value == 100


def test_length_tolerance() -> None:
    seconds = np.array([0.3, 1.0, 5.0, 30.0])
    got = [alignment.length_tolerance(round(s * RATE), RATE) / RATE for s in seconds]
    assert got == pytest.approx([0.03, 0.1, 0.12, 0.3])


def test_si_sdr_refuses_what_it_cannot_mean() -> None:
    with pytest.raises(ValueError, match="equal lengths"):
        waveform.scale_invariant_db(np.ones(4), np.ones(5))
    with pytest.raises(ValueError, match="constant"):
        waveform.scale_invariant_db(np.ones(4), np.arange(4.0))


def test_si_sdr_saturates_at_both_ends(clean: Wave) -> None:
    orthogonal = np.where(np.arange(clean.size) % 2, np.roll(clean, 1), -np.roll(clean, -1))
    s = clean.astype(np.float64) - clean.mean(dtype=np.float64)
    y = orthogonal.astype(np.float64)
    y -= y.mean()
    y -= s * (y @ s) / (s @ s)
    assert waveform.scale_invariant_db(s, y) == -100
    assert waveform.scale_invariant_db(s, 3 * s) == 100


def test_length_ratio_at_each_side_own_rate(clean: Wave) -> None:
    evidence = build("length_ratio").measure(sample(signal(np.zeros(48000), 48000), signal(np.zeros(8000), 16000)))
    assert evidence == Evidence(2.0, counts={"reference_s": 0.5, "output_s": 1.0})
    assert blame("length_ratio", clean, clean[:0]).side is Side.REFERENCE
    assert blame("length_ratio", clean[:0], clean).side is Side.OUTPUT


def test_loudness_gates() -> None:
    time = np.arange(4 * 48000) / 48000
    tone = np.sin(2 * np.pi * 997 * time)
    assert waveform.loudness_lufs(tone) == pytest.approx(-3.01, abs=0.01)
    assert waveform.loudness_lufs(0.1 * tone) == pytest.approx(-23.01, abs=0.01)
    padded = np.concatenate([0.1 * tone, np.zeros(8 * 48000)])
    assert waveform.loudness_lufs(padded) == pytest.approx(-23.01, abs=0.3)
    assert waveform.loudness_lufs(1e-4 * tone) is None
    with pytest.raises(ValueError, match=r"0\.4 s"):
        waveform.loudness_lufs(tone[:19199])


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
