"""Mel bands (Slaney's scale and area normalisation, as librosa's default) and log-mel spectra."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from systems.layers.spectrum import Analysis, energy

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
    """log10 of mel magnitudes, clamped from below at 1e-5 (the scale of DAC's reconstruction loss).

    Args:
        sample_rate: in Hz.
        window: samples; the hop is a quarter of it.
        num_bands: mel filters.
    """

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
