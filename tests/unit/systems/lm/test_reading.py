"""Monotonic reading in generation: the place, the window, the end, beside loops and the whole forward."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from systems.layers.transformer import TransformerConfig, Watched, Window
from systems.lm.backbone import LmBatch
from systems.lm.config import PARALLEL, LmConfig, delayed, lay
from systems.lm.generation import Engine
from systems.lm.reading import Reading, guided_layer
from systems.lm.requests import GenerationConfig, Request
from tests.stubs.lively_models import lively

GPT2 = TransformerConfig("gpt2", 4, 24, 3, 24)
LLAMA = TransformerConfig("llama", 4, 24, 3, 24)
CONFIGS = {
    "multi_stream": LmConfig("multi_stream", 3, (4, 5), 30, 5, GPT2, pattern=delayed(1), max_text=40, max_steps=80),
    "multihead": LmConfig("multihead", 3, (11,), 30, 0, LLAMA, pattern=delayed(2), pace=0.6),
    "hierarchical": LmConfig("hierarchical", 3, (11,), 30, 0, LLAMA, replace(LLAMA, width=12, heads=2), PARALLEL),
}
every_model = pytest.mark.parametrize("name", CONFIGS)


def _model(name):
    return lively(CONFIGS[name])


def _request(config, tokens, seed=0, prompt=0):
    generator = torch.Generator().manual_seed(seed)
    voice = torch.randn(config.voice_dim, generator=generator) if config.voice_dim else None
    codes = torch.randint(config.codebook_size, (config.num_codebooks, prompt), generator=generator)
    return Request(torch.randint(config.text_size, (tokens,), generator=generator).tolist(), seed, codes, voice)


def _followed(monkeypatch):
    """The places after every step, as they come."""
    places, follow = [], Reading.follow

    def noted(self, watched):
        follow(self, watched)
        places.append(self.place.tolist())

    monkeypatch.setattr(Reading, "follow", noted)
    return places


def _seeing(config, places, read, text, total, seen_before):
    """Bool ``[H, total, total]``, by loops: the guided heads see no text outside the window at each step behind the prefix."""
    lead, window = (1 if config.voice_dim else 0), 2
    mask = torch.zeros(config.backbone.heads, total, total, dtype=torch.bool)
    for head in range(config.backbone.heads):
        for query in range(total):
            step = query - seen_before  # 0 is the first step after the prefix
            for key in range(query + 1):
                token = key - lead
                place = None if step < 0 else read if step == 0 else places[step - 1][0]
                hidden = head < 2 and place is not None and 0 <= token < text and not place - 1 <= token <= place + window
                mask[head, query, key] = not hidden
    return mask


@every_model
@pytest.mark.parametrize("read", [0, 4])
def test_beside_the_whole_forward(name, read, monkeypatch):
    """Every token is the likeliest one, given all before by a pass without a cache whose guided layer sees what loops allow."""
    model, config, places = _model(name), CONFIGS[name], _followed(monkeypatch)
    request = replace(_request(config, 20, prompt=3), read=read)
    greedy = GenerationConfig(temperature=0.0, reading_window=2, max_frames=12, min_frames=12)
    found = Engine(model).generate([request], greedy)[0]
    codes = torch.cat([request.prompt, found.codes], dim=1)
    frames, voice = torch.tensor([codes.shape[1]]), None if request.voice is None else request.voice[None]
    item = LmBatch(torch.tensor([request.text]), torch.tensor([20]), codes[None], frames, voice)
    tokens = lay(config.pattern, item.codes, frames, config.codebook_size).tokens
    prefix = model.lead + 20 + 1 + 3
    total = model.lead + 20 + tokens.shape[2]
    mask = _seeing(config, places, read, 20, total, prefix)
    assert not mask[:2].equal(mask[2:].expand(2, -1, -1))  # the window hides something
    hidden = model.hidden(item, tokens, Watched(guided_layer(config), 2, mask=mask[None]))[0]
    layout, wrong = config.pattern.layout(config.num_codebooks, tokens.shape[2]), 0
    free = model.hidden(item, tokens)[0]
    for step in range(tokens.shape[2]):
        teacher = model.tokens.targets(tokens[:, :, step : step + 1])

        def choose(logits, first, part, step=step, teacher=teacher):
            chosen = teacher[part][:, first : first + logits.shape[1], 0].clone()
            for i in range(logits.shape[1]):
                if 3 <= int(layout[first + i, step]) < codes.shape[1]:
                    assert int(logits[0, i, : config.parts[part]].argmax()) == int(chosen[0, i]), (step, first + i, part)
            return chosen

        model.emit(hidden[step][None], choose)
        wrong += not torch.allclose(hidden[step], free[step], atol=1e-4)
    assert wrong  # without the window the states are others


@every_model
def test_the_place_only_moves_on_and_never_further_than_the_window(name, monkeypatch):
    model, config, places = _model(name), CONFIGS[name], _followed(monkeypatch)
    requests = [replace(_request(config, 8 + 6 * seed, seed, prompt=seed), read=seed) for seed in range(4)]
    Engine(model).generate(requests, GenerationConfig(reading_window=3, max_frames=15, min_frames=15))
    before = [0, 1, 2, 3]
    for now in places:
        assert all(old <= place <= min(old + 3, 8 + 6 * row - 1) for row, (old, place) in enumerate(zip(before, now, strict=True)))
        before = now
    assert before != [0, 1, 2, 3]


def test_the_place_follows_the_heads():
    """Two rows, the second shifted by padding: the token that both heads together look at most, inside the window."""
    config = CONFIGS["multihead"]
    reading = Reading(config, 2, window=2, device=torch.device("cpu"))
    reading.start(torch.tensor([1, 4]), torch.tensor([6, 5]), torch.tensor([0, 2]))
    watched = reading.watch(Window(torch.tensor([9]), 10))
    # Text of row 0 lies in columns 1..6, of row 1 in 4..8; in sight are tokens -1..2 and 1..4.
    assert watched.mask[0, 0, 0].tolist() == [True, True, True, True, False, False, False, True, True, True]
    assert watched.mask[1, 1, 0].tolist() == [True, True, True, True, False, True, True, True, True, True]
    assert watched.mask[:, 2].all()
    watched.queries, watched.keys = torch.ones(2, 2, 1, 4), torch.zeros(2, 2, 10, 4)
    watched.keys[0, :, 2] = 1.0  # token 1
    watched.keys[0, :, 5] = 9.0  # token 4, out of sight
    watched.keys[1, :, 0] = 9.0  # not text
    watched.keys[1, :, 5] = 2.0  # token 1: behind the place
    reading.follow(watched)
    assert reading.place.tolist() == [1, 2]
    assert reading.unread().tolist() == [True, False]


def test_rows_without_text_see_everything_and_stay():
    reading = Reading(CONFIGS["multihead"], 1, window=2, device=torch.device("cpu"))
    reading.start(torch.tensor([0]), torch.tensor([0]), torch.tensor([0]))
    watched = reading.watch(Window(torch.tensor([3]), 4))
    assert watched.mask.all()
    watched.queries, watched.keys = torch.ones(1, 2, 1, 4), torch.randn(1, 2, 4, 4)
    reading.follow(watched)
    assert reading.place.tolist() == [0] and not reading.unread().any()


@every_model
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_nobody_ends_before_the_text_is_read(name, scale, monkeypatch):
    """With an end that is always the likeliest token, and a place that moves on by one token a step: two may stay unread."""
    model, config = _model(name), CONFIGS[name]
    emit, column = model.emit, config.parts[0] + 1

    def ending(hidden, choose):
        def wish(logits, first, part):
            if first == 0 and part == 0:
                logits = logits.clone()
                logits[:, 0, column] = 1e4 + torch.arange(len(logits))
            return choose(logits, first, part)

        return emit(hidden, wish)

    model.emit = ending
    monkeypatch.setattr(Reading, "follow", lambda self, watched: self.place.add_(1))
    requests = [_request(config, 12), replace(_request(config, 12), read=5), _request(config, 2)]
    free = GenerationConfig(guidance_scale=scale, max_frames=60)
    for window, frames in ((0, [0, 0, 0]), (1, [9, 4, 0])):
        found = Engine(model).generate(requests, replace(free, reading_window=window))
        assert [item.codes.shape[1] for item in found] == frames
        assert {item.stop_reason for item in found} == {"end"}
