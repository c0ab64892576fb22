"""Residual vector quantization: each codebook codes what the ones before it left over.

The law of every quantizer here: ``decode(codes)`` equals the quantized latent, and decoding the first b codes gives the partial sum.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from systems.quantizers.codebook import Codebook, CodebookConfig, counted


@dataclass(frozen=True)
class ResidualConfig:
    """Shape of a residual quantizer."""

    num_codebooks: int = 16  # K
    # D of what is quantized. Where the codebook's dim differs, a pair of linear maps stands around each codebook
    # (factorised codes, as in the Descript Audio Codec).
    latent_dim: int = 64
    codebook: CodebookConfig = field(default_factory=lambda: CodebookConfig(dim=64))  # of all K; see first_supervised
    first_supervised: bool = False  # codebook 1 takes gradients of a loss on its embeddings, whatever its update
    dropout: float = 0.5  # share of training items of which only the first b codebooks are kept, b uniform in 1..K

    def __post_init__(self) -> None:
        if self.num_codebooks < 1:
            raise ValueError(f"a residual quantizer needs at least one codebook, got {self.num_codebooks}")
        if not 0.0 <= self.dropout <= 1.0:
            raise ValueError(f"quantizer dropout lies in 0..1, got {self.dropout}")


class Quantized(NamedTuple):
    """A quantized latent, and what its training needs; the losses are scalars."""

    latent: Tensor  # [B, T, D], the sum of the active codebooks; its gradient goes straight through to the input
    indices: Tensor  # int64 [B, K, T], of all codebooks, active or not
    first: Tensor  # [B, T, d], codebook 1's embeddings; their gradient reaches codebook 1 (where supervised) and the input, nothing else
    commitment: Tensor  # mean squared distance of the input of each active codebook to its entry, gradient to the input
    codebook: Tensor  # the same distance with the gradient to the entries; zero under moving averages


class ResidualQuantizer(nn.Module):
    """K codebooks in a row."""

    def __init__(self, config: ResidualConfig) -> None:
        super().__init__()
        self.config = config
        shapes = [config.codebook] * config.num_codebooks
        if config.first_supervised:
            shapes[0] = replace(config.codebook, supervised=True)
        self.codebooks = nn.ModuleList(Codebook(shape) for shape in shapes)
        self._factorised = config.codebook.dim != config.latent_dim
        if self._factorised:
            self.project_in = nn.ModuleList(nn.Linear(config.latent_dim, config.codebook.dim) for _ in shapes)
            self.project_out = nn.ModuleList(nn.Linear(config.codebook.dim, config.latent_dim) for _ in shapes)

    def draw_active(self, batch_size: int, generator: torch.Generator | None = None) -> Tensor:
        """How many codebooks each item of a training batch keeps, int64 ``[B]``: quantizer dropout."""
        where = generator.device if generator else None
        full = self.config.num_codebooks
        drawn = torch.randint(1, full + 1, (batch_size,), generator=generator, device=where)
        dropped = torch.rand(batch_size, generator=generator, device=where) < self.config.dropout
        return torch.where(dropped, drawn, full)

    def forward(self, latent: Tensor, active: Tensor | None = None, generator: torch.Generator | None = None) -> Quantized:
        """Quantizes a batch.

        Args:
            latent: ``[B, T, D]``.
            active: int64 ``[B]``, codebooks kept per item, all by default.
            generator: of the random choices of learning codebooks.
        """
        residual, total = latent, torch.zeros_like(latent)
        found, first, zero = [], latent, latent.new_zeros(())
        commitment, codebook = zero, zero
        for k in range(self.config.num_codebooks):
            inner = self._inner(k, residual)
            lookup = self._book(k)(inner, generator)
            mask = None if active is None else (active.to(latent.device) > k)[:, None, None].to(latent.dtype)
            entries = lookup.entries
            commitment = commitment + _distance(inner, entries.detach(), mask)
            if self.config.codebook.update == "gradient":
                codebook = codebook + _distance(entries, inner.detach(), mask)
            if k == 0:
                # Forward the entry; backward both to the entry and, straight through, to the input.
                first = entries + (inner - inner.detach())
            step = self._outer(k, inner + (entries - inner).detach()) if self._factorised else entries.detach()
            residual = residual - step
            total = total + (step if mask is None else step * mask)
            found.append(lookup.indices)
        if not self._factorised:
            total = latent + (total - latent).detach()
        return Quantized(total, torch.stack(found, dim=1), first, commitment / len(found), codebook / len(found))

    def first(self, latent: Tensor) -> Tensor:
        """Codebook 1's embeddings ``[B, T, d]`` of ``latent [B, T, D]``, with the gradient of `Quantized.first`; learns nothing."""
        inner, book = self._inner(0, latent), self._book(0)
        return book.decode(book.search(inner)) + (inner - inner.detach())

    def encode(self, latent: Tensor, num_codebooks: int | None = None, search_width: int = 1) -> Tensor:
        """Indices int64 ``[B, K, T]`` of ``latent [B, T, D]``, of the first ``num_codebooks``; learns nothing.

        Args:
            search_width: paths kept from one codebook to the next. 1 takes the nearest entry of each; more come closer to the latent
                with all the codebooks asked for, at that many times the price and a little behind with the first few of them.
        """
        if search_width < 1:
            raise ValueError(f"a search keeps at least one path, got {search_width}")
        count = counted(num_codebooks, self.config.num_codebooks, "codebooks")
        if search_width > 1:
            return self._search_paths(latent, count, search_width)
        residual, found = latent, []
        for k in range(count):
            indices = self._book(k).search(self._inner(k, residual))
            residual = residual - self._step(k, indices)
            found.append(indices)
        return torch.stack(found, dim=1)

    def _search_paths(self, latent: Tensor, count: int, width: int) -> Tensor:
        """Breadth-first search that keeps the ``width`` paths whose residual, in the codebook's space, is least."""
        residual = latent.reshape(-1, 1, latent.shape[-1])  # [frames, paths, D]
        paths = torch.zeros(residual.shape[0], 1, 0, dtype=torch.int64, device=latent.device)
        for k in range(count):
            inner, entries = self._inner(k, residual), self._book(k).entries
            # Candidates of one path share |x|^2, those of different paths do not.
            costs = inner.square().sum(dim=-1, keepdim=True) - 2.0 * inner @ entries.T + entries.square().sum(dim=-1)
            best = costs.flatten(1).topk(min(width, costs.shape[1] * costs.shape[2]), dim=1, largest=False).indices
            parents, chosen = best // entries.shape[0], best % entries.shape[0]
            paths = torch.cat([paths.gather(1, parents[..., None].expand(-1, -1, k)), chosen[..., None]], dim=-1)
            residual = residual.gather(1, parents[..., None].expand(-1, -1, residual.shape[-1])) - self._step(k, chosen)
        nearest = residual.square().sum(dim=-1).argmin(dim=1)
        return paths[torch.arange(paths.shape[0], device=paths.device), nearest].reshape(*latent.shape[:2], count).transpose(1, 2)

    def decode(self, indices: Tensor) -> Tensor:
        """The latent ``[B, T, D]`` of ``indices [B, b, T]``, the first b codebooks of any b in 1..K."""
        total = self._step(0, indices[:, 0])
        for k in range(1, counted(indices.shape[1], self.config.num_codebooks, "codebooks")):
            total = total + self._step(k, indices[:, k])
        return total

    def _step(self, k: int, indices: Tensor) -> Tensor:
        entries = self._book(k).decode(indices)
        return self._outer(k, entries)

    def _book(self, k: int) -> Codebook:
        book = self.codebooks[k]
        assert isinstance(book, Codebook)
        return book

    def _inner(self, k: int, residual: Tensor) -> Tensor:
        inner: Tensor = self.project_in[k](residual) if self._factorised else residual
        return inner

    def _outer(self, k: int, entries: Tensor) -> Tensor:
        outer: Tensor = self.project_out[k](entries) if self._factorised else entries
        return outer


def _distance(moved: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
    squared = (moved - target).square()
    return squared.mean() if mask is None else (squared * mask).mean()
