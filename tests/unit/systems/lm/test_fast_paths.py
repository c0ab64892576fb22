"""The fast ways through the language models beside the plain one: packed bfloat16, int8."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from systems.layers.transformer import TransformerConfig
from systems.lm.config import PARALLEL, LmConfig, delayed
from systems.lm.generation import Engine
from systems.lm.inference import PackedHeads, cannot_pack, packed_linear, prepared, step_cost
from systems.lm.models import build_lm
from systems.lm.requests import GenerationConfig, Request

GPT2 = TransformerConfig("gpt2", 3, 64, 4, 256)
LLAMA = TransformerConfig("llama", 3, 64, 4, 160)
CONFIGS = {
    "multi_stream": LmConfig("multi_stream", 3, (60,), 20, 5, GPT2, pattern=delayed(1), max_text=16, max_steps=80),
    "multi_stream, pairs": LmConfig("multi_stream", 3, (8, 8), 20, 5, GPT2, pattern=delayed(1), max_text=16, max_steps=80),
    "multihead": LmConfig("multihead", 4, (60,), 20, 0, LLAMA, pattern=delayed(1)),
    "multihead, tied": LmConfig("multihead", 4, (60,), 20, 0, LLAMA, pattern=delayed(1), table_dim=16),
    "hierarchical": LmConfig("hierarchical", 4, (60,), 20, 0, LLAMA, replace(LLAMA, width=32, hidden=96), PARALLEL),
}
every_model = pytest.mark.parametrize("name", CONFIGS)
PRECISIONS = ("bfloat16", "int8")
CLOSE = {"bfloat16": 0.05, "int8": 0.08}
"""Root-mean-square error of the logits over their own root mean square."""


def _able(precision):
    if reason := cannot_pack(precision, "cpu"):
        pytest.skip(reason)


def _model(name):
    torch.manual_seed(0)
    model = build_lm(CONFIGS[name]).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.mul_(3.0)
    return model


def _request(config, seed=0):
    generator = torch.Generator().manual_seed(5)
    prompt = torch.randint(config.codebook_size, (config.num_codebooks, 4), generator=generator)
    voice = torch.randn(config.voice_dim, generator=generator) if config.voice_dim else None
    return Request(list(range(10)), seed, None if voice is not None else prompt, voice)


def _logits(model, request, steps=8):
    """Of every choice along the same tokens, so that the ways can be compared number by number."""
    found, emit = [], model.emit
    config = GenerationConfig(temperature=0.0, max_frames=steps, min_frames=steps)
    generator = torch.Generator().manual_seed(1)

    def listened(hidden, choose):
        def chosen(logits, first, part):
            found.append(logits.float().clone())
            return torch.randint(CONFIG_SMALLEST, logits.shape[:2], generator=generator)

        return emit(hidden, chosen)

    model.emit = listened
    try:
        Engine(model).generate([request], config)
    finally:
        model.emit = emit
    return torch.cat([logits.flatten() for logits in found])


CONFIG_SMALLEST = 8


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shape", [(1, 48), (2, 3, 48), (40, 48)])
def test_a_packed_layer_is_the_plain_one(precision, shape):
    _able(precision)
    generator = torch.Generator().manual_seed(0)
    weight, bias, x = (torch.randn(*s, generator=generator) for s in ((33, 48), (33,), shape))
    expected = functional.linear(x, weight, bias)
    with torch.inference_mode():
        found = packed_linear(weight, bias, precision)(x)
    assert found.shape == expected.shape and found.dtype == torch.float32
    error = (found - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert error < {"bfloat16": 0.01, "int8": 0.025}[precision]


@every_model
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_fast_way_offers_the_plain_logits(name, precision):
    """Prompt, text and steps, with the same tokens on both ways: the logits agree as well as the precision allows."""
    _able(precision)
    plain, request = _model(name), _request(CONFIGS[name])
    fast = prepared(copy.deepcopy(plain), "cpu", precision)
    expected, found = _logits(plain, request), _logits(fast, request)
    assert expected.shape == found.shape
    error = (found - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert error < CLOSE[precision]


@every_model
def test_float32_is_the_plain_model(name):
    plain = _model(name)
    assert [type(m) for m in prepared(copy.deepcopy(plain), "cpu", "float32").modules()] == [type(m) for m in plain.modules()]


@every_model
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_distribution_does_not_move(name, precision):
    """What a step draws from is the same distribution up to a small divergence: quality cannot move by more than it."""
    _able(precision)
    plain, request = _model(name), _request(CONFIGS[name])
    fast = prepared(copy.deepcopy(plain), "cpu", precision)
    width = CONFIGS[name].parts[-1] if len(CONFIGS[name].parts) == 1 else None
    if width is None:
        pytest.skip("halves of tokens have two vocabularies; their logits are compared above")
    expected, found = (_logits(model, request).reshape(-1, width + 2).log_softmax(-1) for model in (plain, fast))
    divergence = functional.kl_div(found, expected, log_target=True, reduction="none").sum(-1)
    assert divergence.mean() < 0.01 and divergence.max() < 0.1


@every_model
def test_packing_leaves_no_linear_layer_that_could_be_packed(name):
    _able("int8")
    fast = prepared(_model(name), "cpu", "int8")
    assert not [n for n, m in fast.named_modules() if isinstance(m, torch.nn.Linear)]
    packed = [m for m in fast.modules() if isinstance(m, PackedHeads)]
    assert len(packed) == {"multi_stream": 1, "multi_stream, pairs": 1, "multihead": 1, "multihead, tied": 0, "hierarchical": 2}[name]


def test_int8_is_for_the_cpu():
    with pytest.raises(ValueError, match=r'precision="int8".*packed for the CPU'):
        prepared(_model("multihead"), "cuda:0", "int8")


@pytest.mark.parametrize("name", ["multi_stream", "hierarchical"])
def test_the_cost_of_a_step_by_hand(name):
    model = _model(name)
    cost = step_cost(model, 2, 4)
    backbone = sum(p.numel() for p in model.transformer.parameters())
    assert cost.backbone == backbone and cost.column_bytes == 2 * 3 * 64 * 4
    if name == "multi_stream":
        assert cost.said == 3 * 62 * 64
    else:
        depth = sum(p.numel() for p in model.decoder.parameters())
        # Codebook 0 by the backbone's head; three more tokens, for each of which the decoder and a narrow are read.
        assert cost.said == 62 * 64 + 64 * 32 + 3 * (depth + 64 * 32) + 3 * 62 * 32
    work = cost.steps(10, 2, 3)
    assert work.weight_bytes == 2 * 2 * (cost.backbone + cost.said)
    assert work.cache_bytes == 3 * cost.column_bytes * (11 + 12)
    assert work.flops == 2 * 3 * 2 * (cost.backbone + cost.said)


class _Ear:
    """An observer that writes down what it is told."""

    def __init__(self):
        self.told, self.works, self.taken = [], {}, {}

    def stage(self, name):
        from contextlib import nullcontext

        self.told.append(name)
        return nullcontext()

    def event(self, name):
        self.told.append(f"{name}!")

    def work(self, stage, work):
        self.works[stage] = work

    def memory(self, name, num_bytes):
        self.taken[name] = num_bytes


@every_model
def test_an_engine_tells_what_it_does(name):
    config = CONFIGS[name]
    model = _model(name)
    engine, ear, request = Engine(model, cost=step_cost(model, 4, 4)), _Ear(), _request(config)
    lasting = GenerationConfig(max_frames=6, min_frames=6)
    (said,) = engine.generate([request], lasting, ear)
    assert said.codes.shape[1] == 6 and ear.told == ["prefill", "token!", "lm"]
    columns = 10 + (1 if config.voice_dim else 0) + (request.prompt.shape[1] if request.prompt is not None else 0) + 1
    steps = config.pattern.steps(config.num_codebooks, said.codes.shape[1] + (request.prompt.shape[1] if request.prompt is not None else 0))
    steps -= request.prompt.shape[1] if request.prompt is not None else 0
    assert ear.works["prefill"].cache_bytes == columns * engine.cost.column_bytes
    assert ear.works["lm"].weight_bytes == (steps - 1) * 4 * (engine.cost.backbone + engine.cost.said)
    assert ear.taken["kv_cache"] >= (columns + steps - 1) * engine.cost.column_bytes
    ear = _Ear()
    chunks = list(engine.stream(request, lasting, 2, ear))
    assert ear.told == ["token!", "frame!"] and torch.equal(torch.cat([c.codes for c in chunks], dim=1), said.codes)
