"""The codec's network: encoder, residual quantizer, decoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from systems.qdac.config import QdacConfig
from systems.qdac.decoder import build_decoder
from systems.qdac.encoder import build_encoder
from systems.quantizers.codebook import CodebookConfig
from systems.quantizers.residual import Quantized, ResidualConfig, ResidualQuantizer


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What a training pass gives.

    Args:
        audio: ``[B, N]``, N a whole number of frames.
        quantized: the latent and its losses.
    """

    audio: Tensor
    quantized: Quantized


class QdacModel(nn.Module):
    """Encoder, quantizer and decoder of one configuration.

    Args:
        config: shapes.
    """

    def __init__(self, config: QdacConfig) -> None:
        super().__init__()
        self.config = config
        codebook = CodebookConfig(size=config.codebook_size, dim=config.codebook_dim, update=config.update)
        self.encoder = build_encoder(config)
        self.quantizer = ResidualQuantizer(
            ResidualConfig(config.num_codebooks, config.latent_dim, codebook, first_supervised=True, dropout=config.dropout)
        )
        self.decoder = build_decoder(config)

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
