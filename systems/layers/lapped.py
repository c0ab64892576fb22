"""The modified discrete cosine transform: as many coefficients as samples, where a short-time spectrum has twice as many."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class LappedTransform(nn.Module):
    """The modified discrete cosine transform of whole frames: ``hop`` coefficients for ``hop`` samples, orthonormal, exactly inverted.

    A frame's window reaches half a frame to both sides (sine window of two frames, Princen and Bradley 1986). Before the first frame and
    after the last nothing overlaps; there the window is a step, which keeps the inverse exact up to the edges.

    Args:
        hop: samples of a frame, even.
    """

    taper: Tensor
    basis: Tensor

    def __init__(self, hop: int) -> None:
        super().__init__()
        if hop < 2 or hop % 2:
            raise ValueError(f"a lapped transform needs an even number of samples per frame, got {hop}")
        self.hop = hop
        n, k = torch.arange(2 * hop, dtype=torch.float64)[:, None], torch.arange(hop, dtype=torch.float64)
        self.register_buffer("taper", torch.sin(math.pi / (2 * hop) * (n[:, 0] + 0.5)).float(), persistent=False)
        basis = math.sqrt(2.0 / hop) * torch.cos(math.pi / hop * (n + 0.5 + hop / 2) * (k + 0.5))
        self.register_buffer("basis", basis.float(), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Coefficients ``[B, T, hop]`` of ``audio [B, T x hop]``."""
        frames = functional.pad(audio, (self.hop // 2, self.hop // 2)).unfold(-1, 2 * self.hop, self.hop)
        coefficients: Tensor = (frames * self._tapers(frames.shape[1])) @ self.basis
        return coefficients

    def inverse(self, coefficients: Tensor) -> Tensor:
        """Audio ``[B, T x hop]`` of ``coefficients [B, T, hop]``."""
        count, hop = coefficients.shape[1], self.hop
        frames = (coefficients @ self.basis.T) * self._tapers(count)
        # Each half of a window meets the other half of a neighbour's.
        halves = functional.pad(frames[..., :hop], (0, 0, 0, 1)) + functional.pad(frames[..., hop:], (0, 0, 1, 0))
        return halves.flatten(1)[:, hop // 2 : hop // 2 + count * hop]

    def _tapers(self, count: int) -> Tensor:
        tapers = self.taper.repeat(count, 1)
        half = self.hop // 2
        step = torch.cat([self.taper.new_zeros(half), self.taper.new_ones(half)])
        tapers[0, : self.hop] = step
        tapers[-1, self.hop :] = step.flip(0)
        return tapers


def compand(values: Tensor, power: float, floor: float = 1e-5) -> Tensor:
    """Magnitudes raised to ``power``, signs kept, smooth at zero; ``1 / power`` undoes it but for the floor.

    Args:
        values: real, of any shape.
        power: below 1 compresses.
        floor: magnitude under which the gain stops growing.
    """
    return values * (values.square() + floor**2).pow((power - 1.0) / 2.0)
