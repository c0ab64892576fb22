"""The corpus value of a set of records: as a statistic of them, with its interval, and compared with others over the same items."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np

from harness.api import Evidence, PooledMetric
from harness.foreign import attempt, raised
from harness.kept import Kept
from harness.settings.registry import resolve
from reports.statistics.intervals import Array, Estimate, Interval, IntervalSettings, Range
from reports.statistics.jackknife import Statistic, WeightedMean, estimate
from reports.statistics.records import Column
from reports.writing.wording import in_words

if TYPE_CHECKING:
    import pandas as pd


class UnpoolableError(Exception):
    """A value that cannot be formed here; the message says why and is printed in its place."""


def statistic_of(ok: pd.DataFrame, column: Column, pooled: Mapping[str, PooledMetric]) -> Statistic:
    """Scored records as a statistic.

    Args:
        ok: the records of one system, setting and metric that have a value.
        pooled: metric objects by registry key; what is not given is built by the registry.

    Returns:
        The statistic; it raises UnpoolableError where the metric's ``pool`` fails, and gives its resamples read-only to it.

    Raises:
        UnpoolableError: the metric object cannot be built here, is another version, or the records weigh nothing.
    """
    values, weights = ok["value"].to_numpy(float), ok["weight"].to_numpy(float)
    if column.is_mean:
        if not weights.any():
            raise UnpoolableError("all scored items have weight 0")
        return WeightedMean(values, weights)
    metric = pooled_metric(column, pooled)
    try:
        evidence = [
            Evidence(value=v, weight=w, counts=json.loads(c or "{}"), detail=json.loads(d or "{}"))
            for v, w, c, d in zip(values.tolist(), weights.tolist(), ok["counts"], ok["detail"], strict=True)
        ]
    except (ValueError, TypeError) as problem:
        raise UnpoolableError(f"what is stored of {column.name} cannot be read: {in_words(problem)}") from problem

    foreign = not type(metric).__module__.startswith("harness.")

    def statistic(counts: Array) -> Array:
        own = counts.view()
        own.flags.writeable = False
        # The code is somebody's: whatever it does wrong costs its own value, not the report.
        try:
            with Kept() if foreign else nullcontext():
                found = np.asarray(attempt(lambda: metric.pool(evidence, own)), dtype=np.float64)
        except Exception as problem:
            raise UnpoolableError(f"its pool failed: {in_words(raised(problem))}") from problem
        if found.shape != (len(counts),):
            raise UnpoolableError(f"its pool gave an array of shape {found.shape} for {len(counts)} resamples, wanted ({len(counts)},)")
        return found

    return statistic


def interval_of(
    ok: pd.DataFrame, column: Column, cluster: Mapping[str, str], how: IntervalSettings, pooled: Mapping[str, PooledMetric]
) -> Interval:
    """The value of scored records with its interval; ``cluster`` is the unit that each item is judged with.

    Raises:
        UnpoolableError: as `statistic_of`, or the value cannot be formed from what is stored.
    """
    statistic = statistic_of(ok, column, pooled)
    within = column.range if column.is_mean else Range(pooled_metric(column, pooled).info.bounds)
    try:
        found = estimate([(1.0, statistic)], [cluster[item] for item in ok["item"]], how.resamples, how.seed, within)
    except (ValueError, KeyError, TypeError) as problem:
        raise UnpoolableError(f"{column.key} cannot be pooled from what is stored: {in_words(problem)}") from problem
    return found.interval(how.confidence)


def combined(
    terms: Sequence[tuple[float, Sequence[pd.DataFrame]]],
    column: Column,
    clusters: Sequence[str],
    how: IntervalSettings,
    pooled: Mapping[str, PooledMetric],
) -> Estimate:
    """A sum of values over the same items, such as a difference, as one estimate.

    Args:
        terms: coefficient and scored records, those of each repeat apart: their values count with their mean.
        clusters: of the items, in the records' order.
        how: resamples and seed, for pooled values.

    Raises:
        UnpoolableError: the value cannot be formed over these items.
    """
    try:
        each = [(c / len(repeats), statistic_of(ok, column, pooled)) for c, repeats in terms for ok in repeats]
        return estimate(each, clusters, how.resamples, how.seed, column.range)
    except (UnpoolableError, ValueError, KeyError) as problem:
        raise UnpoolableError(f"{column.name} cannot be formed over the common items: {problem}") from problem


def pooled_metric(column: Column, pooled: Mapping[str, PooledMetric]) -> PooledMetric:
    """The metric object that pools a column: the one given, else the registry's.

    Raises:
        UnpoolableError: it cannot be built here, has no ``pool``, or is another version than the one that was recorded.
    """
    if column.key in pooled:
        return pooled[column.key]
    try:
        make = resolve("metrics", column.key.partition("@")[0])  # whichever of several judges it is by
        metric = attempt(make)
        sound, here = isinstance(metric, PooledMetric), metric.info.signature().split("|")[:2]
    except Exception as problem:
        raise UnpoolableError(
            f"the metric '{column.key}' that pools this figure cannot be built here: {in_words(raised(problem))}"
        ) from problem
    if not sound:
        raise UnpoolableError(f"'{column.key}' is aggregated as '{column.aggregation}' but has no pool() here")
    there = column.signature.split("|")[:2]
    if here != there:
        raise UnpoolableError(f"recorded by {' '.join(there)}, installed is {' '.join(here)}")
    found: PooledMetric = metric
    return found
