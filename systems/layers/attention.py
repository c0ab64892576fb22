"""Causal self-attention, with or without a cache, with or without rotary positions.

Shape letters: B batch, S sequence, W width, H heads, D numbers a head.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from systems.layers.cache import Window


@dataclass(frozen=True, eq=False)
class Rotation:
    """Rotary position embedding (Su et al. 2021) of some positions; number i of a head turns together with number i + D / 2.

    Args:
        cosine: ``[B, 1, S, D / 2]``.
        sine: the same.
    """

    cosine: Tensor
    sine: Tensor

    @classmethod
    def at(cls, positions: Tensor, head_dim: int, dtype: torch.dtype, base: float = 10000.0) -> Rotation:
        """Of positions ``[B, S]``, whole or not; angles are computed in float32 whatever ``dtype`` is: bfloat16 cannot count beyond 256."""
        half = torch.arange(head_dim // 2, device=positions.device, dtype=torch.float32)
        angles = positions[:, None, :, None].float() * base ** (-2.0 * half / head_dim)
        return cls(angles.cos().to(dtype), angles.sin().to(dtype))

    def turn(self, x: Tensor) -> Tensor:
        """Queries or keys ``[B, H, S, D]``, turned."""
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * self.cosine - second * self.sine, second * self.cosine + first * self.sine], dim=-1)


@dataclass(frozen=True, eq=False)
class LayerMemory:
    """One layer's part of a cache, and the window of this call.

    Args:
        keys: ``[B, H, C, D]``, written in place.
        values: the same.
        window: where, and what is read.
    """

    keys: Tensor
    values: Tensor
    window: Window


@dataclass(eq=False)
class Watched:
    """What one layer's attention asked and was offered, for whoever wants to look; filled in by the layer, and limited if wanted.

    Args:
        layer: number of the block.
        heads: the first so many.
        queries: ``[B, heads, S, D]``, turned.
        keys: the same; with a memory ``[B, heads, seen, D]``, all columns that are read.
        mask: bool ``[B, H, S, columns]``, true where a query of all H heads may look; None for what the call says otherwise.
    """

    layer: int
    heads: int
    queries: Tensor = field(default_factory=lambda: torch.empty(0))
    keys: Tensor = field(default_factory=lambda: torch.empty(0))
    mask: Tensor | None = None


class CausalAttention(nn.Module):
    """Multi-head self-attention in which a position sees itself and what came before.

    Args:
        width: W.
        heads: H, a divisor of W.
        bias: of the projections.
    """

    def __init__(self, width: int, heads: int, bias: bool) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not divide a width of {width}")
        self.heads = heads
        self.enter = nn.Linear(width, 3 * width, bias=bias)
        self.leave = nn.Linear(width, width, bias=bias)

    def forward(
        self, x: Tensor, rotation: Rotation | None = None, memory: LayerMemory | None = None, watched: Watched | None = None
    ) -> Tensor:
        """``[B, S, W]`` to the same; with a memory, x stands in the window's columns and sees what is remembered too."""
        batch, length, width = x.shape
        query, key, value = self.enter(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        if rotation is not None:
            query, key = rotation.turn(query), rotation.turn(key)
        mask = None
        if memory is not None:
            window = memory.window
            memory.keys.index_copy_(2, window.columns, key)
            memory.values.index_copy_(2, window.columns, value)
            key, value, mask = memory.keys[:, :, : window.seen], memory.values[:, :, : window.seen], window.mask
        if watched is not None:
            watched.queries, watched.keys = query[:, : watched.heads], key[:, : watched.heads]
            mask = mask if watched.mask is None else watched.mask
        if memory is None and mask is None and self.training and query.dtype == torch.bfloat16 and query.device.type == "cpu":
            seen = by_products(query, key, value)
        else:
            seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None and length > 1)
        out: Tensor = self.leave(seen.transpose(1, 2).reshape(batch, length, width))
        return out


def by_products(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal attention ``[B, H, S, D]`` of three such tensors, its scores written down.

    In training in bfloat16 on a CPU this takes half the time of torch's fused kernel, forward and backward (S from 120 to 300, B H = 32).
    """
    batch, heads, length, size = query.shape
    later = torch.full((length, length), -torch.inf, dtype=query.dtype, device=query.device).triu(1)
    flat = [x.reshape(batch * heads, length, size) for x in (query, key, value)]
    scores = torch.baddbmm(later.expand(batch * heads, -1, -1), flat[0], flat[1].transpose(1, 2), alpha=size**-0.5)
    return torch.bmm(scores.softmax(dim=2), flat[2]).view(batch, heads, length, size)
