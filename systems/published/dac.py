"""Descript Audio Codec (Kumar et al., "High-Fidelity Audio Compression with Improved RVQGAN", 2023) through transformers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.api import CodecSpec
from systems.published.neural import Asked, TransformersCodec
from systems.published.release import Release

if TYPE_CHECKING:
    import torch

_RELEASE = Release(
    "DAC", "descript/dac_16khz", "MIT", "speech, music and general sound (DAPS, DNS, Common Voice, VCTK, MUSDB, Jamendo, AudioSet)"
)
# Of each release: hub id, strides, codebooks. transformers' default configuration is none of them.
_MODELS: dict[int, tuple[str, tuple[int, ...], int]] = {
    16000: ("descript/dac_16khz", (2, 4, 5, 8), 12),
    24000: ("descript/dac_24khz", (2, 4, 5, 8), 32),
    44100: ("descript/dac_44khz", (2, 4, 8, 8), 9),
}


class Dac(TransformersCodec):
    """DAC at one of its three sample rates.

    A decoder with a stride of 5 gives 8 samples fewer than its frames hold; an utterance that ends there gets one frame more.

    Args:
        sample_rate: 16000, 24000 or 44100 Hz.
        num_codebooks: the first so many; None for all (12, 32 and 9).
        checkpoint: a folder or a hub id in the local cache; None for the release of that rate.
        revision: commit of the hub id; None for the cached one.
        weights: "trained", or "random" for speed only.
        device: "cpu", "cuda", ...
        seed: of random weights.

    Raises:
        ValueError, FileNotFoundError, ImportError: as `NeuralCodec`.
    """

    family = "dac"
    model_class, config_class = "DacModel", "DacConfig"
    release = _RELEASE
    starts = {"snake1.alpha": 1.0, "snake2.alpha": 1.0}  # noqa: RUF012 - read only

    def __init__(
        self,
        sample_rate: int = 16000,
        num_codebooks: int | None = None,
        checkpoint: str | None = None,
        revision: str | None = None,
        weights: str = "trained",
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        self.release = _release(sample_rate)
        self._sample_rate, self._num_codebooks = sample_rate, num_codebooks
        super().__init__(Asked(checkpoint, revision, weights, seed, device))

    @classmethod
    def missing(
        cls,
        *,
        sample_rate: int = 16000,
        num_codebooks: int | None = None,
        checkpoint: str | None = None,
        revision: str | None = None,
        weights: str = "trained",
        **_: Any,
    ) -> str | None:
        """Why this variant cannot be built here, or None."""
        return cls.missing_for(_release(sample_rate), Asked(checkpoint, revision, weights))

    def _shape(self) -> dict[str, Any]:
        _, strides, books = _MODELS[self._sample_rate]
        return {"downsampling_ratios": list(strides), "n_codebooks": books, "sampling_rate": self._sample_rate}

    def _spec(self) -> CodecSpec:
        config = self._model.config
        if config.sampling_rate != self._sample_rate:
            raise ValueError(f"the checkpoint runs at {config.sampling_rate} Hz, asked was {self._sample_rate} Hz")
        books = config.n_codebooks if self._num_codebooks is None else self._num_codebooks
        if not 1 <= books <= config.n_codebooks:
            raise ValueError(f"this DAC has 1 to {config.n_codebooks} codebooks, asked were {books}")
        return CodecSpec(config.sampling_rate, int(config.hop_length), (config.codebook_size,) * books, prefix_decodable=True)

    def _description(self) -> str:
        spec = self.spec
        return f"DAC at {spec.sample_rate / 1000:g} kHz, {spec.num_codebooks} x {spec.codebook_sizes[0]} at {spec.frame_rate_hz:.4g} Hz"

    def _indices(self, samples: torch.Tensor) -> torch.Tensor:
        codes: torch.Tensor = self._model.encode(samples, n_quantizers=self.spec.num_codebooks).audio_codes
        return codes[0]

    def _samples(self, indices: torch.Tensor) -> torch.Tensor:
        audio: torch.Tensor = self._model.decode(audio_codes=indices).audio_values
        return audio[0]


def _release(sample_rate: int) -> Release:
    if sample_rate not in _MODELS:
        raise ValueError(f"DAC has {', '.join(map(str, _MODELS))} Hz, not {sample_rate}")
    return replace(_RELEASE, hub_id=_MODELS[sample_rate][0])
