"""Every format says the same numbers, escapes what is hostile and labels synthetic speech."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from harness.api import Better, Status
from harness.errors import StoreError
from reports.run import document, figures, output
from reports.run.listing import listed
from reports.run.summarise import summarise
from reports.statistics.intervals import IntervalSettings
from reports.writing import clips, html, wording
from reports.writing.drawing import INK
from tests.stubs import consoles
from tests.stubs.consoles import NASTY
from tests.stubs.fake_runs import METRICS, FakeRun, metric

QUICK = IntervalSettings(resamples=100)
UNWRITABLE = "\ud800"
"""A lone surrogate, as an undecodable file name leaves it; UTF-8 has no form for it."""
SPEECH = 0.1 * np.sin(np.arange(1600) / 10)


@pytest.fixture
def run(tmp_path: Path) -> Any:
    fake = FakeRun(tmp_path, {"i0": "one", "i1": NASTY + UNWRITABLE, "i2": "three"}, synthetic=True, calibration=["ceiling"])
    fake.systems = {
        "plain": {"family": "f", "num_parameters": 5_400_000, "size": "small", "sample_rate": 16000},
        NASTY: {"weights": "random"},
    }
    fake.curves = [{"title": "Quality / rate", "x": "emitted_bps", "y": ["pesq_wb", "stoi"], "log_x": True}]
    rng = np.random.default_rng(0)
    for system in ("plain", NASTY, "ceiling"):
        for i in range(3):
            fake.add(system, "emitted_bps", f"i{i}", 12345.0 + i)
            fake.add(system, "stoi", f"i{i}", float(rng.uniform(0.8, 0.9)))
            if system == NASTY and i == 2:
                fake.add(system, "pesq_wb", "i2", status=Status.FAILED, side="output", reason=NASTY)
            else:
                fake.add(system, "pesq_wb", f"i{i}", float(rng.uniform(2, 3)))
            fake.outputs[system, "{}", f"i{i}", 0] = fake.audio(f"{len(system)}_{i}", SPEECH, 16000)
    return fake.run()


def test_same_number_in_every_format(run: Any) -> None:
    summary = summarise(run, QUICK)
    cell, column = summary.rows[0].cells["pesq_wb"], summary.column("pesq_wb")
    assert column and cell.value is not None
    shown = [wording.number(v, column.decimals) for v in (cell.value, cell.low, cell.high)]
    mine = run.frame[(run.frame["system"] == "plain") & (run.frame["metric"] == "pesq_wb")]
    assert shown[0] == f"{mine['value'].mean():.3f}"
    for text in (
        document.markdown(summary),
        document.latex(summary).replace("{[}", "["),
        printed(summary, 120),
        "".join(output.render(run, summary)),
    ):
        assert all(s in text for s in shown) and "2/3" in text and "SYNTHETIC SPEECH" in text and "random" in text.lower()
    rows = list(csv.DictReader(io.StringIO(output.results_csv(summary))))
    (found,) = [r for r in rows if r["system"] == "plain" and r["metric"] == "pesq_wb"]
    assert float(found["value"]) == cell.value and float(found["low"]) == cell.low and found["n_ok"] == "3"
    assert len(rows) == len(summary.rows) * len(summary.columns) and rows[0]["synthetic"].startswith("SYNTHETIC SPEECH")


def printed(summary: Any, width: int, encoding: str = "utf-8", columns: Any = None) -> str:
    return consoles.printed(lambda console: document.print_summary(summary, console, columns), encoding, width)


def test_terminal_is_harmless_and_fits(run: Any) -> None:
    summary = summarise(run, QUICK)
    for encoding in ("utf-8", "ascii"):
        text = printed(summary, 100, encoding)
        assert "\x1b" not in text and "\u202e" not in text and "RANDOM WEIGHTS" in text
        assert max(map(len, text.splitlines())) <= 100
        assert "Failures, counted against the system: 1" in text
    assert "↑" in printed(summary, 100) and "^" in printed(summary, 100, "ascii")


def test_every_format_says_what_is_wrong_with_the_run(run: Any) -> None:
    run.manifest["status"] = "partial"
    summary = summarise(run, QUICK)
    texts = {
        "markdown": document.markdown(summary),
        "latex": document.latex(summary),
        "terminal": printed(summary, 100),
        "page": "".join(output.render(run, summary)),
    }
    for name, text in texts.items():
        first = re.search(r"12\.3|12,34", text)
        assert first, name
        for words in ("SYNTHETIC SPEECH", "PARTIAL RUN", "RANDOM WEIGHTS", "3 items of fake, 2 systems"):
            # On a terminal the systems table and the notes come before; the label stands right above the figures.
            assert 0 <= text.find(words) < first.start(), (name, words)
    row = next(csv.DictReader(io.StringIO(output.results_csv(summary))))
    assert row["partial"].startswith("PARTIAL RUN") and row["num_systems"] == "2" and row["synthetic"].startswith("SYNTHETIC SPEECH")
    assert document.latex(summary).count("SYNTHETIC SPEECH") == 2


def test_terminal_ends_with_the_headline_and_the_failures(run: Any) -> None:
    lacking = (run.frame["system"] == NASTY) & (run.frame["metric"] == "stoi") & (run.frame["item"] == "i0")
    summary = summarise(replace(run, frame=run.frame[~lacking]), QUICK)
    assert any(note.metrics == ("stoi",) for note in summary.notes)
    columns = [c for c in summary.columns if c.key in ("emitted_bps", "pesq_wb")]
    lines = printed(summary, 100, columns=columns).splitlines()
    at = [next(i for i, line in enumerate(lines) if line.startswith(start)) for start in ("Systems", "Notes", "Resynthesis", "Failures")]
    assert at == sorted(at) and len(lines) < 40
    # What is said of a metric that is not shown is left to the files, and so are the signatures.
    assert not any("stoi" in line for line in lines) and not any("|v1|" in line for line in lines)


def test_calibration_rows_stand_where_they_have_figures(tmp_path: Path) -> None:
    fake = FakeRun(tmp_path, {f"i{i}": "x" for i in range(3)}, systems={"a": {}, "b": {}}, calibration=["impostor"])
    for i in range(3):
        for system in "ab":
            for key in ("pesq_wb", "stoi", "wer", "rtf"):
                fake.add(system, key, f"i{i}", 1.0 + i)
        fake.add("impostor", "stoi", f"i{i}", 0.5)
    summary = summarise(fake.run(), QUICK)
    chosen = {c.key: c for c in summary.columns}
    with_it = printed(summary, 100, columns=[chosen["pesq_wb"], chosen["stoi"]])
    assert with_it.count("impostor") == 1
    assert "impostor" not in printed(summary, 100, columns=[chosen["wer"], chosen["rtf"]])
    # No row is followed by an empty one.
    table = with_it[with_it.index("pesq_wb") :].splitlines()
    assert all(line.strip() for line in table)


def test_output_that_is_no_terminal_is_100_wide(run: Any) -> None:
    from rich.console import Console

    summary = summarise(run, QUICK)
    assert max(map(len, printed(summary, 40).splitlines())) in range(81, 101)
    console = Console(file=io.StringIO(), width=60, force_terminal=True, color_system=None)
    document.print_summary(summary, console)
    assert max(map(len, console.file.getvalue().splitlines())) <= 60 and console.width == 60  # type: ignore[attr-defined]


def test_texts_and_reasons_of_an_item_are_told_once(tmp_path: Path) -> None:
    fake = FakeRun(tmp_path, {"i0": "Said."}, systems={"a": {}, "b": {}, "c": {}})
    for system, heard in (("a", "set"), ("b", "set"), ("c", "")):
        detail = {"reference": "Said.", "transcript": heard, "transcript_normalised": heard, "unit": "word"}
        fake.add(system, "wer", "i0", 1.0, detail=detail)
        fake.add(system, "stoi", "i0", status=Status.SKIPPED_BY_POLICY, reason="no figure of it here")
        fake.add(system, "rtf", "i0", status=Status.SKIPPED_BY_POLICY, reason="no figure of it here")
    run = fake.run()
    (item,) = listed(run, summarise(run, QUICK), 1.0, 10).items
    said = [(w["name"], w["text"], w["outputs"], w["metrics"]) for w in item["words"]]
    assert said == [("transcript", "set", [0, 1], ["wer"]), ("transcript", "(empty)", [2], ["wer"])]
    assert [(r["text"], r["outputs"], sorted(r["metrics"])) for r in item["reasons"]] == [
        ("no figure of it here", [0, 1, 2], ["rtf", "stoi"])
    ]


def test_terminal_with_eight_by_eight(tmp_path: Path) -> None:
    names = [f"measure_number_{i}" for i in range(8)]
    METRICS.update({n: metric(n, "MOS", Better.HIGHER, (1.0, 5.0)) for n in names})
    try:
        fake = FakeRun(tmp_path, {f"i{i}": "x" for i in range(5)}, systems={f"system_number_{s}": {} for s in range(8)})
        for s in range(8):
            for name in names:
                for i in range(5):
                    fake.add(f"system_number_{s}", name, f"i{i}", 1.0 + s / 3 + i / 10)
        summary = summarise(fake.run(), QUICK)
    finally:
        for name in names:
            del METRICS[name]
    columns = [c for c in summary.columns if c.key in names]
    for width in (100, 120):
        text = printed(summary, width, columns=columns)
        assert max(map(len, text.splitlines())) <= width
        assert len(re.findall(r"3\.533 ✓", text)) == 8 and text.count("5/5") == 64


def test_latex_is_balanced_and_inert(run: Any) -> None:
    text = document.latex(summarise(run, QUICK))
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    bare = re.sub(r"\\[\\{}$&#%_]", "", body)
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0 and "#" not in bare and "~" not in bare
    # Nothing but a known command follows a backslash; no row starts with what \\ would take for its argument.
    known = {
        "begin",
        "end",
        "centering",
        "caption",
        "small",
        "toprule",
        "midrule",
        "bottomrule",
        "textbf",
        "textit",
        "scriptsize",
        "uparrow",
    }
    known |= {
        "downarrow",
        "textbackslash",
        "textasciitilde",
        "textasciicircum",
        "textless",
        "textgreater",
        "textbar",
        "textquotedbl",
        "ldots",
    }
    assert set(re.findall(r"\\([a-zA-Z]+)", body)) <= known
    assert not re.search(r"\\\\\s*[\[*]", body)
    columns = {line.count("&") for line in re.sub(r"\\&", "", body).splitlines() if line.rstrip().endswith(r"\\")}
    assert columns == {3, 4}


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(run: Any, tmp_path: Path) -> None:
    tex = tmp_path / "t.tex"
    tex.write_text(
        r"\documentclass{article}\usepackage{booktabs}\usepackage[T1]{fontenc}\begin{document}"
        + document.latex(summarise(run, QUICK))
        + r"\end{document}"
    )
    subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", tex.name], cwd=tmp_path, check=True, capture_output=True, timeout=60
    )


def test_markdown_tables_keep_their_columns(run: Any) -> None:
    text = document.markdown(summarise(run, QUICK))
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1
    assert not re.search(r"(?<!\\)<(?!br>|/?details>|/?summary>)", text) and "\\</script\\>" in text


def test_figures_are_xml_and_take_dollars_literally(run: Any) -> None:
    (drawing,) = figures.draw_all(summarise(run, QUICK))
    root = ElementTree.fromstring(drawing.standalone())
    words = "".join(root.itertext())
    # In the printed unit, and labelled: a figure is seen without its page.
    assert "emitted_bps (kbit/s)" in words and "3 items of fake, 2 systems" in words and "SYNTHETIC SPEECH" in words
    assert "pesq_wb (MOS)" in words and "a|b_$100%" in words
    assert drawing.name == "01_quality_rate" and INK not in drawing.inline()
    assert figures.draw_all(summarise(run, QUICK)) == (drawing,)


def test_a_figure_that_fails_says_why_and_leaves_the_page(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any, **__: Any) -> str:
        raise RuntimeError("no <fonts>")

    monkeypatch.setattr(figures, "svg_of", failing)
    files = output.write_report(run, tmp_path / "out", how=QUICK)
    (path,) = files.figures
    assert "This figure cannot be drawn: RuntimeError: no <fonts>" in "".join(ElementTree.fromstring(path.read_text()).itertext())
    assert "cannot be drawn: RuntimeError: no &lt;fonts&gt;" in files.html.read_text()


def test_figures_against_the_configuration(run: Any) -> None:
    run.manifest["suite"]["curves"] = [{"title": "t", "x": "config.delay", "y": ["stoi"], "log_x": False}]
    assert figures.draw_all(summarise(run, QUICK)) == ()
    for delay, info in enumerate(run.manifest["systems"].values()):
        info["config"] = {"delay": delay, "quantizer": "opq", "semantic": True}
    (drawing,) = figures.draw_all(summarise(run, QUICK))
    assert ">delay<" in drawing.svg
    assert all(name == "delay" for facts in summarise(run, QUICK).facts for name, _ in facts.configured)


def test_figure_without_points_is_left_out(run: Any) -> None:
    run.manifest["suite"]["curves"] = [{"title": "t", "x": "settings.codebooks", "y": ["stoi"], "log_x": False}]
    assert figures.draw_all(summarise(run, QUICK)) == ()


def test_json_block_cannot_end_its_element() -> None:
    data = {"text": NASTY + UNWRITABLE + "\u2028", "n": 1.5}
    text = html.json_block(data)
    assert "<" not in text and "&" not in text and "\u2028" not in text and json.loads(text) == data
    text.encode("utf-8")
    with pytest.raises(ValueError):
        html.json_block({"n": float("nan")})


def test_clip_keeps_rate_and_counts_clipping(tmp_path: Path) -> None:
    import base64

    samples = np.array([0.0, 0.5, -0.5, 1.5, -1.25] * 1000, dtype=np.float32)
    soundfile.write(tmp_path / "x.wav", samples, 44100, subtype="FLOAT")
    clip = clips.encoded(tmp_path / "x.wav")
    back, rate = soundfile.read(io.BytesIO(base64.b64decode(clip.flac)), dtype="float64")
    assert (rate, clip.clipped, clip.duration_s) == (44100, 2000, pytest.approx(5000 / 44100))
    assert np.abs(back - np.clip(samples, -1, 1)).max() <= 1.01 / 32768


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "cannot be read"), (b"noise", "cannot be read"), (np.zeros(0), "0 samples"), (np.array([0, np.nan]), "NaN")],
)
def test_unplayable_audio_says_why(tmp_path: Path, content: Any, problem: str) -> None:
    path = tmp_path / "x.wav"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        soundfile.write(path, content, 16000, subtype="FLOAT")
    assert problem in clips.encoded(path).problem


@pytest.mark.cases("D1", before="a FIFO among the recordings: the report hangs", after="no player, and why")
def test_a_pipe_among_the_recordings_does_not_hang_the_report(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.wav")
    assert clips.encoded(tmp_path / "x.wav").problem == "cannot be read: a named pipe, not a file"
    assert clips.duration_s(tmp_path / "x.wav") is None


def test_audio_limit_takes_whole_items(run: Any) -> None:
    summary = summarise(run, QUICK)
    whole = listed(run, summary, 48.0, 100)
    assert (whole.with_players, whole.withheld, len(whole.clips)) == (3, 0, 9)
    part = listed(run, summary, whole.audio_bytes * 0.7e-6, 100)
    assert (part.with_players, part.withheld, len(part.clips)) == (2, 1, 6) and part.audio_bytes <= whole.audio_bytes * 0.7
    assert listed(run, summary, 0.0, 2).with_players == 0 and len(listed(run, summary, 0.0, 2).items) == 2
    text = "".join(output.render(run, summary, audio_limit_mb=whole.audio_bytes * 0.7e-6))
    assert "Players for 2 of 3 items" in text and "1 listed items go without players" in text


def test_files_are_whole_or_untouched(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    files = output.write_report(run, out, how=QUICK)
    before = files.html.read_bytes()
    assert {p.name for p in out.iterdir()} == {"report.html", "report.md", "report.tex", "report.csv", "figures"}
    assert [p.name for p in files.figures] == ["01_quality_rate.svg"]

    def torn(*_: Any) -> Any:
        yield "half a page"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output, "render", torn)
    with pytest.raises(StoreError, match="No space left"):
        output.write_report(run, out, how=QUICK)
    assert files.html.read_bytes() == before and not [p for p in out.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.00195, "0.00195"), (0.0, "0.000"), (0.93, "0.930"), (18.92, "18.92"), (-0.5, "-0.500"), (120.25, "120.2"), (12345.6, "12,346")],
)
def test_numbers_have_about_four_digits(value: float, shown: str) -> None:
    assert wording.number(value, wording.decimals([value])) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (512.0, "512"),
        (64.237, "64.2"),
        (5.93, "5.93"),
        (0.0278, "0.0278"),
        (9.999, "10.0"),
        (1234.5, "1,234"),
        (0.0, "0"),
        (-5.934, "-5.93"),
    ],
)
def test_rates_have_three_significant_digits(value: float, shown: str) -> None:
    assert wording.significant(value) == shown


def test_no_minus_before_zero() -> None:
    assert wording.number(-0.0001, 2) == "0.00" and wording.number(None, 2) == "–"


def test_a_csv_starts_no_formula_and_a_reason_has_an_end(run: Any) -> None:
    frame = run.frame.assign(reason=run.frame["reason"].where(run.frame["reason"] == "", "=HYPERLINK(1)\n" + "x" * 10**5))
    evil = "=cmd|' /C calc'!A0\x1b[31m"
    frame["system"] = frame["system"].replace("plain", evil)
    run = replace(run, frame=frame)
    summary = summarise(run, QUICK)
    rows = list(csv.DictReader(io.StringIO(output.results_csv(summary))))
    assert any(row["system"] == "'" + evil.replace("\x1b", " ") for row in rows) and float(rows[0]["value"])
    for text in (document.markdown(summary), "".join(output.render(run, summary)), printed(summary, 100)):
        assert "HYPERLINK" in text and "x" * 500 not in text
    heading = replace(summary.columns[0], name="long" * 100)
    assert max(map(len, printed(replace(summary, columns=(heading, *summary.columns[1:])), 100, columns=[heading]).splitlines())) <= 100


def test_the_share_above_one_half_has_an_interval(tmp_path: Path) -> None:
    fake = FakeRun(tmp_path, {f"i{n}": "one" for n in range(8)}, systems={"a": {"family": "f"}})
    for n in range(8):
        fake.add("a", "wer", f"i{n}", 0.0, counts={"hits": 4, "substitutions": 0, "deletions": 0, "insertions": 0})
    run = fake.run()
    summary = summarise(run, QUICK)
    (rates,) = summary.error_rates
    # None of eight: Clopper and Pearson's bound is .369.
    assert rates.above_half.low == 0 and rates.above_half.high == pytest.approx(1 - 0.025 ** (1 / 8), abs=0.01)
    for text in (document.markdown(summary), "".join(output.render(run, summary)), printed(summary, 100)):
        assert rates.span in text.replace("\\", "")
