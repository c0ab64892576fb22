"""Claims as they are printed: the same in every format, hostile names inert, figures signed, nothing where there is none."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from reports.claims.verdicts import MeasuredContrast, Replication
from reports.run import document, output
from reports.run import summarise as tables
from reports.run.output import write_report
from tests.stubs import consoles
from tests.stubs.claim_stories import QUICK, less, pair, pilot

# ---- how it is printed ---------------------------------------------------------------------------------------------------------


def printed(summary: Any, encoding: str, width: int = 100) -> str:
    return consoles.printed(lambda console: document.print_summary(summary, console), encoding, width)


def test_every_format_shows_the_claims(tmp_path: Path) -> None:
    run = pilot().run(tmp_path)
    files = write_report(run, tmp_path, how=QUICK)
    summary = files.summary
    verdict = next(v for v in summary.verdicts if v.claim.id == "socodec_opq_below_rq_mcd")
    shown = " ".join(printed(summary, "utf-8").split())
    tex = document.latex(summary).replace(r"\_", "_").replace(r"\textless{}", "<").translate(str.maketrans("", "", "{}"))
    texts = (shown, tex, document.markdown(summary).replace("\\", ""), "".join(output.render(run, summary)).replace("&lt;", "<"))
    for text in texts:
        assert "Claims of the papers" in text and verdict.claim.text in text and "Figure 4, published" in text
        assert "not reproduced" in text and "reproduced" in text and "not run" in text and "small models, own data" in text
        for part in (verdict.deciding.words, "+0.300", verdict.deciding.printed, "n 30/30", "contradicted: the interval lies on the other"):
            assert part in text, part
    lines = printed(summary, "ascii").splitlines()
    assert max(map(len, lines)) <= 100
    assert files.claims is not None
    rows = list(csv.DictReader(files.claims.read_text(encoding="utf-8").splitlines()))
    assert {r["claim"] for r in rows} == {v.claim.id for v in summary.verdicts}
    mine = [r for r in rows if r["claim"] == verdict.claim.id]
    assert [float(r["value"]) for r in mine] == [f.value for f in verdict.contrasts]
    assert {r["outcome"] for r in mine} == {"not reproduced"} and mine[0]["n"] == "30" and mine[0]["seeds"] == "1/1"


def test_hostile_names_stay_text(judge: Any, tmp_path: Path) -> None:
    nasty = "a|b</script><b>`[x](y)"
    story = pair(-0.3, 0.1)
    story.rows = [r | {"system": {"a": nasty}.get(r["system"], r["system"])} for r in story.rows]
    story.systems[nasty] = story.systems.pop("a")
    verdict = judge(less(nasty, "b"), story)
    assert verdict.outcome is Replication.REPRODUCED
    summary = tables.summarise(story.run(tmp_path), QUICK)
    assert "<b>`" not in "".join(output.render(story.run(tmp_path), summary)) and "<b>" not in document.markdown(summary).replace("\\<", "")


def test_a_suite_without_claims_shows_none(tmp_path: Path) -> None:
    story = pair(-0.3, 0.1)
    run = story.run(tmp_path, suite="codec")
    files = write_report(run, tmp_path, how=QUICK)
    assert files.summary.verdicts == () and files.claims is None and not (tmp_path / "report_claims.csv").exists()
    for text in (document.markdown(files.summary), files.html.read_text(encoding="utf-8"), printed(files.summary, "utf-8")):
        assert "Claims of the papers" not in text
    assert output.claims_csv(files.summary).count("\n") == 1


def test_figures_are_signed() -> None:
    def figure(**fields: Any) -> str:
        return MeasuredContrast("a < b", "m", Replication.REPRODUCED, **fields).printed

    assert figure(value=-0.3104, low=-0.42, high=0.02, unit="dB") == "-0.310 dB [-0.420, +0.0200]"
    assert figure(value=0.0) == "0" and figure() == "–"
