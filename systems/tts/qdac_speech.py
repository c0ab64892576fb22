"""QDAC as a language model speaks through it: the voice lies in the codes of the prompt.

Shape letters: K codebooks, T frames, N samples.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from torch import Tensor

from harness.api import UNOBSERVED, CodecSpec, Observer
from systems.checkpoints import load, untrained
from systems.qdac.config import QdacConfig
from systems.qdac.model import QdacModel
from systems.tts.chunked import CodePieces, Piecewise, Reach, reach_of
from systems.tts.codec import Voice, in_frames


class QdacSpeech:
    """The first ``num_codebooks`` of a QDAC.

    Args:
        model: in evaluation mode.
        num_codebooks: K.
        weights_digest: of the model.
        device: "cpu", "cuda", ...

    Raises:
        ValueError: fewer codebooks than asked for.
    """

    voice_dim = 0

    def __init__(self, model: QdacModel, num_codebooks: int, weights_digest: str, device: str) -> None:
        shape = model.config
        if not 1 <= num_codebooks <= shape.num_codebooks:
            raise ValueError(f"asked for {num_codebooks} codebooks of a QDAC with {shape.num_codebooks}")
        self.model, self._device = model.to(device), device
        self.parts: tuple[int, ...] = (shape.codebook_size,)
        self.spec = CodecSpec(shape.sample_rate, shape.hop, (shape.codebook_size,) * num_codebooks, prefix_decodable=True)
        self.digest = weights_digest
        self.digests: tuple[str, ...] = (weights_digest,)
        self.num_parameters = sum(p.numel() for p in model.parameters())
        self.description = f"QDAC {num_codebooks} x {shape.codebook_size} at {shape.frame_rate_hz:g} Hz"

    def heard(self, samples: Tensor) -> Voice:
        """See `SpeakingCodec.heard`."""
        count = samples.shape[0] // self.spec.hop_length
        if not count:
            return Voice()
        whole = samples[None, : count * self.spec.hop_length].to(self._device)
        return Voice(codes=self.model.encode(whole, self.spec.num_codebooks)[0])

    def decode(self, codes: Tensor, voice: Voice, observer: Observer = UNOBSERVED) -> Tensor:
        """See `SpeakingCodec.decode`; codes tell everything."""
        with observer.stage("codec"):
            return self.model.decode(codes[None].to(self._device))[0].float()

    def pieces(self, voice: Voice) -> CodePieces:
        """See `SpeakingCodec.pieces`."""
        return CodePieces(self.model.quantizer.decode, [Piecewise(self.model.decoder, self.spec.hop_length, self._reach)], self._device)

    def resynthesize(self, samples: Tensor) -> Tensor:
        """See `SpeakingCodec.resynthesize`."""
        whole = in_frames(samples, self.spec.hop_length).to(self._device)
        return self.model.decode(self.model.encode(whole, self.spec.num_codebooks))[0, : samples.shape[0]].float()

    @cached_property
    def _reach(self) -> Reach:
        return reach_of(self.model.decoder, self.model.config.latent_dim, self._device)


def trained_qdac(path: Path, num_codebooks: int, frame_rate: int, device: str) -> QdacSpeech:
    """From its file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: no QDAC, or another than asked for.
    """
    loaded = load(path, "qdac", QdacModel, QdacConfig)
    found = loaded.model.config.frame_rate_hz
    if round(found, 3) != frame_rate:
        raise ValueError(f"{path} has {found:g} frames a second, asked were {frame_rate}")
    return QdacSpeech(loaded.model, num_codebooks, loaded.digest, device)


def random_qdac(config: QdacConfig, num_codebooks: int, seed: int, device: str) -> QdacSpeech:
    """Untrained, for timing."""
    made = untrained(lambda: QdacModel(config), seed)
    return QdacSpeech(made.model, num_codebooks, made.digest, device)
