"""The four writers: one table says the same in each, nothing in it is markup, and a terminal is never overrun."""

from __future__ import annotations

import doctest
import re
from typing import Any

import pytest

from reports.writing import blocks, html, latex, markdown, terminal
from reports.writing.blocks import Banner, Bullets, Code, Entry, Facts, Folded, Head, Heading, Line, Markup, Table, Text, words
from reports.writing.files import tidy
from tests.stubs import consoles
from tests.stubs.consoles import NASTY


def table(text: str = "opus6", columns: int = 1) -> Table:
    heads = (*words("system"), *(Head(f"metric_{i}", "dB", about=i) for i in range(columns)), Head("remark", words=True, place="below"))
    figures = [
        Entry(f"{i}.500", span=f"[{i}.100, {i}.900]", count="59/60", short=True, mark="✓", tone="good", key=i) for i in range(columns)
    ]
    first = Line((Entry(text, below=(text,), tag=text), *figures, Entry(text)))
    return Table(
        text,
        heads,
        (first, Line((Entry("seen"), Entry("2.000", count="1/1"), *[Entry("–")] * (columns - 1), Entry()), grey=True)),
        text,
        (text,),
        grey="For reference",
    )


def document(text: str) -> list[blocks.Block]:
    wordy = Table(text, words("claim", "status"), (Line((Entry(text, more=(text,), about=text), Entry(tag=text))),), wordy=True)
    return [Heading(text, 1), Banner(text, "bad", text), Facts({text: text}), Text(text), table(text), wordy, Bullets([text]), Code(text),
            Folded(text, [Text(text)])]  # fmt: skip


def printed(content: list[blocks.Block], encoding: str = "utf-8", width: int = 100) -> str:
    return consoles.printed(lambda console: terminal.write(content, console), encoding, width, terminal=True)


def test_every_writer_says_the_same() -> None:
    one = table(columns=2)
    for text in (printed([one]), markdown.render([one]), latex.render([one]).translate(str.maketrans("", "", "{}")), html.render([one])):
        for part in ("0.500", "1.500", "[1.100, 1.900]", "59/60", "opus6", "2.000"):
            assert part in text, part
    assert "opus6: opus6" in printed([one])  # the remark, below with the name of its line


def test_nothing_in_a_document_is_markup() -> None:
    page = "".join(html.page(NASTY, document(NASTY), document(NASTY), ("tables.js",), {}))
    assert "<img" not in page and page.count("<script") == 2 and "\x1b" not in page and "\u202e" not in page
    text = markdown.render(document(NASTY))
    outside = re.sub(r"^```\n.*\n```$", "", text, flags=re.MULTILINE)
    assert len(outside) < len(text) and not re.search(r"(?<!\\)<(?!br>|/?details>|/?summary>)", outside)
    assert markdown.render([Code("````")]) == "`````\n````\n`````\n"
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1
    tex = latex.render([b for b in document(NASTY) if isinstance(b, Table)], [NASTY], [NASTY])
    bare = re.sub(r"\\[\\{}$&#%_]", "", "\n".join(line for line in tex.splitlines() if not line.startswith("%")))
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0 and "#" not in bare and "~" not in bare
    assert not re.search(r"\\\\\s*[\[*]", tex)
    for encoding in ("utf-8", "ascii"):
        shown = printed(document(NASTY), encoding)
        assert "\x1b" not in shown and "\u202e" not in shown


def test_only_markup_is_markup() -> None:
    raw = [Markup("<b>x</b>")]
    assert html.render(raw) == "<b>x</b>" and markdown.render(raw) == "\n" and printed(raw) == ""


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_a_table_too_wide_is_cut_into_several(width: int) -> None:
    text = printed([table("a system of a rather long name", 12)], width=width)
    assert max(map(len, text.splitlines())) <= width
    assert all(f"{i}.500 ✓ 59/60" in text for i in range(12))
    heads = [line for line in text.splitlines() if line.startswith("system")]
    assert len(heads) >= 12 * 15 // (width - 22)  # each part names its systems
    # A calibration row stands only where it has a figure.
    assert text.count("seen") == 1


def test_lines_that_say_nothing_yet_share_one_on_a_terminal() -> None:
    def claim(name: str, status: str) -> Line:
        return Line((Entry(f"The text of {name}.", about=name), Entry(tag=status, below=("why",))), grey=status == "not run")

    one = Table("Claims", words("claim", "status"), (claim("a", "not run"), claim("b", "holds"), claim("c", "not run")), wordy=True)
    assert [line.rstrip() for line in printed([one]).splitlines()] == ["holds   The text of b. · why", "not run a, c · why"]
    assert markdown.render([one]).count("\n") == 5


def test_a_terminal_says_how_much_it_leaves_out() -> None:
    lines = tuple(Line((Entry(str(i)), Entry("x" * 50))) for i in range(5))
    text = printed([Table("t", words("a", "b"), lines, wordy=True, limit=2, letters=10), Bullets(list("abc"), 1)])
    assert text.splitlines()[0].startswith("0 x") and "and 3 more in the report" in text and "and 2 more in the report" in text


def test_a_mark_needs_no_count() -> None:
    one = Table("t", (*words("system"), Head("m")), (Line((Entry("a"), Entry("1.0", mark="✓", tone="good"))),))
    assert "1.0 ✓" in printed([one]) and "**1.0 ✓**" in markdown.render([one])
    assert r"\textbf{1.0}" in latex.render([one]) and 'class="best"' in html.render([one])


def test_columns_without_content_are_left_out() -> None:
    lines = (Line((Entry("a"), Entry(key=0), Entry("1"))), Line((Entry("b"), Entry(key=0), Entry("2"))))
    one = Table("t", (*words("system"), Head("empty"), Head("full")), lines)
    for text in (printed([one]), markdown.render([one]), latex.render([one]), html.render([one])):
        assert "empty" not in text and "full" in text


def test_a_page_admits_its_scripts_only() -> None:
    def policy(*scripts: str) -> str:
        found = re.search(r"script-src ([^;]*);", "".join(html.page("t", [], [table()], scripts)))
        assert found
        return found[1]

    assert policy() == "'none'" and policy("tables.js").startswith("'sha256-") and policy("tables.js", "clips.js").count("sha256") == 2
    assert 'class="sort"' not in "".join(html.page("t", [], [table()]))


def test_csv_starts_no_formula() -> None:
    lines: list[dict[str, Any]] = [{"a": "=1\n2", "b": -1.5}, {"a": " @x", "b": None}]
    assert tidy(("a", "b"), lines) == "a,b\n'=1 2,-1.5\n' @x,\n"


def test_the_example_is_what_is_written() -> None:
    found = doctest.testmod(blocks)
    assert (found.failed, found.attempted) == (0, 3)
