"""Code tokens in and out: tables that embed them, heads that predict them, in the three forms of `LmConfig.parts` and ``table_dim``.

A codebook's tokens are its V codes, BOS (V) and EOS (V + 1). Where a token has two halves, the specials belong to the first.

Shape letters: B batch, K codebooks, S steps, V codes, W width of the backbone, E width of a table.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from systems.lm.config import LmConfig

SPECIALS = 2
_PAIR_WIDTH = 128

Choose = Callable[[Tensor, int, int], Tensor]
"""``choose(logits [B, n, V'], first, part)``: tokens int64 ``[B, n]`` of codebooks ``first .. first + n - 1``, of that part of them."""


class CodeTables(nn.Module):
    """A table of ``size`` rows (specials included) per codebook. Where E differs from W, the entries of a frame pass a linear map to it."""

    def __init__(self, codebooks: int, size: int, dim: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(codebooks, size, dim) * 0.02)
        self.widen = nn.Linear(codebooks * dim, width, bias=False) if dim != width else None
        self.register_buffer("offsets", torch.arange(codebooks)[:, None] * size, persistent=False)

    offsets: Tensor

    @torch.no_grad()
    def start_from(self, entries: Tensor) -> None:
        """Begins with the codec's own ``entries [K, V, E]``, brought to one size: codes that sound alike are alike from the start."""
        deviation = entries.std(dim=(1, 2), keepdim=True).clamp(min=1e-6)
        self.weight[:, : entries.shape[1]].copy_(0.1 * entries / deviation)

    def entries(self, tokens: Tensor) -> Tensor:
        """``[B, k, S, E]`` of ``tokens [B, k, S]``, those of the first k codebooks."""
        return functional.embedding(tokens + self.offsets[: tokens.shape[1]], self.weight.flatten(0, 1))

    def entry(self, tokens: Tensor, codebook: int) -> Tensor:
        """``[..., E]`` of ``tokens [...]`` of one codebook."""
        return functional.embedding(tokens, self.weight[codebook])

    def forward(self, tokens: Tensor) -> Tensor:
        """One vector a step, ``[B, S, W]``, of ``tokens [B, K, S]``: the codebooks' sum (each with a linear map of its own, if any)."""
        found = self.entries(tokens)
        if self.widen is None:
            return found.sum(dim=1)
        out: Tensor = self.widen(found.transpose(1, 2).flatten(2))
        return out


class CodeHeads(nn.Module):
    """A linear head of ``size`` rows (specials included) per codebook; with weights of its own, or with the tables' behind a linear map to
    their width.
    """

    def __init__(self, codebooks: int, size: int, width: int, tables: CodeTables | None = None) -> None:
        super().__init__()
        self.codebooks, self.width = codebooks, width
        self._tables = [tables] if tables is not None else []  # in a list: they are another module's parameters
        inner = size if tables is None else tables.weight.shape[2]
        self.weight = nn.Parameter(torch.randn(codebooks, inner, width) * 0.02)

    @property
    def shares_tables(self) -> bool:
        """The tables are the greater part of these heads."""
        return bool(self._tables)

    def forward(self, hidden: Tensor, first: int = 0) -> Tensor:
        """Logits ``[..., K, V']`` of codebooks ``first ...``, all of them from the same ``hidden [..., width]``."""
        made = functional.linear(hidden, self.weight.flatten(0, 1)).reshape(*hidden.shape[:-1], self.codebooks, -1)
        return self._scored(made, first)

    def apart(self, hidden: Tensor, first: int = 0) -> Tensor:
        """Logits ``[..., K, V']`` of codebooks ``first ...``, each from its own of ``hidden [..., K, width]``."""
        return self._scored(torch.einsum("...kd,kvd->...kv", hidden, self.weight), first)

    def single(self, hidden: Tensor, number: int, first: int = 0) -> Tensor:
        """Logits ``[..., V']`` of head ``number``, which is codebook ``first + number``, from ``hidden [..., width]``."""
        made = functional.linear(hidden, self.weight[number])
        return functional.linear(made, self._tables[0].weight[first + number]) if self._tables else made

    def _scored(self, made: Tensor, first: int) -> Tensor:
        if not self._tables:
            return made
        # A plain product per codebook: with the codebook in front, rows of a batch lie together.
        table = self._tables[0].weight[first : first + self.codebooks]
        flat = made.reshape(-1, *made.shape[-2:]).transpose(0, 1)
        return torch.bmm(flat, table.transpose(1, 2)).transpose(0, 1).reshape(*made.shape[:-1], table.shape[1])


class WholeTokens(nn.Module):
    """Tokens of one part: an entry and a logit for every code."""

    def __init__(self, config: LmConfig) -> None:
        super().__init__()
        books, width, size = config.num_codebooks, config.backbone.width, config.codebook_size + SPECIALS
        self.tables = CodeTables(books, size, config.table_dim or width, width)
        self.heads = CodeHeads(books, size, width, self.tables if config.table_dim else None)

    def embed(self, tokens: Tensor) -> Tensor:
        """``[B, S, W]`` of ``tokens [B, K, S]``."""
        made: Tensor = self.tables(tokens)
        return made

    def logits(self, hidden: Tensor, tokens: Tensor) -> tuple[Tensor, ...]:
        """Of ``hidden [B, S, W]``, teacher-forced: ``[B, S, K, V']`` of the only part."""
        return (self.heads(hidden),)

    def targets(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Of each part, ``[B, K, S]``."""
        return (tokens,)

    def emit(self, hidden: Tensor, choose: Choose) -> Tensor:
        """Tokens ``[B, K]`` of the next step, from ``hidden [B, W]``."""
        return choose(self.heads(hidden), 0, 0)


class PairedTokens(nn.Module):
    """Tokens of two halves, ``i1 + V1 i2``; the second is predicted from the hidden state and the first."""

    def __init__(self, config: LmConfig) -> None:
        super().__init__()
        books, width = config.num_codebooks, config.backbone.width
        self.first, self.second = config.parts
        self.first_tables = CodeTables(books, self.first + SPECIALS, width, width)
        self.second_tables = CodeTables(books, self.second + 1, width, width)  # the last row: no second half
        self.first_heads = CodeHeads(books, self.first + SPECIALS, width)
        self.hint = CodeTables(books, self.first + SPECIALS, _PAIR_WIDTH, _PAIR_WIDTH)
        self.enter = nn.Linear(width, books * _PAIR_WIDTH)
        self.second_heads = CodeHeads(books, self.second, _PAIR_WIDTH)

    def embed(self, tokens: Tensor) -> Tensor:
        """``[B, S, W]`` of ``tokens [B, K, S]``."""
        first, second = self.targets(tokens)
        made: Tensor = self.first_tables(first) + self.second_tables(second)
        return made

    def logits(self, hidden: Tensor, tokens: Tensor) -> tuple[Tensor, ...]:
        """Of ``hidden [B, S, W]``: ``[B, S, K, V1 + 2]``, and ``[B, S, K, V2]`` given the first halves of ``tokens [B, K, S]``."""
        return self.first_heads(hidden), self._second(hidden, self.targets(tokens)[0].transpose(1, 2))

    def targets(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """First and second halves, each ``[B, K, S]``; a special token's second half is V2."""
        special = tokens >= self.first * self.second
        first = torch.where(special, tokens - self.first * self.second + self.first, tokens % self.first)
        return first, torch.where(special, self.second, tokens // self.first)

    def emit(self, hidden: Tensor, choose: Choose) -> Tensor:
        """Tokens ``[B, K]`` of the next step, from ``hidden [B, W]``."""
        first = choose(self.first_heads(hidden), 0, 0)
        second = choose(self._second(hidden, first), 0, 1)
        special = first >= self.first
        return torch.where(special, first - self.first + self.first * self.second, first + self.first * second)

    def _second(self, hidden: Tensor, first: Tensor) -> Tensor:
        """``[..., K, V2]`` of ``hidden [..., W]`` and ``first [..., K]``."""
        hint = functional.embedding(first + self.hint.offsets[:, 0], self.hint.weight.flatten(0, 1))
        inner = functional.gelu(self.enter(hidden).reshape(hint.shape) + hint, approximate="tanh")
        return self.second_heads.apart(inner)
