"""Whatever is handed to a plug-in cannot hurt others: its arrays, its exceptions, its results, the settings of the process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness.storing.store import Store
from tests.faults.test_faults_running import STATUSES

cases = pytest.mark.cases
STUBS = Path(__file__).resolve().parents[1] / "stubs"
OTHERS = ("level_rms_db", "si_sdr_db")


def rows(folder, metric):
    frame = harness.load(folder)
    assert set(frame["status"]) <= STATUSES
    return {r.item: r for r in frame[frame["metric"] == metric].itertuples()}


WRITES = ("write", "flag", "base", "torch", "replace", "poison", "item", "process")


@cases(
    "A4",
    before="a plug-in metric that halved the audio it was given halved it for every metric after it (STOI .918 -> .459)",
    after="it is given copies; what it wrote or changed is named and put back, and the others measure the same as without it",
)
def test_a_metric_that_writes_into_what_it_is_lent_changes_nobody_elses_number(make_dataset, harness_run, capsys):
    root = make_dataset(["fine", *WRITES, "fine"])
    code, folder = harness_run(
        root, "systems=[stub_rude_codec,stub_echo]", "executor=serial", metrics=f"[stub_rude,{','.join(OTHERS)},stub_peak]"
    )
    told = capsys.readouterr().err
    assert "metric 'stub_rude' changed" in told
    assert "the audio it was given" in told
    assert "the working directory" in told
    assert code == 1  # to write into a read-only array, or to allow it, raises: its own failures
    frame = harness.load(folder)
    mine = frame[frame["metric"] == "stub_rude"]
    assert {r.item: r.status for r in mine.itertuples() if r.status != "ok"} == {"item1": "failed", "item2": "failed"}
    assert set(mine[mine["item"] == "item1"]["reason"]) == {"score stub_rude: ValueError: output array is read-only"}
    others = frame[frame["metric"] != "stub_rude"]
    assert set(others["status"]) == {"ok"}
    assert abs(others[others["metric"] == "level_rms_db"]["value"]).max() < 0.01  # both codecs give back what they got
    assert others[others["metric"] == "si_sdr_db"]["value"].min() > 60
    second = mine[(mine["system"] == "stub_echo") & (mine["status"] == "ok")]["value"]
    assert (second.to_numpy() > 0.49).all()  # the plug-in's own next call begins with the audio as it was, too
    assert "the working directory" in json.loads((folder / "manifest.json").read_text())["put_back"]["metric 'stub_rude'"]


@cases(
    "A4",
    before="a codec that wrote into its input in the warm-up encoded the halved recording when it was measured",
    after="every call has audio and codes of its own, and a buffer that a codec keeps is copied when it is returned",
)
@pytest.mark.parametrize("deed", ["", "write", "buffer", "process"])
def test_a_codec_that_writes_into_its_input_stores_what_a_good_one_stores(make_dataset, harness_run, deed, tmp_path):
    root = make_dataset(["a", "b"])
    word = f"+systems.stub_rude_codec.deed={deed}" if deed else "run.keep_failed=false"
    code, folder = harness_run(root, "systems=[stub_rude_codec]", word, "executor=serial", metrics="[level_rms_db]")
    assert code == 0
    store = Store(tmp_path / "runs" / "store")
    for output in json.loads((folder / "manifest.json").read_text())["outputs"]:
        stored = store.load_prediction(output["key"])
        expected = (stored.encoded.indices[0] - 32768).astype("float32") / 32767
        assert (stored.audio.samples[0] == expected).all()
        assert abs(expected).max() > 0.49  # neither halved nor zeroed


@cases(
    "A4",
    before="a metric that closed standard output or error ended a serial run with exit 1 and no word; the next file opened got the messages",
    after="both lead where they led before, it is named, and the table is printed",
)
@pytest.mark.parametrize("deed", ["close stdout", "close 1 and 2", "close a duplicate"])
def test_a_metric_that_closes_the_standard_streams_does_not_end_a_run(make_dataset, stubs, tmp_path, deed):
    root = make_dataset(["fine", deed, "fine"])
    words = ["run", "dataset=jsonl", f"dataset.root={root}", "systems=[stub_echo]", "metrics=[stub_rude,level_rms_db]", "executor=serial",
             f"run.root={tmp_path / 'runs'}", "run.name=a", "--no-report"]  # fmt: skip
    path = f"{Path(harness.__file__).parents[1]}{os.pathsep}{os.environ.get('PYTHONPATH', '')}{os.pathsep}{STUBS}"
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", *words], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    assert "stub_echo" in done.stdout
    changed = {"close stdout": "sys.stdout", "close 1 and 2": "the standard descriptors"}
    told = [line for line in done.stderr.splitlines() if "put back" in line]
    assert told == ([f"metric 'stub_rude' changed {changed[deed]}: put back"] if deed in changed else [])


FATAL = (
    "exit", "ctrl-c", "generator", "stop", "base exception", "store", "surrogate", "long", "unspeakable", "local",
    "float", "none", "array", "object", "nan", "long words", "many words",
)  # fmt: skip


@cases(
    "D9",
    before="one item whose error text held a lone surrogate ended the whole run, every time; so did SystemExit, and an error of harness.errors",
    after="that item's status with a reason that every file can hold; the rest is finished",
)
@cases(
    "D13",
    before="int64, 0-d arrays and NaN in Evidence, a metric that returns no Evidence, or a text of 50 MB: ended the run or filled the report",
    after="numpy's numbers are kept as Python's; what is none is that item's failure, in at most 2,000 characters",
)
@pytest.mark.parametrize("executor", ["serial", "local"])
def test_whatever_a_metric_raises_or_returns_costs_its_item_only(make_dataset, harness_run, executor):
    root = make_dataset(["fine", *FATAL, "undefined", "words", "numpy", "fine"])
    code, folder = harness_run(root, "systems=[stub_echo]", f"executor={executor}", metrics="[stub_rude,stub_peak]")
    assert code == 1
    assert {r.status for r in rows(folder, "stub_peak").values()} == {"ok"}
    found = rows(folder, "stub_rude")
    texts = ["fine", *FATAL, "undefined", "words", "numpy", "fine"]
    by_text = {text: found[f"item{i}"] for i, text in enumerate(texts)}
    assert {text for text, row in by_text.items() if row.status == "failed"} == set(FATAL)
    assert all(len(row.reason) < 2200 for row in by_text.values())
    assert "StoreError: the disk is full, it says" in by_text["store"].reason
    assert "\\ud800" in by_text["surrogate"].reason
    assert "characters left out" in by_text["long"].reason
    assert "SystemExit" in by_text["exit"].reason
    assert "UnspeakableError" in by_text["unspeakable"].reason
    assert "returned float, wanted Evidence" in by_text["float"].reason
    assert by_text["undefined"].status == "metric_undefined"
    assert "\\ud800" in by_text["words"].detail["heard"]
    assert (by_text["numpy"].value, by_text["numpy"].weight) == (1.0, 2.0)
    assert by_text["numpy"].detail == {"ok": True, "n": 3, "w": "x"}


@cases(
    "D13",
    before="side information of objects, or a failed save of any kind but a full disk, ended the run and left a tmp-* folder",
    after="the item's failure with its reason; nothing is left behind",
)
@pytest.mark.parametrize(
    ("deed", "reason"), [("object", "names and arrays of numbers"), ("type", "wanted Audio"), ("store", "StoreError: the disk is full")]
)
def test_a_codec_that_returns_what_cannot_be_stored_fails_on_the_item(make_dataset, harness_run, tmp_path, deed, reason):
    code, folder = harness_run(
        make_dataset(["a", "b"]), "systems=[stub_rude_codec,stub_echo]", f"+systems.stub_rude_codec.deed={deed}", "executor=serial"
    )
    assert code == 1
    frame = harness.load(folder)
    mine = frame[frame["system"] == "stub_rude_codec"]
    assert set(mine["status"]) == {"failed"}
    assert all(reason in text for text in mine["reason"])
    assert set(frame[frame["system"] == "stub_echo"]["status"]) == {"ok"}
    assert not list((tmp_path / "runs" / "store" / "predictions").glob("tmp-*"))


@cases(
    "D2",
    before="a plug-in that closed all descriptors, forked or hung: no timeout, its children stayed",
    after="its item's failure within the limit; nothing that it started is left when the run ends",
)
def test_descriptors_children_and_hangs_of_a_metric_cost_their_items(make_dataset, harness_run, tmp_path):
    texts = [
        "fine",
        "closerange",
        "closerange and sleep",
        "child",
        "child of its own session",
        "child and crash",
        "child and hang",
        "leave",
        "fine",
    ]
    code, folder = harness_run(make_dataset(texts), "systems=[stub_echo]", "executor.timeout_s=3", metrics="[stub_rude,stub_peak]")
    assert code == 1
    assert {r.status for r in rows(folder, "stub_peak").values()} == {"ok"}
    found = {texts[int(item.removeprefix("item"))]: row for item, row in rows(folder, "stub_rude").items()}
    assert {text: row.status for text, row in found.items()} == {
        "fine": "ok",
        "closerange": "ok",  # its number was stored, in a file opened anew; the worker is replaced
        "closerange and sleep": "failed",
        "child": "ok",
        "child of its own session": "ok",
        "child and crash": "failed",
        "child and hang": "timeout",
        "leave": "failed",
    }
    assert not [path for path in Path("/proc").glob("[0-9]*/cwd") if _sleeps(path, tmp_path)]


def _sleeps(link, folder):
    try:
        return link.readlink() == folder and link.with_name("cmdline").read_bytes().startswith(b"sleep")
    except OSError:
        return False


@cases(
    "A17",
    before="a metric whose module called sys.exit(0): exit 0, nothing run, nothing said",
    after="exit 2 with the plug-in and its reason; run.allow_missing=true leaves it out",
)
@pytest.mark.parametrize("module", ["import sys; sys.exit(0)", "import os; os._exit(0)"])
def test_a_run_with_a_plugin_that_ends_its_process_says_so(make_dataset, harness_run, tmp_path, monkeypatch, capsys, module):
    info = tmp_path / "leaving-1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text("[harness.metrics]\nleaving = leaving_metric:M\n")
    (tmp_path / "leaving_metric.py").write_text(module)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    code, _ = harness_run(make_dataset(["a"]), "systems=[stub_echo]", "executor=serial", metrics="[leaving,stub_peak]")
    assert code == 2
    assert "plug-in leaving-1.0, leaving_metric:M) cannot be imported" in capsys.readouterr().err
