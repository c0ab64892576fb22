"""The small vocoder run piece by piece: networks and filters forget, and what adds up is carried from piece to piece.

The phase of a pulse train is the sum of its pitch since the start, and the noise goes on where it was. Both are written beside each
frame as numbers, so that rendering a frame needs only the frames around it.

Shape letters: B batch, T frames, F frequencies.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from systems.tts.chunked import Piecewise, Reach, Stage, reach_of
from systems.vocoder.mel import HOP, NUM_BANDS
from systems.vocoder.wave import Controls, Pitch, Progress, WaveVocoder, progressed, turns_within

_HZ, _VOICED, _TURNS, _FRAMES, _GAINS = 0, 1, 2, 3, 4
"""Columns of a frame as the stages hand it on."""


def wave_stages(vocoder: WaveVocoder, device: str) -> Callable[[], list[Stage]]:
    """Makes the stages from mel frames ``[B, T, 80]`` to audio ``[B, 160 T]``, anew for each utterance; reaches are measured once."""
    tell, render = _telling(vocoder), _rendering(vocoder)
    columns = tell(torch.ones(1, 1, NUM_BANDS, device=device)).shape[-1]
    heard, rendered = reach_of(tell, NUM_BANDS, device), reach_of(render, columns, device)
    return lambda: [Piecewise(tell, 1, heard), _Clock(), Piecewise(render, HOP, rendered)]


def vocoder_stages(vocoder: nn.Module, device: str) -> Callable[[], list[Stage]]:
    """The same of any vocoder: those that carry nothing from piece to piece are one stage."""
    if isinstance(vocoder, WaveVocoder):
        return wave_stages(vocoder, device)
    reach = reach_of(vocoder, NUM_BANDS, device)
    return lambda: [Piecewise(vocoder, HOP, reach)]


class _Clock:
    """Fills in how far the sources have run before each frame, a stage between network and rendering."""

    def __init__(self) -> None:
        # Straight lines between frame centres: a frame's turns depend on the frame before and the one after.
        self._turns = Piecewise(_turning, 1, Reach(1, 1))
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


def _telling(vocoder: WaveVocoder) -> Callable[[Tensor], Tensor]:
    """Mel frames ``[B, T, 80]`` to ``[B, T, 4 + 2 F]``: pitch, voicing, two columns to fill, gains."""

    def tell(mel: Tensor) -> Tensor:
        controls = vocoder.controls(mel)
        pitch = vocoder.read_pitch(controls.pitch_logits)
        empty = torch.zeros_like(pitch.hz)
        return torch.cat([torch.stack([pitch.hz, pitch.voiced, empty, empty], dim=-1), controls.harmonic, controls.noise], dim=-1)

    return tell


def _turning(told: Tensor) -> Tensor:
    """The same with the turns within each frame."""
    turns = turns_within(Pitch(told[..., _HZ], told[..., _VOICED]))
    return torch.cat([told[..., :_TURNS], turns[..., None], told[..., _FRAMES:]], dim=-1)


def _rendering(vocoder: WaveVocoder) -> Callable[[Tensor], Tensor]:
    """All columns ``[B, T, 4 + 2 F]`` to audio ``[B, 160 T]``."""

    def render(told: Tensor) -> Tensor:
        harmonic, noise = told[..., _GAINS:].chunk(2, dim=-1)
        progress = Progress(told[..., _TURNS], told[..., _FRAMES])
        return vocoder.render(Controls(told[..., :0], harmonic, noise), Pitch(told[..., _HZ], told[..., _VOICED]), progress)

    return render
