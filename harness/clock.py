"""Timing: one clock, device synchronised on both sides."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Timed(Generic[T]):
    """A result and the wall seconds it took."""

    result: T
    wall_s: float


def timed(call: Callable[[], T], device: str) -> Timed[T]:
    """Runs ``call`` between two synchronisations of ``device`` ("cpu", "cuda:0" ...); monotonic, immune to clock jumps."""
    synchronise(device)
    start = time.perf_counter()
    result = call()
    synchronise(device)
    return Timed(result, time.perf_counter() - start)


def synchronise(device: str) -> None:
    """Waits until the device has finished what was queued; nothing to do on the CPU."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(torch.device(device))
