"""Decoders run chunk by chunk as their frames come: what is heard early is what the whole would give.

A network of convolutions has a receptive field. Given the frames that it covers around what is wanted, a chunk gives the same output as the whole,
up to rounding. What adds up instead is carried from chunk to chunk: the small vocoder's pulses have a phase, which is the sum of their pitch since
the start, and its noise goes on where it was. Both are written beside each frame as numbers, so that rendering a frame needs only the
frames around it.

Shape letters: B batch, T frames, D features of a frame, R outputs per frame, F frequencies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from systems.vocoder.mel import HOP, NUM_BANDS
from systems.vocoder.wave import Controls, Pitch, Progress, WaveVocoder, progressed, turns_within

Network = Callable[[Tensor], Tensor]
"""Frames ``[B, T, D]`` to ``[B, T x R]`` or ``[B, T x R, D']``; edges are padded somehow."""
_SPANS = (32, 128)
_HZ, _VOICED, _TURNS, _FRAMES, _GAINS = 0, 1, 2, 3, 4
"""Columns of a frame as the stages hand it on."""


@dataclass(frozen=True)
class ReceptiveField:
    """On which frames an output frame depends, besides its own.

    Args:
        before: so many before it; None for all since the start.
        after: so many after it.
    """

    before: int | None
    after: int


def receptive_field(network: Network, dim: int, device: torch.device | str = "cpu") -> ReceptiveField:
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
            return ReceptiveField(last - span, span - first)
    if first == 0:
        raise ValueError(f"outputs more than {_SPANS[-1]} frames before a frame depend on it: this decoder cannot be run chunk by chunk")
    return ReceptiveField(None, span - first)


class Stage(Protocol):
    """Something that frames go through a few at a time."""

    def push(self, frames: Tensor | None, last: bool) -> Tensor | None:
        """The outputs that became certain, those behind the ones before; None where there are none.

        Args:
            frames: ``[B, n, D]``, the next ones; None for none.
            last: no more will come.
        """
        ...


class ChunkedDecoder:
    """A network over frames that come a few at a time.

    Args:
        network: what is run.
        rate: R.
        field: of the network.
    """

    def __init__(self, network: Network, rate: int, field: ReceptiveField) -> None:
        self._network, self._rate, self._field = network, rate, field
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
        ready = total if last else total - self._field.after
        if ready <= self._done:
            return None
        begin, end = ((frame - self._first) * self._rate for frame in (self._done, ready))
        found = self._network(self._kept)[:, begin:end]
        self._done = ready
        if self._field.before is not None:
            wanted = max(self._first, ready - self._field.before)
            self._kept, self._first = self._kept[:, wanted - self._first :], wanted
        return found


class ChunkedCodes:
    """One utterance in decoding: codes become latent frames, and those go through stages.

    Args:
        latents: ``codes [1, K, t]`` to ``[1, t, D]``.
        stages: of one utterance, in a row.
        device: of both.
    """

    def __init__(self, latents: Network, stages: Sequence[Stage], device: torch.device | str) -> None:
        self._latents, self._stages, self._device = latents, stages, device

    @torch.inference_mode()
    def push(self, codes: Tensor, last: bool) -> Tensor | None:
        """Samples ``[n]`` that became certain with ``codes [K, t]``, those behind the ones before; None where there are none."""
        latent = self._latents(codes[None].to(self._device)) if codes.shape[1] else None
        found = pushed(self._stages, latent, last)
        return None if found is None else found[0].float()


def pushed(stages: Sequence[Stage], frames: Tensor | None, last: bool) -> Tensor | None:
    """`Stage.push` through several in a row."""
    for stage in stages:
        frames = stage.push(frames, last)
    return frames


def vocoder_stages(vocoder: nn.Module, device: str) -> Callable[[], list[Stage]]:
    """Makes the stages from mel frames ``[B, T, 80]`` to audio ``[B, 160 T]``, anew for each utterance; fields are measured once.

    A vocoder that carries nothing from chunk to chunk is one stage.
    """
    if not isinstance(vocoder, WaveVocoder):
        field = receptive_field(vocoder, NUM_BANDS, device)
        return lambda: [ChunkedDecoder(vocoder, HOP, field)]
    control, render = _controlling(vocoder), _rendering(vocoder)
    columns = control(torch.ones(1, 1, NUM_BANDS, device=device)).shape[-1]
    first, second = receptive_field(control, NUM_BANDS, device), receptive_field(render, columns, device)
    return lambda: [ChunkedDecoder(control, 1, first), _Clock(), ChunkedDecoder(render, HOP, second)]


class _Clock:
    """Fills in how far the sources have run before each frame, a stage between network and rendering."""

    def __init__(self) -> None:
        # Straight lines between frame centres: a frame's turns depend on the frame before and the one after.
        self._turns = ChunkedDecoder(_turning, 1, ReceptiveField(1, 1))
        self._before = 0.0
        self._frames = 0

    def push(self, frames: Tensor | None, last: bool) -> Tensor | None:
        """See `Stage.push`."""
        found = self._turns.push(frames, last)
        if found is None:
            return None
        turns = found[..., _TURNS]
        progress = progressed(turns, self._before, self._frames)
        self._before += float(turns.double().sum())
        self._frames += turns.shape[1]
        return torch.cat([found[..., :_TURNS], progress.turns[..., None], progress.frames[..., None].float(), found[..., _GAINS:]], dim=-1)


def _controlling(vocoder: WaveVocoder) -> Network:
    """Mel frames ``[B, T, 80]`` to ``[B, T, 4 + 2 F]``: pitch, voicing, two columns to fill, gains."""

    def control(mel: Tensor) -> Tensor:
        controls = vocoder.controls(mel)
        pitch = vocoder.read_pitch(controls.pitch_logits)
        empty = torch.zeros_like(pitch.hz)
        return torch.cat([torch.stack([pitch.hz, pitch.voiced, empty, empty], dim=-1), controls.harmonic, controls.noise], dim=-1)

    return control


def _turning(columns: Tensor) -> Tensor:
    """The same with the turns within each frame."""
    turns = turns_within(Pitch(columns[..., _HZ], columns[..., _VOICED]))
    return torch.cat([columns[..., :_TURNS], turns[..., None], columns[..., _FRAMES:]], dim=-1)


def _rendering(vocoder: WaveVocoder) -> Network:
    """All columns ``[B, T, 4 + 2 F]`` to audio ``[B, 160 T]``."""

    def render(columns: Tensor) -> Tensor:
        harmonic, noise = columns[..., _GAINS:].chunk(2, dim=-1)
        progress = Progress(columns[..., _TURNS], columns[..., _FRAMES])
        return vocoder.render(Controls(columns[..., :0], harmonic, noise), Pitch(columns[..., _HZ], columns[..., _VOICED]), progress)

    return render
