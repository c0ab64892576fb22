"""Decoders run piece by piece as their frames come: what is heard early is what the whole would give.

A network of convolutions feels a frame only so far. Given that far around what is wanted, a piece of the frames gives the same output as
all of them, up to rounding.

Shape letters: B batch, T frames, D features of a frame, R outputs per frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Network = Callable[[Tensor], Tensor]
"""Frames ``[B, T, D]`` to ``[B, T x R]`` or ``[B, T x R, D']``; edges are padded somehow."""
_SPANS = (32, 128)


@dataclass(frozen=True)
class Reach:
    """On which frames an output frame depends, besides its own.

    Args:
        before: so many before it; None for all since the start.
        after: so many after it.
    """

    before: int | None
    after: int


def reach_of(network: Network, dim: int, device: torch.device | str = "cpu") -> Reach:
    """Measured: a NaN in one frame marks every output that depends on it, whatever the weights.

    Args:
        network: with T frames of ones as a valid input.
        dim: D.
        device: of the network.

    Raises:
        ValueError: every output depends on the end of the input.
    """
    for span in _SPANS:
        frames = torch.ones(1, 2 * span + 1, dim, device=device)
        frames[:, span] = torch.nan
        marked = network(frames).reshape(2 * span + 1, -1).isnan().any(dim=1).nonzero()[:, 0].tolist()
        first, last = min(marked), max(marked)
        if first > 0 and last < 2 * span:
            return Reach(last - span, span - first)
    if first == 0:
        raise ValueError(f"outputs more than {_SPANS[-1]} frames before a frame depend on it: this decoder cannot be run piece by piece")
    return Reach(None, span - first)


class Stage(Protocol):
    """Something that frames go through a few at a time."""

    def push(self, frames: Tensor | None, last: bool) -> Tensor | None:
        """The outputs that became certain, those behind the ones before; None where there are none.

        Args:
            frames: ``[B, n, D]``, the next ones; None for none.
            last: no more will come.
        """
        ...


class Piecewise:
    """A network over frames that come a few at a time.

    Args:
        network: what is run.
        rate: R.
        reach: of the network.
    """

    def __init__(self, network: Network, rate: int, reach: Reach) -> None:
        self._network, self._rate, self._reach = network, rate, reach
        self._kept: Tensor | None = None
        self._first = 0  # number of the first frame that is kept
        self._done = 0  # frames whose output is out

    @property
    def num_kept(self) -> int:
        """Frames that are kept for what is to come."""
        return 0 if self._kept is None else self._kept.shape[1]

    def push(self, frames: Tensor | None, last: bool) -> Tensor | None:
        """See `Stage.push`."""
        if frames is not None:
            self._kept = frames if self._kept is None else torch.cat([self._kept, frames], dim=1)
        if self._kept is None:
            return None
        total = self._first + self._kept.shape[1]
        ready = total if last else total - self._reach.after
        if ready <= self._done:
            return None
        begin, end = ((frame - self._first) * self._rate for frame in (self._done, ready))
        found = self._network(self._kept)[:, begin:end]
        self._done = ready
        if self._reach.before is not None:
            wanted = max(self._first, ready - self._reach.before)
            self._kept, self._first = self._kept[:, wanted - self._first :], wanted
        return found


class CodePieces:
    """One utterance in decoding, see `systems.tts.codec.Pieces`: codes become latent frames, and those go through stages.

    Args:
        latents: ``codes [1, K, t]`` to ``[1, t, D]``.
        stages: of one utterance, in a row.
        device: of both.
    """

    def __init__(self, latents: Network, stages: Sequence[Stage], device: torch.device | str) -> None:
        self._latents, self._stages, self._device = latents, stages, device

    def push(self, codes: Tensor, last: bool) -> Tensor | None:
        """See `systems.tts.codec.Pieces`."""
        latent = self._latents(codes[None].to(self._device)) if codes.shape[1] else None
        found = pushed(self._stages, latent, last)
        return None if found is None else found[0].float()


def pushed(stages: Sequence[Stage], frames: Tensor | None, last: bool) -> Tensor | None:
    """`Stage.push` through several in a row."""
    for stage in stages:
        frames = stage.push(frames, last)
    return frames
