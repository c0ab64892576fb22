"""The loop: the same weights however it is interrupted, saved or watched; bad steps skipped; what it writes down."""

import csv
import itertools
import math
import os

import numpy as np
import pytest
import soundfile
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from harness.api import Item
from systems.training.data import load_corpus, split
from systems.training.loop import CURVE, LOG, Ending, Logbook, LoopConfig, resume, train
from systems.training.optimisation import Averages, Meter, learning_rate
from systems.training.processes import Processes, join
from systems.training.recipe import Diverged, OptimiserSpec, Recipe, StateMismatch, TrainingFault
from systems.training.trainer import Trainer, TrainerConfig, load_state, save_state, save_tensors

QUIET = LoopConfig(log_s=1e9, checkpoint_s=1e9)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    rng = np.random.default_rng(0)
    items = []
    for i in range(8):
        sound = 0.3 * np.sin(np.arange(8000 + 800 * i) * (0.02 + 0.01 * i)) + 0.01 * rng.standard_normal(8000 + 800 * i)
        soundfile.write(folder / f"{i}.wav", sound.astype(np.float32), 16000)
        items.append(Item(f"i{i}", "train", folder / f"{i}.wav", text=f"words {i}"))
    return split(load_corpus(items, 16000), 2)


@pytest.fixture
def make_trainer(stubs, data):
    from stub_recipe import FramesRecipe

    def make(steps=6, seed=0, identity=(), precision="float32", max_skipped=20, **parameters):
        torch.manual_seed(seed)
        config = TrainerConfig(steps, seed, precision, 0.9, max_skipped, identity=dict(identity))
        return Trainer(FramesRecipe(**parameters), data, config, Processes(torch.device("cpu")))

    return make


def run(trainer, folder, config=QUIET, stop_at=None):
    lines = []
    ending = train(trainer, folder, config, lambda: trainer.finished == stop_at, lines.append)
    return ending, lines


def test_the_stub_is_a_recipe(stubs):
    from stub_recipe import FramesRecipe

    assert isinstance(FramesRecipe(), Recipe)


@pytest.mark.parametrize("whole", [False, True])
def test_three_and_three_steps_are_six_bit_for_bit(make_trainer, tmp_path, whole):
    for name in ("once", "twice"):
        (tmp_path / name).mkdir()
    assert run(make_trainer(whole=whole), tmp_path / "once")[0] is Ending.FINISHED
    assert run(make_trainer(whole=whole), tmp_path / "twice", stop_at=3)[0] is Ending.INTERRUPTED
    np.random.rand(17)  # what another program would have drawn meanwhile
    torch.rand(17)
    second = make_trainer(whole=whole)
    assert resume(second, tmp_path / "twice")
    assert second.finished == 3
    assert run(second, tmp_path / "twice")[0] is Ending.FINISHED
    once, twice = (load_state(tmp_path / name / "checkpoint.safetensors") for name in ("once", "twice"))
    assert once.facts["step"] == twice.facts["step"] == 6
    assert once.facts["rng"] == twice.facts["rng"]
    assert once.tensors.keys() == twice.tensors.keys()
    assert {"module/codec/down.weight", "average/codec/down.weight", "optimiser/critic/0/exp_avg", "rng/0/torch"} <= once.tensors.keys()
    for name, tensor in once.tensors.items():
        assert torch.equal(tensor, twice.tensors[name]), name
    models = [load_file(tmp_path / name / "model.safetensors") for name in ("once", "twice")]
    assert all(torch.equal(tensor, models[1][name]) for name, tensor in models[0].items())


def test_saving_validating_and_reporting_do_not_touch_the_training(make_trainer, tmp_path):
    for name in ("quiet", "busy"):
        (tmp_path / name).mkdir()
    run(make_trainer(), tmp_path / "quiet")
    _, lines = run(make_trainer(), tmp_path / "busy", LoopConfig(log_s=1e-9, checkpoint_s=1e-9))
    assert len(lines) >= 12
    quiet, busy = (load_state(tmp_path / name / "checkpoint.safetensors") for name in ("quiet", "busy"))
    for name, tensor in quiet.tensors.items():
        assert torch.equal(tensor, busy.tensors[name]), name


def test_another_seed_gives_another_model(make_trainer, tmp_path):
    results = []
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        folder.mkdir()
        run(make_trainer(seed=seed), folder)
        results.append(load_file(folder / "model.safetensors")["down.weight"])
    assert not torch.equal(*results)


def test_it_learns_and_says_so(make_trainer, tmp_path):
    trainer = make_trainer(steps=300)
    before = trainer.validate()["valid/l2"]
    _, lines = run(trainer, tmp_path, LoopConfig(log_s=0.02, checkpoint_s=1e9, metadata={"family": "stub_frames"}))
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["step"]) == 300
    assert float(rows[-1]["valid/l2"]) < 0.1 * before
    assert {"codec/l2", "codec/loss", "codec/lr", "codec/grad_norm", "critic/score", "skipped", "steps_per_s", "seconds"} <= rows[0].keys()
    assert (tmp_path / "curve.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert any(line.startswith("step 300/300") and "codec" in line and "lr" in line for line in lines)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert metadata["family"] == "stub_frames"
    assert metadata["steps"] == "300"
    assert metadata["shape"] == "64"
    assert float(metadata["valid_l2"]) == pytest.approx(float(rows[-1]["valid/l2"]), rel=1e-4)
    assert 0 <= float(metadata["training_hours"]) < 0.1


def test_the_model_holds_the_averages_and_training_goes_on_with_the_weights(make_trainer, tmp_path):
    trainer = make_trainer(steps=20)
    reference = {k: p.detach().clone() for k, p in trainer.recipe.codec.named_parameters()}
    for step in range(20):
        trainer.step()
        decay = min(0.9, (1 + step) / (10 + step))
        for key, p in trainer.recipe.codec.named_parameters():
            reference[key] = decay * reference[key] + (1 - decay) * p.detach()
    live = {k: p.detach().clone() for k, p in trainer.recipe.codec.named_parameters()}
    exported, _ = trainer.export()
    for key, expected in reference.items():
        torch.testing.assert_close(exported[key], expected, rtol=1e-5, atol=1e-7)
        assert not torch.equal(exported[key], live[key])
        assert torch.equal(dict(trainer.recipe.codec.named_parameters())[key], live[key])
    assert torch.equal(exported["level"], trainer.recipe.codec.level)


def test_players_move_in_order_and_only_their_own(make_trainer):
    trainer = make_trainer()
    recipe = trainer.recipe
    seen = []
    losses = recipe.losses

    def watched(player, batch, step, generator):
        seen.append((player, [p.requires_grad for p in recipe.critic.parameters()], [p.requires_grad for p in recipe.codec.parameters()]))
        return losses(player, batch, step, generator)

    recipe.losses = watched
    critic = [p.detach().clone() for p in recipe.critic.parameters()]
    trainer.step()
    assert [s[0] for s in seen] == ["critic", "codec"]
    assert all(seen[0][1]) and all(seen[0][2])
    assert not any(seen[1][1]) and all(seen[1][2])  # the critic has moved: nobody needs its gradient any more
    assert all(p.requires_grad for m in recipe.modules().values() for p in m.parameters())
    assert not any(torch.equal(a, b) for a, b in zip(critic, recipe.critic.parameters(), strict=True))


def test_a_step_that_is_not_finite_moves_nothing(make_trainer):
    trainer = make_trainer(nan_steps=[2])
    trainer.step()
    trainer.step()
    codec = {k: v.clone() for k, v in trainer.recipe.codec.state_dict().items() if k not in ("level", "seen")}
    moments = [{k: v.clone() for k, v in s.items()} for s in trainer._players[1].optimiser.state.values()]
    critic = trainer.recipe.critic.weight.detach().clone()
    trainer.step()
    for key, before in codec.items():
        assert torch.equal(before, trainer.recipe.codec.state_dict()[key]), key
    for before, after in zip(moments, trainer._players[1].optimiser.state.values(), strict=True):
        assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert not torch.equal(critic, trainer.recipe.critic.weight)  # the other player's step was sound
    trainer.step()
    assert not torch.equal(codec["down.weight"], trainer.recipe.codec.down.weight)
    readings = trainer.readings()
    assert readings["skipped"] == 1
    assert math.isfinite(readings["codec/loss"])


def test_too_many_bad_steps_in_a_row_end_the_run_and_keep_the_checkpoint(make_trainer, tmp_path):
    run(make_trainer(steps=50, nan_steps=[*range(10, 50)]), tmp_path, stop_at=5)
    second = make_trainer(steps=50, nan_steps=[*range(10, 50)], max_skipped=4)
    resume(second, tmp_path)
    with pytest.raises(Diverged, match=r"4 steps of 'codec' in a row .* up to step 14"):
        run(second, tmp_path)
    assert load_state(tmp_path / "checkpoint.safetensors").facts["step"] == 5
    scattered = make_trainer(steps=50, nan_steps=[*range(10, 50, 2)], max_skipped=2)
    assert run(scattered, tmp_path)[0] is Ending.FINISHED


def test_weights_that_are_not_finite_are_not_exported(make_trainer, tmp_path):
    trainer = make_trainer()
    run(trainer, tmp_path, stop_at=2)
    good = (tmp_path / "checkpoint.safetensors").read_bytes()
    trainer.recipe.codec.level.fill_(float("nan"))
    with pytest.raises(Diverged, match="weight 'level' is not finite after 3 steps"):
        run(trainer, tmp_path, stop_at=3)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == good


def test_time_runs_out_with_a_checkpoint(make_trainer, tmp_path):
    trainer = make_trainer(steps=10**6)
    ending, _ = run(trainer, tmp_path, LoopConfig(minutes=0.3 / 60, log_s=1e9, checkpoint_s=1e9))
    assert ending is Ending.OUT_OF_TIME
    assert 0 < load_state(tmp_path / "checkpoint.safetensors").facts["step"] == trainer.finished < 10**6


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_precision_concerns_the_forward_pass_only(make_trainer, precision):
    trainer = make_trainer(precision=precision)
    trainer.step()
    assert trainer.recipe.made.dtype is getattr(torch, precision)
    assert all(p.dtype is torch.float32 for m in trainer.recipe.modules().values() for p in m.parameters())
    with pytest.raises(ValueError, match="precision=float16 is unknown"):
        TrainerConfig(1, precision="float16")


def test_checkpoints_of_other_runs_and_damaged_ones_are_refused(make_trainer, tmp_path):
    run(make_trainer(identity={"data": "a"}), tmp_path)
    with pytest.raises(StateMismatch, match="data: a there, b here"):
        resume(make_trainer(identity={"data": "b"}), tmp_path)
    with pytest.raises(StateMismatch, match=r"module 'codec' does not fit .*down.weight: .*\[8, 64\].*\[9, 64\]"):
        resume(make_trainer(identity={"data": "a"}, width=9), tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StateMismatch, match="cannot be read"):
        resume(make_trainer(identity={"data": "a"}), tmp_path)
    save_tensors(path, {"a": torch.zeros(1)}, {})
    with pytest.raises(StateMismatch, match="no checkpoint of this program"):
        resume(make_trainer(), tmp_path)
    assert not resume(make_trainer(), tmp_path / "empty")


def test_a_failed_write_leaves_the_old_file(make_trainer, tmp_path, monkeypatch):
    trainer = make_trainer()
    save_state(tmp_path / "s", trainer.state())
    before = (tmp_path / "s").read_bytes()

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    trainer.step()
    with pytest.raises(OSError, match="No space"):
        save_state(tmp_path / "s", trainer.state())
    assert (tmp_path / "s").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_tied_weights_are_saved(tmp_path):
    weight = torch.arange(6.0).reshape(2, 3)
    save_tensors(tmp_path / "m", {"a": weight, "b": weight, "c": weight.T}, {"k": "v"})
    loaded = load_file(tmp_path / "m")
    assert torch.equal(loaded["b"], weight)
    assert torch.equal(loaded["c"], weight.T)


def test_learning_rates():
    cosine = OptimiserSpec(learning_rate=1.0, warmup_steps=10, schedule="cosine", final_ratio=0.1)
    rates = [learning_rate(cosine, s, 110) for s in range(110)]
    assert rates[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.1)
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert learning_rate(cosine, 500, 110) == pytest.approx(0.1)
    exponential = OptimiserSpec(learning_rate=2.0, warmup_steps=0, schedule="exponential", decay=0.5)
    assert [learning_rate(exponential, s, 9) for s in range(3)] == [2.0, 1.0, 0.5]
    assert learning_rate(OptimiserSpec(learning_rate=3.0, warmup_steps=0, schedule="constant"), 7, 9) == 3.0
    with pytest.raises(ValueError, match="schedule 'linear' is unknown"):
        learning_rate(OptimiserSpec(schedule="linear"), 10**4, 9)


def test_the_update_is_adamw_with_clipping(make_trainer):
    """Against plain AdamW on gradients clipped by hand."""
    trainer, twin = make_trainer(), make_trainer()
    trainer.step()
    plain = torch.optim.AdamW(twin.recipe.critic.parameters(), lr=5e-3, betas=(0.8, 0.99), weight_decay=0.01)  # first of two warm-up steps
    batch = {name: twin._on_device(name, stream.draw(0)) for name, stream in twin._streams.items()}
    torch.manual_seed(0)
    twin.recipe.losses("critic", batch, 0, torch.Generator().manual_seed(500)).total.backward()
    norm = torch.sqrt(sum(p.grad.square().sum() for p in twin.recipe.critic.parameters()))
    assert norm > 1
    for p in twin.recipe.critic.parameters():
        p.grad /= norm
    plain.step()
    for ours, theirs in zip(trainer.recipe.critic.parameters(), twin.recipe.critic.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_means_of_a_meter():
    meter = Meter()
    yes, no = torch.tensor(1.0), torch.tensor(0.0)
    meter.add({"a": torch.tensor(1.0), "b": torch.tensor(4.0)}, yes)
    meter.add({"a": torch.tensor(3.0)}, yes)
    meter.add({"a": torch.tensor(float("nan"))}, no)
    meter.add({"c": torch.tensor(float("inf"))}, no)
    read = meter.read()
    assert read["a"] == 2.0
    assert read["b"] == 4.0
    assert math.isnan(read["c"])
    assert meter.read() == {}


def test_averages_of_nothing_do_nothing():
    averages = Averages({}, 0.9)
    averages.update(0)
    with averages.in_place():
        assert averages.tensors() == {}


def test_the_log_of_a_resumed_run_forgets_what_came_after_the_checkpoint(tmp_path):
    book = Logbook(tmp_path)
    for step in (10, 20, 30):
        book.write(step, {"a": step / 3})
    book.write(30, {"valid/x": 1.0})
    with (tmp_path / "log.csv").open("a") as file:
        file.write("4")  # torn
    again = Logbook(tmp_path, step=20)
    again.write(25, {"a": 9.0, "b": 1.0})
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["step"], r["a"], r["b"]) for r in rows] == [("10", "3.3333333", ""), ("20", "6.6666667", ""), ("25", "9", "1")]
    assert next(csv.DictReader(Logbook(tmp_path)._folder.joinpath("log.csv").open()), None) is None  # a fresh run starts anew


def test_tensorboard_events_are_written_where_it_is_installed(tmp_path, monkeypatch):
    pytest.importorskip("tensorboardX")
    book = Logbook(tmp_path, tensorboard=True)
    book.write(1, {"a": 1.0})
    book.close()
    assert any((tmp_path / "events").iterdir())
    import sys

    for module in ("torch.utils.tensorboard", "tensorboardX"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(TrainingFault, match="pip install tensorboard"):
        Logbook(tmp_path, tensorboard=True)


def test_devices_are_checked():
    assert join("cpu").device == torch.device("cpu")
    assert join("auto").count == 1
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device=cuda cannot be used"):
            join("cuda")
    with pytest.raises(ValueError, match="device=quantum cannot be used"):
        join("quantum")


@pytest.mark.cases(
    "D6", before="a training's log, curve and weights were written through links with known names", after="links are replaced"
)
def test_what_a_training_writes_follows_no_link(tmp_path):
    folder, victim = tmp_path / "training", tmp_path / "private"
    folder.mkdir()
    victim.write_text("mine")
    for name in (*(f".{name}.{os.getpid()}.tmp" for name in (LOG, CURVE, "model.safetensors")), LOG, CURVE, "model.safetensors"):
        (folder / name).symlink_to(victim)
    logbook = Logbook(folder, 0, False)
    logbook.write(1, {"loss": 1.0})
    logbook.write(2, {"loss": 0.5})
    logbook.draw()
    save_tensors(folder / "model.safetensors", {"w": torch.ones(2)}, {})
    assert victim.read_text() == "mine"
    written = {p.name for p in folder.iterdir() if not p.is_symlink()}
    assert written >= {LOG, CURVE, "model.safetensors"}
