"""X-Codec 2, the codec of Llasa (Ye et al., 2025) through transformers: one codebook by finite scalar quantization."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.api import CodecSpec
from systems.published.neural import Asked, TransformersCodec, from_transformers
from systems.published.release import TRANSFORMERS, Found, Release

if TYPE_CHECKING:
    import torch


class XCodec2(TransformersCodec):
    """X-Codec 2: one codebook of 65,536 at 50 Hz, 16 kHz.

    Not causal: its speech encoder hears the whole utterance. Its feature extractor adds a sample before filling the last frame, so
    that an utterance of whole frames gets one more.

    Args:
        checkpoint: a folder or a hub id in the local cache; None for HKUSTAudio/xcodec2-hf.
        revision: commit of the hub id; None for the cached one.
        weights: "trained", or "random" for speed only.
        device: "cpu", "cuda", ...
        seed: of random weights.

    Raises:
        ValueError, FileNotFoundError, ImportError: as `NeuralCodec`.
    """

    family = "xcodec2"
    model_class, config_class = "Xcodec2Model", "Xcodec2Config"
    release = Release(
        "X-Codec 2",
        "HKUSTAudio/xcodec2-hf",
        "CC-BY-NC-4.0, not for commercial use",
        "see its model card",
        TRANSFORMERS,
        (("config.json",), ("preprocessor_config.json",), ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")),
    )
    starts = {"act.alpha": 0.0, "act.beta": 0.0}  # noqa: RUF012 - read only
    whole_frames = False

    def __init__(
        self,
        checkpoint: str | None = None,
        revision: str | None = None,
        weights: str = "trained",
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(Asked(checkpoint, revision, weights, seed, device))

    def _built(self) -> tuple[Any, Mapping[str, Any]]:
        self._features = from_transformers("Xcodec2FeatureExtractor")()
        return super()._built()

    def _loaded(self, found: Found) -> tuple[Any, Mapping[str, Any]]:
        self._features = from_transformers("Xcodec2FeatureExtractor").from_pretrained(found.folder, local_files_only=True)
        return super()._loaded(found)

    def _spec(self) -> CodecSpec:
        config = self._model.config
        return CodecSpec(config.sampling_rate, int(config.hop_length), (math.prod(config.quantization_levels),))

    def _description(self) -> str:
        return f"X-Codec 2, 1 x {self.spec.codebook_sizes[0]} at {self.spec.frame_rate_hz:g} Hz"

    def _measured_shortfall(self) -> int:
        return max(1, super()._measured_shortfall())

    def _indices(self, samples: torch.Tensor) -> torch.Tensor:
        inputs = self._features(samples[0, 0].cpu().numpy(), sampling_rate=self.spec.sample_rate, return_tensors="pt").to(self._device)
        codes: torch.Tensor = self._model.encode(**inputs).audio_codes
        return codes[0]

    def _samples(self, indices: torch.Tensor) -> torch.Tensor:
        audio: torch.Tensor = self._model.decode(indices).audio_values
        return audio[0, 0]
