"""The codec's network: audio to latent frames and back, a residual quantizer between; and where a small one begins.

The paper's ways are DAC's strided convolutions; the small size's are a lapped transform and ConvNeXt blocks.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from systems.layers.convolution import ConvNeXtStack, DownBlock, Snake, UpBlock
from systems.layers.spectrum import Analysis, LappedTransform, compand, energy
from systems.qdac.config import QdacConfig
from systems.quantizers.codebook import CodebookConfig, over_ranks
from systems.quantizers.residual import Quantized, ResidualConfig, ResidualQuantizer


class WaveformEncoder(nn.Module):
    """DAC's encoder: convolution, a downsampling block per stride with doubled width, Snake, convolution to the latent."""

    def __init__(self, config: QdacConfig) -> None:
        super().__init__()
        width = config.encoder_width
        layers: list[nn.Module] = [nn.utils.parametrizations.weight_norm(nn.Conv1d(1, width, 7, padding=3))]
        for stride in config.strides:
            layers.append(DownBlock(width, 2 * width, stride))
            width *= 2
        layers += [Snake(width), nn.utils.parametrizations.weight_norm(nn.Conv1d(width, config.latent_dim, 3, padding=1))]
        self.layers = nn.Sequential(*layers)

    def forward(self, audio: Tensor) -> Tensor:
        """Latent ``[B, T, D]`` of ``audio [B, T x hop]``."""
        latent: Tensor = self.layers(audio[:, None])
        return latent.transpose(1, 2)


class LappedEncoder(nn.Module):
    """Companded MDCT coefficients and log magnitudes, a linear map, ConvNeXt blocks, a linear map to the latent.

    The coefficients carry the waveform, half as many as a short-time spectrum has numbers; its magnitudes, which do not swing with the
    phase as those do, show the blocks what is being said. The linear maps start as a principal component analysis of the coefficients
    (`start`), so the codec begins as a transform codec and the blocks learn what is better.
    """

    LEARNING_STATE = ("started",)
    """Buffer that only learning needs; a checkpoint leaves it out."""

    started: Tensor

    def __init__(self, config: QdacConfig) -> None:
        super().__init__()
        self.power = config.power
        self.transform = LappedTransform(config.hop)
        self.analysis = Analysis(config.window, config.hop)
        self.enter = nn.Linear(config.hop + config.window // 2 + 1, config.width)
        self.stack = ConvNeXtStack(config.width, config.hidden, config.encoder_depth)
        self.leave = nn.Linear(config.width, config.latent_dim)
        self.register_buffer("started", torch.tensor(False))

    def features(self, audio: Tensor) -> Tensor:
        """Companded coefficients ``[B, T, hop]`` of ``audio [B, T x hop]``."""
        return compand(self.transform(audio), self.power)

    def forward(self, audio: Tensor) -> Tensor:
        """Latent ``[B, T, D]`` of ``audio [B, T x hop]``."""
        with torch.autocast(audio.device.type, enabled=False):
            # log10 of power from -70 dB up, brought to the size of the coefficients.
            level = (torch.log10(energy(self.analysis(audio)) + 1e-7) + 3.0) / 10.0
            features = torch.cat([self.features(audio), level], dim=-1)
        latent: Tensor = self.leave(self.stack(self.enter(features)))
        return latent


class WaveformDecoder(nn.Module):
    """DAC's decoder: convolution, an upsampling block per stride with halved width, Snake, convolution, tanh."""

    def __init__(self, config: QdacConfig) -> None:
        super().__init__()
        width = config.decoder_width
        layers: list[nn.Module] = [nn.utils.parametrizations.weight_norm(nn.Conv1d(config.latent_dim, width, 7, padding=3))]
        for stride in reversed(config.strides):
            layers.append(UpBlock(width, width // 2, stride))
            width //= 2
        layers += [Snake(width), nn.utils.parametrizations.weight_norm(nn.Conv1d(width, 1, 7, padding=3)), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, latent: Tensor) -> Tensor:
        """Audio ``[B, T x hop]`` of ``latent [B, T, D]``."""
        audio: Tensor = self.layers(latent.transpose(1, 2))
        return audio[:, 0]


class LappedDecoder(nn.Module):
    """A linear map, ConvNeXt blocks, a linear map to companded MDCT coefficients, which are expanded and inverted."""

    def __init__(self, config: QdacConfig) -> None:
        super().__init__()
        self.power = config.power
        self.enter = nn.Linear(config.latent_dim, config.width)
        self.stack = ConvNeXtStack(config.width, config.hidden, config.decoder_depth)
        self.head = nn.Linear(config.width, config.hop)
        self.transform = LappedTransform(config.hop)

    def forward(self, latent: Tensor) -> Tensor:
        """Audio ``[B, T x hop]`` of ``latent [B, T, D]``."""
        companded = self.head(self.stack(self.enter(latent))).float()
        with torch.autocast(latent.device.type, enabled=False):
            return self.transform.inverse(compand(companded, 1.0 / self.power))


class Reconstruction(NamedTuple):
    """What a training pass gives."""

    audio: Tensor  # [B, N], N a whole number of frames
    quantized: Quantized


class QdacModel(nn.Module):
    """Encoder, quantizer and decoder of one configuration."""

    def __init__(self, config: QdacConfig) -> None:
        super().__init__()
        self.config = config
        codebook = CodebookConfig(size=config.codebook_size, dim=config.codebook_dim, update=config.update)
        waveform = config.front == "waveform"
        self.encoder = WaveformEncoder(config) if waveform else LappedEncoder(config)
        self.quantizer = ResidualQuantizer(
            ResidualConfig(config.num_codebooks, config.latent_dim, codebook, first_supervised=True, dropout=config.dropout)
        )
        self.decoder = WaveformDecoder(config) if waveform else LappedDecoder(config)

    def forward(self, audio: Tensor, active: Tensor | None = None, generator: torch.Generator | None = None) -> Reconstruction:
        """Codes and decodes ``audio [B, N]``, N a whole number of frames, with the first ``active [B]`` codebooks of each item."""
        latent = self.encoder(audio).float()
        with torch.autocast(latent.device.type, enabled=False):  # nearest entries are looked for in full precision
            quantized = self.quantizer(latent, active, generator)
        return Reconstruction(self.decoder(quantized.latent), quantized)

    def encode(self, audio: Tensor, num_codebooks: int | None = None, search_width: int = 1) -> Tensor:
        """Indices int64 ``[B, K, T]`` of ``audio [B, T x hop]``; see `ResidualQuantizer.encode`."""
        return self.quantizer.encode(self.encoder(audio), num_codebooks, search_width)

    def decode(self, indices: Tensor) -> Tensor:
        """Audio ``[B, T x hop]`` of ``indices [B, b, T]``."""
        audio: Tensor = self.decoder(self.quantizer.decode(indices))
        return audio


@torch.no_grad()
def start(model: QdacModel, audio: Tensor) -> None:
    """Sets the linear maps of a lapped model from ``audio [B, N]``, once: to the principal components of this first batch.

    From random weights the network takes thousands of steps to learn to pass a waveform through; a principal component analysis of
    companded MDCT coefficients does so at once: with 64 of 320 components the signal-to-noise ratio is 11.1 dB before any step.
    Does nothing to a model that has started or is of the waveform kind.

    The latent's components get a mean variance of one, so that a learning rate means the same at any level of the data.
    """
    encoder, decoder = model.encoder, model.decoder
    if not isinstance(encoder, LappedEncoder) or bool(encoder.started):
        return
    assert isinstance(decoder, LappedDecoder)
    flat = encoder.features(audio).flatten(0, 1).double()
    count = over_ranks(torch.tensor(float(flat.shape[0]), dtype=torch.float64, device=flat.device))
    mean = over_ranks(flat.sum(dim=0)) / count
    variances, basis = torch.linalg.eigh(over_ranks((flat - mean).T @ (flat - mean)) / count)
    width, latent = model.config.width, model.config.latent_dim
    taken = min(width, flat.shape[1])
    basis = basis.flip(1)[:, :taken]
    scale = variances.flip(0)[:latent].mean().clamp(min=1e-12).sqrt()
    for weight in (encoder.enter.weight, decoder.head.weight):
        weight.zero_()
    # Features beside the coefficients come in later, when the blocks' gradients ask for them.
    encoder.enter.weight[:taken, : flat.shape[1]] = (basis.T / scale).float()
    encoder.enter.bias.zero_()
    encoder.enter.bias[:taken] = (-(basis.T @ mean) / scale).float()
    torch.nn.init.eye_(encoder.leave.weight)
    torch.nn.init.eye_(decoder.enter.weight)
    encoder.leave.bias.zero_()
    decoder.enter.bias.zero_()
    decoder.head.weight[:, :taken] = (basis * scale).float()
    decoder.head.bias.copy_(mean)
    encoder.started.fill_(True)
