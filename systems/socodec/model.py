"""The codec's network: encoder, quantizer, utterance encoder, two decoders; the weights it begins with; and how its files are read."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from systems.checkpoints import Loaded, Stored, digest, fill, loaded, read
from systems.quantizers.streams import PairedResidualQuantizer, ProductQuantizer, QuantizedStreams, StreamQuantizer, StreamsConfig
from systems.socodec.config import FRAMES_MS, MEL_PER_FEATURE, SocodecConfig, socodec_config
from systems.socodec.networks import CausalConv, CausalTransposedConv, ResidualUnit, SocodecDecoder, SocodecEncoder
from systems.socodec.utterance import UtteranceEncoder


class SpeechCode(NamedTuple):
    """What the codec sends."""

    indices: Tensor  # int64 [B, K, T]
    embedding: Tensor  # [B, D], of the utterance


class Decoded(NamedTuple):
    """What the codec makes of codes."""

    mel: Tensor  # [B, T100, bands], log-mel frames
    ssl: Tensor | None  # [B, T50, ssl_dim]; None of a codec that is not semantic


class Reconstruction(NamedTuple):
    """What a training pass gives: what `Decoded` has, and what its losses need."""

    mel: Tensor
    ssl: Tensor | None
    quantized: QuantizedStreams
    embedding: Tensor  # [B, D]


class SocodecModel(nn.Module):
    """SoCodec of one configuration (Guo et al. 2024, section 2), from features and mel frames to features and mel frames."""

    def __init__(self, config: SocodecConfig) -> None:
        super().__init__()
        self.config = config
        width, groups = config.width, config.groups
        self.speaker_encoder = UtteranceEncoder(config.num_mels, width, config.utterance)
        self.encoder = SocodecEncoder(config)
        streams = StreamsConfig(
            num_streams=config.num_streams,
            latent_dim=width,
            sizes=config.sizes,
            codebook_dim=config.codebook_dim,
            order="ordered" if config.quantizer in ("opq", "orq") else "none",
            index_order=config.index_order,
            revival_share=config.revival_share,
        )
        self.quantizer: StreamQuantizer = (ProductQuantizer if config.quantizer in ("opq", "pq") else PairedResidualQuantizer)(streams)
        self.decoder_1 = SocodecDecoder(width, tuple(reversed(config.strides)), groups, config.ssl_dim if config.semantic else 0)
        self.decoder_2 = SocodecDecoder(width, (MEL_PER_FEATURE,), groups, config.num_mels)

    def forward(
        self,
        features: Tensor | None,
        mel: Tensor,
        prompt: Tensor | None = None,
        active: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Reconstruction:
        """One training pass.

        Args:
            features: ``[B, T50, ssl_dim]``, T50 a whole number of code frames; not used, and may be None, where the source is "mel".
            mel: log-mel frames ``[B, 2 T50, bands]``.
            prompt: mel frames for the utterance embedding, such as `clip_and_shuffle` makes; ``mel`` itself by default.
            active: int64 ``[B]``, streams kept per item (nested dropout), all by default; see `StreamQuantizer.draw_active`.
            generator: of the random choices of learning codebooks.

        Raises:
            ValueError: frames that do not fit one another.
        """
        latent = self.encoder(self._input(features, mel)).float()
        with torch.autocast(latent.device.type, enabled=False):  # nearest entries are looked for in full precision
            quantized = self.quantizer(latent, active, generator)
        embedding = self.embed(mel if prompt is None else prompt)
        decoded = self._decode(quantized.latent, embedding)
        return Reconstruction(decoded.mel, decoded.ssl, quantized, embedding)

    def embed(self, mel: Tensor) -> Tensor:
        """Utterance embeddings ``[B, D]`` of log-mel frames ``[B, T, bands]``."""
        embedding: Tensor = self.speaker_encoder(self._centred(mel))
        return embedding

    def encode(self, features: Tensor | None, mel: Tensor, num_streams: int | None = None) -> SpeechCode:
        """Codes and utterance embedding; see `forward` for the shapes and what is wrong with others."""
        latent = self.encoder(self._input(features, mel))
        return SpeechCode(self.quantizer.encode(latent, num_streams), self.embed(mel))

    def decode(self, indices: Tensor, embedding: Tensor) -> Decoded:
        """Frames of ``indices [B, b, T]``, the first b streams, spoken by ``embedding [B, D]``."""
        return self._decode(self.quantizer.decode(indices), embedding)

    def _decode(self, latent: Tensor, embedding: Tensor) -> Decoded:
        first = self.decoder_1(latent, embedding)
        second = self.decoder_2(first.hidden, embedding)
        assert second.output is not None  # it always has a head
        return Decoded(second.output * self.config.mel_scale + self.config.mel_mean, first.output)

    def _input(self, features: Tensor | None, mel: Tensor) -> Tensor:
        config = self.config
        frames = mel.shape[1] // MEL_PER_FEATURE
        if mel.shape[1] % (MEL_PER_FEATURE * config.stride) or not frames:
            raise ValueError(f"{mel.shape[1]} mel frames are no whole number of code frames of {MEL_PER_FEATURE * config.stride}")
        if config.source == "mel":
            return self._centred(mel).reshape(mel.shape[0], frames, config.input_dim)
        if features is None or features.shape[1:] != (frames, config.ssl_dim):
            found = None if features is None else tuple(features.shape)
            raise ValueError(f"{mel.shape[1]} mel frames go with features [B, {frames}, {config.ssl_dim}], got {found}")
        return features

    def _centred(self, mel: Tensor) -> Tensor:
        return (mel - self.config.mel_mean) / self.config.mel_scale


_SWISH = 1.0 / math.sqrt(0.356)  # 0.356 is the mean square of Swish of a normal variable
_RECTIFIER = math.sqrt(2.0)
_RESIDUAL = 0.3
_HEAD = 0.05


@torch.no_grad()
def spread(model: SocodecModel) -> None:
    """Draws all convolutions and projections of a codec anew, biases zero, so that a signal keeps its size on the way through.

    The release has its normalisation switched off. torch's own initial weights then shrink a signal at every convolution, so that at
    first the mel frames hardly feel the code (3e-4 of their deviation is its doing at 40 ms, 1e-5 at 120 ms, 4e-7 at 240 ms) and training
    is slow until they do. This is He et al. 2015, "Delving deep into rectifiers", for Swish, with small second convolutions in residual
    units and small heads.
    """
    heads = {decoder.layers[-1] for decoder in (model.decoder_1, model.decoder_2) if isinstance(decoder.layers[-1], CausalConv)}
    seconds = {unit.layers[-1] for unit in model.modules() if isinstance(unit, ResidualUnit)}
    for part in (model.encoder, model.decoder_1, model.decoder_2):
        for module in part.modules():
            if isinstance(module, CausalTransposedConv):
                _draw(module, 2 * module.in_channels, _SWISH)  # every output frame is made of two input frames
            elif isinstance(module, CausalConv):
                gain = _HEAD if module in heads else _SWISH * (_RESIDUAL if module in seconds else 1.0)
                _draw(module, module.in_channels // module.groups * module.kernel_size[0], gain)
    for module in model.speaker_encoder.modules():
        if isinstance(module, nn.Conv1d):
            _draw(module, module.in_channels * module.kernel_size[0], 1.0 if module is model.speaker_encoder.fc.conv else _RECTIFIER)
    for projection in (model.quantizer.project_in, model.quantizer.project_out):
        _draw(projection, projection.in_features, 1.0)


def _draw(module: nn.Conv1d | nn.ConvTranspose1d | nn.Linear, fan_in: int, gain: float) -> None:
    module.weight.normal_(0.0, gain / math.sqrt(fan_in))
    if module.bias is not None:
        module.bias.zero_()


_QUANTIZER = "quantizer.quantizers.0."
_LEARNING_STATE = (".inited", ".cluster_size", ".embed_avg")
_CODEBOOK = re.escape(f"{_QUANTIZER}_codebook.codebooks.") + r"\d+\.embed"
_EXTRACTOR = "ssl_extractor."


def load_socodec(path: str | Path) -> Loaded[SocodecModel]:
    """Reads either kind of file.

    A released file tells no configuration: it is of the paper's size, and its codebooks say how many streams it has and so its frames.
    What it holds besides (HuBERT, averages of the codebooks) is passed over. Its metadata are empty.

    Raises:
        FileNotFoundError: there is none.
        ValueError: no safetensors file, not of SoCodec, tensors missing, too many or of another shape, or not finite.
    """
    stored = read(path, "socodec")
    if "family" in stored.metadata or not any(name.startswith(_QUANTIZER) for name in stored.tensors):
        return loaded(stored, "socodec", SocodecModel, SocodecConfig)
    return _of_release(stored)


def _of_release(stored: Stored) -> Loaded[SocodecModel]:
    codebooks = sum(bool(re.fullmatch(_CODEBOOK, name)) for name in stored.tensors)
    frames = {len(config.sizes) * config.num_streams: config for config in (socodec_config("paper", ms) for ms in FRAMES_MS)}
    if codebooks not in frames:
        raise ValueError(f"{stored.source} holds {codebooks} codebooks; the released SoCodecs have {', '.join(map(str, frames))}")
    config = frames[codebooks]
    beside = {name for name in stored.tensors if name.startswith(_EXTRACTOR) or name.endswith(_LEARNING_STATE)}
    stored = replace(stored, tensors={name: tensor for name, tensor in stored.tensors.items() if name not in beside})
    model = SocodecModel(config)
    fill(model, stored, lambda name: released_name(name, len(config.sizes)))
    return Loaded(model.eval().requires_grad_(False), stored.metadata, digest(stored.tensors))


def released_name(name: str, codebooks: int) -> str:
    """What the release calls our tensor ``name``, with so many ``codebooks`` in a stream; only the quantizer's differ."""
    entries = re.fullmatch(r"quantizer\.streams\.(\d+)\.codebooks\.(\d+)\.entries", name)
    if entries:
        return f"{_QUANTIZER}_codebook.codebooks.{int(entries[1]) * codebooks + int(entries[2])}.embed"
    return re.sub(r"^quantizer\.(?=project_)", _QUANTIZER, name)
