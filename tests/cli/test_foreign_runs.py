"""Run folders and baselines that somebody else wrote, or something else damaged: words, never a traceback, and never a regression."""

import copy
import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile

from harness.cli import main
from harness.storing.files import sealed
from harness.storing.runfolder import open_run
from reports.writing.clips import encoded

WRONG = (None, 5, "text", [5], {"a": 5})


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A finished run of the harness, its store, and a baseline of it."""
    folder = tmp_path_factory.mktemp("runs")
    words = ["systems=[passthrough,noise]", "dataset.limit=2", "metrics=[si_sdr_db,level_rms_db]", "executor=serial"]
    assert main(["run", "--no-report", *words, f"run.root={folder}", "run.name=fine"]) == 0
    assert main(["bless", str(folder / "fine"), f"out={folder / 'base'}"]) == 0
    return folder


@pytest.fixture
def runs(template, tmp_path):
    shutil.copytree(template, tmp_path / "runs")
    return tmp_path / "runs"


def rewritten(folder, manifest):
    (folder / "manifest.json").write_text(sealed(json.dumps(manifest)))


def mutations(manifest):
    """Every section, and every field of one entry of it, left out or of another kind."""

    def changed(place, value):
        made = copy.deepcopy(manifest)
        node = made
        for step in place[:-1]:
            node = node[step]
        if value is KeyError:
            del node[place[-1]]
        else:
            node[place[-1]] = value
        return made

    for section, content in manifest.items():
        if section in ("checksum", "schema"):
            continue
        for value in (KeyError, *WRONG):
            yield f"{section} {value}", changed([section], value)
        first = 0 if isinstance(content, list) else next(iter(content), None) if isinstance(content, dict) else None
        if first is None or not content:
            continue
        for value in (KeyError, *WRONG):
            yield f"{section}.{first} {value}", changed([section, first], value)
        inner = content[first]
        for field in inner if isinstance(inner, dict) else ():
            for value in (KeyError, *WRONG):
                yield f"{section}.{first}.{field} {value}", changed([section, first, field], value)


@pytest.mark.slow
@pytest.mark.cases(
    "D11",
    before="`{}` or a wrong type anywhere in a manifest: traceback, and gate exits 1, which reads as a regression",
    after="exit 2 or 3 with words, or the verb copes; gate says 1 of a regression only",
)
def test_no_manifest_breaks_a_verb(runs, capsys):
    run = runs / "fine"
    manifest = json.loads((run / "manifest.json").read_text())
    for what, made in mutations(manifest):
        rewritten(run, made)
        for words in (["report", str(run), "--out", str(runs / "out")], ["gate", str(run), f"against={runs / 'base'}", f"out={runs / 'out'}"],
                      ["compare", str(run), str(run), f"out={runs / 'out'}"]):  # fmt: skip
            code = main(words)
            told = capsys.readouterr().err
            assert "Traceback" not in told, (what, words[0], told)
            assert code in ((0, 2, 3) if words[0] == "gate" else (0, 1, 2, 3)), (what, words[0])


@pytest.mark.cases(
    "D11",
    before="records.parquet empty, cut or without columns, `{}` as manifest, NaN in a baseline: traceback, gate exits 1",
    after="gate exits 2 or 3 and says which file is damaged; report, compare, bless and listen say it too",
)
@pytest.mark.parametrize("folder", ["fine", "base"])
@pytest.mark.parametrize(
    "how", ["empty", "cut", "other columns", "no rows", "NaN", "negative weight", "status", "settings", "{}", "[]", "no JSON"]
)
def test_damaged_files_are_named(runs, capsys, folder, how):
    place = runs / folder
    records, manifest = place / "records.parquet", place / "manifest.json"
    frame = pd.read_parquet(records)
    told = json.loads(manifest.read_text())
    if how == "empty":
        records.write_bytes(b"")
    elif how == "cut":
        records.write_bytes(records.read_bytes()[:-200])
    elif how in ("{}", "[]", "no JSON"):
        manifest.write_text(how)
    else:
        column, value = {"NaN": ("value", math.nan), "negative weight": ("weight", -1.0), "status": ("status", "splendid"),
                         "settings": ("settings", "[")}.get(how, ("", ""))  # fmt: skip
        made = {"other columns": frame[["system", "item"]], "no rows": frame.iloc[:0]}.get(how, frame)
        (made.assign(**{column: value}) if column else made).to_parquet(records, index=False)
        told.pop("records", None)  # as if the digest fitted
        rewritten(place, {**told, "schema": 1})
    against = [str(runs / "fine"), f"against={runs / 'base'}"]
    assert main(["gate", *against, f"out={runs / 'out'}"]) in (2, 3)
    assert "Traceback" not in capsys.readouterr().err
    if folder == "fine":
        for words in (["report", str(place)], ["compare", str(place), str(runs / "base")], ["bless", str(place), f"out={runs / 'b'}"],
                      ["listen", str(place)]):  # fmt: skip
            code = main(words)
            told = capsys.readouterr()
            assert "Traceback" not in told.err and (code in (2, 3) or words[0] == "listen" or how == "no rows"), (words, told.err)


@pytest.mark.cases(
    "D11",
    before="lists and records of other kinds inside a run (a nested bound, `counts` that is a list, 1e308): tracebacks",
    after="report and gate say which field is wrong, exit 2",
)
@pytest.mark.parametrize(
    "change",
    [
        lambda f, m: m["metrics"]["si_sdr_db"].update(bounds=[1]),
        lambda f, m: m["metrics"]["si_sdr_db"].update(better="sideways"),
        lambda f, m: m["metrics"]["si_sdr_db"].update(needs=[{}]),
        lambda f, m: m["suite"].update(curves=[{"title": "t"}]),
        lambda f, m: m["suite"].update(headline=[["a"]]),
        lambda f, m: m.update(calibration=[{}]),
        lambda f, m: m.update(counts={"ok": "many"}),
        lambda f, m: m["systems"]["noise"].update(tools=[5]),
        lambda f, m: f.update(pd.DataFrame({"counts": ["[1]"] * len(f)})),
        lambda f, m: f.update(pd.DataFrame({"detail": ["{"] * len(f)})),
        lambda f, m: f.update(pd.DataFrame({"settings": ['{"a": {"b": 1}}'] * len(f)})),
        lambda f, m: f.update(pd.DataFrame({"value": [1e308] * len(f)})),
    ],
)
def test_what_no_run_writes_is_named(runs, capsys, change):
    run = runs / "fine"
    frame, told = pd.read_parquet(run / "records.parquet"), json.loads((run / "manifest.json").read_text())
    change(frame, told)
    frame.to_parquet(run / "records.parquet", index=False)
    told.pop("records")
    rewritten(run, {**told, "schema": 1})
    for words in (["report", str(run)], ["gate", str(run), f"against={runs / 'base'}"]):
        assert main(words) == 2
        found = capsys.readouterr().err
        assert found.startswith("harness: ") and "Traceback" not in found


@pytest.mark.parametrize("change", [lambda m: m.pop("config"), lambda m: m["items"][next(iter(m["items"]))].pop("path")])
def test_a_report_does_without(runs, change):
    told = json.loads((runs / "fine" / "manifest.json").read_text())
    change(told)
    rewritten(runs / "fine", told)
    assert main(["report", str(runs / "fine")]) == 0


def test_a_gate_that_breaks_says_2(runs, capsys, monkeypatch):
    monkeypatch.setattr("reports.gate.checks.Gate.judge", lambda *_: 1 / 0)
    assert main(["gate", str(runs / "fine"), f"against={runs / 'base'}"]) == 2
    assert "nothing was judged: ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.cases(
    "D8",
    before="a foreign run folder whose manifest names a private file: the report embeds it",
    after="only the recording whose digest was measured, below a root that this machine's own store names, is embedded",
)
def test_a_foreign_manifest_brings_no_file_of_this_machine_into_a_page(runs, tmp_path):
    private = tmp_path / "private.wav"
    soundfile.write(private, np.sin(np.arange(8000)), 16000)
    run = runs / "fine"
    manifest = json.loads((run / "manifest.json").read_text())
    item = next(iter(manifest["items"]))
    for path in (str(private), "../../private.wav", "<dataset>/../private.wav", "<home>/../private.wav"):
        manifest["items"][item]["path"] = path
        rewritten(run, manifest)
        assert private not in {p.resolve() for p in open_run(run).references.values()}
    # Even where a store was sent along that names its folder: it is not the recording that was measured.
    assert encoded(private).flac and encoded(private, manifest["items"][item]["digest"]).problem
    # An output that is a link, and a key that is a path.
    output = next(iter(open_run(run).outputs.values()))
    output.unlink()
    output.symlink_to(private)
    assert output not in open_run(run).outputs.values()
    manifest["outputs"][0]["key"] = "../../../../private"
    rewritten(run, manifest)
    assert main(["report", str(run)]) == 2


@pytest.mark.cases(
    "A11", before="what a dataset leaves out went unsaid in the tables", after="a line 'left out: ...' in terminal, page and Markdown"
)
def test_what_was_left_out_stands_in_every_format(runs, capsys):
    run = runs / "fine"
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["dataset"]["left_out"] = ["3 .m4a files", "1 linked folder", "columns not read: <sentence>"]
    rewritten(run, manifest)
    assert main(["report", str(run)]) == 0
    assert "left out: 3 .m4a files; 1 linked folder; columns not read: <sentence>" in capsys.readouterr().out.replace("\n", " ")
    assert "columns not read: &lt;sentence&gt;" in (run / "report.html").read_text()
    assert "left out\\: 3 .m4a files" in (run / "report.md").read_text()


@pytest.mark.cases(
    "A6",
    before="a flipped byte in a stored prediction's audio.wav, or another sound in its place, was played by the report unnoticed",
    after="the page says in the player's place that it was altered after it was measured",
)
@pytest.mark.parametrize("how", ["byte", "sound", "description"])
def test_a_page_plays_no_output_that_was_altered(runs, how):
    audio = next(iter(open_run(runs / "fine").outputs.values()))
    assert encoded(audio).flac
    altered = audio.with_name("prediction.json") if how == "description" else audio
    if how == "sound":
        soundfile.write(audio, np.sin(np.arange(8000)), 16000, subtype="FLOAT")
    else:
        data = bytearray(altered.read_bytes())
        data[-300] ^= 1
        altered.write_bytes(data)
    clip = encoded(audio)
    assert not clip.flac and ("was altered" in clip.problem or how == "description")
