"""Mel frames drawn to the nearest frames of the prompt: the voice as the prompt has it, not only as a decoder learnt to make it.

A decoder that learnt from few voices makes something between those for a voice it never heard. The prompt holds seconds of that voice, and
sounds like most that are wanted. As kNN-VC does with self-supervised features (Baas et al., "Voice Conversion With Just Nearest
Neighbors", 2023), each frame is mixed with those of the prompt that are like it; here they are mel frames, weighted by a softmax of their
distances (so that rounding changes little), and the decoder's own mean is moved to the prompt's beforehand, without which a frame's
neighbours are those of the wrong voice. What the prompt has no sound like, and what is soft, stays more of its own: consonants and edges
of words tell more about the words than about the voice. All of it looks back only, so that a stream is what the whole would be; sums are
float64, so that its roundings are the same ones, which the phase of a vocoder's pulses would add up.

Shape letters: B batch, T frames, M frames of the prompt.
"""

from __future__ import annotations

from torch import Tensor, cdist, exp, sigmoid, softmax

from systems.tts.chunked import Stage

SOFTNESS = 3.0
"""Squared distance, in square nepers summed over the bands, by which a neighbour's weight falls to 1/e."""
NEARNESS = 80.0
"""The same of the nearest neighbour, by which the neighbours' share falls to 1/e."""
LEVEL_STEP = 0.5
"""Nepers of level, in which the neighbours' share falls with loudness: .73 at the prompt's median, .5 a step below, .12 three below."""
PRIOR_FRAMES = 10
"""Frames for which the prompt's own mean stands in the decoder's, until enough were made."""


class NearestFrames:
    """See `systems.tts.chunked.Stage`; of one utterance.

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
        distances = cdist(own, self._prompt[None], compute_mode="donot_use_mm_for_euclid_dist").square()
        neighbours = softmax(-distances / SOFTNESS, dim=2) @ self._prompt
        near = exp(-distances.amin(dim=2, keepdim=True) / NEARNESS)
        loud = sigmoid((own.mean(dim=2, keepdim=True) - self._loud) / LEVEL_STEP + 1)
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
