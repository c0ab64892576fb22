"""Residual quantization over the same paired streams, SoCodec's point of comparison: each stream codes what the ones before left over.

The prefix of b streams is the partial sum; a missing stream adds nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from systems.quantizers.shape import StreamsConfig
from systems.quantizers.streams import QuantizedStreams, StreamQuantizer


class PairedResidualQuantizer(StreamQuantizer):
    """K streams in a row, each a pair of codebooks over the halves of the whole vector.

    Args:
        config: shape and learning.
    """

    def __init__(self, config: StreamsConfig) -> None:
        super().__init__(config, config.inner_dim // len(config.sizes))

    def forward(self, latent: Tensor, active: Tensor | None = None, generator: torch.Generator | None = None) -> QuantizedStreams:
        """See `StreamQuantizer.forward`."""
        inner = self.project_in(latent)
        kept = self._kept(active, inner)
        residual, total, commitment, found = inner, torch.zeros_like(inner), inner.new_zeros(()), []
        for k in range(self.config.num_streams):
            lookup = self.stream(k)(residual, generator)
            entries = lookup.entries.detach()
            commitment = commitment + (residual - entries).square().mean()
            residual = residual - entries
            total = total + entries * kept[..., k : k + 1]
            found.append(lookup.indices)
        passed = inner + (total - inner).detach()
        return QuantizedStreams(self.project_out(passed), torch.stack(found, dim=1), commitment / len(found))

    def encode(self, latent: Tensor, num_streams: int | None = None) -> Tensor:
        """See `StreamQuantizer.encode`."""
        residual, found = self.project_in(latent), []
        for k in range(self._count(num_streams)):
            indices = self.stream(k).search(residual)
            residual = residual - self.stream(k).decode(indices)
            found.append(indices)
        return torch.stack(found, dim=1)

    def decode(self, indices: Tensor) -> Tensor:
        """See `StreamQuantizer.decode`."""
        total = self.stream(0).decode(indices[:, 0])
        for k in range(1, self._count(indices.shape[1])):
            total = total + self.stream(k).decode(indices[:, k])
        latent: Tensor = self.project_out(total)
        return latent
