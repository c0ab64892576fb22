"""Two heads of one layer that know where in the text speech is: told in training, and bounded in generation.

In training (guided attention) they learn to look at the tokens that are spoken next, as an aligner finds them (`systems.lm.aligner`). A language model
that begins with little data reads on in its own codes and is long in finding out what the text is for. Tachibana, Uenoyama and Aihara
("Efficiently trainable text-to-speech system ... with guided attention", 2018) penalise attention off the diagonal of text and time instead.
No other head is told anything.

In generation (monotonic reading) they may not leap over words nor go back. A small model sometimes loses its place, leaves words out and ends
early. As in Deep Voice 3 (Ping et al. 2018), their attention is limited to a window of the text from the place that was read last, and the place only
moves on; the end may not come before the text is read. The other heads, and what all heads see of voice and speech, are left alone. A flattened
pattern is followed at every step, though its heads were told at those of codebook 0 only: no system here speaks so.

Shape letters: B rows of a batch, H heads, P columns of a sequence, C columns that are seen, N text tokens, T frames, D numbers a head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from systems.layers.transformer import Watched, Window
from systems.lm.config import LmConfig

GUIDED_HEADS = 2
_BACK = 1  # tokens before the place that stay in sight
_TAIL = 2  # tokens at the end that nothing need be heard of: a full stop, the mark of the end


def guided_layer(config: LmConfig) -> int:
    """The block whose first `GUIDED_HEADS` heads are told, a third of the way up."""
    return config.backbone.layers // 3


def strayed(watched: Watched, lead: int, text: Tensor, frames: Tensor, spoken: Tensor, every: int = 1) -> Tensor:
    """Scalar: cross-entropy, in nats per frame, of the heads' attention among the text's columns against the tokens spoken.

    Args:
        watched: queries and keys of sequences [lead][text][speech ...].
        lead: columns before the text.
        text: int64 ``[B]``, tokens; utterances without any do not count.
        frames: int64 ``[B]``, whose columns begin behind the text: the first of them predicts the first frame.
        spoken: ``[B, T, N]``, shares of a frame's time.
        every: columns from frame to frame: more than one where codebooks are said one after the other.
    """
    queries, keys = watched.queries.float(), watched.keys.float()
    steps, tokens = spoken.shape[1:]
    token, frame = torch.arange(tokens, device=text.device), torch.arange(steps, device=text.device)
    # A frame behind the end takes some column or other, and is not counted.
    rows = (lead + text[:, None] + every * frame).clamp(max=queries.shape[2] - 1)
    asked = queries.gather(2, rows[:, None, :, None].expand(-1, queries.shape[1], -1, queries.shape[3]))
    scores = asked @ keys[:, :, lead : lead + tokens].transpose(2, 3) / queries.shape[3] ** 0.5  # [B, H, T, N]
    scores = scores.float().masked_fill(token >= text[:, None, None, None], -1e4).log_softmax(dim=3)
    cost = -(scores * spoken[:, None]).sum(dim=3).mean(dim=1)  # [B, T]
    counted = (frame < frames[:, None]) & (text > 0)[:, None]
    mean: Tensor = (cost * counted).sum() / counted.sum().clamp(min=1)
    return mean


class Reading:
    """The place in the text of each row of a batch; its tensors stay where they are, for steps that are captured.

    Args:
        config: of the model.
        size: B.
        window: tokens that the place may move on by in a step; at least 1.
        device: of the model.
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
