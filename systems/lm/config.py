"""The shapes of the language models, `paper` and `small`, which trains on two CPU cores; and the pattern in which they say their codebooks.

Shape letters: B batch, K codebooks, T frames, S steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from systems.configuration import Configuration
from systems.layers.transformer import TransformerConfig

LmKind = Literal["multi_stream", "multihead", "hierarchical"]
EMPTY = -1
"""In a layout: no frame of this codebook at this step."""


@dataclass(frozen=True)
class Pattern:
    """How K codebooks of T frames become steps: a token of every codebook per step, codebook k (from 0) ``delay x k`` frames late.

    That is SoCodec's d(j - 1), and MusicGen's pattern with d = 1; with d = 0 all codebooks of a frame are said together ("parallel").

    Args:
        kind: "delay", as it stands in files.
        delay: d.
    """

    kind: Literal["delay"] = "delay"
    delay: int = 0

    def __post_init__(self) -> None:
        if self.kind != "delay" or self.delay < 0:
            raise ValueError(f'a pattern is "delay" by 0 (parallel) or more frames, got {self.kind!r} by {self.delay}')

    def steps(self, codebooks: int, frames: int) -> int:
        """Steps after which every codebook of so many frames has been said."""
        return frames + self.delay * (codebooks - 1) if frames else 0

    def completed(self, codebooks: int, steps: int) -> int:
        """Whole frames after so many steps."""
        return max(0, steps - self.delay * (codebooks - 1))

    def layout(self, codebooks: int, steps: int) -> Tensor:
        """Frame int64 ``[K, S]`` of each codebook at each step, `EMPTY` where there is none; frames go on without end."""
        return (torch.arange(steps) - self.delay * torch.arange(codebooks)[:, None]).clamp(min=EMPTY)


PARALLEL = Pattern()


def delayed(delay: int) -> Pattern:
    """Codebook k (from 0) ``delay x k`` frames late."""
    return Pattern("delay", delay)


@dataclass(frozen=True, eq=False)
class Laid:
    """Utterances of different lengths over steps, their end included.

    Args:
        tokens: int64 ``[B, K, S]``: codes, BOS where a codebook says nothing (yet), EOS from its end on.
        counted: bool ``[B, K, S]``: codes and each codebook's first EOS, which is what a model has to learn.
    """

    tokens: Tensor
    counted: Tensor


def lay(pattern: Pattern, codes: Tensor, frames: Tensor, codebook_size: int) -> Laid:
    """Lays padded utterances out; BOS is token ``codebook_size``, EOS the one after.

    Args:
        pattern: which frame when.
        codes: int64 ``[B, K, T]``, anything behind an utterance's end.
        frames: int64 ``[B]``, valid frames.
        codebook_size: V.
    """
    bos, eos = codebook_size, codebook_size + 1
    codebooks, most = codes.shape[1:]
    layout = pattern.layout(codebooks, pattern.steps(codebooks, most + 1)).to(codes.device)
    ends = frames[:, None, None]
    tokens = torch.full((codes.shape[0], *layout.shape), eos, dtype=torch.int64, device=codes.device)
    if most:
        places = layout.clamp(0, most - 1).expand(codes.shape[0], *layout.shape)
        tokens = torch.where(layout < ends, codes.gather(-1, places), tokens)
    return Laid(torch.where(layout < 0, bos, tokens), (layout >= 0) & (layout <= ends))


@dataclass(frozen=True)
class LmConfig(Configuration):
    """Everything that fixes a model's tensors and what they mean.

    Args:
        kind: "multi_stream" (SoCodec), "multihead" or "hierarchical" (QTTS).
        num_codebooks: K.
        parts: a codebook's size V, or the sizes of the two halves its indices are pairs of (first half fastest). Each half has tables
            of its own, and the second is said after the first: p(i1) p(i2 | i1). A SoCodec stream of 128 x 128 so needs 256 rows
            instead of 16,384, and the pair stays one joint choice, which two independent heads would not give.
        text_size: text tokens.
        voice_dim: of an utterance embedding, 0 without one.
        backbone: the transformer over time.
        depth: the transformer over codebooks; of the hierarchical model only.
        pattern: of the codebooks; parallel for the hierarchical model, which says a whole frame per step anyway.
        delays: between codebooks, where the weights know several and are told by an embedding which one is meant; ``pattern`` is one of
            them. Empty where they know their pattern only, as in the papers.
        table_dim: of an entry of the code tables, with a linear map between it and the backbone's width; the output uses the same tables.
            0 for the paper's form: tables as wide as the backbone, and heads of their own.
        pace: text tokens that are spoken in a step, about. Rotary positions of text and speech then both count text tokens, from 0, so that
            what is being said lies at a small distance; learned ones begin as waves on that common axis. 0 for the papers' form: speech
            goes on counting where the text ended, and learned positions begin at random.
        max_text: text positions (kinds with learned positions).
        max_steps: speech positions (kinds with learned positions).
    """

    kind: LmKind = "multi_stream"
    num_codebooks: int = 4
    parts: tuple[int, ...] = (16384,)
    text_size: int = 8192
    voice_dim: int = 1024
    backbone: TransformerConfig = field(default_factory=TransformerConfig)
    depth: TransformerConfig | None = None
    pattern: Pattern = field(default_factory=lambda: delayed(1))
    delays: tuple[int, ...] = ()
    table_dim: int = 0
    pace: float = 0.0
    max_text: int = 512
    max_steps: int = 1024

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))
        object.__setattr__(self, "delays", tuple(self.delays))
        if self.kind not in get_args(LmKind):
            raise ValueError(f"a language model is of kind {', '.join(get_args(LmKind))}; got {self.kind!r}")
        if self.num_codebooks < 1 or len(self.parts) not in (1, 2):
            raise ValueError(f"a model has one codebook at least, of one part or two; got {self.num_codebooks} of {self.parts}")
        if (self.kind == "hierarchical") != (self.depth is not None):
            raise ValueError("the hierarchical model has a depth transformer, and no other has one")
        if self.kind == "multihead" and self.voice_dim:
            raise ValueError("the multihead model takes its voice from a prompt's codes: voice_dim is 0")
        if self.kind == "hierarchical" and (self.pattern != PARALLEL or self.delays or len(self.parts) > 1):
            raise ValueError("the hierarchical model says whole frames: its pattern is parallel, and its codebooks have one part")
        if self.delays and (len(set(self.delays)) < len(self.delays) or self.pattern not in map(delayed, self.delays)):
            raise ValueError(
                f"a model that knows the delays {self.delays} follows one of them, each named once; its pattern is {self.pattern}"
            )
        if len(self.parts) > 1 and self.table_dim:
            raise ValueError("codebooks of two parts have tables as wide as the backbone; table_dim is for those of one part")

    @property
    def codebook_size(self) -> int:
        """V."""
        return math.prod(self.parts)

    @property
    def bos(self) -> int:
        """What stands for a codebook that has not begun."""
        return self.codebook_size

    @property
    def eos(self) -> int:
        """What ends an utterance; codebook 0 decides."""
        return self.codebook_size + 1

    def check(self, inputs: LmInputs, source: str) -> None:
        """That codec and text, ``inputs``, are those that it was made for; ``source`` names it in messages.

        Raises:
            ValueError: they are not.
        """
        found = (self.num_codebooks, self.codebook_size, self.voice_dim, self.text_size)
        wanted = (inputs.num_codebooks, math.prod(inputs.parts), inputs.voice_dim, inputs.text_size)
        if found != wanted:
            raise ValueError(
                f"{source} was made for {found[0]} codebooks of {found[1]}, embeddings of {found[2]} numbers and {found[3]} text tokens; "
                f"codec and text have {wanted[0]} of {wanted[1]}, {wanted[2]} and {wanted[3]}"
            )

    def at_delay(self, delay: int) -> LmConfig:
        """The same weights with codebooks ``delay`` frames apart.

        Raises:
            ValueError: the weights do not know that delay.
        """
        if self.pattern == delayed(delay):
            return self
        if delay not in self.delays:
            known = f"the delays {', '.join(map(str, self.delays))}" if self.delays else f"delay={self.pattern.delay}"
            raise ValueError(f"trained with {known}, asked was delay={delay}; a delay is learnt and cannot be changed")
        return replace(self, pattern=delayed(delay))


@dataclass(frozen=True)
class LmInputs:
    """What the codec and the text front end decide about a model.

    Args:
        num_codebooks: K.
        parts: see `LmConfig`; a small model takes pairs apart, a paper-size one joins them.
        text_size: text tokens.
        voice_dim: of the codec's utterance embedding, 0 without one.
        frame_hz: frames a second.
    """

    num_codebooks: int
    parts: tuple[int, ...]
    text_size: int
    voice_dim: int = 0
    frame_hz: float = 25.0


def lm_config(kind: LmKind, size: str, inputs: LmInputs, pattern: Pattern | None = None) -> LmConfig:
    """The shape of a size.

    The paper's sizes: SoCodec's 12 x 1024 GPT-2 (193, 294 and 428 M for 1, 4 and 8 streams). Of QTTS only totals are told, 200 and
    120 M; how they divide is our choice: a backbone of 12 x 1024 with 4 x 512 over codebooks after CSM, and 12 x 768.

    Args:
        kind: of the model.
        size: "paper" or "small" (about 5 M).
        inputs: of codec and text.
        pattern: of the codebooks, by default delayed by 1 (parallel for the hierarchical model).

    Raises:
        ValueError: another kind or size.
    """
    if size not in ("paper", "small"):
        raise ValueError(f'language models have the sizes "paper" and "small", got {size!r}')
    pattern = pattern or (PARALLEL if kind == "hierarchical" else delayed(1))
    parts = (math.prod(inputs.parts),) if size == "paper" else inputs.parts
    plain = LmConfig("multi_stream", inputs.num_codebooks, parts, inputs.text_size, inputs.voice_dim, pattern=pattern)
    if size == "small":
        plain = replace(plain, backbone=_SMALL_BACKBONES[kind], table_dim=64 if len(parts) == 1 else 0, max_steps=640)
        plain = replace(plain, pace=_SYMBOLS_A_SECOND / inputs.frame_hz)
    elif kind != "multi_stream":
        plain = replace(plain, backbone=_PAPER_BACKBONES[kind])
    return replace(plain, kind=kind, depth=(_PAPER_DEPTH if size == "paper" else _SMALL_DEPTH) if kind == "hierarchical" else None)


_SYMBOLS_A_SECOND = 15.0  # of the small size's text; synthetic English has 15, human recordings 8 (English) to 9 (Mandarin)
_PAPER_BACKBONES: dict[str, TransformerConfig] = {
    "multihead": TransformerConfig("llama", 12, 768, 12, 2176),
    "hierarchical": TransformerConfig("llama", 12, 1024, 16, 2816),
}
_PAPER_DEPTH = TransformerConfig("llama", 4, 512, 8, 1408)
_SMALL_BACKBONES: dict[str, TransformerConfig] = {
    "multi_stream": TransformerConfig("gpt2", 6, 256, 4, 768, dropout=0.1),
    "multihead": TransformerConfig("llama", 6, 256, 4, 448, dropout=0.1),
    "hierarchical": TransformerConfig("llama", 5, 256, 4, 384, dropout=0.1),
}
_SMALL_DEPTH = TransformerConfig("llama", 2, 192, 4, 320, dropout=0.1)
