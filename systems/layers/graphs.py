"""Fewer launches for a step that is repeated: torch.compile or CUDA graphs around it, or nothing.

Small decoding steps are bound by launching kernels. A step qualifies if it takes no arguments, works on tensors that stay where they are,
and never waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch

Acceleration = Literal["off", "compile", "graph"]
_WARM_UPS = 3


def accelerated(step: Callable[[], None], how: Acceleration, device: torch.device) -> Callable[[], None]:
    """The same step, faster.

    "graph" runs the step a few times (lazily initialised libraries must not be captured) and then captures it: whoever calls has to put
    the tensors it works on into their first state afterwards. "compile" does its work at the first call.

    Args:
        step: what is repeated.
        how: "off" gives ``step`` itself.
        device: of its tensors.

    Raises:
        ValueError: another word, or a graph without a CUDA device.
    """
    if how not in get_args(Acceleration):
        raise ValueError(f"acceleration is one of {', '.join(get_args(Acceleration))}; got {how!r}")
    if how == "off":
        return step
    if how == "compile":
        compiled: Callable[[], None] = torch.compile(step, dynamic=False)
        return compiled
    if device.type != "cuda":
        raise ValueError(f'acceleration="graph" needs a CUDA device, this is {device}; use "off" or "compile"')
    return _captured(step, device)


def _captured(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    with torch.cuda.device(device):
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UPS):
                step()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
    replay: Callable[[], None] = graph.replay
    return replay
