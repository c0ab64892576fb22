"""Short-time spectra of whole frames: T frames for T x hop samples."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Analysis(nn.Module):
    """Complex spectra of ``[B, T x hop]``, frame t centred on the middle of samples t x hop .. (t + 1) x hop.

    The edges are padded with zeros, so that any length, down to one frame, has a spectrum.

    Args:
        window: samples, at least ``hop`` and even with it.
        hop: samples between frames.
    """

    taper: Tensor

    def __init__(self, window: int, hop: int) -> None:
        super().__init__()
        if window < hop or (window - hop) % 2:
            raise ValueError(f"a window of {window} samples cannot be centred on frames of {hop}")
        self.window, self.hop = window, hop
        self.register_buffer("taper", torch.hann_window(window), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Complex ``[B, T, window / 2 + 1]`` of ``audio [B, T x hop]``."""
        side = (self.window - self.hop) // 2
        frames = functional.pad(audio, (side, side)).unfold(-1, self.window, self.hop)
        spectrum: Tensor = torch.fft.rfft(frames * self.taper)
        return spectrum


def energy(spectrum: Tensor) -> Tensor:
    """Squared magnitudes, with a gradient everywhere. (A sum over the two innermost numbers would be several times slower.)"""
    return spectrum.real.square() + spectrum.imag.square()


def compress(spectrum: Tensor, power: float, floor: float = 1e-5) -> Tensor:
    """Magnitudes raised to ``power``, phases kept; smooth at zero. Returns real ``[..., F, 2]`` of complex ``[..., F]``.

    Args:
        spectrum: complex.
        power: 1 changes nothing; 0.3 is about what loudness does.
        floor: magnitude under which the gain stops growing.
    """
    gain = (energy(spectrum) + floor**2).pow((power - 1.0) / 2.0)
    return torch.view_as_real(spectrum) * gain[..., None]
