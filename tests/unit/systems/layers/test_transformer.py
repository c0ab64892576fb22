"""Attention, caches, transformers and sampling beside slow references."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from harness.torchaudio import ensure_torchaudio
from systems.layers.transformer import CausalAttention, Rotation, Transformer, TransformerConfig, Window, aligned_mask, by_products
from systems.lm.generation import accelerated
from systems.lm.requests import SamplingConfig, penalised, sample

KINDS = ["gpt2", "llama"]


def _transformer(kind):
    torch.manual_seed(0)
    return Transformer(TransformerConfig(kind, layers=2, width=16, heads=2, hidden=24)).eval()


def _inputs(batch=2, length=7):
    return torch.randn(batch, length, 16, generator=torch.Generator().manual_seed(1)), torch.arange(length).expand(batch, -1)


@torch.no_grad()
def test_attention_beside_loops():
    torch.manual_seed(0)
    attention = CausalAttention(8, 2, bias=True).eval()
    x, positions = torch.randn(1, 5, 8), torch.arange(5)[None]
    rotation = Rotation.at(positions, 4, torch.float32)
    query, key, value = (part[0].view(5, 2, 4) for part in attention.enter(x).chunk(3, dim=-1))

    def turned(vector, position):
        out = torch.empty(4)
        for i in range(2):
            angle = position * 10000.0 ** (-i / 2)
            a, b = float(vector[i]), float(vector[i + 2])
            out[i] = a * math.cos(angle) - b * math.sin(angle)
            out[i + 2] = b * math.cos(angle) + a * math.sin(angle)
        return out

    rows = []
    for s in range(5):
        heads = []
        for h in range(2):
            scores = torch.stack([turned(query[s, h], s) @ turned(key[t, h], t) / 2.0 for t in range(s + 1)])
            heads.append((scores.softmax(dim=0)[:, None] * value[: s + 1, h]).sum(dim=0))
        rows.append(torch.cat(heads))
    wanted = attention.leave(torch.stack(rows))
    assert torch.allclose(attention(x, rotation)[0], wanted, atol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_attention_by_products_is_the_library_s(dtype, tolerance):
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(2, 3, 9, 4, generator=generator).to(dtype).requires_grad_() for _ in range(3)]
    toward = torch.randn(2, 3, 9, 4, generator=generator).to(dtype)
    found = by_products(*inputs)
    wanted = functional.scaled_dot_product_attention(*inputs, is_causal=True)
    assert torch.allclose(found, wanted, atol=tolerance)
    for ours, theirs in zip(torch.autograd.grad(found, inputs, toward), torch.autograd.grad(wanted, inputs, toward), strict=True):
        assert torch.allclose(ours, theirs, atol=2 * tolerance)


def test_training_in_bfloat16_learns_from_the_same_gradients():
    model, (x, positions) = _transformer("llama"), _inputs()
    gradients = []
    for narrow in (False, True):
        model.train()
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            model(x, positions).float().square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert functional.cosine_similarity(*gradients, dim=0) > 0.99


@pytest.mark.parametrize("kind", KINDS)
def test_steps_equal_the_whole(kind):
    model, (x, positions) = _transformer(kind), _inputs()
    whole = model(x, positions)
    cache = model.new_cache(2, capacity=9)
    made = [model(x[:, :3], positions[:, :3], cache, Window(torch.arange(3), 3))]
    for s in range(3, 7):
        made.append(model(x[:, s : s + 1], positions[:, s : s + 1], cache, Window(torch.tensor([s]), s + 1)))
    assert torch.allclose(torch.cat(made, dim=1), whole, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masked", [False, True])
def test_padding_before_an_item_changes_nothing(kind, masked):
    model, (x, positions) = _transformer(kind), _inputs()
    padding = torch.tensor([0, 3])
    shifted = torch.cat([torch.full((2, 3, 16), 7.0), x], dim=1)[:, :7]
    shifted[0] = x[0]
    cache, columns = model.new_cache(2, capacity=9), torch.arange(6)
    places = (torch.arange(7) - padding[:, None]).clamp(min=0)
    model(shifted[:, :6], places[:, :6], cache, Window(columns, 6, aligned_mask(padding, columns, 6)))
    last = torch.tensor([6])
    seen = 9 if masked else 7  # a captured graph looks at the whole cache
    made = model(shifted[:, 6:], places[:, 6:], cache, Window(last, seen, aligned_mask(padding, last, seen)))
    assert torch.allclose(made[0, 0], model(x, positions)[0, 6], atol=1e-5)
    assert torch.allclose(made[1, 0], model(x, positions)[1, 3], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_looks_ahead(kind):
    model, (x, positions) = _transformer(kind), _inputs()
    other = x.clone()
    other[:, 4:] = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(2))
    before, after = model(x, positions), model(other, positions)
    assert torch.equal(before[:, :4], after[:, :4]) and not torch.allclose(before[:, 4:], after[:, 4:])


def test_rotary_attention_knows_distances_only():
    model, (x, positions) = _transformer("llama"), _inputs()
    assert torch.allclose(model(x, positions), model(x, positions + 1000), atol=1e-3)


def test_a_gpt2_block_is_transformers_gpt2():
    ensure_torchaudio()
    transformers = pytest.importorskip("transformers")
    model = _transformer("gpt2")
    tokens = {"bos_token_id": None, "eos_token_id": None}
    shape = transformers.GPT2Config(vocab_size=5, n_positions=8, n_embd=16, n_layer=2, n_head=2, n_inner=24, **tokens)
    theirs = transformers.GPT2Model(shape).eval()
    theirs.wpe.weight.data.zero_()
    names = {"attention.enter": "attn.c_attn", "attention.leave": "attn.c_proj", "feed_forward.enter": "mlp.c_fc"}
    names |= {"feed_forward.leave": "mlp.c_proj", "attention_norm": "ln_1", "feed_forward_norm": "ln_2"}
    for block, other in zip(model.blocks, theirs.h, strict=True):
        for ours, name in names.items():
            mine, target = block.get_submodule(ours), other.get_submodule(name)
            target.weight.data.copy_(mine.weight.T if mine.weight.ndim == 2 else mine.weight)
            target.bias.data.copy_(mine.bias)
    x, positions = _inputs()
    assert torch.allclose(model(x, positions), theirs(inputs_embeds=x).last_hidden_state, atol=1e-5)


def test_windows_that_cannot_be():
    with pytest.raises(ValueError, match="need a mask"):
        Window(torch.arange(2), 5)


def _distribution(logits, config):
    """The probabilities that a token is drawn with, one by one."""
    if config.temperature == 0.0:
        return {int(logits.argmax()): 1.0}
    scores = sorted(((float(v) / config.temperature, i) for i, v in enumerate(logits)), reverse=True)
    scores = scores[: config.top_k or len(scores)]
    total = sum(math.exp(v) for v, _ in scores)
    shares, kept, held = [(math.exp(v) / total, i) for v, i in scores], {}, 0.0
    for share, i in shares:
        if held < config.top_p or not kept:
            kept[i] = share
        held += share
    total = sum(kept.values())
    return {i: share / total for i, share in kept.items()}


@pytest.mark.parametrize(
    "config",
    [
        SamplingConfig(),
        SamplingConfig(temperature=0.7),
        SamplingConfig(temperature=0.0),
        SamplingConfig(top_k=3),
        SamplingConfig(top_k=50),
        SamplingConfig(top_p=0.6),
        SamplingConfig(top_p=1e-6),
        SamplingConfig(temperature=0.8, top_k=10, top_p=0.8),
    ],
    ids=str,
)
def test_sampling_follows_the_distribution(config):
    logits = 2.0 * torch.randn(13, generator=torch.Generator().manual_seed(3))
    draws = 4000
    uniform = (torch.arange(draws) + 0.5) / draws  # every quantile once: frequencies are probabilities
    found = torch.bincount(sample(logits.expand(draws, -1), uniform, config), minlength=13) / draws
    wanted = torch.zeros(13)
    for token, share in _distribution(logits, config).items():
        wanted[token] = share
    assert torch.allclose(found, wanted, atol=1.5 / draws * 2)


@pytest.mark.parametrize("config", [SamplingConfig(), SamplingConfig(top_k=4), SamplingConfig(top_p=0.9)], ids=str)
def test_forbidden_tokens_are_never_drawn(config):
    logits = torch.full((1, 6), -torch.inf)
    logits[0, 2] = 0.0
    for value in (0.0, 0.5, 1.0 - 2.0**-24):
        assert sample(logits, torch.tensor([value]), config).tolist() == [2]


def test_repetition_penalty_is_transformers():
    ensure_torchaudio()
    transformers = pytest.importorskip("transformers")
    logits = torch.randn(2, 9, generator=torch.Generator().manual_seed(0))
    before = torch.tensor([[1, 4, 4], [0, 8, 2]])
    seen = functional.one_hot(before, 9).sum(dim=1) > 0
    wanted = transformers.RepetitionPenaltyLogitsProcessor(2.0)(before, logits.clone())
    assert torch.equal(penalised(logits, seen, 2.0), wanted)


@pytest.mark.parametrize("values", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"repetition_penalty": 0.0}])
def test_impossible_sampling(values):
    with pytest.raises(ValueError, match="got"):
        SamplingConfig(**values)


def test_acceleration_off_is_the_step_itself_and_graphs_need_cuda():
    def step():
        raise AssertionError("nobody asked for a step")

    assert accelerated(step, "off", torch.device("cpu")) is step
    with pytest.raises(ValueError, match="needs a CUDA device"):
        accelerated(step, "graph", torch.device("cpu"))
    with pytest.raises(ValueError, match="one of off, compile, graph"):
        accelerated(step, "fast", torch.device("cpu"))
