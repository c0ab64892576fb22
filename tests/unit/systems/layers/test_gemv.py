"""The layers for a few rows that are compiled on the machine: beside float64 and beside the plain block, and without a compiler."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional

from systems.layers import gemv
from systems.layers.gemv import GemvLinear, cannot_take
from systems.layers.packed import packed_block, packed_linear
from systems.layers.transformer import Block, LayerMemory, Rotation, TransformerConfig, Watched, Window, aligned_mask, allocate


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """A home where nothing was compiled before; afterwards the library is looked for anew."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    gemv._library.cache_clear()
    yield tmp_path / "harness"
    gemv._library.cache_clear()


def _able():
    if reason := cannot_take(torch.zeros(4, 64)):
        pytest.skip(reason)


def _numbers(rows, outputs, inputs):
    generator = torch.Generator().manual_seed(rows)
    weight = torch.randn(outputs, inputs, generator=generator)
    return torch.randn(rows, inputs, generator=generator), weight, torch.randn(outputs, generator=generator)


def _product(weight, bias=None):
    """The product for a few rows only: what asks for another one fails."""
    return GemvLinear(weight, bias, None)


@pytest.mark.parametrize("with_bias", [True, False])
def test_every_number_of_rows_beside_float64(with_bias):
    _able()
    for rows in range(9):
        x, weight, bias = _numbers(rows, 132, 320)
        expected = x.double() @ weight.double().T + (bias.double() if with_bias else 0.0)
        found = _product(weight, bias if with_bias else None)(x)
        assert found.dtype == torch.float32 and found.shape == expected.shape
        assert torch.allclose(found.double(), expected, atol=1e-4, rtol=0)


def test_more_rows_are_another_layer_s():
    _able()
    x, weight, bias = _numbers(9, 8, 64)
    assert torch.equal(GemvLinear(weight, bias, torch.nn.Identity())(x), x)


def test_dimensions_before_the_last_and_strides():
    _able()
    x, weight, bias = _numbers(6, 8, 64)
    product = _product(weight.T.contiguous().T, bias)
    twice = torch.stack([x, x], dim=-1)[..., 0].reshape(2, 3, 64)
    assert torch.equal(product(twice), product(x).reshape(2, 3, 8))
    assert torch.allclose(product(x), functional.linear(x, weight, bias), atol=1e-5)


def test_threads_change_nothing():
    _able()
    x, weight, bias = _numbers(2, 1024, 1024)  # enough of them to be shared among threads
    product, before, found = _product(weight, bias), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(product(x))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_what_is_no_number_stays_none():
    _able()
    x, weight, _ = _numbers(1, 8, 64)
    weight[3, 17] = torch.nan
    weight[5, 2] = torch.inf
    found = _product(weight)(x)[0]
    assert found.isnan().tolist() == [False] * 3 + [True] + [False] * 4 and found[5].isinf()


@pytest.mark.parametrize(
    ("weight", "why"),
    [
        (torch.zeros(4, 60), "multiples of 64 inputs and 4 outputs, not 60 and 4"),
        (torch.zeros(6, 64), "not 64 and 6"),
        (torch.zeros(4, 64, dtype=torch.bfloat16), "bfloat16"),
        (torch.zeros(4, 64, device="meta"), "meta"),
    ],
)
def test_what_it_does_not_take(weight, why):
    assert why in cannot_take(weight)


def _block(kind):
    torch.manual_seed(0)
    block = Block(TransformerConfig(kind, 1, 128, 4, 192)).eval().requires_grad_(False)
    for parameter in block.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    packed = copy.deepcopy(block)
    for parent in (packed.attention, packed.feed_forward):
        for name in ("enter", "leave"):
            linear = getattr(parent, name)
            setattr(parent, name, packed_linear(linear.weight, linear.bias, "float32"))
    return block, packed_block(packed)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize(("batch", "queries"), [(1, 1), (2, 1), (1, 2), (2, 3), (3, 1)])
@pytest.mark.parametrize("seen_by", ["everything", "padding", "reading"])
def test_a_block_in_one_call_is_the_block(kind, batch, queries, seen_by):
    """Steps over a cache, filled by the plain block: what comes out, what is remembered, what was asked."""
    _able()
    block, packed = _block(kind)
    assert packed is not block and hasattr(packed, "block")
    packed.block = None  # what is not done in one call would fail
    generator = torch.Generator().manual_seed(1)

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    cache = allocate(1, batch, 4, 12, 32, random(1))
    begun = 0 if queries > 1 else 5
    cache.keys[0, :, :, :begun], cache.values[0, :, :, :begun] = random(batch, 4, begun, 32), random(batch, 4, begun, 32)
    columns, seen = torch.arange(begun, begun + queries), begun + queries
    padding = torch.arange(batch).clamp(max=2) if begun else torch.zeros(batch, dtype=torch.int64)
    mask = None if seen_by == "everything" else aligned_mask(padding, columns, seen)
    watched = [None, None]
    if seen_by == "reading":
        limited = mask.expand(-1, 4, -1, -1).clone()
        limited[:, :2, :, 0] = limited.shape[-1] == 1
        limited[:, :2, 0, 0] = True
        watched = [Watched(0, 2, mask=limited), Watched(0, 2, mask=limited.clone())]
    x = random(batch, queries, 128)
    rotation = Rotation.at(columns.expand(batch, -1) - padding[:, None], 32, torch.float32) if kind == "llama" else None
    found = []
    for way, watch in zip((block, packed), watched, strict=True):
        keys, values = cache.keys[0].clone(), cache.values[0].clone()
        before = x.clone()
        out = way(x, rotation, LayerMemory(keys, values, Window(columns, seen, mask)), watch)
        assert torch.equal(x, before)
        found.append([out, keys, values, *([watch.queries, watch.keys] if watch else [])])
    for plain, quick in zip(*found, strict=True):
        assert plain.shape == quick.shape and torch.allclose(plain, quick, atol=2e-5)


def test_it_is_compiled_once(elsewhere, monkeypatch):
    _able()
    (kept,) = elsewhere.iterdir()  # no folder of the compiler's work is left beside it
    gemv._library.cache_clear()
    monkeypatch.setattr(gemv, "_compile", lambda compiler, path: pytest.fail("compiled again"))
    _able()
    assert list(elsewhere.iterdir()) == [kept]


@pytest.mark.parametrize(
    ("compiler", "why"),
    [("no-such-compiler", "no-such-compiler"), ("python3 -c 'import sys; sys.exit(len(sys.argv) > 2 and \"broken\")'", "broken"), ("", "no C compiler")],
)  # fmt: skip
def test_without_a_compiler_onednn_multiplies(compiler, why, elsewhere, monkeypatch, caplog):
    monkeypatch.setenv("CC", compiler)
    if not compiler:
        monkeypatch.setenv("PATH", str(elsewhere))
    x, weight, bias = _numbers(1, 64, 64)
    assert why in cannot_take(weight)
    with torch.inference_mode():
        found = packed_linear(weight, bias, "float32")(x)
    assert torch.allclose(found, functional.linear(x, weight, bias), atol=1e-4)
    # Asked twice, looked for and said once.
    (said,) = [record.getMessage() for record in caplog.records if record.name == gemv.__name__]
    assert said.startswith("language models decode more slowly") and why in said


def test_a_home_that_cannot_be_written(elsewhere, monkeypatch):
    elsewhere.parent.joinpath("harness").write_text("a file where the folder should be")
    assert "Error" in cannot_take(torch.zeros(4, 64))
