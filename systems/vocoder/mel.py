"""The log-mel spectrum that SoCodec decodes to and its vocoders start from (the released configuration, 16 kHz, 10 ms)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from systems.layers.spectrum import energy, mel_bands

SAMPLE_RATE = 16000
HOP = 160
NUM_BANDS = 80
_TRANSFORM = 1024
_WINDOW = 640
_FLOOR = 1e-5
LOWEST = math.log(_FLOOR)
"""Of a log-mel value."""
DB_PER_NEPER = 20.0 / math.log(10.0)


class MelFrames(nn.Module):
    """Natural logarithm of 80 mel magnitudes (Slaney's bands, 0 to 8 kHz), 100 frames a second.

    Frame t is centred on the middle of samples 160 t .. 160 t + 159; the edges are mirrored. Magnitudes are
    ``sqrt(|X|^2 + 1e-9)``, band sums are clamped from below at 1e-5 and not normalised.
    """

    taper: Tensor
    bands: Tensor

    def __init__(self) -> None:
        super().__init__()
        side = (_TRANSFORM - _WINDOW) // 2
        self.register_buffer("taper", functional.pad(torch.hann_window(_WINDOW), (side, side)), persistent=False)
        self.register_buffer("bands", mel_bands(SAMPLE_RATE, _TRANSFORM, NUM_BANDS, 0.0, 8000.0), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """``[B, N // 160, 80]`` of ``audio [B, N]`` at 16 kHz; a last partial frame is left out.

        Audio shorter than the mirrored edge (27 ms) is continued with zeros before it is mirrored.
        """
        count, side = audio.shape[1] // HOP, (_TRANSFORM - HOP) // 2
        if not count:
            return audio.new_zeros(audio.shape[0], 0, NUM_BANDS)
        audio = audio[:, : count * HOP]
        audio = functional.pad(audio, (0, max(0, side + 1 - audio.shape[1])))
        frames = functional.pad(audio[:, None], (side, side), mode="reflect")[:, 0].unfold(-1, _TRANSFORM, HOP)[:, :count]
        magnitude = (energy(torch.fft.rfft(frames * self.taper)) + 1e-9).sqrt()
        return (magnitude @ self.bands).clamp(min=_FLOOR).log()
