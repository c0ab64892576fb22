"""Linear layers whose weights lie as the processor wants them: for decoding on a CPU, where reading weights is what takes the time.

The stock product of one row with a matrix reads memory at a third of its speed. Ours (`few_rows`) reads it at about nine tenths, for a few
rows; oneDNN's with blocked weights at two thirds, for more of them or where no C compiler is; FBGEMM's integer product reads a quarter of the
bytes. Packed layers only infer: they have no parameters.

Shape letters: I inputs, O outputs, R rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from systems.layers.few_rows import cannot_take, few_rows_product

Precision = Literal["float32", "bfloat16", "int8"]
"""Of the weights; everything between layers is float32, and so is attention, for which torch has no fast product of one bfloat16 query on a
CPU. int8: weights in 8 bits with a scale per output, activations in 7 bits with a scale per call."""

_FEW = {torch.float32: 8, torch.bfloat16: 2}
"""Rows up to which our product is the faster one, measured with two threads on a processor with AVX-512; oneDNN multiplies bfloat16 as such."""


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
    if precision == "int8":
        return _IntegerLinear(weight, bias)
    weight = weight.detach().to(getattr(torch, precision)).contiguous()
    bias = None if bias is None else bias.detach().contiguous()
    blocked = _BlockedLinear(weight, bias)
    return blocked if cannot_take(weight) else _StreamedLinear(weight, bias, blocked)


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


class _StreamedLinear(nn.Module):
    """Our own product for as many rows as it is the faster for, and ``many`` for more: both layouts of the weights are kept."""

    def __init__(self, weight: Tensor, bias: Tensor | None, many: nn.Module) -> None:
        super().__init__()
        self._weight, self._bias, self._many = weight, bias, many
        self._few = _FEW[weight.dtype]

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() <= self._few * x.shape[-1] and not torch.compiler.is_compiling():
            return few_rows_product(x, self._weight, self._bias)
        out: Tensor = self._many(x)
        return out


class _IntegerLinear(nn.Module):
    """FBGEMM's product of 8-bit weights (symmetric, a scale per output) with activations quantised as they come."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        weight = weight.detach().float()
        scales = (weight.abs().amax(dim=1) / 127.0).clamp(min=1e-12)
        with _fbgemm():
            integers = torch.quantize_per_channel(weight, scales.double(), torch.zeros(weight.shape[0], dtype=torch.int64), 0, torch.qint8)
            self._packed = torch.ops.quantized.linear_prepack(integers, None if bias is None else bias.detach().float())

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
