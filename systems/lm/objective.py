"""The language models' loss: masked cross-entropy, averaged over codebooks.

Shape letters: B batch, K codebooks, S steps, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class LmLoss:
    """Result of a teacher-forced pass.

    Args:
        total: scalar, what is minimised.
        codebooks: ``[K]``, nats per token of each codebook.
        strayed: scalar, see `systems.lm.guided_attention`; not in the total, and None where the batch does not guide.
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
