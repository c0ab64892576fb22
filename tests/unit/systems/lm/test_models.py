"""The three language models: stepping equals reading, items do not see one another, losses beside loops."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from systems.checkpoints import exported
from systems.layers.transformer import TransformerConfig
from systems.lm.backbone import LmBatch, joined
from systems.lm.config import PARALLEL, LmConfig, LmInputs, delayed, lay, lm_config
from systems.lm.models import build_lm, load_lm
from systems.training.trainer import save_tensors

GPT2 = TransformerConfig("gpt2", 2, 16, 2, 24)
LLAMA = TransformerConfig("llama", 2, 16, 2, 24)
CONFIGS = {
    "multi_stream": LmConfig("multi_stream", 3, (11,), 9, 5, GPT2, pattern=delayed(1), max_text=8, max_steps=40),
    "multi_stream, pairs": LmConfig("multi_stream", 3, (4, 5), 9, 5, GPT2, pattern=delayed(2), max_text=8, max_steps=40),
    "multi_stream, several delays": LmConfig(
        "multi_stream", 3, (4, 5), 9, 5, GPT2, pattern=delayed(2), delays=(0, 2, 1), max_text=8, max_steps=40
    ),
    "multihead": LmConfig("multihead", 3, (11,), 9, 0, LLAMA, pattern=delayed(1), table_dim=6),
    "multihead, parallel": LmConfig("multihead", 1, (11,), 9, 0, LLAMA, pattern=PARALLEL),
    "hierarchical": LmConfig("hierarchical", 3, (11,), 9, 0, LLAMA, replace(LLAMA, width=12), PARALLEL),
    "hierarchical, tied": LmConfig("hierarchical", 4, (11,), 9, 0, LLAMA, replace(LLAMA, width=12), PARALLEL, table_dim=6),
    "multi_stream, paced": LmConfig("multi_stream", 3, (11,), 9, 5, GPT2, pattern=delayed(1), pace=1.8, max_text=8, max_steps=40),
    "multihead, paced": LmConfig("multihead", 3, (11,), 9, 0, LLAMA, pattern=delayed(1), pace=0.6),
    "hierarchical, paced": LmConfig("hierarchical", 3, (11,), 9, 0, LLAMA, replace(LLAMA, width=12), PARALLEL, pace=0.6),
    "hierarchical, one codebook": LmConfig("hierarchical", 1, (11,), 9, 0, LLAMA, replace(LLAMA, width=12), PARALLEL),
}
every_model = pytest.mark.parametrize("name", CONFIGS)
streams_only = pytest.mark.parametrize("name", [n for n, c in CONFIGS.items() if c.kind != "hierarchical"])


def _model(name):
    torch.manual_seed(0)
    model = build_lm(CONFIGS[name]).eval().requires_grad_(False)
    for parameter in model.parameters():  # larger than a start should be, so that nothing is nearly zero
        parameter.mul_(4.0) if parameter.ndim > 1 else parameter.add_(0.1)
    return model


def _item(config, text, frames, seed):
    generator = torch.Generator().manual_seed(seed)
    voice = torch.randn(1, config.voice_dim, generator=generator) if config.voice_dim else None
    return LmBatch(
        torch.randint(config.text_size, (1, text), generator=generator),
        torch.tensor([text]),
        torch.randint(config.codebook_size, (1, config.num_codebooks, frames), generator=generator),
        torch.tensor([frames]),
        voice,
    )


def _items(config):
    return [_item(config, *shape, seed) for seed, shape in enumerate([(3, 6), (7, 2), (0, 4), (5, 0)])]


def _step_logits(model, hidden, teacher):
    """Logits of one step's tokens by `emit`, the teacher's tokens being chosen: by (codebook, part)."""
    found, config = {}, model.config
    parts = model.tokens.targets(teacher[:, :, None])

    def choose(logits, first, part):
        for i in range(logits.shape[1]):
            found[first + i, part] = logits[:, i]
        return parts[part][:, first : first + logits.shape[1], 0]

    emitted = model.emit(hidden, choose)
    if len(config.parts) == 1:
        assert torch.equal(emitted, teacher)
    return found


def _prefilled(model, batch):
    return model.prefill(batch, model.transformer.new_cache(batch.text.shape[0], 40))


def _whole_logits(model, item):
    """Teacher-forced logits of every step: by (codebook, part), [1, S, V']."""
    config = model.config
    tokens = lay(config.pattern, item.codes, item.frames, config.codebook_size).tokens
    hidden = model.hidden(item, tokens)
    if config.kind != "hierarchical":
        return {(k, p): part[:, :, k] for p, part in enumerate(model.tokens.logits(hidden, tokens)) for k in range(config.num_codebooks)}
    found = {(0, 0): model.tokens.heads(hidden)[:, :, 0]}
    if config.num_codebooks > 1:
        others = model.frame_logits(hidden[0], tokens[0].T)[None]
        found |= {(k, 0): others[:, :, k - 1] for k in range(1, config.num_codebooks)}
    return found


@every_model
def test_what_training_fills_up_is_not_seen(name):
    """Sequences are made longer in training; the states are those of the sequences as they are."""
    model, config = _model(name), CONFIGS[name]
    items = joined(_items(config))
    tokens = lay(config.pattern, items.codes, items.frames, config.codebook_size).tokens
    whole = model.hidden(items, tokens)
    lengths = []
    model.transformer.register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[1]))
    for module in model.train().modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    assert torch.allclose(model.hidden(items, tokens), whole, atol=1e-5)
    assert lengths[0] % 16 == 0


@every_model
@pytest.mark.parametrize("prompt", [0, 2])
@pytest.mark.parametrize("exact", [True, False])
def test_steps_equal_the_whole(name, prompt, exact):
    model, config = _model(name), CONFIGS[name]
    item = _item(config, 4, 5, seed=3)
    whole = _whole_logits(model, item)
    tokens = lay(config.pattern, item.codes, item.frames, config.codebook_size).tokens
    known = replace(item, codes=item.codes[:, :, :prompt], frames=torch.tensor([prompt]))
    first = prompt
    state = _prefilled(model, known)
    hidden = state.hidden
    for step in range(first, tokens.shape[2]):
        for key, logits in _step_logits(model, hidden, tokens[:, :, step]).items():
            assert torch.allclose(logits, whole[key][:, step], atol=1e-4), (key, step)
        column = state.length + step - first
        hidden = model.step(state, tokens[:, :, step], torch.tensor([column]), column + 1 if exact else None)


@every_model
def test_padded_batches_equal_single_items(name):
    model, config = _model(name), CONFIGS[name]
    items = _items(config)
    batch = joined(items)
    tokens = lay(config.pattern, batch.codes, batch.frames, config.codebook_size).tokens
    together = model.hidden(batch, tokens)
    state = _prefilled(model, batch)
    assert state.padded
    following = torch.arange(config.num_codebooks)[None] % config.codebook_size
    after = model.step(state, following.expand(4, -1), torch.tensor([state.length]), state.length + 1)
    for row, item in enumerate(items):
        own = lay(config.pattern, item.codes, item.frames, config.codebook_size).tokens
        assert torch.allclose(together[row, : own.shape[2]], model.hidden(item, own)[0], atol=1e-4)
        alone = _prefilled(model, item)
        assert not alone.padded and torch.allclose(state.hidden[row], alone.hidden[0], atol=1e-4)
        single = model.step(alone, following, torch.tensor([alone.length]), alone.length + 1)
        assert torch.allclose(after[row], single[0], atol=1e-4)


@every_model
def test_no_code_is_predicted_from_itself_or_later_ones(name):
    """Codebook k of frame t changes no logits of itself, and none of any step before; in the same step only what the model says later."""
    model, config = _model(name), CONFIGS[name]
    item, books = _item(config, 3, 5, seed=1), config.num_codebooks
    before = _whole_logits(model, item)
    layout = config.pattern.layout(books, config.pattern.steps(books, 6))
    for k in range(books):
        codes = item.codes.clone()
        codes[0, k, 2] = (codes[0, k, 2] + 1) % config.codebook_size
        step = int((layout[k] == 2).nonzero()[0])
        after = _whole_logits(model, replace(item, codes=codes))
        for (book, part), logits in after.items():
            same_step = (config.kind == "hierarchical" and book > k) or (part == 1 and book == k)
            until = step if same_step else step + 1
            assert torch.equal(logits[:, :until], before[book, part][:, :until]), (k, book, part)
            assert not torch.allclose(logits[:, step + 1 :], before[book, part][:, step + 1 :])
            if same_step:
                assert not torch.allclose(logits[:, step], before[book, part][:, step])


@every_model
def test_text_and_voice_are_heard(name):
    model, config = _model(name), CONFIGS[name]
    item = _item(config, 4, 3, seed=2)
    tokens = lay(config.pattern, item.codes, item.frames, config.codebook_size).tokens
    before = model.hidden(item, tokens)
    others = [replace(item, text=(item.text + 1) % config.text_size)]
    if config.voice_dim:
        others.append(replace(item, voice=item.voice + 1.0))
    for other in others:
        assert not torch.allclose(model.hidden(other, tokens), before, atol=1e-3)


@every_model
def test_loss_beside_loops(name):
    model, config = _model(name), CONFIGS[name]
    items = _items(config)
    sums, counts = torch.zeros(config.num_codebooks), torch.zeros(config.num_codebooks)
    for item in items:
        logits, frames = _whole_logits(model, item), int(item.frames)
        layout = config.pattern.layout(config.num_codebooks, config.pattern.steps(config.num_codebooks, frames + 1))
        for k in range(config.num_codebooks):
            for step, frame in enumerate(layout[k].tolist()):
                if not 0 <= frame <= frames or (frame == frames and config.kind == "hierarchical" and k > 0):
                    continue
                code = int(item.codes[0, k, frame]) if frame < frames else None
                first = config.parts[0]
                sums[k] -= logits[k, 0][0, step].log_softmax(-1)[first + 1 if code is None else code % first]
                if len(config.parts) > 1 and code is not None:
                    sums[k] -= logits[k, 1][0, step].log_softmax(-1)[code // first]
                counts[k] += 1
    means = sums / counts
    found = model.loss(joined(items))
    assert torch.allclose(found.codebooks, means, atol=1e-4)
    if config.kind == "hierarchical" and config.num_codebooks > 1:
        assert torch.allclose(found.total, 0.5 * means[0] + 0.5 * means[1:].mean(), atol=1e-4)
    else:
        assert torch.allclose(found.total, means.mean(), atol=1e-4)


def test_a_fraction_of_the_frames_is_an_unbiased_sample():
    model = _model("hierarchical")
    batch = joined(_items(model.config))
    whole = model.loss(batch)
    model.depth_fraction = 0.34
    generator = torch.Generator().manual_seed(0)
    parts = [model.loss(batch, generator).codebooks for _ in range(300)]
    assert all(torch.equal(p[0], whole.codebooks[0]) for p in parts)
    assert len({round(float(p[1]), 5) for p in parts}) > 10
    assert torch.allclose(torch.stack(parts).mean(dim=0), whole.codebooks, rtol=0.05)


@every_model
def test_every_weight_learns(name):
    torch.manual_seed(0)
    model = build_lm(CONFIGS[name])
    model.loss(joined(_items(CONFIGS[name]))).total.backward()
    lazy = {n for n, p in model.named_parameters() if p.numel() and (p.grad is None or not p.grad.abs().sum())}
    if name == "hierarchical, one codebook":  # no decoder is needed
        lazy = {n for n in lazy if not n.startswith(("decoder", "enter", "narrow", "place"))}
    assert lazy == set()


def test_weights_come_back_from_a_file(tmp_path):
    import json

    for name, config in CONFIGS.items():
        model = _model(name)
        family = {"multi_stream": "socodec_tts", "multihead": "qtts"}.get(config.kind, "lm_tts")  # older files have their own names
        metadata = {"family": family, "config": json.dumps(config.to_dict()), "codec": "c"}
        save_tensors(tmp_path / "lm.safetensors", exported(model, torch.float32), metadata)
        loaded = load_lm(tmp_path / "lm.safetensors")
        item = _item(config, 2, 3, seed=0)
        assert loaded.model.config == config and torch.equal(loaded.model.loss(item).total, model.loss(item).total)
    save_tensors(tmp_path / "codec.safetensors", exported(model, torch.float32), metadata | {"family": "qdac"})
    with pytest.raises(ValueError, match="no lm_tts model: its metadata says family='qdac'"):
        load_lm(tmp_path / "codec.safetensors")
    with pytest.raises(FileNotFoundError):
        load_lm(tmp_path / "none.safetensors")


PAIRS, QDAC = (128, 128), (2048,)


@pytest.mark.parametrize(
    ("kind", "inputs", "millions"),
    [
        ("multi_stream", LmInputs(1, PAIRS, 8192, 1024), 193),
        ("multi_stream", LmInputs(4, PAIRS, 8192, 1024), 294),
        ("multi_stream", LmInputs(8, PAIRS, 8192, 1024), 428),
        ("multihead", LmInputs(8, QDAC, 8192), 120),
        ("hierarchical", LmInputs(8, QDAC, 8192), 200),
    ],
)
def test_paper_sizes_have_the_papers_numbers(kind, inputs, millions):
    with torch.device("meta"):
        model = build_lm(lm_config(kind, "paper", inputs))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.02)
    heads = model.tokens.heads.weight.shape
    assert heads == ((1 if kind == "hierarchical" else inputs.num_codebooks), (16386 if kind == "multi_stream" else 2050), heads[2])


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [("multi_stream", LmInputs(4, PAIRS, 100, 192)), ("multihead", LmInputs(8, QDAC, 100)), ("hierarchical", LmInputs(8, QDAC, 100))],
)
def test_small_sizes_are_small(kind, inputs):
    with torch.device("meta"):
        model = build_lm(lm_config(kind, "small", inputs))
    assert sum(p.numel() for p in model.parameters()) <= 5e6


def test_texts_longer_than_the_positions_are_refused():
    model = _model("multi_stream")
    with pytest.raises(ValueError, match="made for 8"):
        model.loss(_item(model.config, 9, 3, seed=0))


def test_a_pace_lays_speech_beside_its_text():
    """What is spoken at a step stands near its token, in rotary positions and in the waves that learned ones begin as."""
    paced = CONFIGS["multihead, paced"]
    item, seen = _item(paced, 6, 10, seed=2), []
    model = build_lm(paced).eval()
    model.transformer.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[1]))
    model.hidden(item, lay(paced.pattern, item.codes, item.frames, 11).tokens)
    assert torch.allclose(seen[0][0, :9], torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 0.0, 0.6, 1.2]))
    torch.manual_seed(0)
    learned = build_lm(replace(CONFIGS["multi_stream, paced"], backbone=replace(GPT2, width=64, heads=2)))
    alike = learned.speech_positions.weight @ learned.text_positions.weight.T  # [steps, text]
    assert alike[:5].argmax(dim=1).tolist() == [0, 2, 4, 5, 7]  # 1.8 tokens a step


def test_a_model_of_several_delays_is_told_which():
    model = _model("multi_stream, several delays")
    item = _item(model.config, 4, 5, seed=2)
    hidden = {}
    for delay in (0, 1, 2):
        model.take_delay(delay)
        assert model.config.pattern == delayed(delay)
        hidden[delay] = model.hidden(item, lay(PARALLEL, item.codes, item.frames, model.config.codebook_size).tokens)
    assert not torch.allclose(hidden[0], hidden[1], atol=1e-3) and not torch.allclose(hidden[1], hidden[2], atol=1e-3)
    with pytest.raises(ValueError, match="the delays 0, 2, 1, asked was delay=3"):
        model.take_delay(3)
    with pytest.raises(ValueError, match="trained with delay=1, asked was delay=0"):
        _model("multi_stream").take_delay(0)
    assert model.config.pattern == delayed(2)


@pytest.mark.parametrize("wrong", [{"delays": (0, 0, 1)}, {"delays": (0, 2)}])
def test_delays_that_cannot_be(wrong):
    with pytest.raises(ValueError, match="follows one of them"):
        replace(CONFIGS["multi_stream"], **wrong)
