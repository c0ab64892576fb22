"""The tables as tidy CSV: one line a system, setting and metric; of the claims one line a comparison."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reports.claims.verdicts import Verdict
from reports.run.summary import Summary
from reports.writing.files import tidy

RUN = ("suite", "dataset", "synthetic", "partial")
CELL = (
    "value", "low", "high", "n_ok", "n_total", "n_excluded", "n_skipped", "n_missing", "pessimistic", "clusters", "method", "seeds",
    "seed_spread", "reason",
)  # fmt: skip
FIELDS = (
    *RUN, "num_systems", "system", "settings", "calibration", "size", "weights", "num_parameters", "metric", "name", "unit", "better", "value",
    "low", "high", "confidence", "n_ok", "n_total", "n_excluded", "n_skipped", "n_missing", "pessimistic", "clusters", "method", "seeds",
    "seed_spread", "best", "reason", "signature",
)  # fmt: skip
CONTRAST = ("metric", "unit", "value", "low", "high", "n", "n_wanted", "clusters", "seed_spread")
CLAIM_FIELDS = (
    "claim", "text", "paper", "source", "standing", "outcome", "reason", "notes", "comparison", "metric", "unit", "value", "low", "high",
    "confidence", "n", "n_wanted", "clusters", "seeds", "seed_spread", "comparison_outcome", "comparison_reason",
)  # fmt: skip


def render(summary: Summary) -> str:
    """CSV with the header `FIELDS`."""
    return tidy(FIELDS, lines(summary))


def render_claims(summary: Summary) -> str:
    """CSV of each comparison of each claim, with the claim's own outcome; figures as left minus right."""
    contrasts = (line for verdict in summary.verdicts for line in claim_lines(verdict, summary.confidence))
    return tidy((*RUN, *CLAIM_FIELDS), ({**_about(summary), **line} for line in contrasts))


def _about(summary: Summary) -> Mapping[str, object]:
    return {"suite": summary.suite, "dataset": summary.dataset.get("name", ""), "synthetic": summary.synthetic, "partial": summary.partial}


def lines(summary: Summary) -> Iterator[Mapping[str, object]]:
    """What `FIELDS` hold of each system, setting and metric."""
    for row in summary.rows:
        for column in summary.columns:
            yield {
                **_about(summary),
                "num_systems": len(summary.facts),
                "system": row.facts.label,
                "settings": row.settings,
                "calibration": row.calibration,
                **{f: getattr(row.facts, f) for f in ("size", "weights", "num_parameters")},
                "metric": column.key,
                **{f: getattr(column, f) for f in ("name", "unit", "better", "signature")},
                "confidence": summary.confidence,
                "best": column.key in row.best,
                **{f: getattr(row.cells[column.key], f) for f in CELL},
            }


def claim_lines(verdict: Verdict, confidence: float) -> Iterator[Mapping[str, object]]:
    """What `CLAIM_FIELDS` hold of each comparison of a claim."""
    claim = verdict.claim
    for contrast in verdict.contrasts:
        yield {
            "claim": claim.id,
            **{f: getattr(claim, f) for f in ("text", "paper", "source", "standing")},
            "outcome": verdict.outcome,
            "reason": verdict.reason,
            "notes": "; ".join(verdict.notes),
            "comparison": contrast.words,
            "confidence": confidence,
            "seeds": "/".join(map(str, contrast.seeds)),
            "comparison_outcome": contrast.outcome,
            "comparison_reason": contrast.reason,
            **{f: getattr(contrast, f) for f in CONTRAST},
        }
