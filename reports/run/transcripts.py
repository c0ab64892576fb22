"""What was said beside what was heard, word by word: the alignment behind an error rate, as a page shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.api import language_code
from harness.judges.presets import Unit, unspaced
from reports.writing.wording import shortened

NEEDED = ("reference", "transcript", "reference_normalised", "transcript_normalised", "unit")
"""Details of a record (`harness.metrics.text`) that an alignment is made from."""
CHUNK_LIMIT = 200
"""Characters kept of one stretch of text; a recogniser caught in a loop inserts thousands."""
CHUNKS = 80
"""Stretches kept of one alignment."""
SIGNS = {"equal": "=", "substitute": "~", "delete": "-", "insert": "+"}


@dataclass(frozen=True)
class Difference:
    """A reference text and a transcript, aligned.

    Args:
        reference: as given, before normalisation.
        parts: (sign, reference text, transcript text) in order; "=" both alike, "~" one for the other, "-" not heard, "+" heard only.
        unit: what is counted, "word" or "char".
        errors: units substituted, deleted and inserted, of the whole alignment.
        length: units of the reference.
        left_out: stretches beyond `CHUNKS`.
    """

    reference: str
    parts: tuple[tuple[str, str, str], ...]
    unit: str
    errors: tuple[int, int, int]
    length: int
    left_out: int = 0

    def as_json(self) -> dict[str, Any]:
        """For the page."""
        return {"parts": self.parts, "unit": self.unit, "errors": self.errors, "length": self.length, "more": self.left_out}


def difference(detail: Mapping[str, Any], language: str) -> Difference | None:
    """The alignment of a record's texts as its metric counted them: normalised, in its unit, by jiwer.

    Args:
        detail: of the record.
        language: of the item; what is written without spaces is joined without.

    Returns:
        None where the record does not hold both texts in both forms.
    """
    if not all(isinstance(detail.get(name), str) for name in NEEDED) or detail["unit"] not in [u.value for u in Unit]:
        return None
    import jiwer

    by_character = detail["unit"] == Unit.CHARACTER.value
    joint = "" if by_character and unspaced(language_code(language), detail["reference_normalised"]) else " "
    expected, heard = (joint.join(detail[name].split()) for name in ("reference_normalised", "transcript_normalised"))
    if not expected:
        return None
    aligned = (jiwer.process_characters if by_character else jiwer.process_words)(expected, heard)
    between = "" if by_character else " "
    said, transcribed = aligned.references[0], aligned.hypotheses[0]
    parts = [
        (
            SIGNS[chunk.type],
            shortened(between.join(said[chunk.ref_start_idx : chunk.ref_end_idx]), CHUNK_LIMIT),
            # What is alike is told once.
            "" if chunk.type == "equal" else shortened(between.join(transcribed[chunk.hyp_start_idx : chunk.hyp_end_idx]), CHUNK_LIMIT),
        )
        for chunk in aligned.alignments[0]
    ]
    errors = aligned.substitutions, aligned.deletions, aligned.insertions
    whole = Difference(detail["reference"], tuple(parts[:CHUNKS]), detail["unit"], errors, len(said))
    return replace(whole, left_out=max(0, len(parts) - CHUNKS))
