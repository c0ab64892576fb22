"""The adversaries of DAC, multi-period (HiFi-GAN) and multi-band complex STFT, and the losses of training against them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Shape of the adversaries.

    Args:
        periods: of the period discriminators, in samples; () for none.
        period_channels: of their four strided layers.
        windows: samples of the STFT discriminators; () for none.
        bands: edges of the bands as shares of the half sample rate.
        channels: of the STFT discriminators' layers.
    """

    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    period_channels: tuple[int, ...] = (32, 128, 512, 1024)
    windows: tuple[int, ...] = (2048, 1024, 512)
    bands: tuple[float, ...] = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
    channels: int = 32


SMALL_DISCRIMINATOR = DiscriminatorConfig(periods=(3, 7), period_channels=(16, 32, 64, 64), windows=(1024, 512), channels=8)


@dataclass(frozen=True, eq=False)
class Judgement:
    """What one adversary says: a score of any shape, 1 for real, and the features of its layers."""

    score: Tensor
    features: tuple[Tensor, ...]


class PeriodDiscriminator(nn.Module):
    """Looks at every p-th sample: the waveform folded to ``[N / p, p]``; ``channels`` are those of the strided layers."""

    def __init__(self, period: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.period = period
        widths = (1, *channels)
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, (5, 1), (3, 1), padding=(2, 0))) for a, b in zip(widths, channels, strict=False)
        )
        self.layers.append(weight_norm(nn.Conv2d(channels[-1], channels[-1], (5, 1), padding=(2, 0))))
        self.judge = weight_norm(nn.Conv2d(channels[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, audio: Tensor) -> Judgement:
        """Judges ``audio [B, N]``."""
        x = functional.pad(audio, (0, -audio.shape[1] % self.period))
        x = x.reshape(x.shape[0], 1, -1, self.period)
        features = []
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.1)
            features.append(x)
        return Judgement(self.judge(x), tuple(features))


class BandDiscriminator(nn.Module):
    """Looks at the complex spectrum of one resolution (the hop is a quarter of the window), split into bands with layers of their own."""

    taper: Tensor

    def __init__(self, window: int, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.window, width = window, config.channels
        bins = window // 2 + 1
        edges = [round(share * bins) for share in config.bands]
        self.edges = tuple(itertools.pairwise(edges))
        self.register_buffer("taper", torch.hann_window(window), persistent=False)
        self.bands = nn.ModuleList(
            nn.ModuleList(
                [weight_norm(nn.Conv2d(2, width, (3, 9), padding=(1, 4)))]
                + [weight_norm(nn.Conv2d(width, width, (3, 9), (1, 2), padding=(1, 4))) for _ in range(3)]
                + [weight_norm(nn.Conv2d(width, width, (3, 3), padding=(1, 1)))]
            )
            for _ in self.edges
        )
        self.judge = weight_norm(nn.Conv2d(width, 1, (3, 3), padding=(1, 1)))

    def forward(self, audio: Tensor) -> Judgement:
        """Judges ``audio [B, N]``."""
        spectrum = torch.stft(
            audio, self.window, self.window // 4, window=self.taper, center=True, pad_mode="constant", return_complex=True
        )
        x = torch.view_as_real(spectrum).permute(0, 3, 2, 1)
        features, ends = [], []
        for (low, high), layers in zip(self.edges, self.bands, strict=True):
            band = x[..., low:high]
            assert isinstance(layers, nn.ModuleList)
            for layer in layers:
                band = functional.leaky_relu(layer(band), 0.1)
                features.append(band)
            ends.append(band)
        return Judgement(self.judge(torch.cat(ends, dim=-1)), tuple(features))


class Discriminator(nn.Module):
    """All adversaries."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        judges: list[nn.Module] = [PeriodDiscriminator(period, config.period_channels) for period in config.periods]
        judges += [BandDiscriminator(window, config) for window in config.windows]
        if not judges:
            raise ValueError("a discriminator without periods and windows judges nothing")
        self.judges = nn.ModuleList(judges)

    def forward(self, audio: Tensor) -> tuple[Judgement, ...]:
        """One judgement of ``audio [B, N]`` per adversary. Level and offset are removed first: they are no clue to prefer."""
        audio = audio - audio.mean(dim=-1, keepdim=True)
        audio = 0.8 * audio / (audio.abs().amax(dim=-1, keepdim=True) + 1e-9)
        return tuple(judge(audio) for judge in self.judges)


def generator_loss(scores: Sequence[Tensor]) -> Tensor:
    """Least-squares adversarial loss of the outputs' scores, summed over discriminators (Mao et al. 2017)."""
    return torch.stack([(1.0 - score).square().mean() for score in scores]).sum()


def discriminator_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Least-squares loss of the discriminators, summed."""
    return torch.stack([(1.0 - r).square().mean() + f.square().mean() for r, f in zip(real, fake, strict=True)]).sum()


def feature_matching_loss(real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """L1 distance of every inner feature of every discriminator, summed; the real side takes no gradient."""
    return torch.stack(
        [(f - r.detach()).abs().mean() for rs, fs in zip(real, fake, strict=True) for r, f in zip(rs, fs, strict=True)]
    ).sum()
