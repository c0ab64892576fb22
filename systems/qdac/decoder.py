"""Latent frames to audio: DAC's transposed convolutions (paper) or ConvNeXt blocks and an inverse lapped transform (small)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from systems.layers.convolution import ConvNeXtStack, Snake, UpBlock
from systems.layers.spectrum import LappedTransform, compand
from systems.qdac.config import QdacConfig


class WaveformDecoder(nn.Module):
    """DAC's decoder: convolution, an upsampling block per stride with halved width, Snake, convolution, tanh.

    Args:
        config: ``front`` must be "waveform".
    """

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
    """A linear map, ConvNeXt blocks, a linear map to companded MDCT coefficients, which are expanded and inverted.

    Args:
        config: ``front`` must be "lapped".
    """

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


def build_decoder(config: QdacConfig) -> WaveformDecoder | LappedDecoder:
    """The decoder of a configuration."""
    return WaveformDecoder(config) if config.front == "waveform" else LappedDecoder(config)
