"""Decoder-only transformers of two kinds: GPT-2 (SoCodec's language model) and Llama-like (QTTS).

Shape letters: B batch, S sequence, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from systems.layers.attention import CausalAttention, LayerMemory, Rotation, Watched
from systems.layers.cache import KvCache, Window, allocate

BlockKind = Literal["gpt2", "llama"]


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

    kind: BlockKind = "gpt2"
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
    """GPT-2's feed-forward network: two layers with GELU in its tanh form.

    Args:
        config: of the transformer.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.enter = nn.Linear(config.width, config.hidden)
        self.leave = nn.Linear(config.hidden, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., W]`` to the same."""
        out: Tensor = self.leave(functional.gelu(self.enter(x), approximate="tanh"))
        return out


class GatedFeedForward(nn.Module):
    """SwiGLU (Shazeer 2020): one projection, gated by another, without biases.

    Args:
        config: of the transformer.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.enter = nn.Linear(config.width, 2 * config.hidden, bias=False)
        self.leave = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., W]`` to the same."""
        gate, value = self.enter(x).chunk(2, dim=-1)
        out: Tensor = self.leave(functional.silu(gate) * value)
        return out


class Block(nn.Module):
    """Attention and a feed-forward network, each behind a norm and added to its input.

    Args:
        config: of the transformer.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        gpt2 = config.kind == "gpt2"
        self.attention_norm = _norm(config)
        self.attention = CausalAttention(config.width, config.heads, gpt2)
        self.feed_forward_norm = _norm(config)
        self.feed_forward: nn.Module = FeedForward(config) if gpt2 else GatedFeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, rotation: Rotation | None, memory: LayerMemory | None, watched: Watched | None) -> Tensor:
        """``[B, S, W]`` to the same; see `CausalAttention.forward`."""
        x = x + self.dropout(self.attention(self.attention_norm(x), rotation, memory, watched))
        out: Tensor = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        return out


class Transformer(nn.Module):
    """Blocks in a row and a last norm.

    Args:
        config: shape.
    """

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
                memory = LayerMemory(cache.keys[number], cache.values[number], window)
            x = block(x, rotation, memory, watched if watched is not None and watched.layer == number else None)
        out: Tensor = self.norm(x)
        return out

    def new_cache(self, batch_size: int, capacity: int) -> KvCache:
        """An empty cache for so many items and positions, of the type of the weights."""
        config = self.config
        return allocate(config.layers, batch_size, config.heads, capacity, config.width // config.heads, self.norm.weight)


def _norm(config: TransformerConfig) -> nn.LayerNorm | nn.RMSNorm:
    return nn.LayerNorm(config.width) if config.kind == "gpt2" else nn.RMSNorm(config.width, eps=1e-5)
