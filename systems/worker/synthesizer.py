"""A synthesizer in a worker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.api import Audio, Speech, Utterance
from systems.worker.adapter import Adapter
from systems.worker.bridge import samples


class WorkerSynthesizer(Adapter):
    """Speech from another Python environment. A worker that does not stream gives one piece."""

    family = "worker_synthesizer"
    kind = "synthesizer"

    @property
    def sample_rate(self) -> int:
        """As the worker declared it when it started, in Hz."""
        return self._bridge.hello.sample_rate

    def synthesize(self, utterance: Utterance, seed: int) -> Speech:
        """What the worker says.

        Raises:
            MissingOutput: its system does not do this item.
            RuntimeError: it failed.
        """
        reply = self._bridge.ask("synthesize", *_request(utterance, seed), "speech")
        return Speech(Audio.mono(samples(reply, "synthesize"), self.sample_rate), stop_reason=str(reply.fields.get("stop_reason", ""))[:40])

    def stream(self, utterance: Utterance, seed: int) -> Iterator[Audio]:
        """The same in pieces.

        Raises:
            MissingOutput, RuntimeError: as `synthesize`.
        """
        if not self._bridge.hello.streams:
            yield self.synthesize(utterance, seed).audio
            return
        for reply in self._bridge.stream("stream", *_request(utterance, seed)):
            yield Audio.mono(samples(reply, "stream"), self.sample_rate)


def _request(utterance: Utterance, seed: int) -> tuple[dict[str, Any], dict[str, npt.NDArray[np.float32]]]:
    """Fields and arrays of a request; the prompt goes as mono at its own rate."""
    prompt = utterance.prompt
    fields = {
        "text": utterance.text,
        "language": utterance.language,
        "seed": seed,
        "prompt_text": utterance.prompt_text,
        "prompt_rate_hz": prompt.sample_rate if prompt is not None else 0,
    }
    return fields, {} if prompt is None else {"prompt": prompt.mixed()}
