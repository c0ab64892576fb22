"""The least a language model has to read and to compute: of a step, and of the text and prompts before the first one.

Shape letters: B batch, K codebooks, L layers, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from harness.api import Work
from systems.lm.backbone import LanguageModel
from systems.lm.hierarchical import HierarchicalLm
from systems.lm.tokens import PairedTokens


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
