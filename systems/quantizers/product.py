"""Product quantization over streams, plain (PQ) or ordered by nested dropout (OPQ): each stream codes its own slice of the vector.

Source: SoCodec (Guo et al. 2024), section 2.2. A missing stream is a slice of zeros, in training and in decoding a prefix.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from systems.quantizers.shape import StreamsConfig
from systems.quantizers.streams import QuantizedStreams, StreamQuantizer


class ProductQuantizer(StreamQuantizer):
    """K streams side by side; ``order`` of the configuration makes it OPQ or PQ.

    Args:
        config: shape and learning.
    """

    def __init__(self, config: StreamsConfig) -> None:
        super().__init__(config, config.codebook_dim)

    def forward(self, latent: Tensor, active: Tensor | None = None, generator: torch.Generator | None = None) -> QuantizedStreams:
        """See `StreamQuantizer.forward`; a dropped stream gives its slice no gradient but that of the commitment."""
        inner = self.project_in(latent)
        found = [self.stream(k)(part, generator) for k, part in enumerate(self._slices(inner))]
        entries = torch.cat([lookup.entries for lookup in found], dim=-1).detach()
        commitment = (inner - entries).square().mean()
        kept = self._kept(active, inner).repeat_interleave(inner.shape[-1] // self.config.num_streams, dim=-1)
        passed = (inner + (entries - inner).detach()) * kept
        return QuantizedStreams(self.project_out(passed), torch.stack([lookup.indices for lookup in found], dim=1), commitment)

    def encode(self, latent: Tensor, num_streams: int | None = None) -> Tensor:
        """See `StreamQuantizer.encode`."""
        parts = self._slices(self.project_in(latent))
        return torch.stack([self.stream(k).search(parts[k]) for k in range(self._count(num_streams))], dim=1)

    def decode(self, indices: Tensor) -> Tensor:
        """See `StreamQuantizer.decode`."""
        count = self._count(indices.shape[1])
        inner = torch.cat([self.stream(k).decode(indices[:, k]) for k in range(count)], dim=-1)
        latent: Tensor = self.project_out(functional.pad(inner, (0, self.config.inner_dim - inner.shape[-1])))
        return latent

    def _slices(self, inner: Tensor) -> tuple[Tensor, ...]:
        return inner.chunk(self.config.num_streams, dim=-1)
