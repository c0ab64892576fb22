"""Decoder-only transformers of two kinds, GPT-2 (SoCodec's language model) and Llama-like (QTTS): attention, its cache, blocks.

Caches are static: memory is taken once, and a step writes in place.

Shape letters: L layers, B batch, S sequence or columns of one call, W width, H heads, C columns (capacity), D numbers a head.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class KvCache:
    """Keys and values of a transformer's layers, ``[L, B, H, C, D]`` each.

    A column holds one position of every item; items of different lengths stand with their ends in one column, so that all of them
    write the same column at every step.
    """

    keys: Tensor
    values: Tensor

    @property
    def capacity(self) -> int:
        """C."""
        return self.keys.shape[3]


@dataclass(frozen=True, eq=False)
class Window:
    """Where one call writes in a cache, and what it reads.

    Args:
        columns: int64 ``[S]`` on the device, one after another; what was written there before is overwritten.
        seen: columns ``0..seen - 1`` are read. The fewer, the cheaper; a captured graph has to read all of them and mask.
        mask: bool, broadcastable to ``[B, 1, S, seen]``, true where a query may look. None if the S queries stand in the last columns
            that are seen and may look at everything up to their own.

    Raises:
        ValueError: several queries that neither begin at column 0 nor have a mask.
    """

    columns: Tensor
    seen: int
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        if self.mask is None and self.columns.shape[0] not in (1, self.seen):
            raise ValueError(f"{self.columns.shape[0]} queries over {self.seen} columns need a mask")


def aligned_mask(padding: Tensor, columns: Tensor, seen: int) -> Tensor:
    """The causal mask, bool ``[B, 1, S, seen]``, of items that begin in different columns.

    ``padding`` (int64 ``[B]``) are the empty columns before each item, ``columns`` (int64 ``[S]``) those of the queries. A query in an empty
    column sees that column: its result is of no use, but finite.
    """
    keys = torch.arange(seen, device=columns.device)
    causal = keys <= columns[:, None]
    begun = keys >= padding[:, None, None]
    own = keys == columns[:, None]
    return (causal & (begun | own))[:, None]


@dataclass(frozen=True, eq=False)
class Rotation:
    """Rotary position embedding (Su et al. 2021) of some positions; number i of a head turns together with number i + D / 2.

    Cosines and sines are ``[B, 1, S, D / 2]``.
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


Memory = tuple[Tensor, Tensor, Window]
"""One layer's part of a cache, keys and values ``[B, H, C, D]`` that are written in place, and the window of this call."""


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
    """Multi-head self-attention in which a position sees itself and what came before; the heads divide the width."""

    def __init__(self, width: int, heads: int, bias: bool) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not divide a width of {width}")
        self.heads = heads
        self.enter = nn.Linear(width, 3 * width, bias=bias)
        self.leave = nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor, rotation: Rotation | None = None, memory: Memory | None = None, watched: Watched | None = None) -> Tensor:
        """``[B, S, W]`` to the same; with a memory, x stands in the window's columns and sees what is remembered too."""
        batch, length, width = x.shape
        query, key, value = self.enter(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        if rotation is not None:
            query, key = rotation.turn(query), rotation.turn(key)
        mask = None
        if memory is not None:
            keys, values, window = memory
            keys.index_copy_(2, window.columns, key)
            values.index_copy_(2, window.columns, value)
            key, value, mask = keys[:, :, : window.seen], values[:, :, : window.seen], window.mask
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


@dataclass(frozen=True)
class TransformerConfig:
    """Shape of a transformer.

    Args:
        kind: "gpt2" (layer norm, biases, GELU; positions are added to its input by the caller) or "llama" (RMS norm, no biases, SwiGLU,
            rotary positions).
        layers: blocks.
        width: W.
        heads: of attention.
        hidden: width inside the feed-forward networks.
        dropout: of both branches; none of the attention weights, so that fused kernels need not write them down.
    """

    kind: Literal["gpt2", "llama"] = "gpt2"
    layers: int = 12
    width: int = 1024
    heads: int = 16
    hidden: int = 4096
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("gpt2", "llama"):
            raise ValueError(f'a transformer is of kind "gpt2" or "llama", got {self.kind!r}')
        if self.width % self.heads or (self.kind == "llama" and self.width // self.heads % 2):
            raise ValueError(f"{self.heads} heads do not divide a width of {self.width} (rotary ones into even parts)")


class FeedForward(nn.Module):
    """GPT-2's, two layers with GELU in its tanh form; or Llama's SwiGLU (Shazeer 2020), one projection gated by another, without biases."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.gated = config.kind == "llama"
        self.enter = nn.Linear(config.width, (2 if self.gated else 1) * config.hidden, bias=not self.gated)
        self.leave = nn.Linear(config.hidden, config.width, bias=not self.gated)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., W]`` to the same."""
        entered: Tensor = self.enter(x)
        if self.gated:
            gate, value = entered.chunk(2, dim=-1)
            inner = functional.silu(gate) * value
        else:
            inner = functional.gelu(entered, approximate="tanh")
        out: Tensor = self.leave(inner)
        return out


class Block(nn.Module):
    """Attention and a feed-forward network, each behind a norm and added to its input."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention_norm = _norm(config)
        self.attention = CausalAttention(config.width, config.heads, bias=config.kind == "gpt2")
        self.feed_forward_norm = _norm(config)
        self.feed_forward = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, rotation: Rotation | None, memory: Memory | None, watched: Watched | None) -> Tensor:
        """``[B, S, W]`` to the same; see `CausalAttention.forward`."""
        x = x + self.dropout(self.attention(self.attention_norm(x), rotation, memory, watched))
        out: Tensor = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        return out


class Transformer(nn.Module):
    """Blocks in a row and a last norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = _norm(config)
        for name, parameter in self.named_parameters():
            if name.endswith("leave.weight"):  # what is added 2 L times to one stream starts smaller by the root of that (GPT-2)
                nn.init.normal_(parameter, std=0.02 / (2 * config.layers) ** 0.5)
            elif parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(
        self, x: Tensor, positions: Tensor, cache: KvCache | None = None, window: Window | None = None, watched: Watched | None = None
    ) -> Tensor:
        """Hidden states ``[B, S, W]``, normed.

        Args:
            x: ``[B, S, W]``.
            positions: ``[B, S]``, for rotary kinds; the others do not look at them.
            cache: from `new_cache`, written in place; without one, a position sees those of x only.
            window: goes with the cache.
            watched: filled in by its layer.
        """
        config = self.config
        rotation = Rotation.at(positions, config.width // config.heads, x.dtype) if config.kind == "llama" else None
        for number, block in enumerate(self.blocks):
            memory = None
            if cache is not None:
                assert window is not None
                memory = (cache.keys[number], cache.values[number], window)
            x = block(x, rotation, memory, watched if watched is not None and watched.layer == number else None)
        out: Tensor = self.norm(x)
        return out

    def new_cache(self, batch_size: int, capacity: int) -> KvCache:
        """An empty cache for so many items and positions, of the type of the weights."""
        config = self.config
        shape = (config.layers, batch_size, config.heads, capacity, config.width // config.heads)
        # Zeros, not empty memory: a masked column counts zero times its value, and nothing times a NaN is a NaN.
        return KvCache(self.norm.weight.new_zeros(shape), self.norm.weight.new_zeros(shape))


def _norm(config: TransformerConfig) -> nn.LayerNorm | nn.RMSNorm:
    return nn.LayerNorm(config.width) if config.kind == "gpt2" else nn.RMSNorm(config.width, eps=1e-5)
