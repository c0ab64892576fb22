"""SoCodec's convolutions, all causal: blocks of grouped residual units with Swish, the encoder, the decoders.

Every module that holds weights sits where the release has it, so that the names of its tensors are those of the release; normalisation,
which the release has switched off, is an Identity there. Nothing comes from a frame later than what is told (`CausalConv`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from systems.socodec.config import SocodecConfig


class CausalConv(nn.Conv1d):
    """A convolution that sees nothing later than its span.

    Args:
        channels_in: of the input.
        channels_out: of the output.
        kernel: frames.
        stride: input frames per output frame.
        groups: of channels.
        whole_frames: with a stride, output frame t sees up to the last input frame that it stands for, ``stride (t + 1) - 1``, instead of
            the first, ``stride t``.
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1, whole_frames: bool = False
    ) -> None:
        super().__init__(channels_in, channels_out, kernel, stride=stride, groups=groups)
        self.before = kernel - stride if whole_frames else kernel - 1

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, T]`` to ``[B, C', T / stride]``."""
        return super().forward(functional.pad(x, (self.before, 0)))


class CausalTransposedConv(nn.ConvTranspose1d):
    """A transposed convolution of twice its stride, whose output frame t has seen input frames up to ``t // stride``.

    Args:
        channels_in: of the input.
        channels_out: of the output.
        stride: output frames per input frame.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__(channels_in, channels_out, 2 * stride, stride=stride)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """``[B, C, T]`` to ``[B, C', T x stride]``; ``output_size`` is not used."""
        return super().forward(x)[..., : x.shape[-1] * self.stride[0]]


class ResidualUnit(nn.Module):
    """Grouped convolution of 3, Swish, grouped convolution of 3, added to the input.

    Args:
        channels: of input and output.
        groups: of channels.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            CausalConv(channels, channels, 3, groups=groups),
            nn.Identity(),
            nn.SiLU(),
            CausalConv(channels, channels, 3, groups=groups),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, T]`` to the same."""
        changed: Tensor = x + self.layers(x)
        return changed


class DownBlock(nn.Module):
    """Two residual units, then a convolution of twice the stride.

    Args:
        channels: of input and output.
        stride: input frames per output frame.
        groups: of the residual units.
        whole_frames: see `CausalConv`.
    """

    def __init__(self, channels: int, stride: int, groups: int, whole_frames: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            ResidualUnit(channels, groups),
            nn.Identity(),
            nn.SiLU(),
            ResidualUnit(channels, groups),
            nn.Identity(),
            nn.SiLU(),
            CausalConv(channels, channels, 2 * stride, stride=stride, whole_frames=whole_frames),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, T]`` to ``[B, C, T / stride]``."""
        down: Tensor = self.layers(x)
        return down


class UpBlock(nn.Module):
    """A transposed convolution of twice the stride, then two residual units.

    Args:
        channels: of input and output.
        stride: output frames per input frame.
        groups: of the residual units.
    """

    def __init__(self, channels: int, stride: int, groups: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            CausalTransposedConv(channels, channels, stride),
            nn.Identity(),
            nn.SiLU(),
            ResidualUnit(channels, groups),
            nn.Identity(),
            nn.SiLU(),
            ResidualUnit(channels, groups),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, T]`` to ``[B, C, T x stride]``."""
        up: Tensor = self.layers(x)
        return up


def activated(blocks: list[nn.Module]) -> list[nn.Module]:
    """Each block followed by the (absent) normalisation and Swish, as they stand between the release's blocks."""
    return [layer for block in blocks for layer in (block, nn.Identity(), nn.SiLU())]


def channels_first(x: Tensor) -> Tensor:
    """``[B, T, C]`` as ``[B, C, T]``, and back."""
    return torch.transpose(x, 1, 2)


class SocodecEncoder(nn.Module):
    """Convolution of 3, downsampling blocks, convolution of 3 (SoCodec, section 2.1; the release's ``encoder``).

    Args:
        config: ``input_dim``, ``width``, ``strides``, ``groups`` and ``whole_frames`` count.
    """

    def __init__(self, config: SocodecConfig) -> None:
        super().__init__()
        width = config.width
        blocks: list[nn.Module] = [DownBlock(width, stride, config.groups, config.whole_frames) for stride in config.strides]
        self.layers = nn.Sequential(CausalConv(config.input_dim, width, 3), nn.SiLU(), *activated(blocks), CausalConv(width, width, 3))

    def forward(self, features: Tensor) -> Tensor:
        """Latent ``[B, T, D]`` of ``features [B, T x stride, input_dim]``."""
        return channels_first(self.layers(channels_first(features)))


class Frames(NamedTuple):
    """What a decoder gives."""

    output: Tensor | None  # [B, T', outputs]; None of a decoder without a head
    hidden: Tensor  # [B, T', D], what the head reads


class SocodecDecoder(nn.Module):
    """Convolution of 3, upsampling blocks, convolution of 3 as the head.

    SoCodec has two in a row: decoder_1 climbs to 50 frames a second and tells the features, decoder_2 goes on from decoder_1's last hidden
    frames to 100 frames a second and tells the mel spectrum. Both add the utterance embedding to every frame of their input.

    Args:
        width: channels D.
        strides: of the blocks, in their order.
        groups: of the residual units.
        outputs: of the head; 0 for a trunk without one.
    """

    def __init__(self, width: int, strides: Sequence[int], groups: int, outputs: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = [UpBlock(width, stride, groups) for stride in strides]
        layers: list[nn.Module] = [CausalConv(width, width, 3), nn.SiLU(), *activated(blocks)]
        self._trunk = len(layers)
        if outputs:
            layers.append(CausalConv(width, outputs, 3))
        self.layers = nn.Sequential(*layers)

    def forward(self, latent: Tensor, embedding: Tensor) -> Frames:
        """Frames of ``latent [B, T, D]`` spoken by ``embedding [B, D]``."""
        x = channels_first(latent + embedding[:, None])
        hidden = self.layers[: self._trunk](x)
        output = channels_first(self.layers[self._trunk](hidden)) if len(self.layers) > self._trunk else None
        return Frames(output, channels_first(hidden))
