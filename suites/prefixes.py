"""The variants of suites that decode only the first b codebooks (or streams)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.api import CodecSpec, Settings

Counts = Sequence[int] | str | None
"""Numbers of codebooks as a user gives them: a list, "all", or None for the suite's own choice."""


def every(most: int) -> list[int]:
    """1, 2, 3 ... ``most``."""
    return list(range(1, most + 1))


def doubling(most: int) -> list[int]:
    """The powers of two up to ``most``, and ``most`` itself."""
    return sorted({*(1 << i for i in range(most.bit_length())), most})


def checked_counts(counts: Counts) -> Counts:
    """``counts`` as given.

    Raises:
        ValueError: it is no list of whole numbers from 1, nor "all", nor None.
    """
    if isinstance(counts, str):
        if counts != "all":
            raise ValueError(f"suite.counts={counts}: write a list such as [1,2,4], all, or null for the suite's own choice")
    elif isinstance(counts, (int, float)):
        raise ValueError(f"suite.counts={counts}: write a list, such as [{counts}]")
    elif counts is not None:
        wrong = [c for c in counts if not isinstance(c, int) or isinstance(c, bool) or c < 1]
        if wrong or not counts:
            raise ValueError(f"suite.counts={list(counts)}: numbers of codebooks are whole numbers from 1, at least one of them")
    return counts


def prefix_variants(spec: CodecSpec | None, counts: Counts, usual: Callable[[int], list[int]]) -> Sequence[Settings]:
    """``{"codebooks": b}`` for each b asked for, ascending; what does not decode prefixes is run once, as a point of comparison.

    Args:
        spec: of the codec, None for what is none.
        counts: asked for, checked; those the codec does not have are left out, and if that leaves none it is run whole.
        usual: from the codec's number of codebooks to those decoded where ``counts`` is None.
    """
    if spec is None or not spec.prefix_decodable or not spec.num_codebooks:
        return [{}]
    most = spec.num_codebooks
    if counts is None:
        chosen = usual(most)
    elif isinstance(counts, str):
        chosen = every(most)
    else:
        chosen = sorted({c for c in counts if c <= most}) or [most]
    return [{"codebooks": count} for count in chosen]
