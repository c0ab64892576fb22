"""The tables as tidy CSV: one line a system, setting and metric; of the claims one line a comparison."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping

from reports.claims.verdicts import Verdict
from reports.run.summary import Summary
from reports.writing.wording import printable

FIELDS = (
    "suite", "dataset", "synthetic", "partial", "num_systems", "system", "settings", "calibration", "size", "weights",
    "num_parameters", "metric", "name", "unit", "better", "value", "low", "high", "confidence", "n_ok", "n_total", "n_excluded", "n_skipped", "n_missing", "pessimistic",
    "clusters", "method", "seeds", "seed_spread", "best", "reason", "signature",
)  # fmt: skip

CLAIM_FIELDS = (
    "suite", "dataset", "synthetic", "partial", "claim", "text", "paper", "source", "standing", "outcome", "reason", "notes", "comparison", "metric",
    "unit", "value", "low", "high", "confidence", "n", "n_wanted", "clusters", "seeds", "seed_spread", "comparison_outcome", "comparison_reason",
)  # fmt: skip

FORMULA = ("=", "+", "-", "@")
"""What a spreadsheet takes for the beginning of a formula."""


def guarded(line: Mapping[str, object]) -> dict[str, object]:
    """A line whose words are on one line, without control characters, and start no formula in a spreadsheet; figures stay as they are."""

    def plain(word: object) -> object:
        if not isinstance(word, str):
            return word
        text = printable(word)
        return f"'{text}" if text.lstrip().startswith(FORMULA) else text

    return {field: plain(word) for field, word in line.items()}


def render(summary: Summary) -> str:
    """CSV with the header `FIELDS`; figures in full precision, empty where there is none."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, FIELDS, lineterminator="\n")
    writer.writeheader()
    for row in summary.rows:
        for column in summary.columns:
            cell = row.cells[column.key]
            writer.writerow(
                guarded(
                    {
                        "suite": summary.suite,
                        "dataset": summary.dataset.get("name", ""),
                        "synthetic": summary.synthetic,
                        "partial": summary.partial,
                        "num_systems": len(summary.facts),
                        "system": row.facts.label,
                        "settings": row.settings,
                        "calibration": row.calibration,
                        "size": row.facts.size,
                        "weights": row.facts.weights,
                        "num_parameters": row.facts.num_parameters,
                        "metric": column.key,
                        "name": column.name,
                        "unit": column.unit,
                        "better": column.better,
                        "confidence": summary.confidence,
                        "best": column.key in row.best,
                        "signature": column.signature,
                        **{f: getattr(cell, f) for f in FIELDS if f in cell.__dataclass_fields__},
                    }
                )
            )
    return stream.getvalue()


def render_claims(summary: Summary) -> str:
    """CSV with the header `CLAIM_FIELDS`: each comparison of each claim, with the claim's own outcome; figures as left minus right."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, CLAIM_FIELDS, lineterminator="\n")
    writer.writeheader()
    about = {"suite": summary.suite, "dataset": summary.dataset.get("name", ""), "synthetic": summary.synthetic, "partial": summary.partial}
    for verdict in summary.verdicts:
        writer.writerows(guarded({**about, **line}) for line in claim_lines(verdict, summary.confidence))
    return stream.getvalue()


def claim_lines(verdict: Verdict, confidence: float) -> Iterator[Mapping[str, object]]:
    """What `CLAIM_FIELDS` hold of each comparison of a claim, but for what concerns the run."""
    claim = verdict.claim
    for contrast in verdict.contrasts:
        yield {
            "claim": claim.id,
            "text": claim.text,
            "paper": claim.paper,
            "source": claim.source,
            "standing": claim.standing,
            "outcome": verdict.outcome,
            "reason": verdict.reason,
            "notes": "; ".join(verdict.notes),
            "comparison": contrast.words,
            "confidence": confidence,
            "seeds": "/".join(map(str, contrast.seeds)),
            "comparison_outcome": contrast.outcome,
            "comparison_reason": contrast.reason,
            **{f: getattr(contrast, f) for f in ("metric", "unit", "value", "low", "high", "n", "n_wanted", "clusters", "seed_spread")},
        }
