"""A linear probe whose every example is judged by what others teach: naive Bayes over categories, one group of examples left out at a time.

The class y of an example with the categories x_1 .. x_O is the one of greatest

    log (n_y + 1) - O log (n_y + V) + sum over o of log (n_o(x_o, y) + 1)

where the counts n are those of all other groups and V is the number of categories: multinomial naive Bayes with Laplace's smoothing
(Manning, Raghavan and Schuetze 2008, section 13.2), which is a linear classifier of the one-hot categories. Its closed form is what
lets it be fitted anew for every group and every resample: counts are taken away and put back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.metrics.compiling import compiled

Float64Array = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]

TIE = 1e-9
"""Scores this close are equal; an example whose class shares the first place with others counts as a guess among them."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled examples of n items.

    Args:
        categories: int ``[F, O]``, O categories of each of F examples, from 0 to ``num_categories - 1``; O may be 0 (prior alone).
        classes: int ``[F]``, from 0 to ``num_classes - 1``.
        items: int ``[F]``, whose weight an example has, ascending.
        groups: int ``[n]``, the group of each item.
        num_categories: V.
        num_classes: Y.
    """

    categories: Int64Array
    classes: Int64Array
    items: Int64Array
    groups: Int64Array
    num_categories: int
    num_classes: int


def hits(examples: Examples, weights: Float64Array) -> Float64Array:
    """Weighted number of examples told right, each by a probe fitted on the weighted examples of all other groups.

    A probe with nobody to learn from guesses: each of its examples counts ``1 / Y``.

    Args:
        examples: F of them, of n items.
        weights: ``[R, n]``, how often each item counts in each of R resamples; the probe is fitted under each.

    Returns:
        ``[R]``.
    """
    # Few of a large codebook's entries occur: the tables hold those alone.
    entries, categories = np.unique(examples.categories, return_inverse=True)
    order = np.argsort(examples.groups[examples.items], kind="stable")
    groups = examples.groups[examples.items][order]
    starts = np.flatnonzero(np.diff(groups, prepend=-1, append=-1))
    counted: Float64Array = compiled(leave_one_out)(
        np.ascontiguousarray(categories.reshape(examples.categories.shape)[order]),
        np.ascontiguousarray(examples.classes[order]),
        np.ascontiguousarray(examples.items[order]),
        starts if groups.size else np.zeros(1, np.int64),
        np.ascontiguousarray(weights, dtype=np.float64),
        (entries.size, examples.num_categories, examples.num_classes),
    )
    return counted


def leave_one_out(
    categories: Int64Array,
    classes: Int64Array,
    items: Int64Array,
    starts: Int64Array,
    weights: Float64Array,
    sizes: tuple[int, int, int],
) -> Float64Array:
    """The loop behind `hits`, over examples sorted by group.

    Args:
        categories: ``[F, O]``, numbered among the entries that occur.
        classes, items: ``[F]``.
        starts: ``[G + 1]``, where each group begins and the last one ends.
        weights: ``[R, n]``.
        sizes: entries that occur, V, Y.
    """
    used, num_categories, num_classes = sizes
    num_examples, offsets = categories.shape
    found = np.zeros(weights.shape[0])
    counts = np.zeros((offsets, used, num_classes))
    gains = np.zeros((offsets, used, num_classes))  # log (count + 1), so that what never occurs together needs no visit
    totals = np.zeros(num_classes)
    base = np.zeros(num_classes)
    scores = np.zeros(num_classes)
    for r in range(weights.shape[0]):
        counts[:], gains[:], totals[:] = 0.0, 0.0, 0.0
        for f in range(num_examples):
            weight = weights[r, items[f]]
            totals[classes[f]] += weight
            for o in range(offsets):
                counts[o, categories[f, o], classes[f]] += weight
        for f in range(num_examples):
            for o in range(offsets):
                gains[o, categories[f, o], classes[f]] = np.log(counts[o, categories[f, o], classes[f]] + 1.0)
        for g in range(starts.size - 1):
            for sign in (-1.0, 1.0):  # without the group; then, once it is scored, with it again
                for f in range(starts[g], starts[g + 1]):
                    weight = sign * weights[r, items[f]]
                    if weight == 0.0:
                        continue
                    totals[classes[f]] += weight
                    for o in range(offsets):
                        counts[o, categories[f, o], classes[f]] += weight
                for f in range(starts[g], starts[g + 1]):
                    if weights[r, items[f]] == 0.0:
                        continue
                    for o in range(offsets):
                        gains[o, categories[f, o], classes[f]] = np.log(counts[o, categories[f, o], classes[f]] + 1.0)
                if sign > 0:
                    continue
                for y in range(num_classes):
                    base[y] = np.log(totals[y] + 1.0) - offsets * np.log(totals[y] + num_categories)
                for f in range(starts[g], starts[g + 1]):
                    weight = weights[r, items[f]]
                    if weight == 0.0:
                        continue
                    scores[:] = base
                    for o in range(offsets):
                        scores += gains[o, categories[f, o]]
                    first = scores.max() - TIE
                    if scores[classes[f]] >= first:
                        found[r] += weight / (scores >= first).sum()
    return found
