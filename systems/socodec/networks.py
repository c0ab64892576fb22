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
        stride: input frames per output frame.
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
        stride: output frames per input frame.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__(channels_in, channels_out, 2 * stride, stride=stride)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """``[B, C, T]`` to ``[B, C', T x stride]``; ``output_size`` is not used."""
        return super().forward(x)[..., : x.shape[-1] * self.stride[0]]


def activated(*parts: nn.Module) -> list[nn.Module]:
    """Each part followed by the (absent) normalisation and Swish, as they stand in the release."""
    return [layer for part in parts for layer in (part, nn.Identity(), nn.SiLU())]


class Block(nn.Module):
    """Parts in a row with Swish between them, ``[B, C, T]`` in and out; T may change.

    Args:
        parts: two residual units, and behind or before them the convolution that changes the number of frames.
    """

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*activated(*parts)[:-2])

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.layers(x)
        return made


class ResidualUnit(Block):
    """Two grouped convolutions of 3, added to the input."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__(*(CausalConv(channels, channels, 3, groups=groups) for _ in range(2)))

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


def channels_first(x: Tensor) -> Tensor:
    """``[B, T, C]`` as ``[B, C, T]``, and back."""
    return torch.transpose(x, 1, 2)


class SocodecEncoder(nn.Module):
    """Convolution of 3, downsampling blocks, convolution of 3 (SoCodec, section 2.1; the release's ``encoder``)."""

    def __init__(self, config: SocodecConfig) -> None:
        super().__init__()
        width, groups, whole = config.width, config.groups, config.whole_frames
        blocks = [
            Block(
                ResidualUnit(width, groups), ResidualUnit(width, groups), CausalConv(width, width, 2 * stride, stride, whole_frames=whole)
            )
            for stride in config.strides
        ]
        self.layers = nn.Sequential(CausalConv(config.input_dim, width, 3), nn.SiLU(), *activated(*blocks), CausalConv(width, width, 3))

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
        strides: of the blocks, in their order.
        outputs: of the head; 0 for a trunk without one.
    """

    def __init__(self, width: int, strides: Sequence[int], groups: int, outputs: int) -> None:
        super().__init__()
        blocks = [
            Block(CausalTransposedConv(width, width, stride), ResidualUnit(width, groups), ResidualUnit(width, groups))
            for stride in strides
        ]
        layers: list[nn.Module] = [CausalConv(width, width, 3), nn.SiLU(), *activated(*blocks)]
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
