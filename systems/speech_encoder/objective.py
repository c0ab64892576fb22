"""Masked prediction: clusters of mel-cepstra as what is to be said of frames, and what the encoder says of those it may not see."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from systems.quantizers.codebook import Codebook, CodebookConfig
from systems.speech_encoder.alignment import PHONES, UNKNOWN
from systems.speech_encoder.model import SpeechEncoderConfig

NUM_CEPSTRA = 13
_REACH = 2  # spectra on each side of a difference


class Cepstra(nn.Module):
    """Mel-cepstral coefficients 0 to 12 of a frame, with first and second differences: 39 numbers, each of the mean size 1.

    Args:
        num_bands: of the log-mel spectra.
        per_frame: spectra of a frame, averaged.
    """

    cosines: Tensor
    slope: Tensor

    def __init__(self, num_bands: int, per_frame: int) -> None:
        super().__init__()
        self.per_frame = per_frame
        phase = (torch.arange(num_bands) + 0.5)[:, None] * torch.arange(NUM_CEPSTRA) * (math.pi / num_bands)
        self.register_buffer("cosines", phase.cos() * math.sqrt(2.0 / num_bands), persistent=False)
        reach = torch.arange(-_REACH, _REACH + 1.0)
        self.register_buffer("slope", reach / reach.square().sum(), persistent=False)

    def forward(self, spectra: Tensor) -> Tensor:
        """``[B, T, 39]`` of log-mel spectra ``[B, T per_frame, bands]``, not yet scaled."""
        still = spectra @ self.cosines
        first = self._difference(still)
        joined = torch.cat([still, first, self._difference(first)], dim=-1)
        return joined.reshape(joined.shape[0], -1, self.per_frame, joined.shape[2]).mean(dim=2)

    def _difference(self, x: Tensor) -> Tensor:
        """Slope of the line through five neighbours (Furui 1986)."""
        around = functional.pad(x.transpose(1, 2), (_REACH, _REACH), mode="replicate").unfold(-1, 2 * _REACH + 1, 1)
        return (around @ self.slope).transpose(1, 2)


class AcousticUnits(nn.Module):
    """Clusters of cepstra: k-means on the first batch, moved by the batches that follow, then fixed.

    Args:
        size: number of clusters.
        num_bands: of the spectra.
        per_frame: spectra of a frame.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, size: int, num_bands: int, per_frame: int) -> None:
        super().__init__()
        self.cepstra = Cepstra(num_bands, per_frame)
        self.codebook = Codebook(CodebookConfig(size, 3 * NUM_CEPSTRA, decay=0.99))
        self.register_buffer("mean", torch.zeros(3 * NUM_CEPSTRA))
        self.register_buffer("deviation", torch.ones(3 * NUM_CEPSTRA))

    def forward(self, spectra: Tensor) -> Tensor:
        """Cluster int64 ``[B, T]`` of each frame of log-mel spectra ``[B, T per_frame, bands]``."""
        return self.codebook.search((self.cepstra(spectra) - self.mean) / self.deviation)

    @torch.no_grad()
    def learn(self, spectra: Tensor, valid: Tensor, generator: torch.Generator) -> None:
        """Moves the clusters; ``valid`` (bool ``[B, T]``) frames count."""
        frames = self.cepstra(spectra)[valid]
        if not bool(self.codebook.started):
            self.mean.copy_(frames.mean(dim=0))
            self.deviation.copy_(frames.std(dim=0).clamp(min=1e-3))
        self.codebook((frames - self.mean) / self.deviation, generator)


class Prediction(NamedTuple):
    """Losses (cross-entropies in nats) and hits of a batch, scalars."""

    units: Tensor  # loss of the masked frames' clusters
    unit_accuracy: Tensor  # share of them predicted
    phones: Tensor  # loss of the labelled frames' phones; zero where none is labelled
    phone_accuracy: Tensor  # share of the labelled frames that were not masked whose phone is predicted; zero where there is none


class MaskedPrediction(nn.Module):
    """The substitute of masked frames, the clusters, and two linear heads over the features.

    Args:
        config: of the encoder.
        num_units: clusters.
    """

    def __init__(self, config: SpeechEncoderConfig, num_units: int) -> None:
        super().__init__()
        self.substitute = nn.Parameter(torch.zeros(config.width))
        self.acoustic = AcousticUnits(num_units, config.num_bands, config.hop // config.spectrum_hop)
        self.unit_head = nn.Linear(config.dim, num_units)
        self.phone_head = nn.Linear(config.dim, len(PHONES))

    def forward(self, features: Tensor, units: Tensor, masked: Tensor, phones: Tensor) -> Prediction:
        """Compares.

        Args:
            features: ``[B, T, D]``.
            units: int64 ``[B, T]``, clusters.
            masked: bool ``[B, T]``, frames that count for the clusters.
            phones: int64 ``[B, T]``, places in `PHONES` or UNKNOWN.
        """
        said, target = self.unit_head(features[masked]).float(), units[masked]
        labelled = phones != UNKNOWN
        spoken, phone = self.phone_head(features[labelled]).float(), phones[labelled]
        heard = ~masked[labelled]
        return Prediction(
            # Sums, so that an empty choice costs zero and not NaN, which would void the step.
            functional.cross_entropy(said, target, reduction="sum") / max(1, target.numel()),
            (said.argmax(dim=-1) == target).float().sum() / max(1, target.numel()),
            functional.cross_entropy(spoken, phone, reduction="sum") / max(1, phone.numel()),
            ((spoken.argmax(dim=-1) == phone) & heard).float().sum() / heard.sum().clamp(min=1),
        )


def draw_mask(shape: tuple[int, int], start: float, span: int, generator: torch.Generator) -> Tensor:
    """Frames to mask, bool ``[B, T]`` on the CPU: spans of equal length that begin anywhere and may overlap (Baevski et al. 2020).

    Args:
        shape: B and T.
        start: probability that a span begins at a frame; a share of ``1 - (1 - start) ** span`` is masked.
        span: frames.
        generator: on the CPU.
    """
    begins = (torch.rand(shape, generator=generator) < start).float()
    before = functional.pad(begins[:, None], (span - 1, 0))
    return functional.max_pool1d(before, span, stride=1)[:, 0] > 0


def warped(spectra: Tensor, factors: Tensor) -> Tensor:
    """Log-mel spectra ``[B, T, bands]`` with the band axis of row b stretched by ``factors [B]``, as another vocal tract does.

    Band k takes what was at k times the factor, interpolated (Jaitly & Hinton 2013, there as a resampling of the frequency axis).
    """
    last = spectra.shape[2] - 1
    wanted = (torch.arange(last + 1, device=spectra.device) * factors[:, None]).clamp(max=last)
    # Hat functions: row k of the matrix weighs the two bands next to the wanted place.
    weights = (1.0 - (wanted[:, None, :] - torch.arange(last + 1, device=spectra.device)[None, :, None]).abs()).clamp(min=0.0)
    return spectra @ weights
