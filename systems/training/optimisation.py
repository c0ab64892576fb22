"""How weights move: the learning rate of a step, one player's optimiser with clipping and the refusal of updates that are not finite, and
the moving averages that are validated and exported.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from systems.training.processes import Processes
from systems.training.recipe import Losses, OptimiserSpec


class Meter:
    """Means of scalars since the last reading, summed on the device so that no step waits for them."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], Tensor] = {}

    def add(self, values: Mapping[str, Tensor], usable: Tensor) -> None:
        """Takes scalars in; nothing where ``usable`` (float [], 1 or 0) is 0."""
        names = tuple(values)
        row = torch.stack([*(v.detach().float().reshape(()) for v in values.values()), usable])
        row = torch.where(usable > 0, row, 0.0)
        if names in self._sums:
            self._sums[names] += row
        else:
            self._sums[names] = row

    def read(self) -> dict[str, float]:
        """The means by name, NaN where nothing usable was seen; starts anew. Waits for the device."""
        totals: dict[str, tuple[float, float]] = {}
        for names, sums in self._sums.items():
            *values, count = sums.tolist()
            for name, value in zip(names, values, strict=True):
                before = totals.get(name, (0.0, 0.0))
                totals[name] = (before[0] + value, before[1] + count)
        self._sums = {}
        return {name: value / count if count else float("nan") for name, (value, count) in totals.items()}


class Player:
    """What moves one player's parameters, those without gradient left alone.

    A step whose loss or gradient norm is not finite changes neither weights nor moments. The decision stays on the device
    (the fused AdamW takes it as ``found_inf``, and the clipping as ``grad_scale``, as it does from a gradient scaler), so that it costs
    no synchronisation.

    Raises:
        ValueError: no parameters.
    """

    def __init__(self, name: str, parameters: Sequence[nn.Parameter], spec: OptimiserSpec, total_steps: int, processes: Processes) -> None:
        if not parameters:
            raise ValueError(f"player '{name}' has no parameters to move")
        self.name, self.parameters = name, list(parameters)
        self._spec, self._total_steps, self._processes = spec, total_steps, processes
        self.optimiser = torch.optim.AdamW(
            self.parameters, lr=spec.learning_rate, betas=spec.betas, weight_decay=spec.weight_decay, fused=True
        )
        self.meter = Meter()
        # skipped altogether, skipped in a row up to now, longest such row
        self.skipped = torch.zeros(3, dtype=torch.float32, device=processes.device)

    def update(self, losses: Losses, step: int) -> None:
        """Backward pass and, if all is finite, one step of the optimiser."""
        self.optimiser.zero_grad(set_to_none=True)
        losses.total.backward()  # type: ignore[no-untyped-call]
        loss = self._processes.mean_gradients(self.parameters, losses.total.detach())
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        good = (torch.isfinite(norm) & torch.isfinite(loss)).float().reshape(())
        bad = 1.0 - good
        rate = learning_rate(self._spec, step, self._total_steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.found_inf = bad  # type: ignore[attr-defined]
        if self._spec.clip_norm:  # AdamW divides by it while it reads the gradients: clipping without a pass of its own
            self.optimiser.grad_scale = (norm.float() / self._spec.clip_norm).clamp(min=1.0).reshape(())  # type: ignore[attr-defined]
        self.optimiser.step()
        in_a_row = (self.skipped[1] + 1.0) * bad
        self.skipped = torch.stack([self.skipped[0] + bad, in_a_row, torch.maximum(self.skipped[2], in_a_row)])
        self.meter.add({"loss": losses.total, **losses.parts, "grad_norm": norm}, good)

    def learning_rate(self, step: int) -> float:
        """Of the step about to be made."""
        return learning_rate(self._spec, step, self._total_steps)


SCHEDULES = ("cosine", "exponential", "constant")


def learning_rate(spec: OptimiserSpec, step: int, total_steps: int) -> float:
    """Learning rate of the step that is about to be made, ``step`` of them finished; the cosine ends at ``total_steps`` and stays there beyond.

    Raises:
        ValueError: unknown ``spec.schedule``.
    """
    if step < spec.warmup_steps:
        return spec.learning_rate * (step + 1) / spec.warmup_steps
    after = step - spec.warmup_steps
    if spec.schedule == "constant":
        return spec.learning_rate
    if spec.schedule == "exponential":
        return spec.learning_rate * spec.decay**after
    if spec.schedule == "cosine":
        progress = min(1.0, after / max(1, total_steps - 1 - spec.warmup_steps))
        low = spec.learning_rate * spec.final_ratio
        return low + (spec.learning_rate - low) * 0.5 * (1.0 + math.cos(math.pi * progress))
    raise ValueError(f"schedule '{spec.schedule}' is unknown; there are: {', '.join(SCHEDULES)}")


class Averages:
    """Exponential moving averages of the parameters of some modules, by name.

    Buffers are not averaged: codebooks and statistics kept in them are moving averages already. The decay is ``decay`` once ``step`` is large;
    early on it is (1 + step) / (10 + step), so that the start is forgotten.
    """

    def __init__(self, modules: Mapping[str, nn.Module], decay: float) -> None:
        parameters = {f"{name}/{key}": p.detach() for name, module in modules.items() for key, p in module.named_parameters()}
        self._decay, self._live = decay, list(parameters.values())  # the memory of the parameters, without gradient
        self._averages = {key: p.clone() for key, p in parameters.items()}
        self._mean = list(self._averages.values())

    def update(self, step: int) -> None:
        """Takes the weights in after a step; ``step`` counts from 0."""
        if self._mean:
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
