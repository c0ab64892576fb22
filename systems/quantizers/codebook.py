"""One vector-quantization codebook: lookup, k-means start, moving-average or gradient training, revival of dead entries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class CodebookConfig:
    """How a codebook looks up and learns."""

    size: int = 2048  # entries V
    dim: int = 8  # of an entry, D
    # "ema" moves every entry towards the mean of what chose it; "gradient" leaves that to a codebook loss and the optimiser.
    update: Literal["ema", "gradient"] = "ema"
    supervised: bool = False  # entries also take gradients under "ema" (from a loss on the codebook's embeddings)
    # Of the moving average, per call, in the long run; call n takes (90 + n) / (100 + n) while that is less, so that codebooks
    # follow a young encoder quickly and average long over an old one.
    decay: float = 0.997
    kmeans_iterations: int = 10  # Lloyd steps on the first batch; 0 keeps the random start
    revival_share: float = 0.1  # an entry used less than this share of the mean is replaced by a vector of the batch; 0 never

    def __post_init__(self) -> None:
        if self.size < 1 or self.dim < 1:
            raise ValueError(f"a codebook needs at least one entry and one dimension, got {self.size} x {self.dim}")
        if self.update not in ("ema", "gradient"):
            raise ValueError(f'update is "ema" or "gradient", got {self.update!r}')
        if not 0.0 <= self.decay < 1.0 or not 0.0 <= self.revival_share < 1.0:
            raise ValueError(f"decay and revival_share lie in 0..1 (1 excluded), got {self.decay} and {self.revival_share}")


class Lookup(NamedTuple):
    """What a codebook found."""

    indices: Tensor  # int64 [...], of the nearest entries
    entries: Tensor  # [..., D], the entries themselves, with their gradient


class Codebook(nn.Module):
    """V entries of D numbers.

    The moving average is kept in its incremental form: with usage N' = decay N + (1 - decay) n, an entry moves by
    (1 - decay) (sum of its vectors - n entry) / N'. This equals the usual quotient of averaged sums and counts, needs no second
    table, and leaves in place what a gradient did to the entry (see ``supervised``).
    """

    LEARNING_STATE = ("usage", "started", "calls")
    """Buffers that only learning needs; a checkpoint leaves them out."""

    started: Tensor
    usage: Tensor
    calls: Tensor

    def __init__(self, config: CodebookConfig) -> None:
        super().__init__()
        self.config = config
        learns = config.update == "gradient" or config.supervised
        self.entries = nn.Parameter(torch.randn(config.size, config.dim) / config.dim**0.5, requires_grad=learns)
        self.register_buffer("usage", torch.ones(config.size))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("started", torch.tensor(config.kmeans_iterations == 0))

    def search(self, vectors: Tensor) -> Tensor:
        """Index of the nearest entry to each of ``vectors [..., D]``; the lowest index where two are equally near."""
        flat, entries = vectors.detach().reshape(-1, self.config.dim).float(), self.entries.detach().float()
        # |x - c|^2 = |x|^2 - 2 x c + |c|^2, and |x|^2 does not decide.
        scores = torch.addmm(entries.square().sum(dim=-1), flat, entries.T, beta=-0.5)
        return scores.argmax(dim=-1).reshape(vectors.shape[:-1])

    def decode(self, indices: Tensor) -> Tensor:
        """Entries ``[..., D]`` of ``indices [...]``."""
        return functional.embedding(indices, self.entries)

    def forward(self, vectors: Tensor, generator: torch.Generator | None = None) -> Lookup:
        """Looks up ``vectors [..., D]``; in training mode the codebook learns from them first (start) and afterwards (average, revival)."""
        flat = vectors.detach().reshape(-1, self.config.dim).float()
        if self.training and not bool(self.started):
            self._start(flat, generator)
        indices = self.search(vectors)
        entries = self.decode(indices)
        if self.training:
            # The embedding's backward pass needs indices only, so the table may move under it.
            self._learn(flat, indices.reshape(-1), generator)
        return Lookup(indices, entries)

    @torch.no_grad()
    def _start(self, flat: Tensor, generator: torch.Generator | None) -> None:
        # A twin is never the nearest; where nothing revives it, it would stay dead for ever.
        centres = self._pick(flat, self.config.size, generator, distinct=self.config.revival_share == 0.0)
        if flat.shape[0] < self.config.size:  # picked twice, two entries would stay equal for ever
            noise = torch.randn(centres.shape, generator=generator, device=generator.device if generator else None)
            centres = centres + 0.05 * flat.std() * noise.to(centres.device)
        for _ in range(self.config.kmeans_iterations):
            self.entries.copy_(centres)
            sums, counts = self._gather(flat, self.search(flat))
            centres = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp(min=1.0), centres)
        self.entries.copy_(from_first_rank(centres))
        self.usage.fill_(1.0)
        self.started.fill_(True)

    @torch.no_grad()
    def _learn(self, flat: Tensor, indices: Tensor, generator: torch.Generator | None) -> None:
        if not flat.shape[0]:
            return
        sums, counts = self._gather(flat, indices)
        # In shares of a uniform use, so that thresholds mean the same at any batch size.
        counts, scale = counts * (self.config.size / counts.sum()), self.config.size / counts.sum()
        calls = int(self.calls)
        weight = 1.0 - min(self.config.decay, (90 + calls) / (100 + calls))
        self.calls += 1
        self.usage.mul_(1.0 - weight).add_(counts, alpha=weight)
        if self.config.update == "ema":
            self.entries.add_((sums * scale - counts[:, None] * self.entries) * (weight / self.usage.clamp(min=1e-6))[:, None])
        dead = (self.usage < self.config.revival_share).nonzero()[:, 0]
        if dead.numel():
            self.entries[dead] = from_first_rank(self._pick(flat, dead.numel(), generator))
            self.usage[dead] = 1.0

    def _gather(self, flat: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        sums = torch.zeros_like(self.entries).index_add_(0, indices, flat)
        counts = torch.bincount(indices, minlength=self.config.size).to(sums.dtype)
        return over_ranks(sums), over_ranks(counts)

    def _pick(self, flat: Tensor, count: int, generator: torch.Generator | None, distinct: bool = False) -> Tensor:
        """``[count, D]`` rows of ``flat [N, D]``; with ``distinct`` none twice, as long as there are enough."""
        device = generator.device if generator else None
        if distinct and flat.shape[0] >= count:
            where = torch.randperm(flat.shape[0], generator=generator, device=device)[:count]
        else:
            where = torch.randint(flat.shape[0], (count,), generator=generator, device=device)
        return flat[where.to(flat.device)]


def counted(asked: int | None, full: int, what: str) -> int:
    """How many of ``full`` codebooks or streams are asked for, all by default; ValueError where there are not so many."""
    if asked is not None and not 1 <= asked <= full:
        raise ValueError(f"asked for {asked} {what} of a quantizer with {full}")
    return full if asked is None else asked


def over_ranks(total: Tensor) -> Tensor:
    """The sum of ``total`` over processes, in place; itself where there is one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(total)
    return total


def from_first_rank(table: Tensor) -> Tensor:
    """The first process's ``table``; itself where there is one."""
    table = table.contiguous()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.broadcast(table, src=0)
    return table
