"""What the codec is trained for: spectra at several scales, the waveform itself, and the adversary's opinion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from systems.layers.spectrum import LogMel, compress


@dataclass(frozen=True)
class ObjectiveConfig:
    """Weights of the losses and the scales of the spectra.

    Args:
        mel: weight of the L1 distance of log-mel spectra, summed over scales.
        mel_scales: (window in samples, bands) of each.
        complex: weight of the L1 distance of complex spectra with magnitudes to the power 0.5, summed over ``complex_windows``.
        complex_windows: some of the windows of ``mel_scales``.
        waveform: weight of the negative signal-to-noise ratio, per dB.
        commitment: weight.
        codebook: weight, for codebooks trained by gradient.
        adversarial: weight of the least-squares adversarial loss.
        feature_matching: weight of the L1 distance of the discriminators' features.
        semantic: weight of the recogniser's token cross-entropy.
    """

    mel: float = 1.0
    mel_scales: tuple[tuple[int, int], ...] = ((128, 12), (256, 24), (512, 40), (1024, 80), (2048, 160))
    complex: float = 2.0
    complex_windows: tuple[int, ...] = (512, 1024)
    waveform: float = 0.05
    commitment: float = 0.25
    codebook: float = 1.0
    adversarial: float = 0.02
    feature_matching: float = 0.04
    semantic: float = 0.05


# DAC's published weights. Its waveform terms are the mel distance alone.
PAPER_OBJECTIVE = ObjectiveConfig(
    mel=15.0,
    mel_scales=((32, 5), (64, 10), (128, 20), (256, 40), (512, 80), (1024, 160), (2048, 320)),
    complex=0.0,
    complex_windows=(),
    waveform=0.0,
    commitment=0.25,
    codebook=1.0,
    adversarial=1.0,
    feature_matching=2.0,
    semantic=1.0,
)


class ReconstructionLoss(NamedTuple):
    """Distances of an output to its reference, scalars."""

    mel: Tensor  # summed over scales
    complex: Tensor  # summed over windows; zero where there are none
    waveform: Tensor  # mean negative signal-to-noise ratio in dB


class ReconstructionObjective(nn.Module):
    """Distances of waveforms, each spectrum computed once.

    Args:
        sample_rate: in Hz.
        config: scales.
    """

    def __init__(self, sample_rate: int, config: ObjectiveConfig) -> None:
        super().__init__()
        self.config = config
        missing = set(config.complex_windows) - {window for window, _ in config.mel_scales}
        if missing:
            raise ValueError(f"complex_windows {sorted(missing)} are none of the windows of mel_scales")
        self.mels = nn.ModuleList(LogMel(sample_rate, window, bands) for window, bands in config.mel_scales)

    def forward(self, output: Tensor, reference: Tensor) -> ReconstructionLoss:
        """Distances of ``output [B, N]`` to ``reference [B, N]``, in full precision whatever surrounds the call."""
        with torch.autocast(output.device.type, enabled=False):
            return self._distances(output, reference)

    def _distances(self, output: Tensor, reference: Tensor) -> ReconstructionLoss:
        mel = complex_distance = output.new_zeros(())
        for scale in self.mels:
            assert isinstance(scale, LogMel)
            length = output.shape[1] // scale.analysis.hop * scale.analysis.hop
            made, wanted = scale.analysis(output[:, :length]), scale.analysis(reference[:, :length])
            mel = mel + (scale.of(made) - scale.of(wanted)).abs().mean()
            if scale.analysis.window in self.config.complex_windows:
                complex_distance = complex_distance + (compress(made, 0.5) - compress(wanted, 0.5)).abs().mean()
        return ReconstructionLoss(mel, complex_distance, -snr_db(output, reference).mean())


def snr_db(output: Tensor, reference: Tensor, floor: float = 1e-6) -> Tensor:
    """Signal-to-noise ratio ``[B]`` in dB of ``output [B, N]``, both powers raised by ``floor`` (-60 dB of full scale), so that
    silence neither dominates nor divides by zero.
    """
    noise = (output - reference).square().mean(dim=-1) + floor
    return 10.0 * torch.log10((reference.square().mean(dim=-1) + floor) / noise)
