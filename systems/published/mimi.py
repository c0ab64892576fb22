"""Mimi, the codec of Moshi (Defossez et al., "Moshi: a speech-text foundation model for real-time dialogue", 2024) through transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.api import CodecSpec
from systems.published.neural import Asked, TransformersCodec
from systems.published.release import Release

if TYPE_CHECKING:
    import torch


class Mimi(TransformersCodec):
    """Mimi with the first ``num_codebooks`` of its 32 codebooks of 2048, at 12.5 Hz and 24 kHz; the first is semantic.

    It is causal. What transformers' port does with batches and with chunks differs from one whole utterance, which the contract
    checks find (tests/contract/test_neural_baselines.py), so that neither is offered: the encoder takes no padding mask, and the
    decoder's transposed convolutions keep nothing from one chunk to the next.

    Args:
        num_codebooks: 1..32; Moshi uses 8.
        checkpoint: a folder or a hub id in the local cache; None for kyutai/mimi.
        revision: commit of the hub id; None for the cached one.
        weights: "trained", or "random" for speed only.
        device: "cpu", "cuda", ...
        seed: of random weights.

    Raises:
        ValueError, FileNotFoundError, ImportError: as `NeuralCodec`.
    """

    family = "mimi"
    model_class, config_class = "MimiModel", "MimiConfig"
    release = Release("Mimi", "kyutai/mimi", "CC-BY-4.0", "7 million hours of mostly English speech")
    starts = {"cluster_usage": 1.0}  # noqa: RUF012 - read only
    whole_frames = False

    def __init__(
        self,
        num_codebooks: int = 8,
        checkpoint: str | None = None,
        revision: str | None = None,
        weights: str = "trained",
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        self._num_codebooks = num_codebooks
        super().__init__(Asked(checkpoint, revision, weights, seed, device))

    def _spec(self) -> CodecSpec:
        config, books = self._model.config, self._num_codebooks
        if not 1 <= books <= config.num_quantizers:
            raise ValueError(f"this Mimi has 1 to {config.num_quantizers} codebooks, asked were {books}")
        hop = config.sampling_rate / config.frame_rate
        if hop != int(hop):
            raise ValueError(f"this Mimi's frames are {hop} samples long, which is no whole number")
        return CodecSpec(config.sampling_rate, int(hop), (config.codebook_size,) * books, causal=True, prefix_decodable=True)

    def _description(self) -> str:
        spec = self.spec
        return f"Mimi, {spec.num_codebooks} x {spec.codebook_sizes[0]} at {spec.frame_rate_hz:g} Hz"

    def _indices(self, samples: torch.Tensor) -> torch.Tensor:
        codes: torch.Tensor = self._model.encode(samples, num_quantizers=self.spec.num_codebooks).audio_codes
        return codes[0]

    def _samples(self, indices: torch.Tensor) -> torch.Tensor:
        audio: torch.Tensor = self._model.decode(indices).audio_values
        return audio[0, 0]
