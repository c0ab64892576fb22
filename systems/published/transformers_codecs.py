"""The published codecs that transformers carries: EnCodec, DAC, Mimi, X-Codec, X-Codec 2.

EnCodec (Defossez et al., "High Fidelity Neural Audio Compression", 2022) is the 24-kHz model; the one for 48 kHz is stereo, normalises
overlapping pieces of one second and sends their scales. DAC: Kumar et al., "High-Fidelity Audio Compression with Improved RVQGAN", 2023.
Mimi, the codec of Moshi: Defossez et al., "Moshi: a speech-text foundation model for real-time dialogue", 2024. X-Codec: Ye et al., "Codec
Does Matter: Exploring the Semantic Shortcoming of Codec for Audio Language Model", 2024. X-Codec 2, the codec of Llasa: Ye et al., 2025.
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from harness.api import CodecSpec
from systems.bundled import some
from systems.published.neural import TRANSFORMERS, Found, NeuralCodec, Release, scatter_codebooks

if TYPE_CHECKING:
    import torch


class TransformersCodec(NeuralCodec):
    """A codec that transformers carries."""

    model_class: ClassVar[str]
    config_class: ClassVar[str]

    @classmethod
    def network(cls) -> Any:
        return _class(cls.model_class)

    def _shape(self) -> dict[str, Any]:
        """Arguments of the configuration that give the release's shape, where its defaults do not."""
        return {}

    def _built(self) -> tuple[Any, Mapping[str, Any]]:
        model = _class(self.model_class)(_class(self.config_class)(**self._shape()))
        scatter_codebooks(model)
        return model, {}

    def _loaded(self, found: Found) -> tuple[Any, Mapping[str, Any]]:
        import torch

        safe = not (found.folder / "pytorch_model.bin").is_file() or (found.folder / "model.safetensors").is_file()
        config = json.loads((found.folder / "config.json").read_text(encoding="utf-8"))
        kind = config.get("model_type")
        expected = _class(self.config_class).model_type
        if kind != expected:
            raise ValueError(f"{found.label} holds a model of type {kind!r}, {self.release.title} is {expected!r}")
        with _quiet():
            # A pickled file is read by transformers with weights_only=True, so that no code in it runs.
            model, told = _class(self.model_class).from_pretrained(
                found.folder, dtype=torch.float32, use_safetensors=safe, local_files_only=True, output_loading_info=True,
                ignore_mismatched_sizes=True,
            )  # fmt: skip
        _check_loading(told, found.label)
        return model, config

    def _indices(self, samples: torch.Tensor) -> torch.Tensor:
        codes: torch.Tensor = self._model.encode(samples, **self._rate()).audio_codes
        return codes.reshape(-1, codes.shape[-1])

    def _samples(self, indices: torch.Tensor) -> torch.Tensor:
        audio: torch.Tensor = self._model.decode(indices).audio_values
        return audio.reshape(-1)

    def _rate(self) -> dict[str, Any]:
        """Arguments of encoding that give the variant's rate."""
        return {}


@dataclass(eq=False, repr=False)
class BandwidthCodec(TransformersCodec):
    """A codec whose codebooks are as many as its bandwidth wants."""

    bandwidth_kbps: float

    def _setting(self) -> str:
        return f" at {self.bandwidth_kbps:g} kbps"

    def _bandwidth_books(self) -> int:
        bandwidths = self._model.config.target_bandwidths
        if self.bandwidth_kbps not in bandwidths:
            raise ValueError(f"{self.release.title} has {', '.join(f'{b:g}' for b in bandwidths)} kbps, not {self.bandwidth_kbps}")
        return int(self._model.quantizer.get_num_quantizers_for_bandwidth(self.bandwidth_kbps))

    def _rate(self) -> dict[str, Any]:
        return {"bandwidth": float(self.bandwidth_kbps)}


@dataclass(eq=False, repr=False)
class Encodec(BandwidthCodec):
    """EnCodec at one of its bandwidths: 2, 4, 8, 16 or 32 codebooks of 1024 at 75 Hz.

    Its convolutions look only back, but at the start of an utterance they reflect it: the first frames hear what follows
    them. It is therefore not declared causal.

    Args:
        bandwidth_kbps: 1.5, 3, 6, 12 or 24.
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

    bandwidth_kbps: float = 6.0

    def _spec(self) -> CodecSpec:
        config = self._model.config
        if config.audio_channels != 1 or config.chunk_length is not None or config.normalize:
            raise ValueError("this adapter is for EnCodec's mono model without pieces and scales, such as facebook/encodec_24khz")
        return CodecSpec(
            config.sampling_rate, int(config.hop_length), (config.codebook_size,) * self._bandwidth_books(), prefix_decodable=True
        )

    def _samples(self, indices: torch.Tensor) -> torch.Tensor:
        audio: torch.Tensor = self._model.decode(indices[None], [None]).audio_values
        return audio.reshape(-1)


@dataclass(eq=False, repr=False)
class XCodec(BandwidthCodec):
    """X-Codec at one of its bandwidths: 1, 2, 3, 4 or 8 codebooks of 1024 at 50 Hz, 16 kHz.

    Not causal: HuBERT hears the whole utterance.

    Args:
        bandwidth_kbps: 0.5, 1, 1.5, 2 or 4.
        checkpoint: the others of that publisher (hf-audio/xcodec-hubert-general, xcodec-hubert-general-balanced, xcodec-wavlm-mls,
            xcodec-wavlm-more-data) load as well.
    """

    family = "xcodec"
    model_class, config_class = "XcodecModel", "XcodecConfig"
    release = Release("X-Codec", "hf-audio/xcodec-hubert-librispeech", "see its model card", "LibriSpeech (its HuBERT: LibriSpeech)")
    starts = {"cluster_size": 0.0}  # noqa: RUF012 - read only

    bandwidth_kbps: float = 4.0

    def _spec(self) -> CodecSpec:
        config = self._model.config
        return CodecSpec(
            config.sample_rate, int(config.hop_length), (config.codebook_size,) * self._bandwidth_books(), prefix_decodable=True
        )


# Of each release of DAC: hub id, strides, codebooks. transformers' default configuration is none of them.
DAC_MODELS: dict[int, tuple[str, tuple[int, ...], int]] = {
    16000: ("descript/dac_16khz", (2, 4, 5, 8), 12),
    24000: ("descript/dac_24khz", (2, 4, 5, 8), 32),
    44100: ("descript/dac_44khz", (2, 4, 8, 8), 9),
}


@dataclass(eq=False, repr=False)
class Dac(TransformersCodec):
    """DAC at one of its three sample rates.

    A decoder with a stride of 5 gives 8 samples fewer than its frames hold; an utterance that ends there gets one frame more.

    Args:
        sample_rate: 16000, 24000 or 44100 Hz.
        num_codebooks: the first so many; None for all (12, 32 and 9).
    """

    family = "dac"
    model_class, config_class = "DacModel", "DacConfig"
    release = Release(
        "DAC", "descript/dac_16khz", "MIT", "speech, music and general sound (DAPS, DNS, Common Voice, VCTK, MUSDB, Jamendo, AudioSet)"
    )
    starts = {"snake1.alpha": 1.0, "snake2.alpha": 1.0}  # noqa: RUF012 - read only

    sample_rate: int = 16000
    num_codebooks: int | None = None

    def _setting(self) -> str:
        return f" at {self.sample_rate / 1000:g} kHz"

    @classmethod
    def release_for(cls, sample_rate: int = 16000, **others: Any) -> Release:
        if sample_rate not in DAC_MODELS:
            raise ValueError(f"DAC has {', '.join(map(str, DAC_MODELS))} Hz, not {sample_rate}")
        return replace(cls.release, hub_id=DAC_MODELS[sample_rate][0])

    def _shape(self) -> dict[str, Any]:
        _, strides, books = DAC_MODELS[self.sample_rate]
        return {"downsampling_ratios": list(strides), "n_codebooks": books, "sampling_rate": self.sample_rate}

    def _spec(self) -> CodecSpec:
        config = self._model.config
        if config.sampling_rate != self.sample_rate:
            raise ValueError(f"the checkpoint runs at {config.sampling_rate} Hz, asked was {self.sample_rate} Hz")
        sizes = (config.codebook_size,) * self._books(self.num_codebooks, config.n_codebooks)
        return CodecSpec(config.sampling_rate, int(config.hop_length), sizes, prefix_decodable=True)

    def _rate(self) -> dict[str, Any]:
        return {"n_quantizers": self.spec.num_codebooks}

    def _samples(self, indices: torch.Tensor) -> torch.Tensor:
        audio: torch.Tensor = self._model.decode(audio_codes=indices).audio_values
        return audio.reshape(-1)


@dataclass(eq=False, repr=False)
class Mimi(TransformersCodec):
    """Mimi with the first ``num_codebooks`` of its 32 codebooks of 2048, at 12.5 Hz and 24 kHz; the first is semantic.

    It is causal. What transformers' port does with batches and with chunks differs from one whole utterance, which the contract
    checks find (tests/contract/test_neural_baselines.py), so that neither is offered: the encoder takes no padding mask, and the
    decoder's transposed convolutions keep nothing from one chunk to the next.

    Args:
        num_codebooks: 1..32; Moshi uses 8.
    """

    family = "mimi"
    model_class, config_class = "MimiModel", "MimiConfig"
    release = Release("Mimi", "kyutai/mimi", "CC-BY-4.0", "7 million hours of mostly English speech")
    starts = {"cluster_usage": 1.0}  # noqa: RUF012 - read only
    whole_frames = False

    num_codebooks: int | None = 8

    def _spec(self) -> CodecSpec:
        config = self._model.config
        hop = config.sampling_rate / config.frame_rate
        sizes = (config.codebook_size,) * self._books(self.num_codebooks, config.num_quantizers)
        if hop != int(hop):
            raise ValueError(f"this Mimi's frames are {hop} samples long, which is no whole number")
        return CodecSpec(config.sampling_rate, int(hop), sizes, causal=True, prefix_decodable=True)

    def _rate(self) -> dict[str, Any]:
        return {"num_quantizers": self.spec.num_codebooks}


class XCodec2(TransformersCodec):
    """X-Codec 2: one codebook of 65,536 at 50 Hz, 16 kHz, by finite scalar quantization.

    Not causal: its speech encoder hears the whole utterance. Its feature extractor adds a sample before filling the last frame, so
    that an utterance of whole frames gets one more.
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

    def _built(self) -> tuple[Any, Mapping[str, Any]]:
        self._features = _class("Xcodec2FeatureExtractor")()
        return super()._built()

    def _loaded(self, found: Found) -> tuple[Any, Mapping[str, Any]]:
        self._features = _class("Xcodec2FeatureExtractor").from_pretrained(found.folder, local_files_only=True)
        return super()._loaded(found)

    def _spec(self) -> CodecSpec:
        config = self._model.config
        return CodecSpec(config.sampling_rate, int(config.hop_length), (math.prod(config.quantization_levels),))

    def _measured_shortfall(self) -> int:
        return max(1, super()._measured_shortfall())

    def _indices(self, samples: torch.Tensor) -> torch.Tensor:
        inputs = self._features(samples[0, 0].cpu().numpy(), sampling_rate=self.spec.sample_rate, return_tensors="pt").to(self.device)
        codes: torch.Tensor = self._model.encode(**inputs).audio_codes
        return codes[0]


def _class(name: str) -> Any:
    """A class of transformers by name, imported now."""
    return getattr(importlib.import_module("transformers"), name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own progress bars, which would run into the harness's."""
    bars: Any = importlib.import_module("transformers.utils.logging")
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


def _check_loading(told: Mapping[str, Any], label: str) -> None:
    """Refuses weights of which anything is missing, unexpected or misshapen: transformers would go on with random numbers."""
    kinds = {"missing_keys": "missing", "unexpected_keys": "unexpected", "mismatched_keys": "misshapen", "error_msgs": "errors"}
    faults = [f"{word}: {some(sorted(map(str, told[kind])))}" for kind, word in kinds.items() if told.get(kind)]
    if faults:
        raise ValueError(f"the weights of {label} do not fit their configuration; {'; '.join(faults)}")
