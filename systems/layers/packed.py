"""Layers whose weights lie as the processor wants them: for decoding on a CPU, where reading weights and calling operations take the time.

The stock product of one row with a matrix reads memory at less than half of its speed. Ours in float32 (`gemv`) reads it nearly as fast as
memory allows, for a few rows, and computes a whole block of a transformer in one call. For more rows, for bfloat16, and where no C compiler
is, there is oneDNN's product with blocked weights; for integers FBGEMM's. Packed layers only infer: they have no parameters.

Shape letters: I inputs, O outputs.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from systems.layers.gemv import GemvBlock, GemvLinear, cannot_take, takes_block
from systems.layers.transformer import Block

Precision = Literal["float32", "bfloat16", "int8"]
"""Of the weights (int8: with a scale per output); everything between layers is float32, and so is attention, for which torch has no fast
product of one bfloat16 query on a CPU."""


def cannot_pack(precision: str, device: torch.device | str) -> str | None:
    """Why layers of this precision cannot be packed on this device, or None."""
    if torch.device(device).type != "cpu":
        return f"weights are packed for the CPU, this is {device}"
    if precision not in get_args(Precision):
        return f"weights are packed as {', '.join(get_args(Precision))}, not {precision!r}"
    if precision == "int8":
        return None if "fbgemm" in torch.backends.quantized.supported_engines else "this build of torch has no FBGEMM"
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):  # type: ignore[no-untyped-call]
        return "this build of torch has no oneDNN"
    if precision == "bfloat16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "this processor has no bfloat16 products in oneDNN"
    return None


def packed_linear(weight: Tensor, bias: Tensor | None, precision: Precision) -> nn.Module:
    """``[..., I]`` to ``[..., O]`` like ``torch.nn.functional.linear(x, weight, bias)``.

    Args:
        weight: float32 ``[O, I]``.
        bias: float32 ``[O]`` or None.
        precision: of the weights.

    Raises:
        ValueError: see `cannot_pack`.
    """
    if reason := cannot_pack(precision, weight.device):
        raise ValueError(reason)
    weight, bias = weight.detach(), None if bias is None else bias.detach()
    if precision == "int8":
        return _IntegerLinear(weight, bias)
    blocked = _BlockedLinear(weight.to(getattr(torch, precision)), bias)
    return blocked if precision == "bfloat16" or cannot_take(weight) else GemvLinear(weight, bias, blocked)


def packed_block(block: Block) -> nn.Module:
    """The same block, its linear layers packed before: in one call where that is the faster way."""
    return GemvBlock(block) if takes_block(block) else block


class _BlockedLinear(nn.Module):
    """oneDNN's product with weights in its own blocked layout."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        # Blocked for a batch of one row; more rows are computed from the same blocks.
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, 1)
        self._bias = None if bias is None else bias.to(weight.dtype)
        self._dtype = weight.dtype

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x.to(self._dtype), self._weight, self._bias, "none", [], "")
        return out.float()


class _IntegerLinear(nn.Module):
    """FBGEMM's product of 8-bit weights (symmetric, a scale per output) with activations quantised as they come."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        scales = (weight.abs().amax(dim=1) / 127.0).clamp(min=1e-12).double()  # what a step of 8 bits is worth in each row
        with _fbgemm():
            integers = torch.quantize_per_channel(weight, scales, torch.zeros(weight.shape[0], dtype=torch.int64), 0, torch.qint8)
            self._packed = torch.ops.quantized.linear_prepack(integers, bias)

    def forward(self, x: Tensor) -> Tensor:
        # Seven bits of activations: with eight, processors without VNNI overflow, and results would depend on the processor.
        out: Tensor = torch.ops.quantized.linear_dynamic(x, self._packed, True)
        return out


@contextmanager
def _fbgemm() -> Iterator[None]:
    """Which library packs is a global setting of torch; afterwards it is as before. Running asks the packed weights, not the setting.

    The tensors that packing begins with are announced to go one day; torch 2.13 has nothing else that FBGEMM packs.
    """
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "fbgemm"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*quantized tensor creation functions.*")
            yield
    finally:
        torch.backends.quantized.engine = before
