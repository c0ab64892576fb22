"""What the encoder is to predict of each frame without a transcription: clusters of mel-cepstra."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from systems.quantizers.codebook import Codebook, CodebookConfig

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
