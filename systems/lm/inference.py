"""A language model made ready for a machine: narrow weights packed for a CPU, and the least its steps read and compute.

Decoding on a CPU is bound by reading weights. In float32 torch's own product reads them as they are; bfloat16 weights lie in oneDNN's blocks,
int8 ones (with a scale per output) in FBGEMM's. Everything between packed layers is float32, and so is attention, for which torch has no fast
product of one bfloat16 query on a CPU. Packed layers only infer: they have no parameters.

Shape letters: B batch, K codebooks, L layers, W width, V' logits of a codebook, I inputs, O outputs.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.api import Work
from systems.lm.backbone import LanguageModel
from systems.lm.models import HierarchicalLm
from systems.lm.tokens import CodeHeads, PairedTokens


def prepared(model: LanguageModel, device: str, precision: str) -> LanguageModel:
    """The model on its device in its precision, its weights packed where they are narrow and that can be done; in place, for inference only.

    Args:
        model: on the CPU, in float32.
        device: "cpu", "cuda", ...
        precision: of the weights, "float32", "bfloat16" or "int8".

    Raises:
        ValueError: int8 where it cannot be packed.
    """
    reason = cannot_pack(precision, device)
    if precision == "int8" and reason:
        raise ValueError(f'precision="int8": {reason}; use "bfloat16" or "float32"')
    model = model.to(device, working_dtype(device, precision))
    if reason is None:
        _pack(model, precision)
    return model


def working_dtype(device: str, precision: str) -> torch.dtype:
    """Of what a model `prepared` so computes with and remembers: where weights are packed, only they are in their precision."""
    return torch.bfloat16 if precision == "bfloat16" and cannot_pack(precision, device) else torch.float32


def cannot_pack(precision: str, device: torch.device | str) -> str | None:
    """Why layers of this precision cannot be packed on this device, or None."""
    if torch.device(device).type != "cpu":
        return f"weights are packed for the CPU, this is {device}"
    if precision not in ("bfloat16", "int8"):
        return f"weights are packed as bfloat16 or int8, not {precision!r}"
    if precision == "int8":
        return None if "fbgemm" in torch.backends.quantized.supported_engines else "this build of torch has no FBGEMM"
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):  # type: ignore[no-untyped-call]
        return "this build of torch has no oneDNN"
    return None if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "this processor has no bfloat16 products in oneDNN"


def _pack(model: LanguageModel, precision: str) -> None:
    """Puts packed layers in the place of the model's linear layers and heads.

    Heads that share the tables' weights (``table_dim``) are small and stay, as do those of second halves of tokens.
    """
    apart = {id(model.decoder_heads)} if isinstance(model, HierarchicalLm) else set()
    kept = {id(heads) for name, heads in model.named_modules() if name.endswith("second_heads")}
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                setattr(parent, name, packed_linear(child.weight, child.bias, precision))
            elif isinstance(child, CodeHeads) and not child.shares_tables and id(child) not in kept:
                setattr(parent, name, PackedHeads(child, precision, apart=id(child) in apart))


def packed_linear(weight: Tensor, bias: Tensor | None, precision: str) -> nn.Module:
    """``[..., I]`` to ``[..., O]`` like ``torch.nn.functional.linear(x, weight, bias)``, of float32 ``weight [O, I]`` and ``bias [O]``."""
    weight, bias = weight.detach(), None if bias is None else bias.detach()
    return _IntegerLinear(weight, bias) if precision == "int8" else _BlockedLinear(weight, bias)


class _BlockedLinear(nn.Module):
    """oneDNN's product with bfloat16 weights in its own blocked layout."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        # Blocked for a batch of one row; more rows are computed from the same blocks.
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.bfloat16(), 1)
        self._bias = None if bias is None else bias.bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x.bfloat16(), self._weight, self._bias, "none", [], "")
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


class PackedHeads(nn.Module):
    """`CodeHeads` with packed weights of their own; ``apart`` if each head is asked by itself (`single`), else all together (`forward`)."""

    def __init__(self, heads: CodeHeads, precision: str, apart: bool) -> None:
        super().__init__()
        self.codebooks = heads.codebooks
        parts = list(heads.weight) if apart else [heads.weight.flatten(0, 1)]
        self.parts = nn.ModuleList(packed_linear(part, None, precision) for part in parts)

    def forward(self, hidden: Tensor, first: int = 0) -> Tensor:
        parts = [part(hidden) for part in self.parts]
        joined = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        return joined.reshape(*hidden.shape[:-1], self.codebooks, -1)

    def single(self, hidden: Tensor, number: int, first: int = 0) -> Tensor:
        if len(self.parts) == 1:
            every: Tensor = self(hidden)
            return every[..., number, :]
        found: Tensor = self.parts[number](hidden)
        return found


@dataclass(frozen=True)
class StepCost:
    """Of one model in one precision.

    Args:
        backbone: weights of the transformer over time.
        said: weights that are read to say a step from its hidden state, each as often as it is read.
        weight_bytes: of one weight.
        column_bytes: of the cache, keys and values of all layers, for one position of one item.
    """

    backbone: int
    said: int
    weight_bytes: int
    column_bytes: int

    def prefill(self, columns: int, batch: int) -> Work:
        """Text and prompts of ``columns`` positions each, and the first step said."""
        read = self.weight_bytes * (self.backbone + self.said)
        return Work(read, self.column_bytes * columns * batch, 2.0 * batch * (self.backbone * columns + self.said))

    def steps(self, first_column: int, count: int, batch: int) -> Work:
        """``count`` further steps behind ``first_column`` positions."""
        read = self.weight_bytes * (self.backbone + self.said) * count
        seen = count * first_column + count * (count + 1) / 2
        return Work(read, self.column_bytes * seen * batch, 2.0 * batch * (self.backbone + self.said) * count)


def step_cost(model: LanguageModel, weight_bytes: int, cache_bytes: int) -> StepCost:
    """Counted from a model that has not been packed; a weight in use has ``weight_bytes``, a number in the cache ``cache_bytes``.

    Rows of tables are looked up, not read through; tables that are heads too are read.
    """
    config = model.config
    tokens = model.tokens
    if isinstance(tokens, PairedTokens):
        said = _count(tokens.first_heads) + _count(tokens.enter) + _count(tokens.second_heads)
    elif isinstance(model, HierarchicalLm):
        said = _count(tokens.heads) + _tied(tokens.tables.weight.numel() // config.num_codebooks, config.table_dim)
        later = config.num_codebooks - 1
        if later:
            said += _count(model.enter) + later * (_count(model.decoder) + _count(model.narrow)) + _count(model.decoder_heads)
            said += _tied(tokens.tables.weight[1:].numel(), config.table_dim)
    else:
        said = _count(tokens.heads) + _tied(tokens.tables.weight.numel(), config.table_dim)
    backbone = config.backbone
    return StepCost(_count(model.transformer), said, weight_bytes, 2 * backbone.layers * backbone.width * cache_bytes)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _tied(rows: int, table_dim: int) -> int:
    return rows if table_dim else 0
