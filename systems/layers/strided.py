"""The convolution blocks of the Descript Audio Codec (Kumar et al. 2023): Snake, dilated residual units, strided blocks."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm


class Snake(nn.Module):
    """x + sin^2(a x) / a, with a rate a per channel (Ziyin et al. 2020).

    Args:
        channels: of the input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, N]`` to the same."""
        return x + (self.rate * x).sin().square() / (self.rate + 1e-9)


class ResidualUnit(nn.Module):
    """Snake, dilated convolution of 7, Snake, convolution of 1, added to the input.

    Args:
        channels: of input and output.
        dilation: of the first convolution.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            Snake(channels),
            weight_norm(nn.Conv1d(channels, channels, 7, dilation=dilation, padding=3 * dilation)),
            Snake(channels),
            weight_norm(nn.Conv1d(channels, channels, 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, N]`` to the same."""
        made: Tensor = self.branch(x)
        return x + made


class DownBlock(nn.Sequential):
    """Three residual units (dilations 1, 3, 9), Snake, and a strided convolution: ``[B, C, N]`` to ``[B, C', N / stride]``.

    Args:
        channels_in: C.
        channels_out: C'.
        stride: divides N.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__(
            *(ResidualUnit(channels_in, dilation) for dilation in (1, 3, 9)),
            Snake(channels_in),
            weight_norm(nn.Conv1d(channels_in, channels_out, 2 * stride, stride=stride, padding=math.ceil(stride / 2))),
        )


class UpBlock(nn.Sequential):
    """Snake, a transposed convolution, three residual units: ``[B, C, N]`` to ``[B, C', N x stride]``.

    Args:
        channels_in: C.
        channels_out: C'.
        stride: multiplies N.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        # Without the output padding an odd stride gives a sample less than N x stride, and the output is shorter than the input.
        up = nn.ConvTranspose1d(
            channels_in, channels_out, 2 * stride, stride=stride, padding=math.ceil(stride / 2), output_padding=stride % 2
        )
        super().__init__(Snake(channels_in), weight_norm(up), *(ResidualUnit(channels_out, dilation) for dilation in (1, 3, 9)))
