"""Models as files: written and read back by their class, narrow storage within a row's step, refusals."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from systems.checkpoints import exported, load, narrowed, read, untrained
from systems.configuration import Configuration


@dataclass(frozen=True)
class Inner(Configuration):
    width: int = 2


@dataclass(frozen=True)
class Shape(Configuration):
    inner: Inner = Inner()
    other: Inner | None = None
    sizes: tuple[int, ...] = (1,)


class Model(nn.Module):
    LEARNING_STATE = ("calls",)

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.layer = nn.Linear(config.inner.width, 3)
        self.register_buffer("calls", torch.tensor(5))


def test_a_model_comes_back_from_its_file_without_what_only_learning_needs(tmp_path):
    config, path = Shape(Inner(4), Inner(1)), tmp_path / "m.safetensors"
    made = untrained(lambda: Model(config), seed=0)
    tensors = exported(made.model)
    assert set(tensors) == {"layer.weight", "layer.bias"} and made.metadata == {} and made.training_data == ""
    told = {"family": "mine", "config": json.dumps(config.to_dict()), "num_items": "3", "data_hours": "0.5"}
    save_file(tensors, path, told)
    found = load(path, "mine", Model, Shape)
    assert found.model.config.inner == Inner(4) and found.model.config.other == Inner(1)
    assert found.digest == made.digest and found.training_data == "3 recordings, 0.50 h" and not found.model.training
    with pytest.raises(ValueError, match="holds no theirs model: its metadata says family='mine'"):
        load(path, "theirs", Model, Shape)
    with pytest.raises(FileNotFoundError, match="no mine checkpoint at"):
        load(tmp_path / "none", "mine", Model, Shape)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"drop": "layer.bias"}, "missing: layer.bias"),
        ({"tensors": {"surplus": torch.zeros(1)}}, "unexpected: surplus"),
        ({"tensors": {"layer.bias": torch.zeros(5)}}, r"misshapen: layer.bias \(5,\) instead of \(3,\)"),
        ({"tensors": {"layer.bias": torch.full((3,), torch.nan)}}, "not finite in layer.bias"),
        ({"config": json.dumps({"depth": 3})}, "has no depth"),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused_by_name(tmp_path, fault, message):
    path = tmp_path / "m.safetensors"
    tensors = exported(Model(Shape())) | fault.get("tensors", {})
    tensors.pop(fault.get("drop"), None)
    save_file(tensors, path, {"family": "mine", "config": fault.get("config", json.dumps(Shape().to_dict()))})
    with pytest.raises(ValueError, match=message):
        load(path, "mine", Model, Shape)


def test_a_corrupted_file_is_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    save_file(exported(Model(Shape())), path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="no readable safetensors"):
        load(path, "mine", Model, Shape)
    path.write_bytes(b"not safetensors at all")
    with pytest.raises(ValueError, match="no readable safetensors"):
        load(path, "mine", Model, Shape)


def test_random_weights_are_those_of_their_seed_and_leave_torchs_generator_alone():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one, same, other = (untrained(lambda: Model(Shape()), seed) for seed in (1, 1, 2))
    assert one.digest == same.digest != other.digest and torch.equal(torch.get_rng_state(), before)
    assert not any(p.requires_grad for p in one.model.parameters())


@pytest.mark.parametrize(
    ("values", "message"), [({"colour": 1}, "Shape has no colour"), ({"inner": {"depth": 1, "colour": 2}}, "Inner has no colour, depth")]
)
def test_a_name_that_is_no_field_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Shape.from_dict(values)


def _tensors():
    generator = torch.Generator().manual_seed(0)
    return {
        "a.weight": torch.randn(6, 5, 3, generator=generator) * torch.logspace(-3, 2, 6)[:, None, None],
        "a.bias": torch.randn(6, generator=generator),
        "zeros": torch.zeros(2, 4),
    }


def test_rows_come_back_within_half_a_step(tmp_path):
    tensors = _tensors()
    save_file(narrowed(tensors), tmp_path / "w.safetensors")
    found = read(tmp_path / "w.safetensors", "test").tensors
    assert set(found) == set(tensors)
    for row, back in zip(tensors["a.weight"], found["a.weight"], strict=True):
        step = float(row.abs().max()) / 127
        assert float((row - back).abs().max()) <= 0.5 * step * 1.01 + 1e-6 * 127  # scales are float16 themselves
    assert torch.equal(found["a.bias"], tensors["a.bias"].half())
    assert torch.equal(found["zeros"], torch.zeros(2, 4))


def test_it_is_half_of_float16():
    matrix = {"w": torch.randn(256, 256)}
    assert sum(t.numel() * t.element_size() for t in narrowed(matrix).values()) < 0.51 * matrix["w"].numel() * 2


@pytest.mark.parametrize("scale", [None, torch.ones(3, dtype=torch.float16)])
def test_rows_without_scales_are_refused(tmp_path, scale):
    stored = narrowed(_tensors())
    del stored["a.weight:scale"]
    if scale is not None:
        stored["a.weight:scale"] = scale
    save_file(stored, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="without a scale for each of its rows"):
        read(tmp_path / "w.safetensors", "test")
