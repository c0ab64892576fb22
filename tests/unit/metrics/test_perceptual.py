"""PESQ and STOI around the edges of their libraries: cuts, pieces, argument order, too little speech."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from scipy.signal import resample_poly

from harness.api import Audio, Item, Metric, NotScorable, Sample, Side
from harness.metrics import perceptual
from harness.testing import laws as signals

RATE = 16000
Wave = npt.NDArray[np.float32]
METRICS: dict[str, Metric] = {
    m.info.name: m for m in (perceptual.pesq_wb.metric(), perceptual.pesq_nb.metric(), perceptual.stoi.metric(), perceptual.estoi.metric())
}


def speech(duration_s: float = 2.4, seed: int = 7) -> Wave:
    return signals.speechlike(duration_s, RATE, seed).samples[0]


def noisy(clean: Wave, snr_db: float) -> Wave:
    return signals.noisy(Audio.mono(clean, RATE), snr_db).samples[0]


def sample(output: npt.ArrayLike, reference: npt.ArrayLike) -> Sample:
    return Sample(Item("item", "test"), *(signals.signal(Audio.mono(x, RATE)) for x in (output, reference)))


@pytest.fixture(scope="module")
def clean() -> Wave:
    return speech()


def test_arguments_reach_pesq_reference_first(clean: Wave) -> None:
    import pesq

    worse = noisy(clean, 10)
    assert METRICS["pesq_wb"].measure(sample(worse, clean)).value == pesq.pesq(RATE, clean, worse, "wb")
    assert METRICS["pesq_nb"].measure(sample(worse, clean)).value == pesq.pesq(RATE, clean, worse, "nb")


@pytest.mark.cases(
    "A14",
    before="8-kHz material scored at 16 kHz, .1 to .44 MOS off",
    after="narrow-band PESQ at the 8 kHz of its recording, told in the record",
)
@pytest.mark.parametrize("output_rate", [8000, 24000])
def test_narrow_band_pesq_runs_at_the_recordings_own_8_khz(clean: Wave, output_rate: int) -> None:
    import pesq

    narrow, worse = (signals.signal(Audio.mono(x, RATE)).at(8000) for x in (clean, noisy(clean, 15)))
    output = signals.signal(Audio.mono(worse, 8000)).at(output_rate)
    pair = Sample(Item("item", "test"), signals.signal(Audio.mono(output, output_rate)), signals.signal(Audio.mono(narrow, 8000)))
    found = METRICS["pesq_nb"].measure(pair)
    assert found.value == pytest.approx(pesq.pesq(8000, narrow, worse, "nb"), abs=0 if output_rate == 8000 else 0.02)
    assert abs(found.value - pesq.pesq(RATE, pair.require_reference().at(RATE), pair.output.at(RATE), "nb")) > 0.05
    assert found.counts["rate_hz"] == 8000
    assert METRICS["pesq_nb"].measure(sample(worse, narrow)).counts["rate_hz"] == RATE


@pytest.mark.cases(
    "A14",
    before="8-kHz material in a 16-kHz file: narrow-band PESQ at 16 kHz, wide-band without a word",
    after="known by its empty upper band: at 8 kHz, and noted of wide-band PESQ",
)
@pytest.mark.parametrize("rate", [16000, 48000])
def test_material_of_8_khz_is_known_at_any_rate(clean: Wave, rate: int) -> None:
    import pesq

    narrow, worse = (signals.signal(Audio.mono(x, RATE)).at(8000) for x in (clean, noisy(clean, 15)))
    up, output = (signals.signal(Audio.mono(x, 8000)).at(rate) for x in (narrow, worse))
    up = np.round(up * 2**15) / 2**15
    pair = Sample(Item("item", "test"), signals.signal(Audio.mono(output, rate)), signals.signal(Audio.mono(up.astype(np.float32), rate)))
    found = METRICS["pesq_nb"].measure(pair)
    assert found.value == pytest.approx(pesq.pesq(8000, narrow, worse, "nb"), abs=0.02)
    assert found.counts["rate_hz"] == 8000
    assert METRICS["pesq_wb"].measure(pair).counts["reference_hz"] == 8000
    full = sample(noisy(clean, 15), clean)
    assert METRICS["pesq_nb"].measure(full).counts["rate_hz"] == RATE
    assert "reference_hz" not in METRICS["pesq_wb"].measure(full).counts


@pytest.mark.cases("A14", before="refused for their length", after="PESQ aligns by itself: up to 20 s no length is refused")
def test_pesq_refuses_no_length_it_can_align(clean: Wave) -> None:
    worse = noisy(clean, 15)
    plain = METRICS["pesq_nb"].measure(sample(worse, clean)).value
    late = METRICS["pesq_nb"].measure(sample(np.concatenate([np.zeros(4800, np.float32), worse]), clean))
    assert late.value == pytest.approx(plain, abs=0.1)
    assert late.counts["length_ratio"] == pytest.approx(1 + 4800 / clean.size)
    assert METRICS["pesq_nb"].measure(sample(worse[: worse.size // 2], clean)).value < plain - 0.3
    with pytest.raises(NotScorable, match=r"length ratio 10\.0000"):  # above 20 s the pieces have to lie side by side
        METRICS["pesq_nb"].measure(sample(np.tile(worse, 10), clean))


ITU_RAW = {
    "or105 dg105": 2.237, "or109 dg109": 3.180, "or114 dg114": 2.147, "or129 dg129": 2.680, "or134 dg134": 2.365, "or137 dg137": 3.670,
    "or145 dg145": 3.016, "or149 dg149": 2.558, "or152 dg152": 2.768, "or154 dg154": 2.694, "or155 dg155": 2.606, "or161 dg161": 2.608,
    "or164 dg164": 2.850, "or166 dg166": 2.527, "or170 dg170": 2.452, "or179 dg179": 1.828, "or221 dg221": 2.774, "or229 dg229": 2.940,
    "or246 dg246": 2.205, "or272 dg272": 3.288, "u_am1s01 u_am1s01b1c1": 3.483, "u_am1s01 u_am1s01b1c7": 2.420,
    "u_am1s02 u_am1s02b1c9": 4.042, "u_am1s01 u_am1s01b1c15": 3.179, "u_am1s03 u_am1s03b1c16": 2.872, "u_am1s03 u_am1s03b1c18": 2.806,
    "u_am1s01 u_am1s01b2c1": 4.300, "u_am1s02 u_am1s02b2c4": 3.634, "u_am1s02 u_am1s02b2c5": 3.369, "u_am1s03 u_am1s03b2c5": 3.911,
    "u_am1s03 u_am1s03b2c6": 2.905, "u_am1s03 u_am1s03b2c7": 3.579, "u_am1s01 u_am1s01b2c8": 2.198, "u_am1s03 u_am1s03b2c11": 3.276,
    "u_am1s02 u_am1s02b2c14": 3.316, "u_af1s01 u_af1s01b2c16": 3.307, "u_af1s03 u_af1s03b2c16": 3.592, "u_af1s02 u_af1s02b2c17": 2.614,
    "u_af1s03 u_af1s03b2c17": 2.806, "u_am1s03 u_am1s03b2c18": 2.540,
}  # fmt: skip
"""ITU-T P.862 Amendment 2, Annex A, test 2(b): 40 pairs of variable delay at 8 kHz and their raw scores."""
VECTORS = Path(__file__).resolve().parents[3] / "../shared/data/metric_vectors"


@pytest.mark.cases("A14", before="some of the 40 ITU pairs refused for their length", after="the 40 ITU pairs all scored, within .001")
def test_the_itu_pairs_all_have_their_value() -> None:
    found = {path.stem: path for path in VECTORS.rglob("*.wav")}
    if lacking := {name for pair in ITU_RAW for name in pair.split()} - found.keys():
        pytest.skip(f"the conformance recordings of P.862 are not beside the checkout: {len(lacking)} files are missing in {VECTORS}")
    for pair, raw in ITU_RAW.items():
        reference, degraded = (
            signals.signal(Audio(x.T, rate))
            for x, rate in (soundfile.read(found[n], dtype="float32", always_2d=True) for n in pair.split())
        )
        mapped = 0.999 + 4 / (1 + np.exp(-1.4945 * raw + 4.6607))  # P.862.1
        assert METRICS["pesq_nb"].measure(Sample(Item("item", "test"), degraded, reference)).value == pytest.approx(mapped, abs=1e-3), pair


def test_long_recordings_are_cut_for_pesq() -> None:
    import pesq

    long = np.concatenate([speech(6.0, seed) for seed in range(7)])  # 42 s
    worse = noisy(long, 15)
    cuts = perceptual.pesq_cuts(long)
    assert cuts[0] == 0
    assert cuts[-1] == long.size
    assert len(cuts) == 4
    assert max(np.diff(cuts)) <= 20 * RATE
    evidence = METRICS["pesq_wb"].measure(sample(worse, long))
    assert evidence.counts["pieces"] == 3
    by_hand = [pesq.pesq(RATE, long[a:b], worse[a:b], "wb") for a, b in pairwise(cuts)]
    assert evidence.value == pytest.approx(np.average(by_hand, weights=np.diff(cuts)), abs=1e-9)
    assert perceptual.pesq_cuts(long[: 20 * RATE]) == [0, 20 * RATE]
    for start, stop in pairwise(cuts[:-1]):
        assert np.std(long[stop - 200 : stop + 200]) < np.std(long[start:stop]) / 10


def test_a_piece_without_speech_is_left_out_and_a_dropout_is_not() -> None:
    voiced = speech(18.0, 3)
    long = np.concatenate([voiced, np.zeros_like(voiced)])
    evidence = METRICS["pesq_wb"].measure(sample(noisy(long, 30), long))
    assert (evidence.counts["pieces"], evidence.counts["pieces_without_speech"]) == (1, 1)
    spoken = np.concatenate([voiced, voiced])
    with pytest.raises(NotScorable, match="silent for") as caught:
        METRICS["pesq_wb"].measure(sample(np.concatenate([voiced[: 16 * RATE], np.zeros(20 * RATE)]), spoken))
    assert caught.value.side is Side.OUTPUT


def test_stoi_never_returns_the_library_placeholder(clean: Wave) -> None:
    """Around the limit of 30 active frames: either the library's true value, or a refusal."""
    from pystoi import stoi

    refused, scored = 0, 0
    for n in range(5000, 14000, 300):
        part = clean[3000 : 3000 + n]
        try:
            got = METRICS["stoi"].measure(sample(noisy(part, 10), part))
        except NotScorable as error:
            assert "active frames" in error.reason
            refused += 1
            with pytest.warns(RuntimeWarning):
                assert stoi(part, noisy(part, 10), RATE) == 1e-5
        else:
            assert got.value > 0.1
            assert got.counts["active_frames"] >= 31
            scored += 1
    assert refused
    assert scored


def test_active_frames_count_what_the_library_keeps(clean: Wave) -> None:
    from pystoi.utils import remove_silent_frames

    for n in (256, 257, 300, 5000, 20000, 20001):
        x = resample_poly(clean.astype(np.float64), 5, 8)[:n]
        expected = 0 if n <= 256 else (remove_silent_frames(x, x, 40, 256, 128)[0].size - 256) // 128 + 1
        assert perceptual.active_frames(x) == expected
