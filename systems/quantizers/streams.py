"""What the multi-stream quantizers have in common: shape, projections, nested dropout over streams.

Shape letters: B batch, T frames, K streams, D the latent, W the quantizer's own width between its two projections.

Nested dropout (Rippel et al. 2014) over streams: in training, an item keeps its first b streams, b uniform in 1..K, and the rest are
set to zero before the output projection, whose bias still acts. Codebooks and commitment see every stream all the same. It is what
orders the streams: the first has to serve alone. The draw is `StreamQuantizer.draw_active`; coding never drops anything.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from systems.quantizers.codebook import CodebookConfig
from systems.quantizers.paired import PairedCodebook
from systems.quantizers.shape import StreamsConfig


@dataclass(frozen=True, eq=False)
class QuantizedStreams:
    """A quantized latent.

    Args:
        latent: ``[B, T, D]``, of the active streams; its gradient goes straight through the search.
        indices: int64 ``[B, K, T]``, of all streams, active or not.
        commitment: scalar, mean squared distance of what every stream quantizes to its entry, gradient to the former.
    """

    latent: Tensor
    indices: Tensor
    commitment: Tensor


class StreamQuantizer(nn.Module):
    """K streams between two projections; how they share the vector is the subclass's.

    Law: ``decode(indices)`` equals the quantized latent, and ``decode(indices[:, :b])`` that of b active streams.

    Args:
        config: shape and learning.
        codebook_dim: of one codebook's entries.
    """

    def __init__(self, config: StreamsConfig, codebook_dim: int) -> None:
        super().__init__()
        self.config = config
        codebook = CodebookConfig(
            dim=codebook_dim,
            decay=config.decay,
            kmeans_iterations=config.kmeans_iterations,
            revival_share=config.revival_share,
        )
        self.project_in = nn.Linear(config.latent_dim, config.inner_dim)
        self.project_out = nn.Linear(config.inner_dim, config.latent_dim)
        self.streams = nn.ModuleList(PairedCodebook(config.sizes, codebook, config.index_order) for _ in range(config.num_streams))

    def draw_active(self, batch_size: int, generator: torch.Generator | None = None) -> Tensor:
        """Streams that each item of a training batch keeps, int64 ``[B]``: uniform in 1..K, or K throughout where unordered."""
        full = self.config.num_streams
        where = generator.device if generator else None
        if self.config.order == "none":
            return torch.full((batch_size,), full, device=where)
        return torch.randint(1, full + 1, (batch_size,), generator=generator, device=where)

    def forward(self, latent: Tensor, active: Tensor | None = None, generator: torch.Generator | None = None) -> QuantizedStreams:
        """Quantizes a batch; in training mode every codebook learns from it.

        Args:
            latent: ``[B, T, D]``.
            active: int64 ``[B]``, streams kept per item, all by default.
            generator: of the random choices of learning codebooks.
        """
        raise NotImplementedError

    def encode(self, latent: Tensor, num_streams: int | None = None) -> Tensor:
        """Indices int64 ``[B, K, T]`` of ``latent [B, T, D]``, of the first ``num_streams``; learns nothing.

        Raises:
            ValueError: that many streams do not exist.
        """
        raise NotImplementedError

    def decode(self, indices: Tensor) -> Tensor:
        """The latent ``[B, T, D]`` of ``indices [B, b, T]``, the first b streams of any b in 1..K.

        Raises:
            ValueError: that many streams do not exist.
        """
        raise NotImplementedError

    def stream(self, k: int) -> PairedCodebook:
        """Stream ``k``, from 0."""
        stream = self.streams[k]
        assert isinstance(stream, PairedCodebook)
        return stream

    def _count(self, asked: int | None) -> int:
        full = self.config.num_streams
        if asked is None:
            return full
        if not 1 <= asked <= full:
            raise ValueError(f"asked for {asked} streams of a quantizer with {full}")
        return asked

    def _kept(self, active: Tensor | None, like: Tensor) -> Tensor:
        """``[B, 1, K]``, 1 where a stream is active and 0 elsewhere."""
        full = self.config.num_streams
        if active is None:
            return like.new_ones(like.shape[0], 1, full)
        return (torch.arange(full, device=like.device) < active.to(like.device)[:, None, None]).to(like.dtype)
