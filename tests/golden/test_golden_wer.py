"""Error rates against published figures: 5,559 LibriSpeech pairs of facebookresearch/fbai-speech (is21_deep_bias)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.judges.presets import Unit
from harness.metrics.text import align

VECTORS = Path(__file__).resolve().parents[2] / "../shared/data/metric_vectors/wer"


def texts(path: Path) -> dict[str, str]:
    rows = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines())
    return {row[0]: row[1] if len(row) > 1 else "" for row in rows}


@pytest.mark.skipif(not VECTORS.is_dir(), reason="measured data (shared/data) is not beside the checkout")
@pytest.mark.parametrize(("name", "pairs"), [("test-clean", 2620), ("test-other", 2939)])
def test_reproduces_published_wer(name: str, pairs: int) -> None:
    line = (VECTORS / f"{name}.b1.result.txt").read_text(encoding="utf-8").splitlines()[0]
    found = re.fullmatch(r"WER: error_rate=([\d.]+), ref_words=(\d+), subs=(\d+), ins=(\d+), dels=(\d+)", line)
    assert found is not None
    rate, words, *published = float(found[1]), *map(int, found.groups()[1:])
    references, hypotheses = texts(VECTORS / f"{name}.ref.tsv"), texts(VECTORS / f"{name}.b1.hyp.tsv")
    assert len(references) == pairs
    edits = [align(text, hypotheses[key], Unit.WORD, "en") for key, text in references.items()]
    assert sum(e.reference_length for e in edits) == words
    # Among alignments of equal cost the split into kinds is a choice; their sum is not.
    ours = [sum(e.substitutions for e in edits), sum(e.insertions for e in edits), sum(e.deletions for e in edits)]
    assert 100 * sum(ours) / words == pytest.approx(rate, abs=1e-9)
    assert sum(ours) == sum(published)
    assert ours == pytest.approx(published, abs=0.01 * sum(published))
    assert 100 * sum(e.rate for e in edits) / pairs != pytest.approx(rate, abs=1e-2)  # the macro mean is another figure
