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
from harness.workers.jobs import Broken, Finished, Job, Resources, Stop, run_with_retries
from tests.stubs.obedient import Obedient

pytest.importorskip("ray", reason="executor=ray needs ray: pip install ray")

STUBS = Path(__file__).resolve().parents[2] / "stubs"


@pytest.fixture(scope="module")
def ray_here():
    from harness.workers.ray import cluster

    with cluster(None, 2) as here:
        yield here


@pytest.fixture
def pool(ray_here):
    from harness.workers.ray import RayExecutor

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
    from harness.workers.ray import RayExecutor

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
    words = ("systems=[stub_echo,opus16]", "executor.timeout_s=60")  # imports of a first step on a busy machine
    frames = []
    for kind in ("serial", "ray"):
        code, folder = harness_run(root, *words, f"executor={kind}", f"run.root={kind}", metrics="[stub_trouble,stub_peak,stoi,si_sdr_db]")
        assert code == 1  # the item that raises
        frames.append(harness.load(folder.parents[1] / kind / folder.name))
    assert frames[0].equals(frames[1])


def test_no_cluster_at_the_address():
    from harness.workers.ray import cluster

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


@pytest.mark.slow
def test_a_cluster_by_address_that_loses_a_machine(make_dataset, tmp_path):
    """Two nodes, asked by address from another process; one of them is killed in the middle: same records as serial, exit 0."""
    from ray.cluster_utils import Cluster

    root, log = make_dataset(["a"] * 60), tmp_path / "log"
    node = {"num_cpus": 2, "object_store_memory": 80_000_000, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args=node)
    try:
        second = nodes.add_node(num_cpus=2, object_store_memory=80_000_000)

        def command(kind, *more):
            return [sys.executable, "-m", "harness.cli", "run", "--no-report", "dataset=jsonl", f"dataset.root={root}", "systems=[stub_echo]",
                f"+systems.stub_echo.log={log}", "+systems.stub_echo.sleep_s=0.2", "metrics=[stub_peak,si_sdr_db]",
                f"run.root={tmp_path / kind}", "run.name=x", f"executor={kind}", *more]  # fmt: skip

        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(STUBS), str(Path(harness.__file__).parents[1])])}
        start = {"env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command("ray", f"executor.address={nodes.address}", "executor.predict_workers=2"), **start)
        while not log.exists() or len(log.read_text().split()) < 12:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        nodes.remove_node(second, allow_graceful=False)
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    finally:
        nodes.shutdown()
    assert len(log.read_text().split()) <= 60 + 2 + 4  # warm-ups and what was in flight
    assert subprocess.run(command("serial"), env=environment, capture_output=True).returncode == 0
    frames = [harness.load(tmp_path / kind / "x") for kind in ("serial", "ray")]
    assert len(frames[0]) == 120 and frames[0].equals(frames[1])


ON_TWO_DEVICES = """
from ray.cluster_utils import Cluster
from harness.workers.ray import RayExecutor, cluster
from harness.workers.jobs import Job, Resources, Stop
from tests.stubs.obedient import Obedient

nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 2, "object_store_memory": 80_000_000, "include_dashboard": False})
with cluster(nodes.address, 2) as here:
    assert here["GPU"] == 2
    executor = RayExecutor(Obedient, Resources(2, 1, 60.0, cores=0.5, gpus=1.0), Stop())
    events = list(executor.run([Job(f"j{i}", None, ("device",) + ("sleep",) * 3) for i in range(2)]))
    print("seen", sorted(e.result for e in events if e.step == "device"))
    executor.close()
nodes.shutdown()
"""


@pytest.mark.slow
def test_each_actor_sees_a_device_of_its_own():
    """Ray believes in two devices that are not there: what is tested is who gets which."""
    result = subprocess.run([sys.executable, "-c", ON_TWO_DEVICES], cwd=STUBS.parents[1], capture_output=True, text=True, timeout=200)
    assert result.returncode == 0, result.stderr
    assert "seen ['0', '1']" in result.stdout
