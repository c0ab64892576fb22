"""Ray actors: the same events as supervised processes, and runs with the same records as serial ones."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import harness
from harness.errors import ConfigError, Interrupted, StoreError
from harness.executors import Broken, Finished, Job, Resources, Stop, run_with_retries
from tests.stubs.obedient import Obedient

pytest.importorskip("ray", reason="executor=ray needs ray: pip install ray")

STUBS = Path(__file__).resolve().parents[1] / "stubs"


@pytest.fixture(scope="module")
def ray_here():
    from harness.actors import cluster

    with cluster(None, 2) as here:
        yield here


@pytest.fixture
def pool(ray_here):
    from harness.actors import RayExecutor

    executor = RayExecutor(Obedient, Resources(2, 1, 3.0, cores=0.5), Stop())
    yield executor
    executor.close()


def outcomes(events):
    return {(e.job.name, e.step): e.result if isinstance(e, Finished) else e.kind for e in events}


def test_bad_steps_cost_only_themselves(pool):
    jobs = [Job("bad", None, ("a", "crash", "raise", "memory", "hang", "b")), Job("good", None, ("c", "d")), Job("sick", "raise", ("e",))]
    assert outcomes(pool.run(jobs)) == {
        ("bad", "a"): "bad:a",
        ("bad", "crash"): "killed",  # ray does not tell by which signal
        ("bad", "raise"): "exception",
        ("bad", "memory"): "oom",
        ("bad", "hang"): "timeout",
        ("bad", "b"): "bad:b",
        ("good", "c"): "good:c",
        ("good", "d"): "good:d",
        ("sick", None): "exception",
    }


def test_a_killed_actors_item_is_tried_again(pool, tmp_path):
    first = f"once:{tmp_path / 'seen'}"
    events = list(run_with_retries(pool, [Job("j", None, ("a", first, "b"))]))
    assert outcomes(events) == {("j", "a"): "j:a", ("j", first): f"j:{first}", ("j", "b"): "j:b"}


def test_an_error_of_the_whole_run_keeps_its_type(pool):
    with pytest.raises(StoreError):
        list(pool.run([Job("bad", None, ("disk", "a"))]))


def test_stop_finishes_what_is_in_flight(ray_here):
    from harness.actors import RayExecutor

    stop = Stop()
    executor = RayExecutor(Obedient, Resources(2, 1, 10.0, cores=0.5), stop)
    seen = []
    with pytest.raises(Interrupted):
        for event in executor.run([Job(f"j{i}", None, ("sleep",) * 4) for i in range(4)]):
            seen.append(event)
            stop.requested = True
    executor.close()
    assert 1 <= len(seen) <= 4
    assert not any(isinstance(e, Broken) for e in seen)


def test_the_same_records_as_serial(ray_here, make_dataset, harness_run):
    root = make_dataset(["fine", "raise", "fine", "fine"])
    words = ("systems=[stub_echo,opus16]", "executor.timeout_s=6")
    frames = []
    for kind in ("serial", "ray"):
        code, folder = harness_run(root, *words, f"executor={kind}", f"run.root={kind}", metrics="[stub_trouble,stub_peak,stoi,si_sdr_db]")
        assert code == 1  # the item that raises
        frames.append(harness.load(folder.parents[1] / kind / folder.name))
    assert frames[0].equals(frames[1])


def test_no_cluster_at_the_address():
    from harness.actors import cluster

    with pytest.raises(ConfigError, match=r"executor.address=127.0.0.1:1: no Ray cluster"), cluster("127.0.0.1:1", 1):
        pass


@pytest.mark.slow
def test_ctrl_c_of_the_whole_terminal(make_dataset, tmp_path):
    """SIGINT to the process group, as a terminal sends it: what is in flight is finished, exit 130, the same command resumes."""
    root, log = make_dataset(["a"] * 40), tmp_path / "log"
    words = [sys.executable, "-m", "harness.cli", "run", "--no-report", "dataset=jsonl", f"dataset.root={root}", "systems=[stub_echo]",
        f"+systems.stub_echo.log={log}", "+systems.stub_echo.sleep_s=0.1", "metrics=[stub_peak]", f"run.root={tmp_path / 'runs'}", "run.name=x",
        "executor=ray"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(STUBS), str(Path(harness.__file__).parents[1])])}
    start = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    process = subprocess.Popen(words, **start)
    while not log.exists() or len(log.read_text().split()) < 5:
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    process = subprocess.Popen(words, **start)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert len(harness.load(tmp_path / "runs" / "x")) == 40
    assert len(set(log.read_text().split())) == 40
