"""EnCodec for 24 kHz (Defossez et al., "High Fidelity Neural Audio Compression", 2022) through transformers.

The 48 kHz model is not here: it is stereo, normalises overlapping pieces of one second and sends their scales.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.api import CodecSpec
from systems.published.neural import Asked, TransformersCodec
from systems.published.release import Release

if TYPE_CHECKING:
    import torch


class Encodec(TransformersCodec):
    """EnCodec at one of its bandwidths: 2, 4, 8, 16 or 32 codebooks of 1024 at 75 Hz.

    Its convolutions look only back, but at the start of an utterance they reflect it: the first frames hear what follows
    them. It is therefore not declared causal.

    Args:
        bandwidth_kbps: 1.5, 3, 6, 12 or 24.
        checkpoint: a folder or a hub id in the local cache; None for facebook/encodec_24khz.
        revision: commit of the hub id; None for the cached one.
        weights: "trained", or "random" for speed only.
        device: "cpu", "cuda", ...
        seed: of random weights.

    Raises:
        ValueError, FileNotFoundError, ImportError: as `NeuralCodec`.
    """

    family = "encodec"
    model_class, config_class = "EncodecModel", "EncodecConfig"
    release = Release(
        "EnCodec",
        "facebook/encodec_24khz",
        "MIT, as its code",
        "speech, music and general sound (DNS, Common Voice, AudioSet, FSD50K, Jamendo)",
    )
    starts = {"cluster_size": 0.0}  # noqa: RUF012 - read only
    whole_frames = False

    def __init__(
        self,
        bandwidth_kbps: float = 6.0,
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
        if config.audio_channels != 1 or config.chunk_length is not None or config.normalize:
            raise ValueError("this adapter is for EnCodec's mono model without pieces and scales, such as facebook/encodec_24khz")
        if self._bandwidth_kbps not in config.target_bandwidths:
            raise ValueError(f"EnCodec has {', '.join(f'{b:g}' for b in config.target_bandwidths)} kbps, not {self._bandwidth_kbps:g}")
        books = self._model.quantizer.get_num_quantizers_for_bandwidth(self._bandwidth_kbps)
        return CodecSpec(config.sampling_rate, int(config.hop_length), (config.codebook_size,) * books, prefix_decodable=True)

    def _description(self) -> str:
        spec = self.spec
        return f"EnCodec at {self._bandwidth_kbps:g} kbps, {spec.num_codebooks} x {spec.codebook_sizes[0]} at {spec.frame_rate_hz:g} Hz"

    def _indices(self, samples: torch.Tensor) -> torch.Tensor:
        codes: torch.Tensor = self._model.encode(samples, bandwidth=self._bandwidth_kbps).audio_codes
        return codes[0, 0]

    def _samples(self, indices: torch.Tensor) -> torch.Tensor:
        audio: torch.Tensor = self._model.decode(indices[None], [None]).audio_values
        return audio[0, 0]
