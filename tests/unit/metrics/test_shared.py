"""Audio that is the same bit for bit is judged once."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness.api import Audio, FloatArray, Item, JudgeInfo, Sample, Signal
from harness.metrics import shared, world
from harness.metrics.judged import SpeakerSimilarity
from harness.metrics.shared import Library, judged_once


def signal(seed: int, rate: int = 16000) -> Signal:
    """Another object with the samples of the seed."""
    return Signal(Audio.mono(np.random.default_rng(seed).standard_normal(16000) * 0.1, rate), lambda x, source, target: x)


class Encoder:
    info = JudgeInfo("stub", "one", "digest", "none")

    def __init__(self) -> None:
        self.calls = 0

    def embed(self, samples: FloatArray) -> Any:
        self.calls += 1
        return np.array([samples[0], 1.0]) / np.hypot(samples[0], 1.0)


def test_a_recording_and_its_copy_have_one_embedding() -> None:
    encoder, other = Encoder(), Encoder()
    item = Item("item", "corpus")
    metric = SpeakerSimilarity(encoder)
    assert metric.measure(Sample(item, signal(0), signal(0))).value == pytest.approx(1)
    assert encoder.calls == 1
    assert metric.measure(Sample(item, signal(1), signal(0))).value < 1
    assert encoder.calls == 2  # of the output only
    SpeakerSimilarity(other).measure(Sample(item, signal(0), signal(0)))
    assert (encoder.calls, other.calls) == (2, 1)  # what one encoder said is not another's, whatever it is called


def test_world_analyses_a_recording_once(monkeypatch: pytest.MonkeyPatch) -> None:
    analysed = []

    def counted(analyse: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda samples: analysed.append(len(samples)) or analyse(samples)

    monkeypatch.setattr(world, "_f0", counted(world._f0))
    first, second = world.f0_hz(signal(2)), world.f0_hz(signal(2))
    assert first is second and not first.flags.writeable and len(analysed) == 1
    # The same samples at another rate are another audio.
    world.f0_hz(signal(2, rate=8000))
    assert len(analysed) == 2


def test_what_is_kept_is_bounded_and_goes_with_its_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    judge, made = Library(kept=2), []

    def make(by: Library, seed: int) -> int:
        return judged_once(by, signal(seed), "key", lambda: made.append(seed) or seed)

    assert [make(judge, seed) for seed in (0, 1, 0, 2, 0, 1)] == [0, 1, 0, 2, 0, 1]
    assert made == [0, 1, 2, 1]  # the one asked for longest ago went
    gone = weakref.ref(judge)
    before = len(shared._recent)
    del judge
    gc.collect()
    assert gone() is None and len(shared._recent) == before - 1


def test_a_failure_is_not_kept_and_a_judge_that_is_no_key_works() -> None:
    judge = Library()

    def failing() -> int:
        raise RuntimeError("now")

    with pytest.raises(RuntimeError, match="now"):
        judged_once(judge, signal(3), "key", failing)
    assert judged_once(judge, signal(3), "key", lambda: 5) == 5
    no_key: list[int] = []
    assert [judged_once(no_key, signal(3), "key", lambda found=found: found) for found in (6, 7)] == [6, 7]
