"""X-Codec (Ye et al., "Codec Does Matter: Exploring the Semantic Shortcoming of Codec for Audio Language Model", 2024) through transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.api import CodecSpec
from systems.published.neural import Asked, TransformersCodec
from systems.published.release import Release

if TYPE_CHECKING:
    import torch


class XCodec(TransformersCodec):
    """X-Codec at one of its bandwidths: 1, 2, 3, 4 or 8 codebooks of 1024 at 50 Hz, 16 kHz.

    Not causal: HuBERT hears the whole utterance.

    Args:
        bandwidth_kbps: 0.5, 1, 1.5, 2 or 4.
        checkpoint: a folder or a hub id in the local cache; None for hf-audio/xcodec-hubert-librispeech. The others of that
            publisher (xcodec-hubert-general, xcodec-hubert-general-balanced, xcodec-wavlm-mls, xcodec-wavlm-more-data) load as well.
        revision: commit of the hub id; None for the cached one.
        weights: "trained", or "random" for speed only.
        device: "cpu", "cuda", ...
        seed: of random weights.

    Raises:
        ValueError, FileNotFoundError, ImportError: as `NeuralCodec`.
    """

    family = "xcodec"
    model_class, config_class = "XcodecModel", "XcodecConfig"
    release = Release("X-Codec", "hf-audio/xcodec-hubert-librispeech", "see its model card", "LibriSpeech (its HuBERT: LibriSpeech)")
    starts = {"cluster_size": 0.0}  # noqa: RUF012 - read only

    def __init__(
        self,
        bandwidth_kbps: float = 4.0,
        checkpoint: str | None = None,
        revision: str | None = None,
        weights: str = "trained",
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        self._bandwidth_kbps = float(bandwidth_kbps)
        super().__init__(Asked(checkpoint, revision, weights, seed, device))

    def _spec(self) -> CodecSpec:
        config = self._model.config
        if self._bandwidth_kbps not in config.target_bandwidths:
            raise ValueError(f"X-Codec has {', '.join(f'{b:g}' for b in config.target_bandwidths)} kbps, not {self._bandwidth_kbps:g}")
        books = self._model.quantizer.get_num_quantizers_for_bandwidth(self._bandwidth_kbps)
        return CodecSpec(config.sample_rate, int(config.hop_length), (config.codebook_size,) * books, prefix_decodable=True)

    def _description(self) -> str:
        spec = self.spec
        return f"X-Codec at {self._bandwidth_kbps:g} kbps, {spec.num_codebooks} x {spec.codebook_sizes[0]} at {spec.frame_rate_hz:g} Hz"

    def _indices(self, samples: torch.Tensor) -> torch.Tensor:
        codes: torch.Tensor = self._model.encode(samples, bandwidth=self._bandwidth_kbps).audio_codes
        return codes[0]

    def _samples(self, indices: torch.Tensor) -> torch.Tensor:
        audio: torch.Tensor = self._model.decode(indices).audio_values
        return audio[0, 0]
