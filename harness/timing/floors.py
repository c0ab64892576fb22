"""The floor under a time: what this machine would need if it did nothing but read the weights and multiply.

A floor is max(bytes / bandwidth, operations / rate), both measured here and now with the same threads. Above 100 % of it nothing can come,
except where weights stay in a cache between calls: bandwidth is that of memory, and small models are faster than it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness.api import Work
from harness.timing.clock import timed

_READ_BYTES = 256 * 2**20  # far beyond any cache
_MATRIX = 1536
_ROUNDS = 9


@dataclass(frozen=True)
class MachineRates:
    """What a device does at best."""

    bandwidth: float  # bytes read per second
    flops: dict[str, float] = field(default_factory=dict)  # floating-point operations per second of a matrix product, by precision

    def floor_s(self, work: Work, precision: str) -> float:
        """Seconds for ``work``; operations in a precision whose rate is not known do not count."""
        rate = self.flops.get(precision)
        return max((work.weight_bytes + work.cache_bytes) / self.bandwidth, work.flops / rate if rate else 0.0)


@functools.lru_cache(maxsize=8)
def machine_rates(device: str, threads: int, precisions: tuple[str, ...] = ("float32", "bfloat16")) -> MachineRates:
    """Measured once per process, device and number of threads: about a second on two cores.

    The best of some rounds counts: a floor is about what is possible. What disturbs it makes floors higher and shares better than they are,
    so rates of a busy machine are no better than timings of one.
    """
    import torch

    before = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            memory = torch.ones(_READ_BYTES // 4, device=device)
            readers: list[Callable[[], Any]] = [memory.sum, memory.amax]
            bandwidth = max(_READ_BYTES / _best_s(read, device) for read in readers)
            del memory, readers
            rates = {}
            for precision in precisions:
                matrix = torch.full((_MATRIX, _MATRIX), 1e-2, device=device, dtype=getattr(torch, precision))
                rates[precision] = 2.0 * _MATRIX**3 / _best_s(functools.partial(torch.mm, matrix, matrix), device)
    finally:
        torch.set_num_threads(before)
    return MachineRates(bandwidth, rates)


def _best_s(call: Callable[[], Any], device: str) -> float:
    _, *rest = (timed(call, device).wall_s for _ in range(_ROUNDS))  # the first one warms up
    return min(rest)


def counted_flops(call: Callable[[], Any]) -> float:
    """Operations of the matrix products and convolutions of one call through torch; 0.0 of a system that does not use it.

    Fourier transforms, recurrences and elementwise work are not counted, so a floor made from it is a lower one than it might be.
    """
    if "torch" not in sys.modules:
        return 0.0
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())
