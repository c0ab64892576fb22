"""What a user, a manifest or a plug-in can ask for that must not be done; and text that must stay text."""

import html.parser
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import harness
from harness.api import Record, Status
from harness.cli import main
from tests.stubs.forks import ended_with, forked

fault = pytest.mark.fault
STUBS = Path(__file__).resolve().parents[1] / "stubs"


def run(root, folder, *extra, metrics="[stub_peak]", systems="[stub_echo]"):
    return main(
        ["run", "--no-report", "dataset=jsonl", f"dataset.root={root}", f"systems={systems}", f"metrics={metrics}", f"run.root={folder}",
         "run.name=x", "executor=serial", *extra]
    )  # fmt: skip


def manifest(root, rows, *, raw=None):
    root.mkdir(exist_ok=True)
    text = raw if raw is not None else "\n".join(json.dumps(r) for r in rows).encode()
    (root / "manifest.jsonl").write_bytes(text)
    return root


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("metrics=[stub_pesk]", "Did you mean stub_peak"),
        ("metrics=[stub_absent]", "no module named 'nothing_of_that_name'"),
        ("metrics=[stub_library]", "libmissing.so.1: cannot open shared object file"),
        ("systems=[stub_broken]", "libmissing.so.1: cannot open shared object file"),
    ],
)
@fault("F23", "unknown metric; plug-in whose import raises ImportError or OSError", "exit 2 with the reason before the first item")
def test_what_is_not_there(make_dataset, stubs, tmp_path, monkeypatch, capsys, words, said):
    folder = tmp_path / "plugins" / "broken_plugin-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder.parent / "broken_plugin.py").write_text("raise OSError('libmissing.so.1: cannot open shared object file')")
    (folder / "entry_points.txt").write_text(
        "[harness.metrics]\nstub_library = broken_plugin:Metric\nstub_absent = nothing_of_that_name:Metric\n"
        "[harness.systems]\nstub_broken = broken_plugin:System\n"
    )
    monkeypatch.setattr(sys, "path", [str(folder.parent), *sys.path])
    assert run(make_dataset(["a"]), tmp_path / "runs", words) == 2
    assert said.lower() in capsys.readouterr().err.lower()
    assert not (tmp_path / "runs" / "store" / "predictions").exists()


HOSTILE = [
    ({"id": "a", "audio": "../secret.wav"}, "leaves the dataset's root"),
    ({"id": "a", "audio": "/etc/passwd"}, "is absolute"),
    ({"id": "a", "audio": "touch canary |"}, "is a command"),
    ({"id": "a", "audio": "x\u0000.wav"}, "control characters"),
    ({"id": "../a", "audio": "0.wav"}, "looks like a path"),
    ({"id": "a\nb", "audio": "0.wav"}, "line break"),
    ({"id": "x" * 300, "audio": "0.wav"}, "at most 200"),
]


@pytest.mark.parametrize(
    ("row", "said"),
    [pytest.param(*case, marks=fault("F25" if "audio" in case[1] or i < 4 else "F24", "manifest: paths that leave, commands, ids that are none",
        "exit 2 with the line; nothing opened, nothing executed")) for i, case in enumerate(HOSTILE)],
)  # fmt: skip
def test_a_hostile_manifest(tmp_path, stubs, monkeypatch, capsys, row, said):
    monkeypatch.chdir(tmp_path)
    root = manifest(tmp_path / "data", [{"id": "fine", "audio": "0.wav"}, row])
    assert run(root, tmp_path / "runs") == 2
    err = capsys.readouterr().err
    assert said in err
    assert "manifest.jsonl:2" in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data"]


@pytest.mark.parametrize(
    "rows",
    [pytest.param([{"id": "a", "audio": "0.wav"}, {"id": "a", "audio": "1.wav"}], marks=fault("F24", "manifest: duplicate id", "exit 2 with the line")),
     pytest.param([{"id": "a", "audio": "0.wav"}, {"id": "A", "audio": "1.wav"}],
                  marks=fault("F24", "manifest: ids that differ in case only", "exit 2 with the line"))],
)  # fmt: skip
def test_ids_that_clash(tmp_path, stubs, capsys, rows):
    assert run(manifest(tmp_path / "data", rows), tmp_path / "runs") == 2
    assert "manifest.jsonl:2: id" in capsys.readouterr().err


@fault("F37", "manifest: byte order mark, CRLF; broken UTF-8", "read as meant; exit 2 with line and byte")
def test_encodings_of_a_manifest(make_dataset, stubs, tmp_path, capsys):
    root = make_dataset(["a", "b"])
    text = (root / "manifest.jsonl").read_bytes()
    manifest(root, [], raw=b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"))
    assert run(root, tmp_path / "runs") == 0
    assert len(harness.load(tmp_path / "runs" / "x")) == 2
    manifest(root, [], raw=text.replace(b'"b"', b'"\xff\xfe"'))
    assert run(root, tmp_path / "other") == 2
    assert "manifest.jsonl:2: not UTF-8: byte 0xff" in capsys.readouterr().err


@fault("K03", "manifest of 20 000 rows with a fault in the last", "exit 2 naming that line; all of it was looked at")
def test_a_long_manifest(tmp_path, stubs, capsys):
    rows = b"".join(b'{"id":"i%d","audio":"%d.wav"}\n' % (i, i) for i in range(19_999))
    root = manifest(tmp_path / "data", [], raw=rows + b'{"id":"i7","audio":"7.wav"}\n')
    assert run(root, tmp_path / "runs") == 2
    assert "manifest.jsonl:20000: id 'i7' is already used in manifest.jsonl:8" in capsys.readouterr().err


@pytest.mark.parametrize(
    "word",
    ["systems.stub_echo._target_=os.system", "+systems.stub_echo.log={_target_: os.system, command: 'touch canary'}", "+run._target_=os.system",
     "dataset={_target_: os.system}", "hydra/launcher=basic", "hydra.run.dir=canary", "+a=[{_target_: os.system}]"],
)  # fmt: skip
@fault("F26", "overrides that name Python objects (_target_) or Hydra's own settings", "refused, exit 2, canary absent")
def test_overrides_that_would_run_code(make_dataset, stubs, tmp_path, monkeypatch, capsys, word):
    monkeypatch.chdir(tmp_path)
    assert run(make_dataset(["a"]), tmp_path / "runs", word) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "canary").exists()
    assert not (tmp_path / "runs").exists()


class Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


@fault("K04", "hostile text in id, speaker and transcript, in report.html", "escaped: no tag, attribute or script of theirs in the page")
def test_hostile_text_in_the_page(make_dataset, stubs, tmp_path):
    import soundfile

    bad = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'`${7*7}--></script><!--"
    root = make_dataset(["a"])
    samples, rate = soundfile.read(root / "0.wav")
    soundfile.write(root / "0.wav", samples, rate)
    manifest(root, [{"id": bad.replace("/", "_"), "audio": "0.wav", "text": bad, "speaker": bad, "language": "en"}])
    assert main(["run", "dataset=jsonl", f"dataset.root={root}", "systems=[stub_echo]", "metrics=[stub_peak,stub_trouble]",
                 f"run.root={tmp_path / 'runs'}", "run.name=x", "executor=serial"]) == 0  # fmt: skip
    page = (tmp_path / "runs" / "x" / "report.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    assert not [t for t in tags.found if t[0] == "img" and t[1].get("src") == "x"]
    assert not [t for t in tags.found if any(name.startswith("on") for name in t[1])]
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", page, flags=re.DOTALL)
    assert scripts
    assert not any("alert(1)</" in body or body.strip() == "alert(1)" for body in scripts)
    assert len(scripts) == sum(tag == "script" for tag, _ in tags.found)


@fault("F38", "every record and manifest of a run with failures", "strict JSON, and every record keeps the schema's rules")
def test_records_keep_their_schema(make_dataset, stubs, tmp_path):
    import pyarrow.parquet as pq

    assert run(make_dataset(["fine", "raise", "memory"]), tmp_path, metrics="[stub_peak,stub_trouble,pesq_wb]") == 1

    def refuse(word):
        raise AssertionError(f"{word} is no strict JSON")

    described = json.loads((tmp_path / "x" / "manifest.json").read_text(encoding="utf-8"), parse_constant=refuse)
    rows = pq.read_table(tmp_path / "x" / "records.parquet").to_pylist()
    # three metrics of the system, and of the recordings those two that ask nothing of the system
    assert len(rows) == 9 + 6 == sum(described["counts"].values())
    for row in rows:
        for name in ("counts", "detail"):
            row[name] = json.loads(row[name], parse_constant=refuse)
        assert vars(Record(**{**row, "status": Status(row["status"])})) == row


@pytest.mark.parametrize(
    ("signals", "code"),
    [pytest.param([signal.SIGINT], 130, marks=fault("F18", "SIGINT once", "what is in flight is finished and stored, exit 130, resumable")),
     pytest.param([signal.SIGTERM], 130, marks=fault("F18", "SIGTERM", "as SIGINT")),
     pytest.param([signal.SIGINT, signal.SIGINT], 130, marks=fault("F18", "SIGINT twice", "ends at once, exit 130; no score altered"))],
)  # fmt: skip
def test_signals(make_dataset, stubs, tmp_path, signals, code):
    root, log = make_dataset(["a"] * 6), tmp_path / "log"
    words = ["run", "--no-report", "dataset=jsonl", f"dataset.root={root}", "systems=[stub_echo]", f"+systems.stub_echo.log={log}",
             "+systems.stub_echo.sleep_s=0.3", "metrics=[stub_peak]", f"run.root={tmp_path}", "run.name=x", "executor=serial"]  # fmt: skip
    pid = forked(words)
    while not log.exists() or len(log.read_text().split()) < 2:
        time.sleep(0.01)
    began = time.monotonic()
    for number in signals:
        os.kill(pid, number)
        time.sleep(0.05)
    assert ended_with(pid) == code
    assert time.monotonic() - began < 1.5  # not the 1.5 s that the rest would have taken
    done = len(log.read_text().split())
    assert done <= 4
    assert main(words) == 0
    assert harness.load(tmp_path / "x")["status"].tolist() == ["ok"] * 6
    assert len(log.read_text().split()) <= 6 + 2 + (2 if len(signals) == 2 else 0)


@fault(
    "F37",
    "LANG=C, standard output closed, text that is not ASCII",
    "the run is done; no traceback",
    before="standard output closed: AttributeError traceback",
)
def test_a_poor_terminal(make_dataset, tmp_path):
    root = make_dataset(["naïve 你好", "b"])
    words = [sys.executable, "-m", "harness.cli", "run", "dataset=jsonl", f"dataset.root={root}", "systems=[stub_echo]",
             "metrics=[stub_peak,stub_trouble]", f"run.root={tmp_path}", "run.name=x", "executor=serial"]  # fmt: skip
    environment = {**os.environ, "LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
                   "PYTHONPATH": os.pathsep.join([str(STUBS), str(Path(harness.__file__).parents[1])])}  # fmt: skip
    result = subprocess.run(words, env=environment, capture_output=True, timeout=120)
    assert b"Traceback" not in result.stderr
    assert result.returncode == 0, result.stderr
    closed = subprocess.run([*words[:3], "report", str(tmp_path / "x")], env=environment, stderr=subprocess.PIPE, timeout=120,
                            preexec_fn=lambda: os.close(1))  # fmt: skip
    assert b"Traceback" not in closed.stderr
    assert closed.returncode in (0, 1)


@fault("K05", "a child that is killed by a signal is not taken for success", "the tests' own supervisor sees it")
def test_the_supervisor_of_these_tests(tmp_path, stubs, make_dataset):
    assert ended_with(forked(["list"])) == 0
    assert ended_with(forked(["list"], lambda: os.kill(os.getpid(), signal.SIGKILL))) == -signal.SIGKILL
