"""A language model made ready for a machine: weights packed for a CPU (`systems.layers.packed`), and the least its steps read and compute.

Shape letters: B batch, K codebooks, L layers, W width, V' logits of a codebook.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from harness.api import Work
from systems.layers.packed import Precision, cannot_pack, packed_block, packed_linear
from systems.layers.transformer import Block, Transformer
from systems.lm.backbone import LanguageModel
from systems.lm.models import HierarchicalLm
from systems.lm.tokens import CodeHeads, PairedTokens


def prepared(model: LanguageModel, device: str, precision: Precision) -> LanguageModel:
    """The model on its device in its precision, its weights packed where that can be done; in place, and for inference only.

    Raises:
        ValueError: int8 where it cannot be packed.
    """
    reason = cannot_pack(precision, device)
    if precision == "int8" and reason:
        raise ValueError(f'precision="int8": {reason}; use "bfloat16" or "float32"')
    model = model.to(device, working_dtype(device, precision))
    if reason is None:
        pack(model, precision)
    return model


def working_dtype(device: str, precision: Precision) -> torch.dtype:
    """Of what a model `prepared` so computes with and remembers: where weights are packed, only they are in their precision."""
    return torch.bfloat16 if precision == "bfloat16" and cannot_pack(precision, device) else torch.float32


def pack(model: LanguageModel, precision: Precision) -> None:
    """Puts packed layers in the place of the model's linear layers and heads.

    Heads that share the tables' weights (``table_dim``) are small and stay, as do those of second halves of tokens.

    Args:
        model: on the CPU, in float32.
        precision: of the weights.
    """
    apart = {id(model.decoder_heads)} if isinstance(model, HierarchicalLm) else set()
    kept = {id(heads) for name, heads in model.named_modules() if name.endswith("second_heads")}
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                setattr(parent, name, packed_linear(child.weight, child.bias, precision))
            elif isinstance(child, CodeHeads) and not child.shares_tables and id(child) not in kept:
                setattr(parent, name, PackedHeads(child, precision, apart=id(child) in apart))
    for transformer in [module for module in model.modules() if isinstance(module, Transformer)]:
        transformer.blocks = nn.ModuleList(packed_block(cast(Block, block)) for block in transformer.blocks)


class PackedHeads(nn.Module):
    """`CodeHeads` with packed weights of their own.

    Args:
        heads: of a model.
        precision: of the products.
        apart: each head is asked by itself (`single`), else all of them together (`forward`).
    """

    def __init__(self, heads: CodeHeads, precision: Precision, apart: bool) -> None:
        super().__init__()
        self.codebooks = heads.codebooks
        parts = list(heads.weight) if apart else [heads.weight.flatten(0, 1)]
        self.parts = nn.ModuleList(packed_linear(part, None, precision) for part in parts)

    def forward(self, hidden: Tensor, first: int = 0) -> Tensor:
        """See `CodeHeads.forward`."""
        parts = [part(hidden) for part in self.parts]
        joined = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        return joined.reshape(*hidden.shape[:-1], self.codebooks, -1)

    def single(self, hidden: Tensor, number: int, first: int = 0) -> Tensor:
        """See `CodeHeads.single`."""
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
    """Counted from a model that has not been packed.

    Rows of tables are looked up, not read through; tables that are heads too are read.

    Args:
        model: of any kind.
        weight_bytes: of a weight in use, 1, 2 or 4.
        cache_bytes: of a number in the cache.
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
