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
SOFTNESS = 3.0
"""Squared distance, in square nepers summed over the bands, by which a neighbour's weight falls to 1/e."""
NEARNESS = 80.0
"""The same of the nearest neighbour, by which the neighbours' share falls to 1/e."""
LEVEL_STEP = 0.5
"""Nepers of level, in which the neighbours' share falls with loudness: .73 at the prompt's median, .5 a step below, .12 three below."""
PRIOR_FRAMES = 10
"""Frames for which the prompt's own mean stands in the decoder's, until enough were made."""
_SPANS = (32, 128)
_HZ, _VOICED, _TURNS, _FRAMES, _GAINS = 0, 1, 2, 3, 4
"""Columns of a frame as the stages hand it on."""


@dataclass(frozen=True)
class ReceptiveField:
    """On which frames an output frame depends, besides its own: so many before it (None for all since the start), and so many after."""

    before: int | None
    after: int


def receptive_field(network: Network, dim: int, device: torch.device | str = "cpu") -> ReceptiveField:
    """Measured: a NaN in one frame marks every output that depends on it, whatever the weights; T frames of ones must be a valid input.

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
        """The outputs that became certain with ``frames [B, n, D]`` (None for none), behind those before; ``last`` if no more will come."""
        ...


class ChunkedDecoder:
    """A network of R outputs a frame over frames that come a few at a time."""

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
    """One utterance in decoding: codes become latent frames (``codes [1, K, t]`` to ``[1, t, D]``), and those go through its own stages."""

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


class NearestFrames:
    """Mel frames drawn to the nearest frames of the prompt: the voice as the prompt has it, not only as a decoder learnt to make it.

    A decoder that learnt from few voices makes something between those for a voice it never heard. The prompt holds seconds of that voice, and
    sounds like most that are wanted. As kNN-VC does with self-supervised features (Baas et al., "Voice Conversion With Just Nearest
    Neighbors", 2023), each frame is mixed with those of the prompt that are like it; here they are mel frames, weighted by a softmax of their
    distances (so that rounding changes little), and the decoder's own mean is moved to the prompt's beforehand, without which a frame's
    neighbours are those of the wrong voice. What the prompt has no sound like, and what is soft, stays more of its own: consonants and edges
    of words tell more about the words than about the voice. All of it looks back only, so that a stream is what the whole would be; sums are
    float64, so that its roundings are the same ones, which the phase of a vocoder's pulses would add up.

    Args:
        prompt: log-mel frames ``[M, 80]`` of the prompt, one at least.
        share: of a loud frame with a twin in the prompt that comes from its neighbours, 0 to 1; the rest is its own, moved to the
            prompt's mean.
    """

    def __init__(self, prompt: Tensor, share: float) -> None:
        self._prompt, self._share = prompt.double(), share
        level = self._prompt.mean(dim=1)
        self._loud = level.median()
        self._mean = self._prompt[level >= self._loud].mean(dim=0)
        self._sum, self._count = PRIOR_FRAMES * self._mean, self._mean.new_tensor(float(PRIOR_FRAMES))

    def push(self, frames: Tensor | None, last: bool) -> Tensor | None:
        """Frames ``[1, T, 80]`` to ``[1, T, 80]``, each at once; see `Stage.push`."""
        if frames is None or not frames.shape[1]:
            return frames
        own = frames + self._mean - self._means(frames.double())
        distances = torch.cdist(own, self._prompt[None], compute_mode="donot_use_mm_for_euclid_dist").square()
        neighbours = torch.softmax(-distances / SOFTNESS, dim=2) @ self._prompt
        near = torch.exp(-distances.amin(dim=2, keepdim=True) / NEARNESS)
        loud = torch.sigmoid((own.mean(dim=2, keepdim=True) - self._loud) / LEVEL_STEP + 1)
        return (own + self._share * near * loud * (neighbours - own)).to(frames.dtype)

    def _means(self, frames: Tensor) -> Tensor:
        """Of the louder frames up to each one: pauses would tell how long they are."""
        loud = (frames.mean(dim=2, keepdim=True) >= self._loud).to(frames.dtype)
        sums, counts = self._sum + (loud * frames).cumsum(dim=1), self._count + loud.cumsum(dim=1)
        self._sum, self._count = sums[:, -1:], counts[:, -1:]
        return sums / counts


def nearest_stages(prompt: Tensor | None, share: float) -> list[Stage]:
    """The stage of an utterance in a list, or none where there is no prompt to draw to."""
    return [] if prompt is None or not prompt.shape[0] or not share else [NearestFrames(prompt, share)]


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
