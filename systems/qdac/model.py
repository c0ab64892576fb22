"""The codec's network: encoder, residual quantizer, decoder; and where a small one begins."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from systems.qdac.config import QdacConfig
from systems.qdac.networks import LappedDecoder, LappedEncoder, WaveformDecoder, WaveformEncoder
from systems.quantizers.codebook import CodebookConfig, over_ranks
from systems.quantizers.residual import Quantized, ResidualConfig, ResidualQuantizer


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
