"""Which cells of a table are marked best, and why in some columns none is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.api import Better, PooledMetric
from reports.statistics.pooling import UnpoolableError, statistic_of
from reports.statistics.records import COVERAGE_TOLERANCE, Cell, Column, Row, scored

if TYPE_CHECKING:
    import pandas as pd

COMMON_LEAST = 0.5
"""Share of the items scored at all that every system must have scored for a ranking over the common ones."""


def ranked(
    columns: Sequence[Column],
    rows: Sequence[Row],
    groups: Mapping[Any, pd.DataFrame],
    pooled: Mapping[str, PooledMetric],
    barred: Set[tuple[str, str]],
) -> tuple[tuple[Column, ...], list[Row]]:
    """Best cells marked, where a direction is declared, coverage is alike and there is a choice.

    Systems that scored different items are ranked by their values over the common ones, as far as these are a fair part of all.

    Args:
        groups: records by metric, system and settings.
        pooled: metric objects by registry key.
        barred: (metric, system) whose value is not what it seems.
    """
    best: list[set[str]] = [set() for _ in rows]
    out = []
    for column in columns:
        rivals = {
            i: cell
            for i, r in enumerate(rows)
            if not (r.calibration or r.facts.random or r.facts.anchor or (column.key, r.facts.label) in barred)
            and (cell := r.cells[column.key]).n_total
        }
        coverages = [c.coverage for c in rivals.values()]
        values = {i: c.value for i, c in rivals.items() if c.value is not None}
        unranked, common = "", 0
        if column.better is Better.NEITHER:
            unranked = "descriptive"
        elif len(values) < 2:
            unranked = "fewer than two systems"
        elif max(coverages) - min(coverages) > COVERAGE_TOLERANCE:
            unranked = f"coverage differs ({min(coverages):.0%} to {max(coverages):.0%})"
        elif apart := _apart([(rows[i], rivals[i]) for i in values], column, groups, pooled):
            common, figures = apart
            if figures is None:
                unranked = f"the systems have only {common} scored items in common"
            else:
                values = dict(zip(values, figures, strict=True))
        if not unranked:
            top = (max if column.better is Better.HIGHER else min)(values.values())
            for i, value in values.items():
                # What reads the same is equally good.
                if column.shown(value) == column.shown(top):
                    best[i].add(column.key)
        out.append(replace(column, unranked=unranked, common=common))
    return tuple(out), [replace(r, best=frozenset(b)) for r, b in zip(rows, best, strict=True)]


def _apart(
    rivals: Sequence[tuple[Row, Cell]], column: Column, groups: Mapping[Any, pd.DataFrame], pooled: Mapping[str, PooledMetric]
) -> tuple[int, list[float] | None] | None:
    """The number of items that all rivals scored, and their values over these alone; None where they all scored the same items.

    The values are None where too few are common, or one cannot be formed over them.
    """
    if all(c.n_ok == c.n_total and not (c.n_missing or c.n_skipped or c.n_own) for _, c in rivals):
        return None
    kept = [scored(groups[column.key, row.facts.label, row.settings], column.excluded) for row, _ in rivals]
    sets = [frozenset(zip(ok["item"], ok["seed"], strict=True)) for ok in kept]
    if len(set(sets)) == 1:
        return None
    items = [frozenset(ok["item"]) for ok in kept]
    common = frozenset.intersection(*items)
    if len(common) < COMMON_LEAST * len(frozenset.union(*items)):
        return len(common), None
    try:
        whole = [statistic_of(part, column, pooled)(np.ones((1, len(part)))) for part in (ok[ok["item"].isin(common)] for ok in kept)]
    except UnpoolableError:
        return len(common), None
    figures = [float(each[0]) for each in whole]
    return len(common), figures if all(map(math.isfinite, figures)) else None
