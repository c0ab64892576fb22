"""Losses of least-squares adversarial training (Mao et al. 2017), from discriminators' scores and features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def generator_loss(scores: Sequence[Tensor]) -> Tensor:
    """Least-squares adversarial loss of the outputs' scores, summed over discriminators (Mao et al. 2017)."""
    return torch.stack([(1.0 - score).square().mean() for score in scores]).sum()


def discriminator_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Least-squares loss of the discriminators, summed."""
    return torch.stack([(1.0 - r).square().mean() + f.square().mean() for r, f in zip(real, fake, strict=True)]).sum()


def feature_matching_loss(real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """L1 distance of every inner feature of every discriminator, summed; the real side takes no gradient."""
    return torch.stack(
        [(f - r.detach()).abs().mean() for rs, fs in zip(real, fake, strict=True) for r, f in zip(rs, fs, strict=True)]
    ).sum()
