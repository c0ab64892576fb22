"""``harness tables`` as a person types it: at once on a fresh folder, and with the runs carried out."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main

CONTRAST = {"metric": "stoi", "left": {"system": "g711"}, "right": {"system": "noise"}}


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_both_papers_on_a_fresh_folder_finish_and_fake_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tables"]) == 0
    out = capsys.readouterr().out
    assert "harness run suite=stream_prefix" in out and "harness train system=socodec120_pq" in " ".join(out.split())
    for paper in ("qtts", "socodec"):
        folder = here / "runs" / f"tables-{paper}"
        cells, claims = read(folder / "cells.csv"), read(folder / "claims.csv")
        assert {c["measured"] for c in cells} == {""} and {c["value"] for c in claims} == {""}
        assert {c["outcome"] for c in cells} <= {"not run", "not comparable"} and {c["outcome"] for c in claims} == {"not run"}
        assert all(c["published"] and c["reason"] for c in cells)
        for name in ("tables.html", "tables.md", "tables.tex", "runs.csv"):
            assert (folder / name).stat().st_size > 0
    assert sorted(path.name for path in (here / "runs").iterdir()) == ["tables-qtts", "tables-socodec"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["socodek"], "Did you mean socodec"),
        (["socodec", "run=yes"], "run=yes"),
        (["socodec", "systems=[a]"], "each run has its own"),
        (["qtts", "suite.budget_s=2"], "each run has its own"),
        (["out=x"], "one folder for one paper"),
        (["socodec", "systems.nobody.x=1"], "no system named 'nobody'"),
        (["socodec", "dataset.limt=3"], "dataset.limt"),
        (["socodec", "dataset=nowhere"], "no dataset named 'nowhere'"),
    ],
)
def test_what_cannot_be_done_gives_2_and_advice(words: list[str], told: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tables", *words]) == 2
    error = capsys.readouterr().err
    assert told in error and "Traceback" not in error and not (here / "runs").exists()


def test_missing_runs_are_carried_out_once_and_shown(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from reports.papers import published as papers

    about = {"suite": "codec", "source": "Table 1", "status": "published"}
    rows = [
        {"name": "G.711", "systems": ["g711"], "values": {"STOI": 0.9}},
        {"name": "QDAC", "systems": ["qdac16_paper"], "values": {"STOI": 0.9}},
    ]
    column = {"id": "STOI", "metric": "stoi", "decimals": 2, "within": 0.05}
    claims = [
        about | {"id": "holds", "text": "Holds.", "test": {"greater": CONTRAST}},
        about | {"id": "fails", "text": "Fails.", "test": {"less": CONTRAST}},
        about | {"id": "no_data", "text": "No data.", "test": {"less": CONTRAST | {"left": {"system": "qdac16_paper"}}}},
    ]
    table = about | {"id": "t", "title": "T", "protocol": {}, "columns": [column], "rows": rows}
    told = papers.parse_paper("test", json.dumps({"paper": "P", "tables": [table], "claims": claims}), "here.yaml")
    monkeypatch.setattr(papers, "paper_names", lambda: ("test",))
    monkeypatch.setattr(papers, "load_paper", lambda name: told)
    command = ["tables", "test", "run=true", "dataset.limit=8", "executor.workers=1"]
    assert main(command) == 0
    folder = here / "runs" / "tables-test"
    outcomes = {c["claim"]: c["outcome"] for c in read(folder / "claims.csv")}
    assert outcomes == {"holds": "reproduced", "fails": "not reproduced", "no_data": "not run"}
    measured, lacking = read(folder / "cells.csv")
    assert measured["outcome"] == "not comparable" and float(measured["measured"]) > 0.8 and measured["n_ok"] == "8"
    assert lacking["outcome"] == "not run" and "checkpoint" in lacking["reason"] and lacking["measured"] == ""
    assert "LIMITED DATA: 8 items only" in (folder / "tables.html").read_text(encoding="utf-8")
    runs = sorted(path for path in (here / "runs").iterdir() if (path / "manifest.json").exists())
    assert len(runs) == 1 and (runs[0] / "report.html").exists()
    # What is there is not run again; and a run with other data is not looked at once data are chosen.
    before = (runs[0] / "manifest.json").read_bytes()
    assert main(command) == 0 and (runs[0] / "manifest.json").read_bytes() == before
    capsys.readouterr()
    assert main(["tables", "test", "dataset.limit=5"]) == 0
    assert "harness run suite=codec systems=[g711,noise] metrics=[stoi] dataset.limit=5" in capsys.readouterr().out
    assert {c["measured"] for c in read(folder / "cells.csv")} == {""}
