"""Moving averages of weights: what is validated and exported, beside what is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


class Averages:
    """Exponential moving averages of the parameters of some modules.

    Buffers are not averaged: codebooks and statistics kept in them are moving averages already.

    Args:
        modules: by name, on their device.
        decay: of the average once ``step`` is large; early on it is (1 + step) / (10 + step), so that the start is forgotten.
    """

    def __init__(self, modules: Mapping[str, nn.Module], decay: float) -> None:
        self._decay = decay
        self._parameters = {f"{name}/{key}": p for name, module in modules.items() for key, p in module.named_parameters()}
        self._averages = {key: p.detach().clone() for key, p in self._parameters.items()}
        self._live = [p.detach() for p in self._parameters.values()]  # same memory, no gradient
        self._mean = list(self._averages.values())

    def update(self, step: int) -> None:
        """Takes the weights in after a step; ``step`` counts from 0."""
        if self._mean:
            import torch

            torch._foreach_lerp_(self._mean, self._live, 1.0 - min(self._decay, (1.0 + step) / (10.0 + step)))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The modules hold their averages; afterwards exactly what they held before."""
        kept = [p.clone() for p in self._live]
        for live, mean in zip(self._live, self._mean, strict=True):
            live.copy_(mean)
        try:
            yield
        finally:
            for live, before in zip(self._live, kept, strict=True):
                live.copy_(before)

    def tensors(self) -> dict[str, Tensor]:
        """The averages themselves, by "module/parameter"; writing into them restores a state."""
        return dict(self._averages)
