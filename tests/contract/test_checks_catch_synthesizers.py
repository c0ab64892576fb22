"""The check of synthesizers: a sound one passes, and for every law there is a broken one that it catches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from harness.api import Audio, Speech, SystemInfo, Utterance
from harness.testing import BrokenLaw, check_synthesizer


class SoundSynthesizer:
    """Noise shaped by the request and the seed, in three chunks."""

    info = SystemInfo(family="babble", version="1")
    sample_rate = 8000

    def synthesize(self, utterance: Utterance, seed: int) -> Speech:
        rng = np.random.default_rng([seed, *utterance.text.encode()])
        return Speech(Audio.mono(rng.normal(0, 0.1, 100 * len(utterance.text)), self.sample_rate))

    def stream(self, utterance: Utterance, seed: int) -> Iterator[Audio]:
        samples = self.synthesize(utterance, seed).audio.samples
        for part in np.array_split(samples, 3, axis=1):
            yield Audio(part, self.sample_rate)


class SilentAboutStopping(SoundSynthesizer):
    def synthesize(self, utterance: Utterance, seed: int) -> Speech:
        return replace(super().synthesize(utterance, seed), stop_reason=None)  # type: ignore[arg-type]


class SaysNothing(SoundSynthesizer):
    def synthesize(self, utterance: Utterance, seed: int) -> Speech:
        return Speech(Audio.mono([], 8000))


class ScalesThePrompt(SoundSynthesizer):
    def synthesize(self, utterance: Utterance, seed: int) -> Speech:
        if utterance.prompt is not None:
            utterance.prompt.samples[:] *= 0.5
        return super().synthesize(utterance, seed)


class IgnoresTheSeed(SoundSynthesizer):
    rng = np.random.default_rng(0)

    def synthesize(self, utterance: Utterance, seed: int) -> Speech:
        return Speech(Audio.mono(self.rng.normal(0, 0.1, 500), 8000))


class BornDifferent(SoundSynthesizer):
    born = 0

    def __init__(self) -> None:
        type(self).born += 1
        self.number = self.born

    def synthesize(self, utterance: Utterance, seed: int) -> Speech:
        return super().synthesize(utterance, seed + self.number)


class StreamsLess(SoundSynthesizer):
    def stream(self, utterance: Utterance, seed: int) -> Iterator[Audio]:
        return iter(list(super().stream(utterance, seed))[:-1])


class StreamsOtherSpeech(SoundSynthesizer):
    def stream(self, utterance: Utterance, seed: int) -> Iterator[Audio]:
        yield self.synthesize(utterance, seed + 1).audio


class SpeaksThroughCodec(SoundSynthesizer):
    """Its codec drops every other sample."""

    def resynthesize(self, prompt: Audio) -> Audio:
        wanted = round(prompt.duration_s * self.sample_rate)
        at = np.linspace(0, prompt.num_samples - 1, wanted).astype(int)
        return Audio(prompt.samples[:, at], self.sample_rate)


class ResynthesizesHalf(SpeaksThroughCodec):
    def resynthesize(self, prompt: Audio) -> Audio:
        return super().resynthesize(Audio(prompt.samples[:, : prompt.num_samples // 2], prompt.sample_rate))


class ResynthesizesAtTheWrongRate(SpeaksThroughCodec):
    def resynthesize(self, prompt: Audio) -> Audio:
        return prompt


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (ResynthesizesHalf, "resynthesis"),
        (ResynthesizesAtTheWrongRate, "resynthesis"),
        (SilentAboutStopping, "speech"),
        (SaysNothing, "speech"),
        (ScalesThePrompt, "prompt untouched"),
        (IgnoresTheSeed, "determinism"),
        (BornDifferent, "fresh instance"),
        (StreamsLess, "stream"),
        (StreamsOtherSpeech, "stream"),
    ],
)
def test_a_broken_synthesizer_is_caught(broken: Callable[[], SoundSynthesizer], law: str) -> None:
    with pytest.raises(BrokenLaw) as caught:
        check_synthesizer(broken(), factory=broken)
    assert caught.value.law == law, str(caught.value)


def test_a_sound_synthesizer_passes() -> None:
    assert check_synthesizer(SoundSynthesizer(), factory=SoundSynthesizer).skipped == ()
    assert "resynthesis" in check_synthesizer(SpeaksThroughCodec(), factory=SpeaksThroughCodec).checked
