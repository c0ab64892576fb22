"""A stream's codebook as a product of small ones: each codes its slice of the vector, and their indices become one number."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from systems.quantizers.codebook import Codebook, CodebookConfig, Lookup
from systems.quantizers.shape import IndexOrder


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
