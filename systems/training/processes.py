"""One process or many: who this one is, and what they tell each other. Many go through Hugging Face accelerate (``[train]`` extra).

Modules are called by recipes in ways of their own (several players, several inputs), which a wrapper around ``forward`` cannot follow;
so gradients are averaged in one flat message per player after the backward pass, and nothing is wrapped.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Processes:
    """A single process, computing on ``device``; talking to nobody costs nothing."""

    rank = 0
    count = 1

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def mean_gradients(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
        """Averages gradients over the processes, in place; returns the averaged loss."""
        return loss

    def follow_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrites the tensors with those of process 0."""

    def agree(self, numbers: Sequence[int]) -> list[int]:
        """What process 0 says."""
        return list(self.gather(list(numbers))[0])

    def any(self, flag: bool) -> bool:
        """True where any process says so."""
        return any(self.gather(flag))

    def gather(self, thing: Any) -> list[Any]:
        """Everyone's ``thing``, by rank."""
        return [thing]

    def wait(self) -> None:
        """Until all are here."""

    def close(self) -> None:
        """Ends the conversation."""


class ManyProcesses(Processes):
    """One of several processes started by ``torchrun`` or ``accelerate launch``.

    Args:
        cpu: compute on the CPU even where there are accelerators.

    Raises:
        ImportError: accelerate is not installed.
    """

    def __init__(self, cpu: bool) -> None:
        from accelerate import PartialState  # type: ignore[import-not-found,unused-ignore]

        self._state = PartialState(cpu=cpu)
        super().__init__(torch.device("cpu") if self._state.device.type == "cpu" else self._state.device)
        self.rank, self.count = self._state.process_index, self._state.num_processes

    def mean_gradients(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
        from accelerate.utils import reduce  # type: ignore[import-not-found,unused-ignore]

        for parameter in parameters:
            if parameter.grad is None:  # another process may have one: all must send the same message
                parameter.grad = torch.zeros_like(parameter)
        grads = [p.grad for p in parameters if p.grad is not None]
        message = torch.cat([loss.reshape(1).float(), *(g.reshape(-1).float() for g in grads)])
        mean: Tensor = reduce(message, "mean")
        pieces = torch.split(mean[1:], [g.numel() for g in grads])
        for grad, piece in zip(grads, pieces, strict=True):
            grad.copy_(piece.view_as(grad))
        return mean[0]

    def follow_first(self, tensors: Iterable[Tensor]) -> None:
        from accelerate.utils import broadcast

        for tensor in tensors:
            tensor.copy_(broadcast(tensor.contiguous(), from_process=0))

    def gather(self, thing: Any) -> list[Any]:
        from accelerate.utils import gather_object

        return list(gather_object([thing]))

    def wait(self) -> None:
        self._state.wait_for_everyone()

    def close(self) -> None:
        self._state.destroy_process_group()


def join(device: str) -> Processes:
    """A process by itself, or its place among those a launcher started.

    Args:
        device: "auto" (an accelerator where there is one), "cpu", "cuda", "cuda:1" ...

    Raises:
        ImportError: several processes were started without accelerate.
        ValueError: the device does not exist.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        cpu = device == "cpu" or not torch.accelerator.is_available()
        if not cpu and device not in ("auto", "cuda"):
            raise ValueError(f"device={device}: with several processes each takes its own; say device=auto or device=cpu")
        return ManyProcesses(cpu)
    if device == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return Processes(found or torch.device("cpu"))
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:  # a torch without CUDA asserts
        raise ValueError(f"device={device} cannot be used: {str(error).splitlines()[0]}") from error
    return Processes(chosen)
