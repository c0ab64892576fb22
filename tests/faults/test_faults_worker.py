"""Faults injected into a worker in another environment: the item fails with its reason, the run goes on, the worker comes back."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

import harness

TROUBLED = """
import os, signal, sys, time
import numpy as np
import speech_worker
from pathlib import Path

reading, writing = map(int, os.environ["SPEECH_WORKER_FDS"].split(","))

class Troubled:
    sample_rate = 16000

    def __init__(self, log):
        self.log = Path(log)
        self.about = speech_worker.About(name="troubled", version="1", origin="none")
        self.note("loaded")

    def note(self, what):
        with self.log.open("a") as file:
            file.write(f"{os.getpid()} {what}\\n")

    def synthesize(self, request):
        self.note(request.text)
        wish = request.text.partition(" #")[0]
        print("a library prints", wish, flush=True)
        if wish == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if wish == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if wish == "leave":
            os._exit(3)
        if wish == "hang":
            time.sleep(3600)
        if wish == "hang in C":  # its other threads stand still, and so does what it has started
            import ctypes, subprocess
            self.note(f"started {subprocess.Popen(['sleep', '3600']).pid}")
            ctypes.PyDLL(None).sleep(3600)
        if wish == "garbage":
            os.write(writing, b"Loading checkpoint shards: 100%\\n")
            time.sleep(3600)
        if wish == "too long":
            os.write(writing, speech_worker.HEAD.pack(b"SWP1", 10, 1000, 0) + b"{}")
            time.sleep(3600)
        if wish == "huge":
            os.write(writing, speech_worker.HEAD.pack(b"SWP1", 10, 2**31, 0))
            time.sleep(3600)
        if wish == "too short":
            frame = speech_worker.pack({"op": "speech", "id": 1}, {"audio": np.zeros(100, np.float32)})
            os.write(writing, speech_worker.HEAD.pack(b"SWP1", 10, 20, 0) + frame[16:])
            time.sleep(3600)
        if wish == "raise":
            raise ZeroDivisionError("as asked")
        if wish == "refuse":
            raise speech_worker.MissingOutput("not in Welsh")
        if wish == "integers":
            return np.zeros(100, np.int16)
        t = np.arange(8000) / 16000
        return speech_worker.Speech(0.1 * np.sin(2 * np.pi * 200 * t), "end")

speech_worker.serve(Troubled)
"""


@pytest.fixture(scope="module")
def other_python(tmp_path_factory):
    """The interpreter of a second environment, which has numpy and nothing else of this one."""
    root = tmp_path_factory.mktemp("other") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root)], check=True)
    packages = next(root.glob("lib/python3*/site-packages"))
    for folder in Path(np.__file__).parents[1].glob("numpy*"):
        (packages / folder.name).symlink_to(folder)
    python = root / "bin" / "python"
    assert subprocess.run([python, "-c", "import numpy"]).returncode == 0
    assert subprocess.run([python, "-c", "import harness"], capture_output=True, cwd=root).returncode != 0
    return python


@pytest.fixture
def worker_run(tmp_path, make_dataset, harness_run, other_python, monkeypatch):
    """Runs texts through the troubled worker; returns exit code, (status, reason) by text, and the worker's log."""
    (tmp_path / "troubled.py").write_text(TROUBLED)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)

    def run(texts, *words):
        code, folder = harness_run(
            make_dataset(texts),
            "suite=stub_speech",
            "systems=[worker_tts]",
            f"systems.worker_tts.python={other_python}",
            f"systems.worker_tts.worker={tmp_path / 'troubled.py'}",
            f"systems.worker_tts.parameters.log={tmp_path / 'log'}",
            "systems.worker_tts.timeout_s=4",
            *words,
        )
        frame = harness.load(folder)
        found = {texts[int(row.item.removeprefix("item"))]: (row.status, row.reason) for row in frame.itertuples()}
        assert len(found) == len(texts)
        return code, found, [line.split(" ", 1) for line in (tmp_path / "log").read_text().splitlines()]

    return run


def gone(pid):
    """Whether a process has ended, waiting up to ten seconds for it."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":  # ended, and its new parent has not noticed
            return True
        time.sleep(0.1)
    return False


def test_every_kind_of_loss_costs_its_item_only(worker_run):
    texts = ["one", "die", "two", "hang", "three", "garbage", "four", "leave", "five"]
    code, found, log = worker_run(texts)
    assert code == 1
    assert {text: found[text][0] for text in ("one", "two", "three", "four", "five")} == dict.fromkeys(
        ("one", "two", "three", "four", "five"), "ok"
    )
    for text, reason in {
        "die": "was killed by SIGKILL during synthesize",
        "hang": "did not answer within 4 s of synthesize",
        "garbage": "not a frame: it begins with b'Loading checkpoint shards",
        "leave": "ended with exit code 3 during synthesize",
    }.items():
        assert found[text][0] == "failed"
        assert reason in found[text][1]
        assert "it was started again" in found[text][1]
        assert f"its last words: {'a library prints one / ' if text == 'die' else ''}" in found[text][1]
        assert found[text][1].endswith(f"a library prints {text}")
    # every loss is followed by another process, which repeats the last request that went well: the next timing is of a warm worker
    loads = [i for i, (_, what) in enumerate(log) if what == "loaded"]
    assert len({log[i][0] for i in loads}) == len(loads) == 5
    assert [log[i + 1][1] for i in loads[1:]] == ["one", "two", "three", "four"]
    assert all(gone(int(pid)) for pid, _ in log)
    assert not any(Path(tempfile.gettempdir()).glob("speech-worker-*"))


def test_wrong_lengths_are_noticed_and_crashes_are_named(worker_run):
    texts = ["one", "too long", "two", "too short", "three", "huge", "crash", "four"]
    code, found, _ = worker_run(texts)
    assert code == 1
    assert {found[text][0] for text in ("one", "two", "three", "four")} == {"ok"}
    assert "announced a frame of 1026 bytes and sent 18" in found["too long"][1]
    assert "the checksum of a frame is wrong" in found["too short"][1]
    assert "at most 1048576 + 268435456 are read" in found["huge"][1]
    assert "was killed by SIGSEGV" in found["crash"][1]
    assert "troubled.py" in found["crash"][1]  # the place, from Python's fault handler


def test_an_exception_and_a_refusal_do_not_end_the_worker(worker_run):
    code, found, log = worker_run(["one", "raise", "refuse", "integers", "two"])
    assert code == 1
    assert found["one"][0] == found["two"][0] == "ok"
    assert "ZeroDivisionError: as asked" in found["raise"][1]
    assert "troubled.py" in found["raise"][1]
    assert "no output: not in Welsh" in found["refuse"][1]
    assert "audio is float within +-1, got int16" in found["integers"][1]
    assert len({pid for pid, _ in log}) == 1


def test_a_worker_that_keeps_dying_is_given_up(worker_run):
    code, found, log = worker_run(["one", *(f"die #{i}" for i in range(7))])
    assert code == 1
    assert sum(what == "loaded" for _, what in log) == 6  # once, and five times again
    assert "it is not started again after 5 losses in a row" in found["die #5"][1]
    assert "was not running" in found["die #6"][1]


def test_a_worker_that_cannot_start_is_said_before_anything_runs(tmp_path, make_dataset, harness_run, other_python, capsys):
    root = make_dataset(["one"])
    words = ["suite=stub_speech", "systems=[worker_tts]", f"systems.worker_tts.python={other_python}"]
    (tmp_path / "broken.py").write_text("import sys\nsys.exit('no module named TTS here')\n")
    for script, said in [
        (tmp_path / "broken.py", "no module named TTS here"),
        ("mulaw", "use family: worker_codec"),
    ]:
        assert harness_run(root, *words, f"systems.worker_tts.worker={script}")[0] == 2
        assert said in capsys.readouterr().err
    assert harness_run(root, "suite=stub_speech", "systems=[xtts]")[0] == 2
    assert "systems.NAME.python=ENVIRONMENT/bin/python" in capsys.readouterr().err


@pytest.mark.cases(
    "D2",
    before="a worker program that hung in C, and what it had started, outlived a killed harness",
    after="both end with the harness, however it ends",
)
@pytest.mark.parametrize("how", ["hang", "hang in C"])
def test_a_worker_ends_when_the_harness_is_killed(tmp_path, other_python, how):
    (tmp_path / "troubled.py").write_text(TROUBLED)
    code = f"""
from harness.api import Utterance
from systems.worker.adapters import WorkerSynthesizer
system = WorkerSynthesizer(python={str(other_python)!r}, worker={str(tmp_path / "troubled.py")!r}, parameters={{"log": {str(tmp_path / "log")!r}}})
system.synthesize(Utterance("one", "en"), 0)
print("ready", flush=True)
system.synthesize(Utterance({how!r}, "en"), 0)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout.readline() == "ready\n"
    log = tmp_path / "log"
    while ("hang" if how == "hang" else "started") not in log.read_text():
        assert parent.poll() is None
        time.sleep(0.02)
    parent.kill()
    parent.wait()
    lines = [line.split() for line in log.read_text().splitlines()]
    assert all(gone(pid) for pid in {int(line[0]) for line in lines} | {int(line[2]) for line in lines if line[1] == "started"})


def test_configuration_never_runs_python_objects(make_dataset, harness_run, tmp_path, capsys):
    canary = tmp_path / "canary"
    root = make_dataset(["one"])
    word = f"systems.worker_tts.parameters={{_target_: os.system, command: 'touch {canary}'}}"
    assert harness_run(root, "suite=stub_speech", "systems=[worker_tts]", word)[0] == 2
    assert "refused" in capsys.readouterr().err
    line = f"systems.worker_tts.via='touch {canary}; ssh host'"
    assert harness_run(root, "suite=stub_speech", "systems=[worker_tts]", line)[0] == 2
    assert "via is a list of words" in capsys.readouterr().err
    assert not canary.exists()
