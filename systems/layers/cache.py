"""Static key-value caches: memory is taken once, and a step writes in place.

Shape letters: L layers, B batch, H heads, C columns (capacity), D numbers a head, S columns of one call.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class KvCache:
    """Keys and values of a transformer's layers.

    A column holds one position of every item; items of different lengths stand with their ends in one column, so that all of them
    write the same column at every step.

    Args:
        keys: ``[L, B, H, C, D]``.
        values: the same.
    """

    keys: Tensor
    values: Tensor

    @property
    def capacity(self) -> int:
        """C."""
        return self.keys.shape[3]


@dataclass(frozen=True, eq=False)
class Window:
    """Where one call writes in a cache, and what it reads.

    Args:
        columns: int64 ``[S]`` on the device, one after another; what was written there before is overwritten.
        seen: columns ``0..seen - 1`` are read. The fewer, the cheaper; a captured graph has to read all of them and mask.
        mask: bool, broadcastable to ``[B, 1, S, seen]``, true where a query may look. None if the S queries stand in the last columns
            that are seen and may look at everything up to their own.

    Raises:
        ValueError: several queries that neither begin at column 0 nor have a mask.
    """

    columns: Tensor
    seen: int
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        if self.mask is None and self.columns.shape[0] not in (1, self.seen):
            raise ValueError(f"{self.columns.shape[0]} queries over {self.seen} columns need a mask")


def allocate(layers: int, batch_size: int, heads: int, capacity: int, head_dim: int, like: Tensor) -> KvCache:
    """An empty cache of the type and on the device of ``like``."""
    shape = (layers, batch_size, heads, capacity, head_dim)
    # Zeros, not empty memory: a masked column counts zero times its value, and nothing times a NaN is a NaN.
    return KvCache(like.new_zeros(shape), like.new_zeros(shape))


def aligned_mask(padding: Tensor, columns: Tensor, seen: int) -> Tensor:
    """The causal mask of items that begin in different columns.

    Args:
        padding: int64 ``[B]``, empty columns before each item.
        columns: int64 ``[S]`` of the queries.
        seen: columns that are read.

    Returns:
        bool ``[B, 1, S, seen]``. A query in an empty column sees that column: its result is of no use, but finite.
    """
    keys = torch.arange(seen, device=columns.device)
    causal = keys <= columns[:, None]
    begun = keys >= padding[:, None, None]
    own = keys == columns[:, None]
    return (causal & (begun | own))[:, None]
