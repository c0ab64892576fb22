"""Audio to latent frames and back: DAC's strided convolutions (paper), or a lapped transform and ConvNeXt blocks (small)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from systems.layers.convolution import ConvNeXtStack, DownBlock, Snake, UpBlock
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
    (`systems.qdac.model.start`), so the codec begins as a transform codec and the blocks learn what is better.

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
