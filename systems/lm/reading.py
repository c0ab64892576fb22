"""Two heads of one layer that know where in the text speech is: told in training, and bounded in generation.

In training (guided attention) they learn to look at the tokens that are spoken next, as `Aligner` finds them. A language model
that begins with little data reads on in its own codes and is long in finding out what the text is for. Tachibana, Uenoyama and Aihara
("Efficiently trainable text-to-speech system ... with guided attention", 2018) penalise attention off the diagonal of text and time instead.
No other head is told anything.

In generation (monotonic reading) they may not leap over words nor go back. A small model sometimes loses its place, leaves words out and ends
early. As in Deep Voice 3 (Ping et al. 2018), their attention is limited to a window of the text from the place that was read last, and the place only
moves on; the end may not come before the text is read. The other heads, and what all heads see of voice and speech, are left alone.

The aligner is learned without any alignment, beside the model in training, as in Badlani et al. ("One TTS alignment to rule them all", 2022): tokens
and sound become vectors, their distances are the costs of a monotonic reading, the sum over all readings (CTC's, whose blank has a fixed low
score) is what is minimised, and the best single reading is what is used. A prior leads along the diagonal while nothing is learned yet.

Shape letters: B rows of a batch, H heads, P columns of a sequence, C columns that are seen, N text tokens, T frames of a codec, F frames of sound
(20 ms), D numbers a head, M mel bands.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from systems.layers.spectrum import mel_bands
from systems.layers.transformer import Watched, Window
from systems.lm.config import LmConfig

BANDS = 40
RATE_HZ = 50
_BLANK = -1.0  # Badlani et al.'s score of the blank that CTC wants
_SPREAD = 3.0  # deviation of log-mel values, about (3.5 over 60 recordings of the training data)
_SHARPNESS = 8.0  # of the distances: tokens that are one apart in every number differ by so many nats
GUIDED_HEADS = 2
_BACK = 1  # tokens before the place that stay in sight
_TAIL = 2  # tokens at the end that nothing need be heard of: a full stop, the mark of the end


def guided_layer(config: LmConfig) -> int:
    """The block whose first `GUIDED_HEADS` heads are told, a third of the way up."""
    return config.backbone.layers // 3


def strayed(watched: Watched, lead: int, text: Tensor, frames: Tensor, spoken: Tensor) -> Tensor:
    """Scalar: cross-entropy, in nats per frame, of the heads' attention among the text's columns against the tokens spoken.

    Args:
        watched: queries and keys of sequences [lead][text][speech ...].
        lead: columns before the text.
        text: int64 ``[B]``, tokens; utterances without any do not count.
        frames: int64 ``[B]``, whose columns begin behind the text: the first of them predicts the first frame.
        spoken: ``[B, T, N]``, shares of a frame's time.
    """
    queries, keys = watched.queries.float(), watched.keys.float()
    steps, tokens = spoken.shape[1:]
    token, frame = torch.arange(tokens, device=text.device), torch.arange(steps, device=text.device)
    # A frame behind the end takes some column or other, and is not counted.
    rows = (lead + text[:, None] + frame).clamp(max=queries.shape[2] - 1)
    asked = queries.gather(2, rows[:, None, :, None].expand(-1, queries.shape[1], -1, queries.shape[3]))
    scores = asked @ keys[:, :, lead : lead + tokens].transpose(2, 3) / queries.shape[3] ** 0.5  # [B, H, T, N]
    scores = scores.float().masked_fill(token >= text[:, None, None, None], -1e4).log_softmax(dim=3)
    cost = -(scores * spoken[:, None]).sum(dim=3).mean(dim=1)  # [B, T]
    counted = (frame < frames[:, None]) & (text > 0)[:, None]
    mean: Tensor = (cost * counted).sum() / counted.sum().clamp(min=1)
    return mean


class Reading:
    """The place in the text of each of ``size`` rows; its tensors stay where they are, for steps that are captured.

    In a step the place may move on by ``window`` tokens, at least 1.
    """

    def __init__(self, config: LmConfig, size: int, window: int, device: torch.device) -> None:
        self._layer, self._heads, self._window = guided_layer(config), config.backbone.heads, window
        self._guided = min(GUIDED_HEADS, self._heads)
        self.place, self._from, self._length = (torch.zeros(size, dtype=torch.int64, device=device) for _ in range(3))

    def start(self, text_from: Tensor, text_lengths: Tensor, read: Tensor) -> None:
        """A new batch.

        Args:
            text_from: int64 ``[B]``, columns of the first text tokens.
            text_lengths: int64 ``[B]``; rows without text read nothing.
            read: int64 ``[B]``, tokens at the beginning that were spoken before, by a prompt.
        """
        self._from.copy_(text_from)
        self._length.copy_(text_lengths)
        self.place.copy_(torch.minimum(read, (text_lengths - 1).clamp(min=0)))

    def watch(self, window: Window) -> Watched:
        """What the guided layer of a step of one column is to see, and is looked at by."""
        allowed = self._in_sight(window.seen) | ~self._is_text(window.seen)
        if window.mask is not None:
            allowed = allowed & window.mask[:, 0, 0]
        everything = torch.ones_like(allowed) if window.mask is None else window.mask[:, 0, 0].expand_as(allowed)
        free = self._heads - self._guided
        mask = torch.cat([allowed[:, None].expand(-1, self._guided, -1), everything[:, None].expand(-1, free, -1)], dim=1)
        return Watched(self._layer, self._guided, mask=mask[:, :, None])

    def follow(self, watched: Watched) -> None:
        """Moves on to where the guided heads looked most."""
        seen = watched.keys.shape[2]
        asked = (watched.queries.float() @ watched.keys.float().transpose(2, 3))[:, :, 0] / watched.queries.shape[3] ** 0.5  # [B, H, C]
        sight = self._in_sight(seen)
        looked = asked.masked_fill(~sight[:, None], -1e9).softmax(dim=2).mean(dim=1).argmax(dim=1) - self._from
        self.place.copy_(torch.where(sight.any(dim=1), torch.maximum(self.place, looked), self.place))

    def unread(self) -> Tensor:
        """Bool ``[B]``: something of the text is still to be spoken."""
        return self.place + _TAIL + 1 < self._length

    def _is_text(self, seen: int) -> Tensor:
        token = torch.arange(seen, device=self._from.device) - self._from[:, None]
        return (token >= 0) & (token < self._length[:, None])

    def _in_sight(self, seen: int) -> Tensor:
        token = torch.arange(seen, device=self._from.device) - self._from[:, None]
        place = self.place[:, None]
        return self._is_text(seen) & (token >= place - _BACK) & (token <= place + self._window)


def sound_frames(audio: Tensor, sample_rate: int) -> Tensor:
    """Log-mel frames ``[n // hop, M]`` of ``audio [n]``, 50 a second, each band with mean 0 over the utterance."""
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
    """Scores of ``text_size`` text tokens for every frame of sound; both become vectors of ``width`` numbers, which are compared."""

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

        Of ``sound [B, F, M]`` (`sound_frames`) ``frames [B]`` are valid, of ``text [B, N]`` (int64) ``tokens [B]``.
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

    Of ``scores [B, F, N]`` (`Aligner`) the first ``frames [B]`` and ``tokens [B]``; utterances without tokens, or with more than frames, cost
    nothing.
    """
    with_blank = functional.pad(scores, (1, 0), value=_BLANK).log_softmax(dim=2)
    targets = torch.arange(1, scores.shape[2] + 1, device=scores.device).expand(scores.shape[0], -1)
    costs = functional.ctc_loss(with_blank.transpose(0, 1), targets, frames, tokens, reduction="none", zero_infinity=True)
    return (costs / frames.clamp(min=1) * (tokens > 0)).mean()


@torch.no_grad()
def best_reading(scores: Tensor, frames: Tensor, tokens: Tensor) -> Tensor:
    """int64 ``[B, F]``: the token of each frame on the likeliest monotonic reading, from the first token to the last.

    Arguments as of `reading_cost`. With fewer frames than tokens the reading ends where it has come to.
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
    """Which of N ``tokens`` a codec's frames of ``hop_s`` seconds speak: ``[B, T, N]``, adding up to 1.

    ``path`` is that of `best_reading`, ``frames [B]`` those of the codec.
    """
    count = int(frames.max())
    centres = (torch.arange(path.shape[1], device=path.device) + 0.5) / RATE_HZ
    inside = (centres / hop_s).long().clamp(max=max(count - 1, 0))
    found = path.new_zeros(path.shape[0], count, tokens, dtype=torch.float32)
    found.index_add_(1, inside, functional.one_hot(path, tokens).float())
    return found / found.sum(dim=2, keepdim=True).clamp(min=1.0)
