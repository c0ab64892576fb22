"""Spectra of audio: short-time spectra of whole frames (T frames for T x hop samples), mel bands (Slaney's scale and area normalisation, as
librosa's default) and log-mel spectra, and the modified discrete cosine transform: as many coefficients as samples, where a short-time
spectrum has twice as many.
"""

from __future__ import annotations

import math

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
    """Magnitudes raised to ``power``, phases kept; smooth at zero, where the gain stops growing under ``floor``.

    Returns real ``[..., F, 2]`` of complex ``[..., F]``. A power of 1 changes nothing; 0.3 is about what loudness does.
    """
    gain = (energy(spectrum) + floor**2).pow((power - 1.0) / 2.0)
    return torch.view_as_real(spectrum) * gain[..., None]


_LINEAR_HZ_PER_MEL = 200.0 / 3.0
_BREAK_HZ = 1000.0
_LOG_STEP = math.log(6.4) / 27.0


def mel_bands(sample_rate: int, window: int, num_bands: int, low_hz: float = 0.0, high_hz: float | None = None) -> Tensor:
    """Triangular filters ``[window / 2 + 1, num_bands]``, each of unit area in Hz.

    Args:
        sample_rate: in Hz.
        window: samples of the transform.
        num_bands: number of filters.
        low_hz: lower edge of the first.
        high_hz: upper edge of the last, half the sample rate by default.
    """
    top = sample_rate / 2.0 if high_hz is None else high_hz
    points = torch.linspace(_to_mel(low_hz), _to_mel(top), num_bands + 2, dtype=torch.float64)
    edges_hz = torch.where(
        points < _to_mel(_BREAK_HZ),
        points * _LINEAR_HZ_PER_MEL,
        _BREAK_HZ * torch.exp((points - _to_mel(_BREAK_HZ)) * _LOG_STEP),
    )
    bins_hz = torch.linspace(0.0, sample_rate / 2.0, window // 2 + 1, dtype=torch.float64)[:, None]
    lower, centre, upper = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    rise, fall = (bins_hz - lower) / (centre - lower), (upper - bins_hz) / (upper - centre)
    return (torch.minimum(rise, fall).clamp(min=0.0) * (2.0 / (upper - lower))).float()


def _to_mel(hz: float) -> float:
    return hz / _LINEAR_HZ_PER_MEL if hz < _BREAK_HZ else _BREAK_HZ / _LINEAR_HZ_PER_MEL + math.log(hz / _BREAK_HZ) / _LOG_STEP


class LogMel(nn.Module):
    """log10 of mel magnitudes, clamped from below at 1e-5 (the scale of DAC's reconstruction loss); the hop is a quarter of the window."""

    bands: Tensor

    def __init__(self, sample_rate: int, window: int, num_bands: int) -> None:
        super().__init__()
        self.analysis = Analysis(window, window // 4)
        self.register_buffer("bands", mel_bands(sample_rate, window, num_bands), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """``[B, T, bands]`` of ``audio [B, N]``; a last partial hop is left out."""
        hop = self.analysis.hop
        return self.of(self.analysis(audio[:, : audio.shape[1] // hop * hop]))

    def of(self, spectrum: Tensor) -> Tensor:
        """``[B, T, bands]`` of a complex spectrum ``[B, T, F]``."""
        magnitude = (energy(spectrum) + 1e-12).sqrt()
        return (magnitude @ self.bands).clamp(min=1e-5).log10()


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
    """Real ``values`` with magnitudes raised to ``power`` and signs kept; smooth at zero. ``1 / power`` undoes it but for the floor."""
    return values * (values.square() + floor**2).pow((power - 1.0) / 2.0)
