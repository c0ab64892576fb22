"""What the two families of synthesizers share towards the harness; light, so that their modules can be looked at without torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from harness.api import Audio, Observer, Speech, SystemInfo, Utterance

if TYPE_CHECKING:
    from systems.tts.synthesizer import LmSynthesizer


class LmSpeaker:
    """A `harness.api.CodecSynthesizer`; a family builds the `LmSynthesizer` that does the work from its own parameters."""

    _synthesizer: LmSynthesizer

    @property
    def info(self) -> SystemInfo:
        """See `SystemInfo`."""
        return self._synthesizer.info

    @property
    def sample_rate(self) -> int:
        """In Hz, of the codec."""
        return self._synthesizer.sample_rate

    def synthesize(self, utterance: Utterance, seed: int) -> Speech:
        """See `LmSynthesizer.synthesize`."""
        return self._synthesizer.synthesize(utterance, seed)

    def stream(self, utterance: Utterance, seed: int) -> Iterator[Audio]:
        """See `LmSynthesizer.stream`."""
        return self._synthesizer.stream(utterance, seed)

    def num_tokens(self, utterance: Utterance) -> int:
        """See `LmSynthesizer.num_tokens`."""
        return self._synthesizer.num_tokens(utterance)

    def synthesize_observed(self, utterances: Sequence[Utterance], seconds: float, observer: Observer) -> Sequence[Speech]:
        """See `LmSynthesizer.synthesize_observed`."""
        return self._synthesizer.synthesize_observed(utterances, seconds, observer)

    def stream_observed(self, utterance: Utterance, seconds: float, observer: Observer) -> Iterator[Audio]:
        """See `LmSynthesizer.stream_observed`."""
        return self._synthesizer.stream_observed(utterance, seconds, observer)

    def resynthesize(self, prompt: Audio) -> Audio:
        """See `LmSynthesizer.resynthesize`."""
        return self._synthesizer.resynthesize(prompt)
