"""Audio to latent frames: DAC's strided convolutions (paper) or a lapped transform and ConvNeXt blocks (small)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from systems.layers.convolution import ConvNeXtStack, DownBlock, Snake
from systems.layers.spectrum import Analysis, LappedTransform, compand, energy
from systems.qdac.config import QdacConfig


class WaveformEncoder(nn.Module):
    """DAC's encoder: convolution, a downsampling block per stride with doubled width, Snake, convolution to the latent.

    Args:
        config: ``front`` must be "waveform".
    """

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
    (`systems.qdac.start`), so the codec begins as a transform codec and the blocks learn what is better.

    Args:
        config: ``front`` must be "lapped".
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


def build_encoder(config: QdacConfig) -> WaveformEncoder | LappedEncoder:
    """The encoder of a configuration."""
    return WaveformEncoder(config) if config.front == "waveform" else LappedEncoder(config)
