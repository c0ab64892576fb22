"""What a system may tell of its inside while it is timed. The system names moments and amounts; the clock is the harness's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from harness.api.audio import Audio
from harness.api.items import Utterance
from harness.api.systems import Speech, Synthesizer


@dataclass(frozen=True)
class Work:
    """The least that a stage has to move and to compute, whatever the implementation.

    Args:
        weight_bytes: of parameters that must be read, each time they are read.
        cache_bytes: of key-value cache that must be read.
        flops: multiplications and additions.
    """

    weight_bytes: float = 0.0
    cache_bytes: float = 0.0
    flops: float = 0.0


class Observer(Protocol):
    """Told by a system what it is doing."""

    def stage(self, name: str) -> AbstractContextManager[object]:
        """Around a stage: "prompt", "text", "prefill", "lm", "codec", "vocoder" ..."""
        ...

    def event(self, name: str) -> None:
        """Something is there now: "token" (the first one), "frame" (every codebook of the first frame)."""
        ...

    def work(self, stage: str, work: Work) -> None:
        """The least a stage has to do, added to what was told of it before."""
        ...

    def memory(self, name: str, num_bytes: int) -> None:
        """Memory that was taken, e.g. "kv_cache"."""
        ...


class Unobserved:
    """An `Observer` that nobody listens to."""

    def stage(self, name: str) -> AbstractContextManager[object]:
        return nullcontext()

    def event(self, name: str) -> None:
        pass

    def work(self, stage: str, work: Work) -> None:
        pass

    def memory(self, name: str, num_bytes: int) -> None:
        pass


UNOBSERVED = Unobserved()


@runtime_checkable
class ObservedSynthesizer(Synthesizer, Protocol):
    """A synthesizer that can be timed from inside, at a length that is fixed: faster by saying less is no win."""

    def num_tokens(self, utterance: Utterance) -> int:
        """Text tokens that its model reads of an utterance."""
        ...

    def synthesize_observed(self, utterances: Sequence[Utterance], seconds: float, observer: Observer) -> Sequence[Speech]:
        """``seconds`` of speech of each utterance, all of them together as one batch.

        Raises:
            ValueError: an utterance or a length that does not fit the model.
        """
        ...

    def stream_observed(self, utterance: Utterance, seconds: float, observer: Observer) -> Iterator[Audio]:
        """``seconds`` of speech, in chunks as they can be heard.

        Raises:
            ValueError: as `synthesize_observed`.
        """
        ...
