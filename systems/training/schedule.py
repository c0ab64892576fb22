"""The learning rate of a step, as a plain function: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from systems.training.recipe import OptimiserSpec

SCHEDULES = ("cosine", "exponential", "constant")


def learning_rate(spec: OptimiserSpec, step: int, total_steps: int) -> float:
    """Learning rate of the step that is about to be made.

    Args:
        spec: peak, warm-up and shape.
        step: steps finished, from 0.
        total_steps: planned; the cosine ends there and stays at its end value beyond.

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
