"""Supervision: what a crash, a hang, an exception or a stop costs."""

import contextlib
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from harness.errors import HarnessError, Interrupted, StoreError, UnknownName
from harness.workers import build
from harness.workers.jobs import (
    Broken,
    Finished,
    Job,
    Resources,
    SerialExecutor,
    Stop,
    jobs_in_chunks,
    run_with_retries,
)
from harness.workers.processes import ProcessExecutor
from harness.workers.supervision import START_S, Slot, Supervisor
from tests.stubs.obedient import Obedient


@pytest.fixture
def pool(monkeypatch):
    monkeypatch.setattr("harness.workers.processes.HEARTBEAT_S", 0.1)  # how late a hang is noticed, after its 1.5 s
    stop = Stop()
    executor = ProcessExecutor(Obedient, Resources(2, 1, 1.5), stop)
    yield executor
    stop.requested = True  # nobody waits for a worker that hangs
    executor.close()


def outcomes(events):
    return {(e.job.name, e.step): e.result if isinstance(e, Finished) else e.kind for e in events}


def test_every_step_is_answered_once(pool):
    jobs = [Job(f"j{i}", None, tuple(f"s{k}" for k in range(5))) for i in range(7)]
    events = list(pool.run(jobs))
    assert len(events) == 35
    assert outcomes(events) == {(f"j{i}", f"s{k}"): f"j{i}:s{k}" for i in range(7) for k in range(5)}


@pytest.mark.parametrize(
    ("step", "kind"), [("crash", "crash"), ("killed", "killed"), ("hang", "timeout"), ("raise", "exception"), ("memory", "oom")]
)
def test_a_bad_step_costs_only_itself(pool, step, kind):
    jobs = [Job("bad", None, ("a", step, "b")), Job("good", None, ("c", "d"))]
    assert outcomes(pool.run(jobs)) == {
        ("bad", "a"): "bad:a",
        ("bad", step): kind,
        ("bad", "b"): "bad:b",
        ("good", "c"): "good:c",
        ("good", "d"): "good:d",
    }


def test_a_killed_workers_step_is_tried_again_alone(pool, tmp_path):
    first = f"once:{tmp_path / 'seen'}"
    jobs = [Job("j", None, ("a", first, "b")), Job("k", None, ("c",))]
    events = list(run_with_retries(pool, jobs))
    assert outcomes(events) == {("j", "a"): "j:a", ("j", first): f"j:{first}", ("j", "b"): "j:b", ("k", "c"): "k:c"}
    assert events[-1].step == first  # when everything else was done


@pytest.mark.parametrize(("step", "kind"), [("killed", "killed"), ("memory", "oom")])
def test_the_second_failure_is_final(pool, step, kind):
    events = list(run_with_retries(pool, [Job("j", None, ("a", step, "b"))]))
    assert outcomes(events) == {("j", "a"): "j:a", ("j", step): kind, ("j", "b"): "j:b"}
    assert "tried twice" in events[-1].reason


def test_a_native_crash_is_not_tried_again(pool):
    events = list(run_with_retries(pool, [Job("j", None, ("crash",))]))
    assert outcomes(events) == {("j", "crash"): "crash"}
    assert "tried" not in events[0].reason


def test_a_job_that_is_killed_while_beginning_is_tried_again_whole(pool):
    events = list(run_with_retries(pool, [Job("dead", "die", ("a", "b"))]))
    assert outcomes(events) == {("dead", None): "killed"}
    assert events[0].job.steps == ("a", "b")


D2 = "a worker whose descriptors a plug-in closed was waited for without end; what it started stayed and held `harness run | cat` open"


@pytest.mark.cases("D2", before=D2, after="the closed connection is noticed, the worker ended and replaced; only that step is lost")
@pytest.mark.parametrize(("step", "kind"), [("close", "crash"), ("close and hang", "crash"), ("hang in C", "timeout"), ("leave", "crash")])
def test_a_worker_that_cannot_be_spoken_to_costs_its_step(pool, step, kind, monkeypatch):
    if step == "close and hang":  # it does not end by itself, however long it is given
        monkeypatch.setattr("harness.workers.processes.GRACE_S", 0.5)
    began = time.monotonic()
    assert outcomes(pool.run([Job("bad", None, ("a", step, "b"))])) == {("bad", "a"): "bad:a", ("bad", step): kind, ("bad", "b"): "bad:b"}
    assert time.monotonic() - began < 30


@pytest.mark.cases(
    "D9", before="SystemExit, KeyboardInterrupt or a result that cannot be pickled ended the worker", after="that step's failure"
)
@pytest.mark.parametrize("step", ["exit", "interrupt", "unpickled"])
def test_no_exception_and_no_result_ends_a_worker(pool, step):
    events = list(pool.run([Job("bad", None, ("a", step, "b"))]))
    assert outcomes(events) == {("bad", "a"): "bad:a", ("bad", step): "exception", ("bad", "b"): "bad:b"}
    assert "died" not in events[1].reason
    serial = SerialExecutor(Obedient, Resources(1, 1, 1.0), Stop())
    if step != "unpickled":
        stop = Stop()
        with stop.install():  # else Python's own handler is in place, and Ctrl-C is the user's
            assert outcomes(serial.run([Job("bad", None, ("a", step, "b"))])) == outcomes(events)


@pytest.mark.cases(
    "A17", before="a module that ended its process while a worker imported it was not named", after="what was being loaded is named"
)
def test_a_worker_that_leaves_while_it_loads_names_what_it_loaded(pool):
    loading, event = pool.run([Job("the metrics", "leave", ("a",))])
    assert loading.what == "metric 'mine' (plug-in theirs-1.0)"
    assert event.step is None
    assert event.reason == "the worker process died (exit code 0) while loading metric 'mine' (plug-in theirs-1.0)"


def running(length):
    """Numbers of the processes ``sleep LENGTH``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes() == f"sleep\0{length}\0".encode():
                found.append(int(path.parent.name))
    return found


def ended(length, within_s=10.0):
    """Whether none of them is left within that time."""
    deadline = time.monotonic() + within_s
    while running(length) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not running(length)


@pytest.mark.cases("D2", before=D2, after="with a worker ends whatever it started, in a session of its own too")
@pytest.mark.parametrize("after", ["", "crash", "hang", "close and hang"])
def test_nothing_that_a_worker_started_stays(pool, after, monkeypatch):
    if after == "close and hang":
        monkeypatch.setattr("harness.workers.processes.GRACE_S", 0.5)
    length = f"{4000 + os.getpid()}.{len(after)}"
    steps = (f"child:{length}", *filter(None, [after]))
    found = outcomes(pool.run([Job("j", None, steps)]))
    assert len(found) == len(steps)
    if not after:
        assert running(length)
        pool.close()
    assert ended(length)


PARENT = """
import sys
from harness.workers.jobs import Job, Resources, Stop
from harness.workers.processes import ProcessExecutor
from tests.stubs.obedient import Obedient

if __name__ == "__main__":
    pool = ProcessExecutor(Obedient, Resources(1, 1, 60.0), Stop())
    list(pool.run([Job("j", None, ("print", f"child:{sys.argv[1]}", "hang"))]))
"""


@pytest.mark.cases(
    "D2",
    before="a worker and what it started survived the harness that was killed",
    after="both end with it; a reader of its output is let go",
)
def test_nothing_stays_of_a_harness_that_is_killed(tmp_path):
    script, length = tmp_path / "parent.py", f"{5000 + os.getpid()}"
    script.write_text(PARENT)
    root = Path(__file__).resolve().parents[3]
    parent = subprocess.Popen(
        [sys.executable, script, length], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(root)}
    )
    deadline = time.monotonic() + 60
    while not running(length):
        assert parent.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent.kill()
    out, err = parent.communicate(timeout=10)  # ends only when nobody holds the pipes any more
    assert ended(length)
    assert b"said on standard output" not in out  # a table goes there
    assert b"said on standard output" in err


LARGE = """
from functools import partial
from harness.workers.jobs import Job, Resources, Stop
from harness.workers.processes import ProcessExecutor

pool = ProcessExecutor(partial(print, "x" * (1 << 20)), Resources(1, 1, 60.0), Stop())
for event in pool.run([Job("j", None, ("a",))]):
    print(event.reason)
pool.close()
"""


@pytest.mark.cases(
    "D2",
    before="a worker that died before it had read what it was started with (65 kB or more: some hundred items) was waited for for ever",
    after="its death is noticed and said",
)
def test_a_worker_that_dies_before_it_has_read_its_work_is_noticed(tmp_path):
    # Python imports sitecustomize before anything else: here a started worker ends with it.
    (tmp_path / "sitecustomize.py").write_text("import os, sys\nif '--multiprocessing-fork' in sys.orig_argv:\n    os._exit(1)\n")
    root = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"}
    done = subprocess.run([sys.executable, "-"], input=LARGE, capture_output=True, text=True, env=environment, timeout=60)
    assert "the worker process died (exit code 1)" in done.stdout


def test_an_item_beyond_the_memory_limit_fails_alone():
    executor = ProcessExecutor(Obedient, Resources(1, 1, 20.0, memory_gib=6.0), Stop())
    events = list(executor.run([Job("j", None, ("a", "huge", "b"))]))
    executor.close()
    assert outcomes(events) == {("j", "a"): "j:a", ("j", "huge"): "oom", ("j", "b"): "j:b"}


def test_the_crash_is_named(pool):
    (event,) = [e for e in pool.run([Job("bad", None, ("crash",))])]
    assert "SIGSEGV" in event.reason


def test_a_job_that_cannot_begin_is_reported_once_and_the_rest_goes_on(pool):
    events = list(pool.run([Job("dead", "die", ("a", "b")), Job("sick", "raise", ("c",)), Job("good", None, ("d",))]))
    broken = {e.job.name: (e.step, e.kind) for e in events if isinstance(e, Broken)}
    assert broken == {"dead": (None, "killed"), "sick": (None, "exception")}
    assert outcomes(e for e in events if isinstance(e, Finished)) == {("good", "d"): "good:d"}


def test_workers_survive_many_crashes(pool):
    steps = tuple(x for i in range(6) for x in (f"s{i}", "crash"))
    events = list(pool.run([Job("bad", None, steps)]))
    assert sum(isinstance(e, Finished) for e in events) == 6
    assert sum(isinstance(e, Broken) for e in events) == 6


@pytest.mark.parametrize(("step", "error"), [("disk", StoreError), ("unknown", UnknownName)])
def test_an_error_of_the_whole_run_stops_it_and_keeps_its_type(pool, step, error):
    with pytest.raises(error):
        list(pool.run([Job("bad", None, (step, "a"))]))


def test_threads_are_limited_in_the_worker_and_the_parent_is_left_alone(pool):
    before = os.environ.get("OMP_NUM_THREADS")
    (event,) = pool.run([Job("j", None, ("threads",))])
    assert event.result == "1"
    assert os.environ.get("OMP_NUM_THREADS") == before


def test_stop_finishes_what_is_in_flight():
    stop = Stop()
    executor = ProcessExecutor(Obedient, Resources(2, 1, 10), stop)
    seen = []
    with pytest.raises(Interrupted):
        for event in executor.run([Job(f"j{i}", None, ("sleep",) * 4) for i in range(4)]):
            seen.append(event)
            stop.requested = True
    executor.close()
    assert 1 <= len(seen) <= 4  # those in flight, not all sixteen
    assert all(isinstance(e, Finished) for e in seen)


def test_serial_gives_the_same_events(pool):
    jobs = [Job("j", None, ("a", "raise", "b")), Job("sick", "raise", ("c",))]
    serial = SerialExecutor(Obedient, Resources(1, 1, 1.0), Stop())
    assert outcomes(serial.run(jobs)) == outcomes(pool.run(jobs))


def test_build_knows_both_kinds():
    make = partial(build, factory=Obedient, resources=Resources(1, 1, 1.0), stop=Stop())
    assert isinstance(make("serial"), SerialExecutor)
    executor = make("local")
    assert isinstance(executor, ProcessExecutor)
    executor.close()


def test_chunks_share_the_steps_in_order():
    assert [j.steps for j in jobs_in_chunks("x", None, "abcde", 2)] == [("a", "b", "c"), ("d", "e")]
    assert [j.steps for j in jobs_in_chunks("x", None, "a", 3)] == [("a",)]
    assert jobs_in_chunks("x", None, "", 3) == []


class Waiting(Supervisor[Slot]):
    """Two workers, the first of which is lost and finds no place again; ``served`` counts the steps of the other."""

    served = 0

    def _start(self):
        return Slot()

    def _replacement(self):
        return Slot(ready=False, since=self.lost_at)

    def _submit(self, slot):
        slot.position = 0

    def wait(self, busy):
        return [slot for slot in busy if slot.ready]

    def _hear(self, slot, queue):
        if slot.job.name == "deadly":
            yield from self._lost(slot, queue, "killed", "gone")
            return
        self.served += 1
        yield Finished(slot.job, slot.job.steps[0], "done")
        slot.job = None

    def _end(self, slot):
        pass

    def close(self):
        pass


def test_a_lost_worker_without_a_place_leaves_the_work_to_the_others():
    pool = Waiting(Resources(2, 1, 60.0), Stop())
    pool.lost_at = time.monotonic()
    jobs = [Job("deadly", None, ("x",)), *(Job(f"j{i}", None, ("a",)) for i in range(5))]
    assert len(list(pool.run(jobs))) == 6
    assert pool.served == 5


def test_no_worker_left_ends_the_run_with_a_message():
    pool = Waiting(Resources(1, 1, 60.0), Stop())
    pool.lost_at = time.monotonic() - START_S - 1.0
    events = pool.run([Job("deadly", None, ("x",)), Job("j", None, ("a",))])
    assert next(events).kind == "killed"
    with pytest.raises(HarnessError, match="no worker is left"):
        next(events)
