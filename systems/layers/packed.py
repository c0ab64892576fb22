"""Linear layers whose weights lie as the processor wants them: for decoding on a CPU, where reading weights is what takes the time.

The stock product of one row with a matrix reads memory at a third of its speed. oneDNN's does better once the weights are blocked, in
float32 and in bfloat16; FBGEMM's integer product reads a quarter of the bytes. Packed layers only infer: they have no parameters.

Shape letters: I inputs, O outputs.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor, nn

Precision = Literal["float32", "bfloat16", "int8"]
"""int8: weights in 8 bits with a scale per output, activations in 7 bits with a scale per call, everything between layers in float32."""


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
        weight: ``[O, I]``, float32 or, for the precision bfloat16, that.
        bias: ``[O]`` or None.
        precision: of the product. The layer takes and gives float32 for int8.

    Raises:
        ValueError: see `cannot_pack`.
    """
    if reason := cannot_pack(precision, weight.device):
        raise ValueError(reason)
    return _IntegerLinear(weight, bias) if precision == "int8" else _BlockedLinear(weight, bias)


class _BlockedLinear(nn.Module):
    """oneDNN's product with weights in its own blocked layout."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        # Blocked for a batch of one row; more rows are computed from the same blocks.
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), 1)
        self._bias = None if bias is None else bias.detach().clone()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
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
