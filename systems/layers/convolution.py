"""Convolution blocks: ConvNeXt over time, channels last (Siuzdak 2023, Vocos; Liu et al. 2022), and those of the Descript Audio Codec
(Kumar et al. 2023), channels first: Snake, dilated residual units, strided blocks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, then a two-layer network per frame, added to the input.

    Args:
        dim: channels.
        hidden: width of the two-layer network.
        kernel: frames of the depthwise convolution, odd.
        scale: initial gain of the branch, per channel.
        lookahead: frames after its own that a frame sees; half the kernel by default, 0 is causal.
    """

    def __init__(self, dim: int, hidden: int, kernel: int = 7, scale: float = 0.05, lookahead: int | None = None) -> None:
        super().__init__()
        self.ahead = kernel // 2 if lookahead is None else lookahead
        if not 0 <= self.ahead < kernel:
            raise ValueError(f"a kernel of {kernel} frames cannot look {self.ahead} ahead")
        self.depthwise = nn.Conv1d(dim, dim, kernel, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.widen = nn.Linear(dim, hidden)
        self.narrow = nn.Linear(hidden, dim)
        self.gain = nn.Parameter(torch.full((dim,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """``[B, T, dim]`` to the same."""
        # As a convolution over an image of width 1 whose channels lie innermost, which x is already: on a CPU 7 times faster than
        # conv1d, which copies to channels first and back (0.4 ms against 3.2, forward and backward, 16 x 32 x 384).
        kernel = self.depthwise.weight[..., None]
        around = functional.pad(x, (0, 0, kernel.shape[2] - 1 - self.ahead, self.ahead))
        image = around.transpose(1, 2)[..., None]
        branch = functional.conv2d(image, kernel, self.depthwise.bias, groups=kernel.shape[0])[..., 0].transpose(1, 2)
        made: Tensor = self.narrow(functional.gelu(self.widen(self.norm(branch)), approximate="tanh"))
        return x + self.gain * made


class ConvNeXtStack(nn.Sequential):
    """Blocks in a row, with no normalisation around them: level passes through, and weak blocks leave the input nearly as it is.

    Args:
        dim: channels.
        hidden: width inside the blocks.
        depth: number of blocks.
        kernel: frames of their depthwise convolutions.
        scale: initial gain of each block's branch.
        lookahead: frames that each block sees after its own; half the kernel by default.
    """

    def __init__(self, dim: int, hidden: int, depth: int, kernel: int = 7, scale: float = 0.05, lookahead: int | None = None) -> None:
        super().__init__(*(ConvNeXtBlock(dim, hidden, kernel, scale, lookahead) for _ in range(depth)))


class Snake(nn.Module):
    """x + sin^2(a x) / a, with a rate a per channel (Ziyin et al. 2020)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, N]`` to the same."""
        return x + (self.rate * x).sin().square() / (self.rate + 1e-9)


class ResidualUnit(nn.Module):
    """Snake, dilated convolution of 7, Snake, convolution of 1, added to the input."""

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
    """Three residual units (dilations 1, 3, 9), Snake, and a strided convolution: ``[B, C, N]`` to ``[B, C', N / stride]``."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__(
            *(ResidualUnit(channels_in, dilation) for dilation in (1, 3, 9)),
            Snake(channels_in),
            weight_norm(nn.Conv1d(channels_in, channels_out, 2 * stride, stride=stride, padding=math.ceil(stride / 2))),
        )


class UpBlock(nn.Sequential):
    """Snake, a transposed convolution, three residual units: ``[B, C, N]`` to ``[B, C', N x stride]``."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        # Without the output padding an odd stride gives a sample less than N x stride, and the output is shorter than the input.
        up = nn.ConvTranspose1d(
            channels_in, channels_out, 2 * stride, stride=stride, padding=math.ceil(stride / 2), output_padding=stride % 2
        )
        super().__init__(Snake(channels_in), weight_norm(up), *(ResidualUnit(channels_out, dilation) for dilation in (1, 3, 9)))
