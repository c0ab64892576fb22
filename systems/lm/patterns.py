"""Codebook patterns as values: which frame of which codebook a model says at which step.

Shape letters: B batch, K codebooks, T frames, S steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

EMPTY = -1
"""In a layout: no frame of this codebook at this step."""


@dataclass(frozen=True)
class Pattern:
    """How K codebooks of T frames become steps.

    "delay" says one token of every codebook per step, codebook k (from 0) ``delay x k`` frames late: SoCodec's d(j - 1), MusicGen's
    pattern with d = 1; with d = 0 all codebooks of a frame are said together ("parallel"). "flatten" says one token per step, the
    codebooks of a frame in turn.

    Args:
        kind: "delay" or "flatten".
        delay: d; 0 for "flatten".
    """

    kind: Literal["delay", "flatten"] = "delay"
    delay: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("delay", "flatten"):
            raise ValueError(f'a pattern is "delay" (with delay=0: parallel) or "flatten", got {self.kind!r}')
        if self.delay < 0 or (self.kind == "flatten" and self.delay):
            raise ValueError(f"a delay is 0 or more, and 0 for a flattened pattern; got {self.delay}")

    def steps(self, codebooks: int, frames: int) -> int:
        """Steps after which every codebook of so many frames has been said."""
        if not frames:
            return 0
        return codebooks * frames if self.kind == "flatten" else frames + self.delay * (codebooks - 1)

    def begun(self, codebooks: int, frames: int) -> int:
        """Steps that say something of the first ``frames`` frames and of no later one: what a prompt of so many frames tells."""
        return codebooks * frames if self.kind == "flatten" else frames

    def completed(self, codebooks: int, steps: int) -> int:
        """Whole frames after so many steps."""
        return steps // codebooks if self.kind == "flatten" else max(0, steps - self.delay * (codebooks - 1))

    def layout(self, codebooks: int, steps: int) -> Tensor:
        """Frame int64 ``[K, S]`` of each codebook at each step, `EMPTY` where there is none; frames go on without end."""
        step, book = torch.arange(steps), torch.arange(codebooks)[:, None]
        if self.kind == "flatten":
            return torch.where(step % codebooks == book, step // codebooks, EMPTY)
        return (step - self.delay * book).clamp(min=EMPTY)

    def build(self, codes: Tensor, fill: int) -> Tensor:
        """``codes [..., K, T]`` laid out over steps, ``[..., K, S]``; ``fill`` where nothing is said."""
        codebooks, frames = codes.shape[-2:]
        layout = self.layout(codebooks, self.steps(codebooks, frames)).to(codes.device)
        said = (layout >= 0) & (layout < frames)
        if not frames:
            return codes.clone()
        places = layout.clamp(0, frames - 1).expand(*codes.shape[:-1], layout.shape[1])
        return torch.where(said, codes.gather(-1, places), fill)

    def revert(self, laid: Tensor) -> Tensor:
        """The whole frames ``[..., K, T]`` of ``laid [..., K, S]``; the inverse of `build`."""
        codebooks, steps = laid.shape[-2:]
        frames = self.completed(codebooks, steps)
        frame, book = torch.arange(frames), torch.arange(codebooks)[:, None]
        places = frame * codebooks + book if self.kind == "flatten" else frame + self.delay * book
        return laid.gather(-1, places.to(laid.device).expand(*laid.shape[:-1], frames))


PARALLEL = Pattern()
FLATTEN = Pattern("flatten")


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
