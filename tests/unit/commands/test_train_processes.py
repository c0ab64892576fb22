"""Two processes on the CPU (gloo, through accelerate): equal weights from different data, and one process's result from two halves."""

import importlib.util
import re
import socket
import sys

import pytest
import torch
from safetensors.torch import load_file

needs_accelerate = pytest.mark.skipif(
    importlib.util.find_spec("accelerate") is None, reason="accelerate is not installed: pip install 'speech-systems-harness[train]'"
)

# Trains, then every process writes what it ended with and what it saw.
SCRIPT = """
import functools, os, sys
import torch
import stub_recipe
from harness.commands.train import train
from safetensors.torch import save_file
folder, words = sys.argv[1], sys.argv[2:]
kept = []
build = stub_recipe.FramesRecipe.__init__
@functools.wraps(build)
def watched(self, **parameters):
    build(self, **parameters)
    kept.append(self)
stub_recipe.FramesRecipe.__init__ = watched
torch.set_num_threads(1)
train(words)
recipe, rank = kept[0], os.environ["RANK"]
tensors = {f"{m}/{k}": v.contiguous() for m, module in recipe.modules().items() for k, v in module.state_dict().items()}
save_file({**tensors, "rows": torch.stack(recipe.first_rows)}, f"{folder}/rank{rank}.safetensors")
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_together(warm, folder, code, words, processes=2):
    """How each process ended and what it said."""
    port = free_port()
    folder.mkdir(exist_ok=True)
    started = []
    for rank in range(processes):
        environment = {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
        started.append(warm.start(code, words, folder, environment))
    errors = [process.wait() for process in started]
    return [process.returncode for process in started], errors


def train_together(warm, folder, words, processes=2):
    codes, errors = start_together(warm, folder, SCRIPT, [folder, *words, f"out={folder / 'out'}"], processes)
    assert codes == [0] * processes, "\n".join(errors)
    return [load_file(folder / f"rank{rank}.safetensors") for rank in range(processes)], errors


@needs_accelerate
def test_two_processes_see_different_data_and_end_with_equal_weights(make_dataset, tmp_path, warm):
    root = make_dataset([f"text {i}" for i in range(8)])
    words = ["system=stub_frames", f"data={root}", "held_out=2", "device=cpu", "checkpoint_s=1000"]
    (first, second), errors = train_together(warm, tmp_path / "once", [*words, "steps=24"])
    assert "cpu x 2" in errors[0]
    assert "step 24/24" in errors[0]
    assert "step" not in errors[1]  # one voice
    assert first.keys() == second.keys()
    for name in first:
        if name != "rows":
            assert torch.equal(first[name], second[name]), name
    rows = [set(map(tuple, r["rows"].tolist())) for r in (first, second)]
    assert len(rows[0]) == 24
    assert rows[0].isdisjoint(rows[1])

    # Out of time half-way, then continued: the same weights.
    patient = [*words, "steps=24", "pause_s=0.03"]
    _, errors = train_together(warm, tmp_path / "again", [*patient, "minutes=0.005"])
    stopped_at = re.search(r"out of time at step (\d+)", errors[0])
    assert stopped_at and int(stopped_at[1]) in (10, 20)
    (again, _), errors = train_together(warm, tmp_path / "again", patient)
    assert f"continuing stub_frames (stub_frames, 0.00 M weights) at step {stopped_at[1]} of 24" in errors[0]
    assert all(torch.equal(first[name], again[name]) for name in first if name != "rows")

    # Another training in that folder: every process ends by itself, process 0 with the reason.
    codes, errors = start_together(
        warm, tmp_path / "again", SCRIPT, [tmp_path / "again", *patient, "seed=1", f"out={tmp_path / 'again' / 'out'}"]
    )
    assert 0 not in codes
    assert "another training (seed was 0, is 1)" in errors[0]
    assert "process 0 is refused the folder" in errors[1]
    assert not any("Connection closed" in error for error in errors)


@needs_accelerate
def test_gradients_are_the_mean_over_processes(tmp_path, warm):
    """Against the mean computed by hand; a parameter without gradient on one side counts as zero there."""
    script = """
import sys, torch
from systems.training.processes import join
processes = join("cpu")
torch.manual_seed(processes.rank)
a, b = torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(2, 2))
a.grad = torch.full((3,), float(processes.rank + 1))
if processes.rank == 0:
    b.grad = torch.ones(2, 2)
loss = processes.mean_gradients([a, b], torch.tensor(float(processes.rank)))
assert loss.item() == 0.5
assert torch.equal(a.grad, torch.full((3,), 1.5)), a.grad
assert torch.equal(b.grad, torch.full((2, 2), 0.5)), b.grad
own = torch.full((2,), float(processes.rank)); count = torch.tensor(processes.rank + 5)
processes.follow_first([own, count])
assert own.tolist() == [0.0, 0.0] and count.item() == 5
assert processes.agree([processes.rank, 7]) == [0, 7]
assert processes.any(processes.rank == 1) and not processes.any(False)
assert processes.gather(processes.rank) == [0, 1]
processes.wait(); processes.close()
"""
    codes, errors = start_together(warm, tmp_path, script, [])
    assert codes == [0, 0], "\n".join(errors)


def test_without_accelerate_several_processes_are_refused(make_dataset, tmp_path, stubs, monkeypatch):
    from harness.commands.train import train
    from harness.errors import MissingDependency

    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.setenv("WORLD_SIZE", "2")
    root = make_dataset(["a", "b", "c"])
    with pytest.raises(MissingDependency, match=r"\[train\]"):
        train(["system=stub_frames", f"data={root}", "held_out=1", f"out={tmp_path / 'out'}"])
    assert not (tmp_path / "out").exists()
