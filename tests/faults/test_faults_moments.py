"""kill -9 at chosen and at random moments of predicting, scoring, writing and reporting; the same command then gives the same records.

The run under test is a fork of this process with everything in one process (executor=serial), which costs no imports; whole process trees
are killed in test_faults_killing.py.
"""

import itertools
import os
import random
import signal
import time
from pathlib import Path

import pytest

import harness
from harness.cli import main
from harness.storing.outcomes import SegmentWriter
from tests.stubs.forks import ended_with, forked

ITEMS = 8
fault = pytest.mark.fault


def words(root, folder, log, *, report=False):
    return [
        "run", *([] if report else ["--no-report"]), "dataset=jsonl", f"dataset.root={root}", "systems=[stub_echo,passthrough]",
        f"+systems.stub_echo.log={log}", "metrics=[stub_peak,si_sdr_db]", f"run.root={folder}", "run.name=x", "executor=serial",
    ]  # fmt: skip


def ended(pid):
    """The signal that ended the child, or 0."""
    return max(0, -ended_with(pid))


def records(folder):
    return harness.load(folder / "x").sort_values(["system", "item", "metric"]).reset_index(drop=True)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def at_operation(method, matches, number, *, after=False):
    """Dies at the ``number``-th call of ``Path.<method>`` on a path that matches, before or after it takes effect."""

    def arrange():
        plain, count = getattr(Path, method), itertools.count(1)

        def deadly(self, *arguments, **named):
            hit = matches(self) and next(count) == number
            if hit and not after:
                die()
            result = plain(self, *arguments, **named)
            if hit:
                die()
            return result

        setattr(Path, method, deadly)

    return arrange


def in_the_middle_of_a_record(number):
    def arrange():
        plain, count = SegmentWriter.append, itertools.count(1)

        def torn(self, entry):
            if next(count) == number:
                os.write(self._fd, b'0badc0de {"schema":1,"key":"')
                die()
            plain(self, entry)

        SegmentWriter.append = torn

    return arrange


MOMENTS = {
    "predict, before an output is stored": at_operation("rename", lambda p: p.name.startswith("tmp-"), 3),
    "predict, after an output is stored": at_operation("rename", lambda p: p.name.startswith("tmp-"), 3, after=True),
    "score, in the middle of a record": in_the_middle_of_a_record(5),
    "write, before the records are there": at_operation("replace", lambda p: p.name.startswith(".records.parquet."), 1),
    "write, between records and manifest": at_operation("replace", lambda p: p.name.startswith(".records.parquet."), 1, after=True),
    "write, before the manifest is there": at_operation("replace", lambda p: p.name.startswith(".manifest.json."), 2),
    "compact, before the part is there": at_operation("rename", lambda p: p.parent.name == "outcomes", 1),
    "compact, between part and old segments": at_operation("rename", lambda p: p.parent.name == "outcomes", 1, after=True),
    "report, before the page is there": at_operation("replace", lambda p: "report.html" in p.name, 1),
    "report, after the page is there": at_operation("replace", lambda p: "report.html" in p.name, 1, after=True),
}


@pytest.fixture
def undisturbed(make_dataset, stubs, tmp_path):
    root = make_dataset(["a"] * ITEMS)
    assert main(words(root, tmp_path / "undisturbed", "")) == 0
    return root, records(tmp_path / "undisturbed")


@pytest.mark.parametrize(
    "moment", [pytest.param(m, marks=fault("K01", "kill -9 during " + m.partition(",")[0], "the same command resumes; same records")) for m in MOMENTS]
)  # fmt: skip
def test_kill_9_at_a_moment(undisturbed, tmp_path, moment):
    root, expected = undisturbed
    log, report = tmp_path / "log", moment.startswith("report")
    arguments = words(root, tmp_path / "runs", log, report=report)
    assert ended(forked(arguments, MOMENTS[moment])) == signal.SIGKILL
    assert main(arguments) == 0
    assert records(tmp_path / "runs").equals(expected)
    outcomes = tmp_path / "runs" / "store" / "outcomes"
    assert not [p for p in (tmp_path / "runs" / "x").iterdir() if p.suffix == ".tmp"]
    assert len(log.read_text().split()) <= ITEMS + 3  # a warm-up per start, and the prediction in flight
    assert not list(outcomes.glob("*.seg"))
    if report:
        assert (tmp_path / "runs" / "x" / "report.html").read_text(encoding="utf-8").rstrip().endswith("</html>")


@fault("F15", "kill -9 at 20 random times, then resume", "same records as an uninterrupted run; at most one item recomputed a kill")
def test_kill_9_at_twenty_random_times(undisturbed, tmp_path):
    root, expected = undisturbed
    began = time.monotonic()
    assert ended(forked(words(root, tmp_path / "timing", ""))) == 0
    duration_s = time.monotonic() - began
    rng, kills, log = random.Random(7), 0, tmp_path / "log"
    for attempt in range(20):
        # a folder of its own for every fifth of them: the later a resumed run, the less there is to kill
        arguments = words(root, tmp_path / f"runs{attempt // 5}", log)
        pid = forked(arguments)
        time.sleep(duration_s * rng.uniform(0.1, 0.9))
        os.kill(pid, signal.SIGKILL)
        kills += ended(pid) == signal.SIGKILL
    assert kills >= 10
    for number in range(4):
        assert main(words(root, tmp_path / f"runs{number}", log)) == 0
        assert records(tmp_path / f"runs{number}").equals(expected)
    assert len(log.read_text().split()) <= 4 * ITEMS + 2 * 24


@fault("F21", "two runs in one folder at once", "the second is refused and names the holder; it goes on when the first is dead")
def test_two_runs_in_one_folder(undisturbed, tmp_path, capsys):
    root, expected = undisturbed
    log = tmp_path / "log"
    arguments = [*words(root, tmp_path / "runs", log), "+systems.stub_echo.sleep_s=0.2"]
    pid = forked(arguments)
    while not log.exists():
        time.sleep(0.01)
    assert main(arguments) == 2
    assert f"in use by process {pid}" in capsys.readouterr().err
    os.kill(pid, signal.SIGKILL)
    ended(pid)
    assert main([*words(root, tmp_path / "runs", log), "run.overwrite=true"]) == 0  # other parameters: another run, moved aside
    assert records(tmp_path / "runs").equals(expected)


@fault("F21", "two runs into one store at once", "both complete, every record whole and once")
def test_two_runs_into_one_store(undisturbed, tmp_path):
    root, expected = undisturbed
    arguments = words(root, tmp_path / "runs", tmp_path / "log")
    first = forked(arguments)
    second = forked([w if w != "run.name=x" else "run.name=y" for w in arguments])
    assert [ended(first), ended(second)] == [0, 0]
    for name in "xy":
        frame = harness.load(tmp_path / "runs" / name).sort_values(["system", "item", "metric"]).reset_index(drop=True)
        assert frame.equals(expected)
