"""The semantic supervision: an autoregressive recogniser that hears codebook 1 and nothing else.

Its token cross-entropy reaches codebook 1 and the encoder. It sees English text only, as Latin letters, apostrophe and space: the
transcribed part of the training data is English but for 200 utterances, too few to teach a set of Chinese characters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from systems.layers.convolution import ConvNeXtStack

PAD, START, END = 0, 1, 2
ALPHABET = " 'abcdefghijklmnopqrstuvwxyz"
VOCABULARY = 3 + len(ALPHABET)


@dataclass(frozen=True)
class SemanticConfig:
    """Shape of the recogniser."""

    input_dim: int = 64  # of codebook 1's embeddings
    width: int = 192
    heads: int = 4
    encoder_depth: int = 2  # layers over frames
    decoder_depth: int = 2  # layers over tokens
    stride: int = 2  # frames joined into one before attention
    dropout: float = 0.1


def to_tokens(text: str) -> list[int]:
    """Tokens of an English text: lower case, everything but letters, apostrophes and spaces dropped; END last."""
    known = "".join(c if c in ALPHABET else " " if c.isspace() or c == "-" else "" for c in text.lower())
    return [3 + ALPHABET.index(c) for c in " ".join(known.split())] + [END]


def pad_tokens(texts: Sequence[str]) -> Tensor:
    """int64 ``[B, S]`` tokens of texts, filled with PAD."""
    rows = [torch.tensor(to_tokens(text)) for text in texts]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)


class SemanticSupervisor(nn.Module):
    """Encoder-decoder recogniser over codebook-1 embeddings, teacher-forced."""

    def __init__(self, config: SemanticConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.enter = nn.Linear(config.input_dim, width)
        self.local = ConvNeXtStack(width, 2 * width, depth=2)
        self.join = nn.Linear(width * config.stride, width)
        inner, drop = 3 * width, config.dropout
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(width, config.heads, inner, drop, "gelu", batch_first=True, norm_first=True),
            config.encoder_depth,
            enable_nested_tensor=False,
        )
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(width, config.heads, inner, drop, "gelu", batch_first=True, norm_first=True), config.decoder_depth
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, first: Tensor, frames: Tensor, tokens: Tensor) -> Tensor:
        """Mean cross-entropy per token, in nats.

        Args:
            first: ``[B, T, d]``, embeddings of codebook 1.
            frames: int64 ``[B]``, valid frames.
            tokens: int64 ``[B, S]``, END last, then PAD.
        """
        memory, hidden = self._hear(first, frames)
        logits = self._say(memory, hidden, tokens)
        return functional.cross_entropy(logits.flatten(0, 1), tokens.flatten(), ignore_index=PAD)

    def _hear(self, first: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        stride = self.config.stride
        valid = torch.arange(first.shape[1], device=first.device) < frames.to(first.device)[:, None]
        x = self.local(self.enter(first) * valid[..., None])
        x = functional.pad(x, (0, 0, 0, -x.shape[1] % stride))
        x = self.join(x.reshape(x.shape[0], -1, x.shape[2] * stride))
        hidden = torch.arange(x.shape[1], device=x.device) >= -(-frames.to(x.device) // stride)[:, None]
        return self.encoder(x + self._positions(x), src_key_padding_mask=hidden), hidden

    def _say(self, memory: Tensor, hidden: Tensor, tokens: Tensor) -> Tensor:
        before = functional.pad(tokens[:, :-1], (1, 0), value=START)
        x = self.embedding(before)
        length = x.shape[1]
        future = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        x = self.decoder(x + self._positions(x), memory, tgt_mask=future, memory_key_padding_mask=hidden, tgt_is_causal=True)
        logits: Tensor = self.head(self.norm(x))
        return logits

    @staticmethod
    def _positions(x: Tensor) -> Tensor:
        """Sinusoids ``[T, D]`` (Vaswani et al. 2017)."""
        count, width = x.shape[1], x.shape[2]
        rates = torch.exp(torch.arange(0, width, 2, device=x.device) * (-math.log(10000.0) / width))
        angles = torch.arange(count, device=x.device)[:, None] * rates
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).to(x.dtype)
