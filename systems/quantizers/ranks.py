"""What several training processes must agree on: sums over all of them, choices of the first."""

from __future__ import annotations

import torch
from torch import Tensor


def over_ranks(total: Tensor) -> Tensor:
    """The sum of ``total`` over processes, in place; itself where there is one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(total)
    return total


def from_first_rank(table: Tensor) -> Tensor:
    """The first process's ``table``; itself where there is one."""
    table = table.contiguous()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.broadcast(table, src=0)
    return table
