"""Multi-stream quantizers (SoCodec, Guo et al. 2024, section 2.2): K streams between two projections, each a pair of small codebooks.

Product quantization, plain (PQ) or ordered by nested dropout (OPQ), gives each stream its own slice of the vector; a missing stream is a
slice of zeros, in training and in decoding a prefix. Residual quantization, SoCodec's point of comparison, lets each stream code what the ones
before left over; a missing stream adds nothing.

Shape letters: B batch, T frames, K streams, D the latent, W the quantizer's own width between its two projections.

Nested dropout (Rippel et al. 2014) over streams: in training, an item keeps its first b streams, b uniform in 1..K, and the rest are
set to zero before the output projection, whose bias still acts. Codebooks and commitment see every stream all the same. It is what
orders the streams: the first has to serve alone. The draw is `StreamQuantizer.draw_active`; coding never drops anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from systems.quantizers.codebook import Codebook, CodebookConfig, Lookup, counted

IndexOrder = Literal["first_fastest", "first_slowest"]


@dataclass(frozen=True)
class StreamsConfig:
    """Shape and learning of a multi-stream quantizer."""

    num_streams: int = 4  # K
    latent_dim: int = 1024  # D
    sizes: tuple[int, ...] = (128, 128)  # entries of the codebooks of one stream; their product is the stream's vocabulary
    # Of an entry, in product quantization. It sets the width W = K x len(sizes) x codebook_dim for every method, so that an
    # ablation changes the quantizer and not the bottleneck; a residual quantizer's entries are K times as wide.
    codebook_dim: int = 128
    order: Literal["ordered", "none"] = "ordered"  # "ordered" for nested dropout over streams, "none" to keep every stream in training
    index_order: IndexOrder = "first_fastest"  # see `PairedCodebook`
    decay: float = 0.99  # this and what follows as in `CodebookConfig`
    kmeans_iterations: int = 50
    revival_share: float = 0.0  # leaves dead entries dead, as the released SoCodec does

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", tuple(self.sizes))
        if self.num_streams < 1:
            raise ValueError(f"a quantizer needs at least one stream, got {self.num_streams}")
        if self.order not in ("ordered", "none"):
            raise ValueError(f'order is "ordered" or "none", got {self.order!r}')

    @property
    def inner_dim(self) -> int:
        """W, between the projections."""
        return self.num_streams * len(self.sizes) * self.codebook_dim


class PairedCodebook(nn.Module):
    """Codebooks side by side, two as a rule: 128 x 128 entries make a stream of 16,384 (SoCodec, section 2.2).

    Args:
        sizes: entries V_1, V_2, ... of the codebooks.
        codebook: how each learns; its ``dim`` is that of one slice, its ``size`` is not used.
        index_order: "first_fastest" is ``i1 + V1 i2`` (the released SoCodec), "first_slowest" is ``i1 V2 + i2`` (as its paper writes).

    Raises:
        ValueError: no codebook, or another index order.
    """

    def __init__(self, sizes: tuple[int, ...], codebook: CodebookConfig, index_order: IndexOrder = "first_fastest") -> None:
        super().__init__()
        if not sizes:
            raise ValueError("a stream needs at least one codebook")
        if index_order not in ("first_fastest", "first_slowest"):
            raise ValueError(f'index_order is "first_fastest" or "first_slowest", got {index_order!r}')
        self.sizes, self.dim = sizes, len(sizes) * codebook.dim
        self.codebooks = nn.ModuleList(Codebook(replace(codebook, size=size)) for size in sizes)
        weights = [math.prod(sizes[:i]) if index_order == "first_fastest" else math.prod(sizes[i + 1 :]) for i in range(len(sizes))]
        self._weights = tuple(weights)

    @property
    def size(self) -> int:
        """Entries of the product."""
        return math.prod(self.sizes)

    def join(self, indices: Tensor) -> Tensor:
        """One index int64 ``[...]`` per vector, of ``indices [..., codebooks]``."""
        joined: Tensor = (indices * torch.tensor(self._weights, device=indices.device)).sum(dim=-1)
        return joined

    def split(self, indices: Tensor) -> Tensor:
        """The inverse of `join`."""
        weights, sizes = (torch.tensor(values, device=indices.device) for values in (self._weights, self.sizes))
        parts: Tensor = indices[..., None] // weights % sizes
        return parts

    def search(self, vectors: Tensor) -> Tensor:
        """Index int64 ``[...]`` of the nearest entry of the product to each of ``vectors [..., D]``."""
        return self.join(torch.stack([book.search(part) for book, part in self._slices(vectors)], dim=-1))

    def decode(self, indices: Tensor) -> Tensor:
        """Entries ``[..., D]`` of ``indices [...]``."""
        parts = self.split(indices)
        return torch.cat([self._book(i).decode(parts[..., i]) for i in range(len(self.sizes))], dim=-1)

    def forward(self, vectors: Tensor, generator: torch.Generator | None = None) -> Lookup:
        """Looks up ``vectors [..., D]``; in training mode the codebooks learn from them (see `Codebook`)."""
        found = [book(part, generator) for book, part in self._slices(vectors)]
        indices = self.join(torch.stack([lookup.indices for lookup in found], dim=-1))
        return Lookup(indices, torch.cat([lookup.entries for lookup in found], dim=-1))

    def _slices(self, vectors: Tensor) -> list[tuple[Codebook, Tensor]]:
        parts = vectors.chunk(len(self.sizes), dim=-1)
        return [(self._book(i), part) for i, part in enumerate(parts)]

    def _book(self, i: int) -> Codebook:
        book = self.codebooks[i]
        assert isinstance(book, Codebook)
        return book


class QuantizedStreams(NamedTuple):
    """A quantized latent."""

    latent: Tensor  # [B, T, D], of the active streams; its gradient goes straight through the search
    indices: Tensor  # int64 [B, K, T], of all streams, active or not
    commitment: Tensor  # scalar, mean squared distance of what every stream quantizes to its entry, gradient to the former


class StreamQuantizer(nn.Module):
    """K streams between two projections; how they share the vector is the subclass's.

    Law: ``decode(indices)`` equals the quantized latent, and ``decode(indices[:, :b])`` that of b active streams.
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
        return counted(asked, self.config.num_streams, "streams")

    def _kept(self, active: Tensor | None, like: Tensor) -> Tensor:
        """``[B, 1, K]``, 1 where a stream is active and 0 elsewhere."""
        full = self.config.num_streams
        if active is None:
            return like.new_ones(like.shape[0], 1, full)
        return (torch.arange(full, device=like.device) < active.to(like.device)[:, None, None]).to(like.dtype)


class ProductQuantizer(StreamQuantizer):
    """K streams side by side; ``order`` of the configuration makes it OPQ or PQ."""

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


class PairedResidualQuantizer(StreamQuantizer):
    """K streams in a row, each a pair of codebooks over the halves of the whole vector."""

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
