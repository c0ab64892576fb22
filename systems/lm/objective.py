"""What a language model learns: masked cross-entropy averaged over codebooks, and guided attention beside it.

A language model that begins with little data reads on in its own codes and is long in finding out what the text is for. In guided attention some
heads of one layer are told, in training, which text token is spoken next. Tachibana, Uenoyama and Aihara ("Efficiently trainable
text-to-speech system ... with guided attention", 2018) penalise attention off the diagonal of text and time; here it is asked to be at the
tokens that are spoken, as an aligner finds them (`systems.lm.aligner`). No other head is told anything.

Shape letters: B batch, K codebooks, S steps, V vocabulary, H heads, P columns of a sequence, N text tokens, T frames, D numbers a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from systems.layers.transformer import Watched
from systems.lm.config import LmConfig

GUIDED_HEADS = 2


@dataclass(frozen=True, eq=False)
class LmLoss:
    """Result of a teacher-forced pass.

    Args:
        total: scalar, what is minimised.
        codebooks: ``[K]``, nats per token of each codebook.
        strayed: scalar, see `strayed`; not in the total, and None where the batch does not guide.
    """

    total: Tensor
    codebooks: Tensor
    strayed: Tensor | None = None


def token_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Nats ``[..., K]`` that tokens ``targets [..., K]`` cost under ``logits [..., K, V]``; computed in float32."""
    # Codebook by codebook: the logits are by far the largest tensor of a training step, and whichever way they lie, no more than one
    # codebook's part of them is copied at a time.
    pairs = zip(logits.movedim(-2, 0).unbind(), targets.movedim(-1, 0).unbind(), strict=True)
    return torch.stack([_costs(scores, wanted) for scores, wanted in pairs], dim=-1)


def _costs(logits: Tensor, targets: Tensor) -> Tensor:
    flat = functional.cross_entropy(logits.flatten(0, -2).float(), targets.flatten(), reduction="none")
    return flat.view(targets.shape)


def codebook_means(entropy: Tensor, counted: Tensor) -> Tensor:
    """``[K]``: mean of ``entropy [B, K, S]`` over what is ``counted`` (bool, the same shape) of each codebook; 0 where nothing is."""
    return (entropy * counted).sum(dim=(0, 2)) / counted.sum(dim=(0, 2)).clamp(min=1)


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
