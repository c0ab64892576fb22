"""The papers' files: what their grammar refuses, and that what comes with the harness is complete and measurable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from harness.errors import ConfigError, UnknownName
from harness.settings.registry import resolve, variants
from reports.papers.published import load_paper, paper_names
from reports.statistics.records import CALIBRATION
from tests.stubs.fake_papers import PAPER, paper, table

# ---- the grammar -----------------------------------------------------------------------------------------------------------------


def columns(**fields: Any) -> dict[str, Any]:
    return {"columns": [{"id": "PESQ", "metric": "pesq_wb", "decimals": 2, "within": 0.1} | fields], "rows": [ROW]}


ROW = {"name": "Ours", "systems": ["ours"], "values": {"PESQ": 3.0}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"colour": 1}, "unknown keys colour"),
        ({"status": "rumoured"}, "there are published and claimed"),
        (columns(why="people"), "either the metric"),
        (columns(within=0), "above 0"),
        (columns(decimals=2.5), "decimals are 0 to 6"),
        (columns(scale="x"), "a number"),
        ({"columns": columns()["columns"] * 2}, "two columns have one id"),
        ({"rows": [ROW | {"values": {"STOI": 1}}]}, "no column STOI"),
        ({"rows": [ROW | {"values": {}}]}, "at least one"),
        ({"rows": [ROW | {"values": {"PESQ": "three"}}]}, "a number"),
        ({"rows": [ROW | {"settings": {"colour": 1}}]}, "unknown keys colour"),
        ({"protocol": {"only": "yes"}}, "true or false"),
        ({"protocol": {"judges": "x"}}, "unknown keys judges"),
    ],
)
def test_a_table_that_is_none_is_refused_with_its_place(changes: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        table(**changes)
    assert "here.yaml, tables 1" in str(caught.value) and words in str(caught.value)


def test_unknown_names_ids_twice_and_broken_parts_are_refused() -> None:
    with pytest.raises(UnknownName, match=r"pesq_wb"):
        table(**columns(metric="pesq"))
    with pytest.raises(ConfigError, match="t1 stands twice"):
        paper(tables=PAPER["tables"] * 2)
    figure = {"id": "f", "title": "F", "source": "Figure 1", "status": "published", "suite": "codec", "y": ["stoi"], "systems": ["a"]}
    with pytest.raises(ConfigError, match=r"x is settings\.NAME"):
        paper(figures=[figure | {"x": "colour"}])
    with pytest.raises(ConfigError, match="overrides by suite"):
        paper(runs=["x"])
    with pytest.raises(UnknownName, match="no paper named 'socodek'"):
        load_paper("socodek")


# ---- the papers that come with it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", paper_names())
def test_the_papers_tables_are_measured_by_their_suites(name: str) -> None:
    told = load_paper(name)
    infos = {suite: resolve("suites", suite)().info for suite in told.suites}
    for part in told.tables:
        assert {c.metric for c in part.columns} - {""} <= set(infos[part.suite].metrics), part.id
        for row in part.rows:
            # Whatever stands first, the system that one would train or fetch is known, or nobody's here.
            assert row.systems and all(s in variants() or s in CALIBRATION or s.endswith("_tts") for s in row.systems), row.name
    for figure in told.figures:
        assert set(figure.y) <= set(infos[figure.suite].metrics) and told.claims_of(figure), figure.id


def test_published_figures_are_those_of_the_papers() -> None:
    def values(paper_name: str, table_id: str, row: str) -> Mapping[str, float]:
        (part,) = (t for t in load_paper(paper_name).tables if t.id == table_id)
        return next(r.values for r in part.rows if r.name.startswith(row))

    assert values("socodec", "table1", "SoCodec-120") == {"NMOS": 3.98, "SMOS": 3.78, "CER": 2.57, "SIM": 83.14, "RTF": 0.22}
    assert values("socodec", "table2_analysis", "Codec-1") == {"MCD": 6.38, "CER": 24.94, "SIM": 84.64}
    # Two second-hand sources disagree: both stand.
    assert values("qtts", "codec", "QDAC, 16")["PESQ"] == 3.83 and values("qtts", "codec_summary", "QDAC-16")["PESQ"] == 4.24
    assert values("qtts", "tts", "QTTS")["SIM"] == 0.75 and values("qtts", "tts_summary", "QTTS")["SIM"] == 0.90
    assert {t.standing for t in load_paper("qtts").tables} == {"claimed"} and {t.standing for t in load_paper("socodec").tables} == {
        "published"
    }
