"""Guided attention: the aligner beside brute force and on sound that it must align, the guidance beside a loop."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch

from systems.layers.transformer import TransformerConfig, Watched
from systems.lm.backbone import LmBatch
from systems.lm.config import PARALLEL, LmConfig, delayed
from systems.lm.models import build_lm
from systems.lm.reading import BANDS, Aligner, best_reading, reading_cost, sound_frames, spoken_tokens, strayed

LLAMA = TransformerConfig("llama", 3, 16, 2, 24)
MODELS = {
    "multi_stream": LmConfig("multi_stream", 2, (11,), 9, 5, replace(LLAMA, kind="gpt2"), pattern=delayed(1), max_text=12, max_steps=40),
    "multihead": LmConfig("multihead", 2, (11,), 9, 0, LLAMA, pattern=delayed(1), pace=0.6),
    "hierarchical": LmConfig("hierarchical", 2, (11,), 9, 0, LLAMA, LLAMA, PARALLEL, pace=0.6),
}


def _readings(frames, tokens):
    """Every monotonic reading that says all tokens: how many frames each takes."""
    for cuts in itertools.combinations(range(1, frames), tokens - 1):
        edges = [0, *cuts, frames]
        yield [n for n in range(tokens) for _ in range(edges[n + 1] - edges[n])]


def test_readings_beside_every_one_of_them():
    scores = torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(0)).log_softmax(dim=2)
    frames, tokens = torch.tensor([7, 5]), torch.tensor([4, 3])
    scores[1, :, 3] = -1e4
    with_blank = torch.nn.functional.pad(scores, (1, 0), value=-1.0).log_softmax(dim=2)[:, :, 1:]
    costs, paths = [], best_reading(scores, frames, tokens)
    for row in range(2):
        count, said = int(frames[row]), int(tokens[row])
        found = {tuple(path): sum(float(scores[row, f, n]) for f, n in enumerate(path)) for path in _readings(count, said)}
        assert tuple(paths[row, :count].tolist()) == max(found, key=found.__getitem__)
        # CTC lets a blank stand between tokens too: its sum is at least that of the readings without any, at most that of all of them.
        plain = [sum(float(with_blank[row, f, n]) for f, n in enumerate(path)) for path in found]
        costs.append(-torch.logsumexp(torch.tensor(plain), 0) / count)
    assert 0.0 < float(reading_cost(scores, frames, tokens)) <= float(torch.stack(costs).mean())


def test_what_cannot_be_read_costs_nothing_and_stays_within_its_text():
    scores = torch.zeros(2, 3, 5)
    frames, tokens = torch.tensor([3, 3]), torch.tensor([5, 0])
    assert float(reading_cost(scores, frames, tokens)) == 0.0
    assert best_reading(scores, frames, tokens).tolist() == [[0, 1, 2], [0, 0, 0]]


def test_frames_of_a_codec_share_their_time_among_tokens():
    path = torch.tensor([[0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2]])  # 20 ms each
    spoken = spoken_tokens(path, 0.08, torch.tensor([3]), 4)
    assert torch.allclose(spoken[0], torch.tensor([[0.75, 0.25, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 1.0, 0]]))


def test_sound_is_seen_every_20_ms_at_any_rate():
    for rate in (16000, 24000):
        made = sound_frames(torch.sin(torch.arange(rate) * 0.3), rate)
        assert made.shape == (50, BANDS) and bool(made.isfinite().all()) and abs(float(made.mean())) < 1e-4
        assert sound_frames(torch.zeros(100), rate).shape == (0, BANDS)


def test_the_aligner_finds_tokens_by_their_sound():
    """Each of six tokens has a spectrum of its own and lasts 1 to 19 frames."""
    torch.manual_seed(0)
    spectra = 3.0 * torch.randn(6, BANDS)

    def utterances(count=6):
        texts = torch.stack([torch.randperm(6) for _ in range(count)])
        lasting = torch.randint(1, 20, (count, 6))
        paths = [torch.arange(6).repeat_interleave(row) for row in lasting]
        sounds = [spectra[text[path]] + torch.randn(len(path), BANDS) for text, path in zip(texts, paths, strict=True)]
        frames = torch.tensor([len(path) for path in paths])
        return torch.nn.utils.rnn.pad_sequence(sounds, batch_first=True), frames, texts, torch.full((count,), 6), paths

    aligner = Aligner(6, width=16)
    optimiser = torch.optim.Adam(aligner.parameters(), lr=1e-2)
    for _ in range(150):
        sound, frames, texts, tokens, _ = utterances()
        optimiser.zero_grad()
        reading_cost(aligner(sound, frames, texts, tokens), frames, tokens).backward()
        optimiser.step()
    sound, frames, texts, tokens, paths = utterances(20)
    found = best_reading(aligner(sound, frames, texts, tokens), frames, tokens)
    right = torch.cat([row[: len(path)] == path for row, path in zip(found, paths, strict=True)]).float().mean()
    even = torch.cat([torch.arange(len(path)) * 6 // len(path) == path for path in paths]).float().mean()
    assert float(right) > 0.9 > 0.75 > float(even)


def _slowly(watched, lead, texts, frames, spoken):
    costs = []
    for row, (tokens, steps) in enumerate(zip(texts, frames, strict=True)):
        for frame in range(steps if tokens else 0):
            for head in range(watched.heads):
                query = watched.queries[row, head, lead + tokens + frame]
                scores = [float(query @ watched.keys[row, head, lead + n]) / query.shape[0] ** 0.5 for n in range(tokens)]
                whole = math.log(sum(math.exp(score) for score in scores))
                costs.append(sum(float(spoken[row, frame, n]) * (whole - score) for n, score in enumerate(scores)))
    return sum(costs) / len(costs)


@pytest.mark.parametrize("lead", [0, 1])
def test_straying_beside_a_loop(lead):
    generator = torch.Generator().manual_seed(0)
    texts, frames, rows = [5, 3, 0, 7], [6, 9, 4, 2], torch.arange(7)
    watched = Watched(0, 2, *(torch.randn(4, 2, 1 + 12 + 9, 4, generator=generator) for _ in range(2)))
    spoken = torch.rand(4, 9, 7, generator=generator) * (rows < torch.tensor(texts)[:, None])[:, None]
    spoken = spoken / spoken.sum(dim=2, keepdim=True).clamp(min=1e-6)
    found = strayed(watched, lead, torch.tensor(texts), torch.tensor(frames), spoken)
    assert float(found) == pytest.approx(_slowly(watched, lead, texts, frames, spoken), abs=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_following_it_turns_one_layer_to_what_is_spoken(name):
    config = MODELS[name]
    torch.manual_seed(0)
    model, generator = build_lm(config), torch.Generator().manual_seed(0)
    tokens, frames = torch.tensor([10, 8, 10, 9]), torch.tensor([16, 14, 15, 16])
    batch = LmBatch(
        torch.randint(9, (4, 10)), tokens, torch.randint(11, (4, 2, 16)), frames, torch.randn(4, 5) if config.voice_dim else None
    )
    assert model.loss(batch, generator).strayed is None  # nobody said what is spoken
    place = (torch.arange(16) * tokens[:, None] // frames[:, None]).clamp(max=9)
    batch = replace(batch, spoken=torch.nn.functional.one_hot(place, 10).float())
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    costs = []
    for _ in range(120):
        optimiser.zero_grad()
        cost = model.loss(batch, generator).strayed
        cost.backward()
        optimiser.step()
        costs.append(float(cost.detach()))
    assert costs[-1] < 0.5 * costs[0]
