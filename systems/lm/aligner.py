"""Which text token is spoken when: a small aligner, learned without any alignment, beside a language model in training.

As in Badlani et al. ("One TTS alignment to rule them all", 2022): tokens and sound become vectors, their distances are the costs of a
monotonic reading, the sum over all readings (CTC's, whose blank has a fixed low score) is what is minimised, and the best single reading is
what is used. A prior leads along the diagonal while nothing is learned yet.

Shape letters: B batch, N text tokens, F frames of sound (20 ms), C bands, T frames of a codec.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from systems.layers.spectrum import mel_bands

BANDS = 40
RATE_HZ = 50
_BLANK = -1.0  # Badlani et al.'s score of the blank that CTC wants
_SPREAD = 3.0  # deviation of log-mel values, about (3.5 over 60 recordings of the training data)
_SHARPNESS = 8.0  # of the distances: tokens that are one apart in every number differ by so many nats


def sound_frames(audio: Tensor, sample_rate: int) -> Tensor:
    """Log-mel frames ``[N // hop, C]`` of ``audio [N]``, 50 a second, each band with mean 0 over the utterance."""
    hop = sample_rate // RATE_HZ
    count = audio.shape[0] // hop
    if not count:
        return audio.new_zeros(0, BANDS)
    size = 2 * hop
    pieces = functional.pad(audio[: count * hop], (hop // 2, size - hop // 2)).unfold(0, size, hop)[:count]
    window = torch.hann_window(size, device=audio.device)
    power = torch.fft.rfft(pieces * window).abs().square()
    bands = mel_bands(sample_rate, size, BANDS, 0.0, min(8000.0, sample_rate / 2)).to(audio.device)
    mel: Tensor = (power @ bands).clamp(min=1e-6).log()
    return mel - mel.mean(dim=0)


class Aligner(nn.Module):
    """Scores of text tokens for every frame of sound.

    Args:
        text_size: V, text tokens there are.
        width: of the vectors that are compared.
    """

    def __init__(self, text_size: int, width: int = 64) -> None:
        super().__init__()
        self.width = width
        self.text = nn.Embedding(text_size, width)
        self.keys = nn.Sequential(nn.Conv1d(width, width, 3, padding=1), nn.ReLU(), nn.Conv1d(width, width, 1))
        self.queries = nn.Sequential(
            nn.Conv1d(BANDS, width, 5, padding=2), nn.ReLU(), nn.Conv1d(width, width, 3, padding=1), nn.ReLU(), nn.Conv1d(width, width, 1)
        )

    def forward(self, sound: Tensor, frames: Tensor, text: Tensor, tokens: Tensor) -> Tensor:
        """Log-probabilities ``[B, F, N]`` of tokens at each frame.

        Args:
            sound: ``[B, F, C]``, see `sound_frames`.
            frames: int64 ``[B]``, valid ones.
            text: int64 ``[B, N]``.
            tokens: int64 ``[B]``, valid ones.
        """
        queries = self.queries(sound.transpose(1, 2) / _SPREAD).transpose(1, 2)
        keys = self.keys(self.text(text).transpose(1, 2)).transpose(1, 2)
        apart = queries.square().sum(dim=2)[:, :, None] + keys.square().sum(dim=2)[:, None] - 2.0 * queries @ keys.transpose(1, 2)
        scores = -_SHARPNESS / self.width * apart
        place = (torch.arange(sound.shape[1], device=sound.device) + 0.5)[None] / frames[:, None].clamp(min=1) * tokens[:, None]
        token = torch.arange(text.shape[1], device=sound.device)
        spread = (0.1 * tokens).clamp(min=4.0)[:, None, None]
        scores = scores - 0.5 * ((token + 0.5 - place[..., None]) / spread) ** 2
        made: Tensor = scores.masked_fill(token >= tokens[:, None, None], -1e4).log_softmax(dim=2)
        return made


def reading_cost(scores: Tensor, frames: Tensor, tokens: Tensor) -> Tensor:
    """Scalar: mean cost, in nats per frame, of all monotonic readings together that say every token.

    Args:
        scores: ``[B, F, N]``, of `Aligner`.
        frames: int64 ``[B]``.
        tokens: int64 ``[B]``; utterances with none, or with more than frames, cost nothing.
    """
    with_blank = functional.pad(scores, (1, 0), value=_BLANK).log_softmax(dim=2)
    targets = torch.arange(1, scores.shape[2] + 1, device=scores.device).expand(scores.shape[0], -1)
    costs = functional.ctc_loss(with_blank.transpose(0, 1), targets, frames, tokens, reduction="none", zero_infinity=True)
    return (costs / frames.clamp(min=1) * (tokens > 0)).mean()


@torch.no_grad()
def best_reading(scores: Tensor, frames: Tensor, tokens: Tensor) -> Tensor:
    """int64 ``[B, F]``: the token of each frame on the likeliest monotonic reading, from the first token to the last.

    Args:
        scores: ``[B, F, N]``; see `reading_cost`.
        frames: int64 ``[B]``.
        tokens: int64 ``[B]``. With fewer frames than tokens the reading ends where it has come to.
    """
    found = scores.float().cpu().numpy()  # a loop over frames: numpy's calls cost a fraction of torch's
    ends = torch.minimum(tokens, frames).clamp(min=1).cpu().numpy() - 1
    lengths = frames.cpu().numpy()
    batch, count, _ = found.shape
    best = np.full_like(found[:, 0], -np.inf)
    best[:, 0] = found[:, 0, 0]
    before = np.full_like(best, -np.inf)
    stepped = np.zeros(found.shape, dtype=bool)
    for frame in range(1, count):
        before[:, 1:] = best[:, :-1]
        np.greater(before, best, out=stepped[:, frame])
        np.maximum(best, before, out=best)
        best += found[:, frame]
    place, rows = ends, np.arange(batch)
    path = np.zeros((batch, count), dtype=np.int64)
    for frame in reversed(range(count)):
        path[:, frame] = place
        place = place - ((frame < lengths) & stepped[rows, frame, place])
    return torch.from_numpy(path).to(scores.device)


def spoken_tokens(path: Tensor, hop_s: float, frames: Tensor, tokens: int) -> Tensor:
    """Which tokens a codec's frame speaks: ``[B, T, N]``, adding up to 1.

    Args:
        path: int64 ``[B, F]``, of `best_reading`.
        hop_s: seconds of a codec's frame.
        frames: int64 ``[B]``, frames of the codec.
        tokens: N.
    """
    count = int(frames.max())
    centres = (torch.arange(path.shape[1], device=path.device) + 0.5) / RATE_HZ
    inside = (centres / hop_s).long().clamp(max=max(count - 1, 0))
    found = path.new_zeros(path.shape[0], count, tokens, dtype=torch.float32)
    found.index_add_(1, inside, functional.one_hot(path, tokens).float())
    return found / found.sum(dim=2, keepdim=True).clamp(min=1.0)
