"""PESQ and STOI around the edges of their libraries: cuts, pieces, argument order, too little speech."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from scipy.signal import resample_poly

from harness.api import Audio, Item, Metric, NotScorable, Sample, Side
from harness.metrics import perceptual
from harness.testing import signals

RATE = 16000
Wave = npt.NDArray[np.float32]
METRICS: dict[str, Metric] = {m.info.name: m for m in (perceptual.PesqWb(), perceptual.PesqNb(), perceptual.Stoi(), perceptual.Estoi())}


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
