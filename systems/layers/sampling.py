"""Drawing tokens: repetition penalty, temperature, top-k, top-p, and one uniform number per token.

Everything stays on the device of the logits, and nothing waits for it. The randomness comes in as numbers in 0..1, drawn by whoever owns
the generator: what an item draws then depends neither on the vocabulary nor on the items beside it nor on the device.

Shape letters: V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SamplingConfig:
    """How a token is drawn; applied in this order, as transformers does.

    Args:
        repetition_penalty: positive logits of tokens that were emitted before are divided by it, negative ones multiplied (Keskar et al.
            2019); 1 is none.
        repetition_window: how many steps back a token counts as emitted before; 0 for all.
        temperature: 0 takes the likeliest token.
        top_k: likeliest tokens that stay; 0 for all.
        top_p: of those, the fewest that hold this share of the probability together; 1 for all.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    repetition_window: int = 0

    def __post_init__(self) -> None:
        if self.temperature < 0.0 or self.top_k < 0 or not 0.0 < self.top_p <= 1.0:
            raise ValueError(
                f"temperature and top_k are not negative and top_p lies in (0, 1]; got {self.temperature}, {self.top_k}, {self.top_p}"
            )
        if self.repetition_penalty <= 0.0 or self.repetition_window < 0:
            raise ValueError(
                "repetition_penalty is positive and repetition_window not negative; "
                f"got {self.repetition_penalty}, {self.repetition_window}"
            )


def penalised(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """``logits [..., V]`` with those of ``seen`` (bool, the same shape) made less likely."""
    smaller = torch.minimum if penalty >= 1.0 else torch.maximum  # positive: divided, negative: multiplied
    return torch.where(seen, smaller(logits / penalty, logits * penalty), logits)


def sample(logits: Tensor, uniform: Tensor, config: SamplingConfig) -> Tensor:
    """Tokens int64 ``[...]``, by inversion of the cumulative distribution; the repetition penalty is the caller's (`penalised`).

    Args:
        logits: ``[..., V]``, some of them minus infinity if need be.
        uniform: float32 ``[...]`` in 0..1 (1 excluded).
        config: temperature, top-k, top-p.
    """
    if config.temperature == 0.0:
        return logits.argmax(dim=-1)
    scores = logits.float() / config.temperature
    size = scores.shape[-1]
    # The k likeliest first: sorting a few numbers is nothing, sorting the whole vocabulary costs more than the network's own step.
    places: Tensor | None = None
    if 0 < config.top_k < size:
        scores, places = scores.topk(config.top_k, dim=-1)
    elif config.top_p < 1.0:
        scores, places = scores.sort(dim=-1, descending=True)
    shares = scores.softmax(dim=-1)
    if config.top_p < 1.0:
        before = shares.cumsum(dim=-1) - shares
        before[..., 0] = 0.0  # a difference of roundings must not drop the likeliest
        shares = torch.where(before < config.top_p, shares, 0.0)
    cumulative = shares.cumsum(dim=-1)
    total = cumulative[..., -1]
    # Below the total even after rounding, else nothing would lie above it.
    mark = torch.minimum(uniform * total, total.nextafter(torch.zeros_like(total)))
    chosen = (cumulative <= mark[..., None]).sum(dim=-1)
    return chosen if places is None else places.gather(-1, chosen[..., None])[..., 0]
