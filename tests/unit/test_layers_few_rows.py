"""The product of a few rows that is compiled on the machine: beside float64, with every number of rows, and without a compiler."""

from __future__ import annotations

import pytest
import torch

from systems.layers import few_rows
from systems.layers.few_rows import cannot_take, few_rows_product
from systems.layers.packed import packed_linear


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """A home where nothing was compiled before; afterwards the library is looked for anew."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    few_rows._library.cache_clear()
    yield tmp_path / "harness"
    few_rows._library.cache_clear()


def _able():
    if reason := cannot_take(torch.zeros(4, 64)):
        pytest.skip(reason)


def _numbers(rows, outputs, inputs, dtype):
    generator = torch.Generator().manual_seed(rows)
    weight = torch.randn(outputs, inputs, generator=generator).to(dtype)
    return torch.randn(rows, inputs, generator=generator), weight, torch.randn(outputs, generator=generator)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("with_bias", [True, False])
def test_every_number_of_rows_beside_float64(dtype, with_bias):
    _able()
    for rows in range(10):
        x, weight, bias = _numbers(rows, 132, 320, dtype)
        expected = x.double() @ weight.double().T + (bias.double() if with_bias else 0.0)
        found = few_rows_product(x, weight, bias if with_bias else None)
        assert found.dtype == torch.float32 and found.shape == expected.shape
        assert torch.allclose(found.double(), expected, atol=1e-4, rtol=0)


def test_dimensions_before_the_last_and_strides():
    _able()
    x, weight, bias = _numbers(6, 8, 64, torch.float32)
    twice = torch.stack([x, x], dim=-1)[..., 0].reshape(2, 3, 64)
    assert torch.equal(few_rows_product(twice, weight, bias), few_rows_product(x, weight, bias).reshape(2, 3, 8))


def test_threads_change_nothing():
    _able()
    x, weight, bias = _numbers(2, 256, 512, torch.bfloat16)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(few_rows_product(x, weight, bias))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_what_is_no_number_stays_none():
    _able()
    x, weight, _ = _numbers(1, 8, 64, torch.bfloat16)
    weight[3, 17] = torch.nan
    weight[5, 2] = torch.inf
    found = few_rows_product(x, weight, None)[0]
    assert found.isnan().tolist() == [False] * 3 + [True] + [False] * 4 and found[5].isinf()


@pytest.mark.parametrize(
    ("weight", "why"),
    [
        (torch.zeros(4, 60), "multiples of 64 inputs and 4 outputs, not 60 and 4"),
        (torch.zeros(6, 64), "not 64 and 6"),
        (torch.zeros(4, 64, dtype=torch.float16), "float16"),
        (torch.zeros(4, 64, device="meta"), "meta"),
    ],
)
def test_what_it_does_not_take(weight, why):
    assert why in cannot_take(weight)


def test_it_is_compiled_once(elsewhere, monkeypatch):
    _able()
    (kept,) = elsewhere.iterdir()  # no folder of the compiler's work is left beside it
    few_rows._library.cache_clear()
    monkeypatch.setattr(few_rows, "_compile", lambda compiler, path: pytest.fail("compiled again"))
    _able()
    assert list(elsewhere.iterdir()) == [kept]


@pytest.mark.parametrize(
    ("compiler", "why"),
    [("no-such-compiler", "no-such-compiler"), ("python3 -c 'import sys; sys.exit(len(sys.argv) > 2 and \"broken\")'", "broken"), ("", "no C compiler")],
)  # fmt: skip
def test_without_a_compiler_onednn_multiplies(compiler, why, elsewhere, monkeypatch):
    monkeypatch.setenv("CC", compiler)
    if not compiler:
        monkeypatch.setenv("PATH", str(elsewhere))
    x, weight, bias = _numbers(1, 64, 64, torch.float32)
    assert why in cannot_take(weight)
    with torch.inference_mode():
        found = packed_linear(weight, bias, "float32")(x)
    assert torch.allclose(found, torch.nn.functional.linear(x, weight, bias), atol=1e-4)


def test_a_home_that_cannot_be_written(elsewhere, monkeypatch):
    elsewhere.parent.joinpath("harness").write_text("a file where the folder should be")
    assert "Error" in cannot_take(torch.zeros(4, 64))
