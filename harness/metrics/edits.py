"""Edit counts between two texts, and the error rates made from them. Counts are what is stored; ratios come last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

import numpy as np


class Unit(StrEnum):
    """What an error is counted in. CHARACTER counts the single spaces between words too, except where text is `unspaced`."""

    WORD = "word"
    CHARACTER = "char"


UNSPACED = frozenset({"zh", "yue", "wuu", "nan", "hak", "gan", "hsn", "lzh", "ja", "th", "lo", "km", "my", "shn", "bo", "dz", "ii"})
"""Languages written without spaces between words: scored per character, spaces removed. (Tibetan and Dzongkha divide syllables, not words.)"""

_UNSPACED_SCRIPTS = (
    (0x0E00, 0x0EFF), (0x0F00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3005, 0x3007), (0x3040, 0x30FF), (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF), (0xA000, 0xA4CF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F), (0xF900, 0xFAFF), (0xFF66, 0xFF9D), (0x20000, 0x323AF),
)  # fmt: skip
"""Thai and Lao, Tibetan, Burmese, Khmer, kana, Han, Yi: first and last code point of each block."""


def unspaced(language: str, text: str = "") -> bool:
    """Whether words have no spaces between them: the language says so, or most letters of ``text`` are of a script without.

    The script catches what a tag does not say: Japanese tagged "en", or a language of Burma that is not in the list.
    """
    if language in UNSPACED:
        return True
    letters = [ord(c) for c in text if c.isalpha()]
    inside = sum(any(first <= c <= last for first, last in _UNSPACED_SCRIPTS) for c in letters if c > 0xDFF)
    return 2 * inside > len(letters)


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

    joint = "" if unit is Unit.CHARACTER and unspaced(language, reference) else " "
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
