"""Generation: seeds, batches, ends, runaways, penalties, streams."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from systems.layers.transformer import TransformerConfig
from systems.lm.backbone import LmBatch
from systems.lm.config import PARALLEL, LmConfig, delayed, lay
from systems.lm.generation import Engine
from systems.lm.requests import GenerationConfig, Request
from tests.stubs.lively_models import lively

GPT2 = TransformerConfig("gpt2", 2, 16, 2, 24)
LLAMA = TransformerConfig("llama", 2, 16, 2, 24)
CONFIGS = {
    "multi_stream": LmConfig("multi_stream", 3, (11,), 9, 5, GPT2, pattern=delayed(1), max_text=8, max_steps=80),
    "multi_stream, pairs": LmConfig("multi_stream", 3, (4, 5), 9, 5, GPT2, pattern=delayed(2), max_text=8, max_steps=80),
    "multihead": LmConfig("multihead", 4, (11,), 9, 0, LLAMA, pattern=delayed(3), table_dim=6),
    "multihead, parallel": LmConfig("multihead", 3, (11,), 9, 0, LLAMA, pattern=PARALLEL),
    "hierarchical": LmConfig("hierarchical", 3, (11,), 9, 0, LLAMA, replace(LLAMA, width=12), PARALLEL, table_dim=6),
    "multi_stream, paced": LmConfig("multi_stream", 3, (11,), 9, 5, GPT2, pattern=delayed(1), pace=1.8, max_text=8, max_steps=80),
    "multihead, paced": LmConfig("multihead", 3, (11,), 9, 0, LLAMA, pattern=delayed(1), pace=0.6),
    "hierarchical, paced": LmConfig("hierarchical", 3, (11,), 9, 0, LLAMA, replace(LLAMA, width=12), PARALLEL, pace=0.6),
    "hierarchical, one codebook": LmConfig("hierarchical", 1, (11,), 9, 0, LLAMA, replace(LLAMA, width=12), PARALLEL),
}
every_model = pytest.mark.parametrize("name", CONFIGS)
SAMPLED = GenerationConfig(temperature=1.2, top_k=8, top_p=0.95, max_frames=20)


def _model(name):
    return lively(CONFIGS[name])


def _requests(config, count=6):
    generator = torch.Generator().manual_seed(5)
    made = []
    for seed in range(count):
        prompt = torch.randint(config.codebook_size, (config.num_codebooks, seed % 3), generator=generator) if seed % 2 else None
        voice = torch.randn(config.voice_dim, generator=generator) if config.voice_dim else None
        text = torch.randint(config.text_size, (1 + seed,), generator=generator).tolist()
        made.append(Request(text, seed, prompt, voice))
    return made


def _same(one, other):
    return torch.equal(one.codes, other.codes) and one.stop_reason == other.stop_reason


class _Ending:
    """Makes a model say EOS in codebook 0 at given steps, by changing the logits it offers; otherwise EOS is never likely."""

    def __init__(self, model, ends):
        self._model, self._emit, self._ends, self._step = model, model.emit, ends, 0
        model.emit = self

    def __call__(self, hidden, choose):
        step, self._step = self._step, self._step + 1
        column = self._model.config.parts[0] + 1

        def guided(logits, first, part):
            if first == 0 and part == 0:
                logits = logits.clone()
                logits[:, 0, column] = -1e4
                for row, end in enumerate(self._ends):
                    if step == end:
                        logits[row, 0, column] = 1e4
            return choose(logits, first, part)

        return self._emit(hidden, guided)


@every_model
def test_the_same_seed_says_the_same_and_another_another(name):
    model, request = _model(name), _requests(CONFIGS[name])[3]
    first = Engine(model).generate([request], SAMPLED)[0]
    torch.manual_seed(99)  # torch's own generator has no part in it
    assert _same(first, Engine(model).generate([request], SAMPLED)[0])
    others = [Engine(model).generate([replace(request, seed=seed)], SAMPLED)[0].codes for seed in (7, 8, 9)]
    assert any(not torch.equal(first.codes, other) for other in others)
    assert first.codes.dtype == torch.int64 and first.codes.shape[0] == CONFIGS[name].num_codebooks
    assert not first.codes.numel() or (first.codes.min() >= 0 and first.codes.max() < CONFIGS[name].codebook_size)


@every_model
@pytest.mark.parametrize("every", [None, 7])
def test_batches_equal_single_items(name, every):
    model, requests = _model(name), _requests(CONFIGS[name])
    together = Engine(model).generate(requests, replace(SAMPLED, check_every=every))
    for request, found in zip(requests, together, strict=True):
        assert _same(found, Engine(model).generate([request], SAMPLED)[0])
    assert {item.stop_reason for item in together} <= {"end", "length"}


@every_model
def test_greedy_generation_beside_the_whole_forward(name):
    """Every token is the likeliest one that may stand there, given all the tokens before by a pass without a cache."""
    model, config = _model(name), CONFIGS[name]
    request = _requests(config)[3]
    greedy = GenerationConfig(temperature=0.0, max_frames=5, min_frames=5)
    found = Engine(model).generate([request], greedy)[0]
    assert found.stop_reason == "length" and found.codes.shape[1] == 5
    prompt = request.prompt.shape[1]
    codes = torch.cat([request.prompt, found.codes], dim=1)
    voice = None if request.voice is None else request.voice[None]
    item = LmBatch(torch.tensor([request.text]), torch.tensor([len(request.text)]), codes[None], torch.tensor([codes.shape[1]]), voice)
    tokens = lay(config.pattern, item.codes, item.frames, config.codebook_size).tokens
    hidden, layout = model.hidden(item, tokens)[0], config.pattern.layout(config.num_codebooks, tokens.shape[2])
    for step in range(tokens.shape[2]):
        teacher = model.tokens.targets(tokens[:, :, step : step + 1])

        def choose(logits, first, part, step=step, teacher=teacher):
            chosen = teacher[part][:, first : first + logits.shape[1], 0].clone()
            for i in range(logits.shape[1]):
                frame = int(layout[first + i, step])
                if prompt <= frame < codes.shape[1]:
                    assert int(logits[0, i, : config.parts[part]].argmax()) == int(chosen[0, i]), (step, first + i, part)
            return chosen

        model.emit(hidden[step][None], choose)


@every_model
def test_guided_generation_beside_two_whole_forwards(name):
    """With the text and without it, log-probabilities put together by hand."""
    model, config, scale = _model(name), CONFIGS[name], 2.5
    request = _requests(config)[3]
    greedy = GenerationConfig(temperature=0.0, max_frames=5, min_frames=5)
    found = Engine(model).generate([request], replace(greedy, guidance_scale=scale))[0]
    codes = torch.cat([request.prompt, found.codes], dim=1)[None]
    frames, voice = torch.tensor([codes.shape[2]]), None if request.voice is None else request.voice[None]
    told = LmBatch(torch.tensor([request.text]), torch.tensor([len(request.text)]), codes, frames, voice)
    untold = replace(told, text=torch.zeros(1, 0, dtype=torch.int64), text_lengths=torch.tensor([0]))
    tokens = lay(config.pattern, codes, frames, config.codebook_size).tokens
    hidden = torch.cat([model.hidden(item, tokens) for item in (told, untold)])
    layout, prompt = config.pattern.layout(config.num_codebooks, tokens.shape[2]), request.prompt.shape[1]
    for step in range(tokens.shape[2]):
        teacher = model.tokens.targets(tokens[:, :, step : step + 1])

        def choose(logits, first, part, step=step, teacher=teacher):
            chosen = teacher[part][:, first : first + logits.shape[1], 0].clone()
            for i in range(logits.shape[1]):
                if prompt <= int(layout[first + i, step]) < codes.shape[2]:
                    with_text, without = logits[:, i].log_softmax(dim=-1)
                    best = (scale * with_text - (scale - 1.0) * without)[: config.parts[part]].argmax()
                    assert int(best) == int(chosen[0, i]), (step, first + i, part)
            return chosen.repeat(2, 1)

        model.emit(hidden[:, step], choose)


@every_model
@pytest.mark.parametrize("window", [0, 1])
def test_guided_batches_and_streams_equal_single_items(name, window):
    model, requests = _model(name), _requests(CONFIGS[name])
    config = replace(SAMPLED, guidance_scale=3.0, reading_window=window)
    for request, found in zip(requests, Engine(model).generate(requests, config), strict=True):
        assert _same(found, Engine(model).generate([request], config)[0])
        chunks = list(Engine(model).stream(request, config, chunk_frames=2))
        assert torch.equal(torch.cat([chunk.codes for chunk in chunks], dim=1), found.codes)


@every_model
def test_guidance_changes_what_is_said(name):
    model, requests = _model(name), _requests(CONFIGS[name])
    plain, guided = (Engine(model).generate(requests, replace(SAMPLED, guidance_scale=scale)) for scale in (1.0, 4.0))
    assert not all(_same(one, other) for one, other in zip(plain, guided, strict=True))


@pytest.mark.parametrize("changes", [{"guidance_scale": s} for s in (-1.0, float("nan"), float("inf"))] + [{"reading_window": -1}])
def test_impossible_guidance_and_reading(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        GenerationConfig(**changes)


@every_model
def test_every_item_ends_by_itself(name):
    config, ends = CONFIGS[name], (5, 0, 2, 9)
    requests = [replace(r, prompt=None) for r in _requests(config, 4)]
    model = _model(name)
    _Ending(model, ends)
    found = Engine(model).generate(requests, SAMPLED)
    assert [item.codes.shape[1] for item in found] == list(ends)
    assert {item.stop_reason for item in found} == {"end"}


@every_model
def test_runaways_are_cut_and_counted(name):
    config = CONFIGS[name]
    requests = _requests(config, 4)
    requests[0] = replace(requests[0], max_frames=3)
    model = _model(name)
    _Ending(model, [-1, 1, -1, -1])
    found = Engine(model).generate(requests, replace(SAMPLED, max_frames=6))
    assert [item.codes.shape[1] for item in found] == [3, 1, 6, 6]
    assert sorted(item.stop_reason for item in found) == ["end", "length", "length", "length"]


@every_model
def test_no_item_ends_too_early(name):
    config = CONFIGS[name]
    model = _model(name)
    found = Engine(model).generate(_requests(config), replace(SAMPLED, min_frames=9, max_frames=12))
    assert all(9 <= item.codes.shape[1] <= 12 for item in found)


@every_model
@pytest.mark.parametrize("chunk", [1, 3])
def test_streamed_equals_offline(name, chunk):
    model = _model(name)
    for request in _requests(CONFIGS[name]):
        offline = Engine(model).generate([request], SAMPLED)[0]
        chunks = list(Engine(model).stream(request, SAMPLED, chunk_frames=chunk))
        assert torch.equal(torch.cat([c.codes for c in chunks], dim=1), offline.codes)
        assert [c.stop_reason for c in chunks[:-1]] == [None] * (len(chunks) - 1) and chunks[-1].stop_reason == offline.stop_reason
        assert all(c.codes.shape[1] == chunk for c in chunks[:-1]) and chunks[-1].codes.shape[1] <= chunk + 1


@pytest.mark.parametrize(("name", "steps"), [("multi_stream", 3), ("multihead", 10), ("hierarchical", 1)])
def test_the_first_frame_leaves_as_soon_as_it_is_whole(name, steps):
    """After as many passes as its pattern needs, and no later: the delay pattern pays d (K - 1) more than the parallel one."""
    model, config = _model(name), CONFIGS[name]
    guide = _Ending(model, [-1])
    request = replace(_requests(config, 1)[0], prompt=None)
    next(iter(Engine(model).stream(request, SAMPLED)))
    assert guide._step == steps == config.pattern.steps(config.num_codebooks, 1)


@pytest.mark.parametrize("name", ["multihead, parallel", "multi_stream, pairs", "hierarchical"])
def test_repetition_penalty_beside_a_list_of_what_was_said(name):
    model, config = _model(name), CONFIGS[name]
    greedy = GenerationConfig(temperature=0.0, repetition_penalty=3.0, max_frames=12, min_frames=12)
    request = replace(_requests(config, 1)[0], prompt=None)
    offered, emit = [], model.emit

    def recording(hidden, choose):
        offered.append({})

        def noted(logits, first, part):
            for i in range(logits.shape[1]):
                offered[-1][first + i, part] = logits[0, i].clone()
            return choose(logits, first, part)

        return emit(hidden, noted)

    model.emit = recording
    found = Engine(model).generate([request], greedy)[0]
    changed = 0
    for k in range(config.num_codebooks):
        said = found.codes[k].tolist()
        for n in range(len(said)):
            step, before = n + config.pattern.delay * k, set(said[:n])
            halves = [(said[n], before)]
            if len(config.parts) == 2:  # only what was said together counts, and only the second half suffers
                first = config.parts[0]
                halves = [(said[n] % first, set()), (said[n] // first, {c // first for c in before if c % first == said[n] % first})]
            for part, (chosen, seen) in enumerate(halves):
                logits = offered[step][k, part][: config.parts[part]].clone()
                plain = int(logits.argmax())
                for token in seen:
                    logits[token] = logits[token] / 3.0 if logits[token] > 0 else logits[token] * 3.0
                assert int(logits.argmax()) == chosen
                changed += chosen != plain
    assert changed > 0


def test_an_engine_serves_batch_after_batch(monkeypatch):
    """What a batch leaves behind in memory that is used again does not reach the next one; here the step looks at the whole cache."""
    monkeypatch.setattr("systems.lm.generation.accelerated", lambda step, how, device: step)
    model, requests = _model("multihead"), _requests(CONFIGS["multihead"])
    engine = Engine(model, "compile")
    for batch in (requests[:3], requests[3:], requests[:3]):
        for found, alone in zip(engine.generate(batch, SAMPLED), Engine(model).generate(batch, SAMPLED), strict=True):
            assert _same(found, alone)
    assert len(engine._kept) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": [9]}, "text tokens in 9..9"),
        ({"text": [1] * 9}, "made for 8"),
        ({"prompt": torch.zeros(2, 3, dtype=torch.int64)}, "wants \\[3, T\\]"),
        ({"prompt": torch.full((3, 2), 11)}, "11 entries"),
        ({"voice": None}, "wants an utterance embedding"),
        ({"max_frames": 0}, "at least 1"),
        ({"max_frames": 79}, "made for 80"),
        ({"read": 2}, "2 of its 1 text tokens"),
    ],
)
def test_requests_that_do_not_fit(changes, message):
    model = _model("multi_stream")
    request = replace(_requests(model.config, 1)[0], **changes)
    with pytest.raises(ValueError, match=message):
        Engine(model).generate([request], replace(SAMPLED, max_frames=500))


def test_an_empty_batch_and_a_model_in_training():
    model = _model("multihead")
    assert Engine(model).generate([], SAMPLED) == ()
    with pytest.raises(ValueError, match="eval"):
        Engine(model.train()).generate([Request([1])], SAMPLED)


@every_model
def test_bfloat16_models_speak_too(name):
    model, requests = _model(name).bfloat16(), _requests(CONFIGS[name])
    for found in Engine(model).generate(requests, replace(SAMPLED, min_frames=2)):
        assert found.codes.shape[1] >= 2 and found.codes.min() >= 0 and found.codes.max() < CONFIGS[name].codebook_size
