"""Edit counts between two texts, and the error rates made from them. Counts are what is stored; ratios come last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

import numpy as np


class Unit(StrEnum):
    """What an error is counted in. CHARACTER counts the single spaces between words too, except in `UNSPACED` languages."""

    WORD = "word"
    CHARACTER = "char"


UNSPACED = frozenset({"zh", "yue", "ja", "th", "lo", "km", "my"})
"""Languages written without spaces between words: scored per character, spaces removed."""


@dataclass(frozen=True)
class Edits:
    """A minimal alignment of a hypothesis with its reference, as counts of units."""

    hits: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def reference_length(self) -> int:
        return self.hits + self.substitutions + self.deletions

    @property
    def rate(self) -> float:
        """Errors by units of the reference; may exceed 1.

        Raises:
            ZeroDivisionError: the reference is empty.
        """
        return (self.substitutions + self.deletions + self.insertions) / self.reference_length

    def as_counts(self) -> dict[str, float]:
        return {name: float(count) for name, count in asdict(self).items()}


def align(reference: str, hypothesis: str, unit: Unit, language: str) -> Edits:
    """Levenshtein alignment (jiwer) of normalised texts; the reference must not be empty, the hypothesis may be."""
    import jiwer

    joint = "" if unit is Unit.CHARACTER and language in UNSPACED else " "
    reference, hypothesis = joint.join(reference.split()), joint.join(hypothesis.split())
    process = jiwer.process_words if unit is Unit.WORD else jiwer.process_characters
    result = process(reference, hypothesis)
    return Edits(result.hits, result.substitutions, result.deletions, result.insertions)


@dataclass(frozen=True)
class ErrorRates:
    """One set of transcripts, four ways to sum it up; all as shares (0.12 is 12 %).

    Args:
        macro: mean of the utterances' rates; the headline of the zero-shot TTS protocols.
        corpus: all errors by all reference units.
        median: of the utterances' rates; one looping transcript does not move it.
        share_above_half: utterances with a rate above 0.5.
        num_utterances: how many there are.
    """

    macro: float
    corpus: float
    median: float
    share_above_half: float
    num_utterances: int


def error_rates(counts: Sequence[Mapping[str, float]]) -> ErrorRates:
    """The four figures from the stored counts of each utterance.

    Args:
        counts: mappings with "hits", "substitutions", "deletions" and "insertions".

    Raises:
        ValueError: no utterance, or one whose reference is empty.
    """
    if not counts:
        raise ValueError("no utterances to take an error rate of")
    table = np.array([[c["hits"], c["substitutions"], c["deletions"], c["insertions"]] for c in counts], dtype=np.float64)
    lengths, errors = table[:, :3].sum(axis=1), table[:, 1:].sum(axis=1)
    if (lengths <= 0).any():
        raise ValueError(f"utterance {int(np.argmin(lengths))} has an empty reference")
    rates = errors / lengths
    return ErrorRates(
        macro=float(rates.mean()),
        corpus=float(errors.sum() / lengths.sum()),
        median=float(np.median(rates)),
        share_above_half=float((rates > 0.5).mean()),
        num_utterances=len(counts),
    )
