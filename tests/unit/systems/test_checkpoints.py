"""Narrow storage of weights: rounding within a row's step, exact way back, refusals."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from systems.checkpoints import narrowed, read


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
