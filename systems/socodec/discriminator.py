"""The adversaries of SoCodec's mel decoder: random windows of several lengths (Jiang et al. 2023, Mega-TTS, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class MelDiscriminatorConfig:
    """Shape of the adversaries.

    Args:
        windows: mel frames that each looks at.
        channels: of their three layers.
        bands: of the mel frames.
    """

    windows: tuple[int, ...] = (32, 64, 128)
    channels: int = 192
    bands: int = 80


SMALL_MEL_DISCRIMINATOR = MelDiscriminatorConfig(channels=32)


class MelDiscriminator(nn.Module):
    """One judge per window length, three convolutions over time and frequency each, and a verdict per patch."""

    def __init__(self, config: MelDiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        self.judges = nn.ModuleList(_Judge(config.channels) for _ in config.windows)

    def draw(self, batch_size: int, frames: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """First frame of each row's window, int64 ``[B]``, for every window length; the same draw judges the real and the made."""
        return tuple(
            torch.randint(max(1, frames - window + 1), (batch_size,), generator=generator, device=generator.device)
            for window in self.config.windows
        )

    def forward(self, mel: Tensor, starts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Scores, 1 for real, of the windows of ``mel [B, T, bands]`` at ``starts``; a mel shorter than a window is judged whole."""
        scores = []
        for judge, window, first in zip(self.judges, self.config.windows, starts, strict=True):
            length = min(window, mel.shape[1])
            places = first.to(mel.device)[:, None] + torch.arange(length, device=mel.device)
            cut = mel.gather(1, places[..., None].expand(-1, -1, mel.shape[2]))
            scores.append(judge(cut[:, None]))
        return tuple(scores)


class _Judge(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(1 if i == 0 else channels, channels, 3, stride=2, padding=1) for i in range(3))
        self.verdict = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 1, T, bands]`` to ``[B, 1, T / 8, bands / 8]``."""
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.2)
        scores: Tensor = self.verdict(x)
        return scores
