"""A codec as a language model speaks through it: what it hears in a prompt, and how it is decoded, whole or as codes come.

Shape letters: K codebooks, T frames, N samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from harness.api import UNOBSERVED, Audio, CodecSpec, Observer


@dataclass(frozen=True, eq=False)
class Voice:
    """What a codec takes from a prompt.

    Args:
        codes: int64 ``[K, T]``, of codecs whose codes hold the voice.
        embedding: ``[D]``, of codecs with an utterance embedding, which their language models are told too.
        timbre: ``[D]``, of decoders that are told the voice beside the codes, see `systems.tts.speaker_decoder`.
        frames: log-mel ``[M, 80]``, where what is spoken is drawn to the prompt's own frames, see `systems.tts.nearest_frames`.
    """

    codes: Tensor | None = None
    embedding: Tensor | None = None
    timbre: Tensor | None = None
    frames: Tensor | None = None


class Pieces(Protocol):
    """One utterance in decoding."""

    def push(self, codes: Tensor, last: bool) -> Tensor | None:
        """Samples ``[n]`` that became certain with ``codes [K, t]``, those behind the ones before; None where there are none."""
        ...


class SpeakingCodec(Protocol):
    """A frozen codec on its device."""

    spec: CodecSpec
    parts: tuple[int, ...]
    """Sizes of the parts of an index, first part fastest, see `systems.lm.config.LmConfig`."""
    voice_dim: int
    digest: str
    """Of every weight that the codes depend on, as a language model's checkpoint names it."""
    digests: tuple[str, ...]
    """Of every weight there is."""
    num_parameters: int
    description: str

    def heard(self, samples: Tensor) -> Voice:
        """What is taken from a prompt ``samples [N]`` at the codec's rate; its last partial frame is left out."""
        ...

    def decode(self, codes: Tensor, voice: Voice, observer: Observer = UNOBSERVED) -> Tensor:
        """Audio ``[T x hop]`` of ``codes [K, T]``; ``observer`` is told of the stages "codec" and, where there is one, "vocoder"."""
        ...

    def pieces(self, voice: Voice) -> Pieces:
        """The same as it comes; joined it equals `decode` up to rounding."""
        ...

    def resynthesize(self, samples: Tensor) -> Tensor:
        """``samples [N]`` coded and decoded, ``[N]``."""
        ...


def mono_at(audio: Audio, sample_rate: int) -> Tensor:
    """Channels averaged, then resampled: float32 ``[N]``. Prompts come at rates of their own."""
    import soxr

    mono = audio.mixed()
    if audio.sample_rate != sample_rate and mono.size:
        mono = soxr.resample(mono, audio.sample_rate, sample_rate, quality="VHQ")
    return torch.from_numpy(np.array(mono, dtype=np.float32))  # a copy: the caller's samples stay as they are


def in_frames(samples: Tensor, hop: int) -> Tensor:
    """``[1, T x hop]``: ``samples [N]`` with zeros behind, up to a whole frame, one at least."""
    frames = max(1, -(-samples.shape[0] // hop))
    return torch.nn.functional.pad(samples, (0, frames * hop - samples.shape[0]))[None]
