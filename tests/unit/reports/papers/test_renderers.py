"""A paper shown again in every format: the same numbers and outcomes, hostile text inert, figures whole."""

from __future__ import annotations

import csv
import io
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from harness.errors import StoreError
from reports.papers import document
from reports.papers.document import drawings
from tests.stubs import consoles
from tests.stubs.consoles import NASTY
from tests.stubs.fake_papers import PAPER, found, paper
from tests.stubs.fake_papers import study as study_of


@pytest.fixture(scope="module")
def study() -> Any:
    """One cell of every outcome, a figure, a citation, claims that hold and fail, and a row with a hostile name."""
    rows = [
        {"name": "Ours", "systems": ["ours"], "values": {"PESQ": 3.0, "CER": 10.0, "SMOS": 4.0}},
        {"name": "Far", "systems": ["theirs"], "values": {"PESQ": 4.5}},
        {"name": NASTY, "systems": ["absent"], "values": {"PESQ": 1.25}},
    ]
    part = {"source": "Figure 1", "status": "published", "suite": "codec"}
    figure = part | {"id": "f1", "title": "Curves", "x": "config.delay", "y": ["pesq_wb"], "systems": ["ours", "theirs", "absent"]}
    unseen = part | {"id": "f2", "title": "Unseen", "x": "", "y": ["stoi"], "systems": ["absent"]}
    cited = {"title": "Others", "source": NASTY, "columns": ["WER"], "rows": {NASTY: {"WER": "2.10"}, "B": {}}}
    told = paper(tables=[PAPER["tables"][0] | {"rows": rows}], figures=[figure, unseen], citations=[cited])
    systems = {label: {"config": {"delay": delay}} for delay, label in enumerate(("ours", "theirs"))}
    figures = {("ours", "pesq_wb"): 3.0, ("ours", "cer"): 0.1, ("theirs", "pesq_wb"): 2.0}
    return study_of(found(figures, asr="embedded", systems=systems, name=NASTY), of=told, unready={"absent": NASTY})


def printed(study: Any, encoding: str = "utf-8", width: int = 120) -> str:
    return consoles.printed(lambda console: document.print_study(study, console), encoding, width)


def test_every_format_holds_the_same_cells(study: Any) -> None:
    lines = {(r["row"], r["column"]): r for r in csv.DictReader(io.StringIO(document.cells_csv(study)))}
    outcomes = {key[0][:4] + key[1]: line["outcome"] for key, line in lines.items()}
    assert outcomes == {
        "OursPESQ": "reproduced", "OursCER": "not comparable", "OursSMOS": "not comparable", "FarPESQ": "not reproduced",
        "a|b_PESQ": "not run",
    }  # fmt: skip
    ours = lines["Ours", "PESQ"]
    assert float(ours["measured"]) == pytest.approx(3.0) and ours["published"] == "3.00" and ours["n_ok"] == "30"
    span = f"[{float(ours['low']):.2f}, {float(ours['high']):.2f}]"
    for text in (
        document.markdown(study).replace("\\", ""), document.latex(study).translate(str.maketrans("", "", "{}")), "".join(document.page(study, ())), printed(study), printed(study, "ascii"),
    ):  # fmt: skip
        assert span in text and "4.50" in text and "1.25" in text and "embedded for FunASR" in text.replace("\n", " ")
    assert lines["Ours", "CER"]["reason"] == "other recogniser: embedded for FunASR"
    assert "2.00 [1.98" not in document.markdown(study).split("| Ours |")[1].split("\n")[0]


def test_claims_and_runs_are_tidy(study: Any) -> None:
    claims = list(csv.DictReader(io.StringIO(document.claims_csv(study))))
    assert [(c["claim"], c["outcome"]) for c in claims] == [
        ("ours_better", "reproduced"),
        ("ours_worse", "not reproduced"),
        ("nobody", "not run"),
    ]
    assert float(claims[0]["value"]) == pytest.approx(1.0) and claims[2]["value"] == "" and claims[0]["dataset"].startswith("30 items")
    runs = list(csv.DictReader(io.StringIO(document.runs_csv(study))))
    assert {r["state"] for r in runs} == {"used", "there", "missing"} - {
        "there" if not any(r["state"] == "there" for r in runs) else "missing"
    }


class Elements(HTMLParser):
    """Names of elements and attributes of a page, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_is_inert_and_loads_nothing(study: Any) -> None:
    text = "".join(document.page(study, list(drawings(study))))
    found = Elements()
    found.feed(text)
    assert "script" not in found.names and "b" in found.names and "onclick" not in found.attributes
    assert not re.search(r"""\b(?:src|href)=(?!"#)""", text) and "\x1b" not in text and "\u202e" not in text
    assert "default-src 'none'" in text and "a|b_$100%&#{x}" in "".join(found.words)
    # Every link leads somewhere.
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(re.findall(r'id="([^"]+)"', text))


def test_latex_is_balanced_and_inert(study: Any) -> None:
    text = document.latex(study)
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 4 == text.count(r"\toprule")
    depth = 0
    for match in re.finditer(r"(?<!\\)(?:\\\\)*([{}])", text):
        depth += 1 if match[1] == "{" else -1
        assert depth >= 0
    assert depth == 0 and r"a\textbar{}b\_\$100\%\&\#" in text and "</script>" not in text
    for line in text.split("\n"):
        if line.endswith(r"\\") and "multicolumn" not in line and line.count("&") > 2:
            assert len(re.findall(r"(?<!\\)&", line)) == 3, line
    for published, outcome in (("4.50", "not reproduced"), ("3.00", "reproduced"), ("1.25", "not run")):
        assert re.search(rf"\${published}\$.*\n(?:.*\n)*?.*\\textbf{{{outcome}}}", text)


def test_markdown_tables_have_the_cells_of_their_heads(study: Any) -> None:
    for block in document.markdown(study).split("\n\n"):
        if block.startswith("| "):
            counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.split("\n")}
            assert len(counts) == 1, block
    assert "</script>" not in document.markdown(study)


def test_a_terminal_is_sent_no_control_characters(study: Any) -> None:
    for encoding in ("utf-8", "ascii"):
        text = printed(study, encoding)
        assert "\x1b" not in text and "\u202e" not in text and "harness run suite=codec" in text


def test_figures_are_svg_and_png_of_what_was_printed_and_measured(study: Any, tmp_path: Path) -> None:
    drawn = {d.name: d for d in drawings(study)}
    # Nothing was measured for the other figure, and it prints no numbers.
    assert set(drawn) == {"t1", "f1"}
    for drawing in drawn.values():
        root = ElementTree.fromstring(drawing.standalone().split("\n", 1)[1])
        words = "".join(root.itertext())
        assert root.tag.endswith("svg") and drawing.png.startswith(b"\x89PNG") and len(drawing.png) > 5000
        assert ("measured here" in words) == (drawing.name == "t1")
    assert "30 items of librispeech" in drawn["f1"].svg and "theirs" in drawn["f1"].svg
    assert list(drawings(study)) == list(drawn.values())


def test_all_files_are_written_or_said_not_to_be(study: Any, tmp_path: Path) -> None:
    written = document.write_study(study, tmp_path / "new" / "out")
    assert len(written) == 10 and all(path.stat().st_size > 50 for path in written)
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot write"):
        document.write_study(study, tmp_path / "file")
