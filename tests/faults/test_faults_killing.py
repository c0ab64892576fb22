"""kill -9 of whole process trees and of workers, Ctrl-C, and the same command again: the same records, nothing done twice but what was in flight."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

import harness

fault = pytest.mark.fault
STUBS = Path(__file__).resolve().parents[1] / "stubs"
ITEMS = 24


def command(root, folder, log, sleep_s):
    return [
        sys.executable, "-m", "harness.cli", "run", "--no-report", "dataset=jsonl", f"dataset.root={root}", "systems=[stub_echo,passthrough]",
        f"+systems.stub_echo.log={log}", f"+systems.stub_echo.sleep_s={sleep_s}", "metrics=[stub_peak,si_sdr_db,clipped_samples]", f"run.root={folder}", "run.name=x",
        "executor.workers=2",
    ]  # fmt: skip


def start(root, folder, log, sleep_s=0.03):
    environment = {
        **os.environ,
        "STUB_LOG": str(log.with_name("measured.log")),
        "PYTHONPATH": f"{STUBS}{os.pathsep}{Path(harness.__file__).parents[1]}",
    }
    return subprocess.Popen(
        command(root, folder, log, sleep_s),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process, limit_s=120):
    out, err = process.communicate(timeout=limit_s)
    assert process.returncode == 0, err
    return out


def wait_for_predictions(process, log, count):
    while not log.exists() or len(log.read_text().split()) < count:
        assert process.poll() is None
        time.sleep(0.01)


def started_by(parent, program):
    """Numbers of the processes that a process has started, with this word in their command line."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent and program in stat.with_name("cmdline").read_bytes():
                found.append(int(stat.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def fork_server(parent):
    """The process that workers are forked of."""
    (server,) = started_by(parent, b"forkserver")
    return server


def records(folder):
    return harness.load(folder / "x").sort_values(["system", "item", "metric"]).reset_index(drop=True)


def make_dataset(base, items):
    """So many recordings of about a second, all different."""
    rng = np.random.default_rng(0)
    lines = []
    for i in range(items):
        soundfile.write(base / f"{i}.wav", rng.uniform(-0.5, 0.5, 16000 + 16 * i % 8000).astype(np.float32), 16000, subtype="FLOAT")
        lines.append(json.dumps({"id": f"item{i:04d}", "audio": f"{i}.wav", "text": "a", "language": "en", "speaker": f"s{i % 4}"}))
    (base / "manifest.jsonl").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    base = tmp_path_factory.mktemp("undisturbed")
    make_dataset(base, ITEMS)
    log = base / "encoded.log"
    finish(start(base, base / "runs", log))
    return base, records(base / "runs")


@fault("F15", "kill -9 of the parent of a tree of workers", "workers end by themselves; same records after the same command")
def test_kill_9_of_the_parent(undisturbed, tmp_path):
    root, expected = undisturbed
    log = tmp_path / "encoded.log"
    process = start(root, tmp_path / "runs", log)
    wait_for_predictions(process, log, 10)
    os.kill(process.pid, signal.SIGKILL)  # the parent only: its workers must notice by themselves
    process.communicate(timeout=60)
    finish(start(root, tmp_path / "runs", log))
    assert records(tmp_path / "runs").equals(expected)
    encoded = log.read_text().split()
    assert len(encoded) <= ITEMS + 2 * 2  # one untimed warm-up call per start, and the one prediction in flight
    assert len(set(encoded)) == ITEMS
    measured = log.with_name("measured.log").read_text().split()
    assert len(set(measured)) == ITEMS  # two systems, both of which give the input back
    assert ITEMS <= len(measured) <= ITEMS + 2  # once for both; at most the one in flight in each of the two workers is measured again


@fault("F18", "Ctrl-C with worker processes", "what is in flight is finished and stored, exit 130, resumable")
def test_ctrl_c_leaves_a_resumable_run(undisturbed, tmp_path):
    root, expected = undisturbed
    process = start(root, tmp_path / "runs", tmp_path / "encoded.log")
    wait_for_predictions(process, tmp_path / "encoded.log", 8)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "resumes" in err
    assert "Traceback" not in err
    finish(start(root, tmp_path / "runs", tmp_path / "encoded.log"))
    assert records(tmp_path / "runs").equals(expected)


@fault("F12", "SIGKILL of workers (the kernel short of memory), five times in a run", "their items are tried again; same records, exit 0",
    before="21 of 144 measurements failed, exit 1, until the next start")  # fmt: skip
def test_killed_workers_cost_nothing(undisturbed, tmp_path):
    root, expected = undisturbed
    process = start(root, tmp_path / "runs", tmp_path / "encoded.log")
    for kill in range(5):
        wait_for_predictions(process, tmp_path / "encoded.log", 2 + 3 * kill)
        workers = started_by(fork_server(process.pid), b"forkserver")
        assert workers  # one predicts, two score
        for pid in workers if kill == 2 else workers[:1]:
            os.kill(pid, signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert records(tmp_path / "runs").equals(expected)


def lines_of(path):
    return path.read_text().split() if path.exists() else []


@pytest.mark.slow
@fault("F15", "2,000 items, kill -9 of the whole tree at 20 random moments", "same records; less than 5 % of predictions and scores twice")
def test_a_long_run_killed_twenty_times(tmp_path):
    """Prints what the kills cost: work done twice, and time. ``pytest tests/faults/test_faults_killing.py -m slow -s``."""
    items, kills = 2000, 20
    make_dataset(tmp_path, items)
    quiet, log = tmp_path / "quiet.log", tmp_path / "killed" / "encoded.log"
    log.parent.mkdir()
    began = time.monotonic()
    finish(start(tmp_path, tmp_path / "expected", quiet, 0.0), 600)
    quiet_s = time.monotonic() - began
    expected = records(tmp_path / "expected")
    assert len(expected) == 2 * 3 * items
    needed = 3 * items  # a prediction of one system, a score of each of both by the stub, which count themselves

    def done():
        return len(lines_of(log)) + len(lines_of(log.with_name("measured.log")))

    # Where in the work each kill comes is drawn; the last two are drawn from the time after it: joining, compacting.
    began, rng = time.monotonic(), random.Random(3)
    for moment in [*sorted(rng.uniform(0.01, 0.99) * needed for _ in range(kills - 2)), None, None]:
        process = start(tmp_path, tmp_path / "runs", log, 0.0)
        while process.poll() is None and done() < (needed if moment is None else moment):
            time.sleep(0.002)
        time.sleep(rng.uniform(0.0, 0.05 if moment is not None else 0.5))
        assert process.poll() is None, process.communicate()
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    finish(start(tmp_path, tmp_path / "runs", log, 0.0), 600)
    killed_s = time.monotonic() - began
    assert records(tmp_path / "runs").equals(expected)
    assert len(set(lines_of(log))) == len(set(lines_of(quiet)))
    extra = done() - needed
    print(f"\n{items} items, {kills} kills: {extra} of {needed} predictions and scores twice ({extra / needed:.2%}); ", end="")
    print(f"{quiet_s:.0f} s undisturbed, {killed_s:.0f} s with {kills + 1} starts")
    assert extra < 0.05 * needed


@fault("F12", "SIGKILL of the process that workers are forked of", "it is started again, items are tried again; same records, exit 0")
def test_a_killed_fork_server_costs_nothing(undisturbed, tmp_path):
    root, expected = undisturbed
    process = start(root, tmp_path / "runs", tmp_path / "encoded.log")
    wait_for_predictions(process, tmp_path / "encoded.log", 5)
    os.kill(fork_server(process.pid), signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert records(tmp_path / "runs").equals(expected)
