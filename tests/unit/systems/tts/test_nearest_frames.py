"""Frames drawn to the prompt's: against a loop over frames, and in chunks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.api import Utterance
from harness.data.audio import read_audio, resample
from harness.data.manifests import DatasetConfig, load_dataset
from harness.judges.speakers import Resemblyzer
from systems.tts.chunked import LEVEL_STEP, NEARNESS, PRIOR_FRAMES, SOFTNESS, NearestFrames, nearest_stages
from systems.tts.lm_tts import LmTts
from tests.stubs.tiny_synthesizers import SAMPLING


@pytest.fixture
def prompt() -> Tensor:
    return torch.randn(40, 80, generator=torch.Generator().manual_seed(1)) - 5


@pytest.fixture
def made() -> Tensor:
    return torch.randn(1, 30, 80, generator=torch.Generator().manual_seed(2)) * 1.5 - 4


def slowly(made: Tensor, prompt: Tensor, share: float) -> Tensor:
    """Frame after frame, neighbour after neighbour."""
    loud = float(prompt.mean(dim=1).median())
    mean = torch.stack([frame for frame in prompt if float(frame.mean()) >= loud]).mean(dim=0)
    louder, found = [mean] * PRIOR_FRAMES, []
    for frame in made[0]:
        if float(frame.mean()) >= loud:
            louder.append(frame)
        own = frame + mean - torch.stack(louder).mean(dim=0)
        distances = [float(((own - other) ** 2).sum()) for other in prompt]
        weights = [math.exp((min(distances) - distance) / SOFTNESS) for distance in distances]
        near = sum((weight * other for weight, other in zip(weights, prompt, strict=True)), torch.zeros(80)) / sum(weights)
        taken = share * math.exp(-min(distances) / NEARNESS) / (1 + math.exp(-(float(own.mean()) - loud) / LEVEL_STEP - 1))
        found.append((1 - taken) * own + taken * near)
    return torch.stack(found)[None]


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_frames_are_mixed_with_their_neighbours_as_a_loop_would(made: Tensor, prompt: Tensor, share: float) -> None:
    found = NearestFrames(prompt, share).push(made, last=True)
    assert found is not None
    torch.testing.assert_close(found, slowly(made, prompt, share), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sizes", [[1] * 30, [7, 0, 22, 1], [29, 1]])
def test_chunks_equal_the_whole(made: Tensor, prompt: Tensor, sizes: list[int]) -> None:
    stage = NearestFrames(prompt, 0.6)
    chunks = [stage.push(chunk, last=False) for chunk in made.split(sizes, dim=1)]
    whole = NearestFrames(prompt, 0.6).push(made, last=True)
    assert whole is not None and stage.push(None, last=True) is None
    torch.testing.assert_close(torch.cat([chunk for chunk in chunks if chunk is not None], dim=1), whole, rtol=0, atol=1e-6)


def test_a_frame_looks_back_only(made: Tensor, prompt: Tensor) -> None:
    changed = made.clone()
    changed[:, 20:] += 1
    first, second = (NearestFrames(prompt, 0.6).push(frames, last=True) for frames in (made, changed))
    assert first is not None and second is not None
    assert torch.equal(first[:, :20], second[:, :20]) and not torch.equal(first[:, 20:], second[:, 20:])


def test_the_prompts_words_through_another_filter_come_near_again(prompt: Tensor) -> None:
    coloured = prompt[None] + torch.linspace(-2, 2, 80)  # the prompt's words through another filter
    found = NearestFrames(prompt, 1.0).push(coloured, last=True)
    assert found is not None
    before, after = ((frames[0, 20:] - prompt[20:]).abs().mean() for frames in (coloured, found))
    assert after < 0.4 * before


def test_without_a_prompt_or_a_share_there_is_no_stage(prompt: Tensor) -> None:
    assert nearest_stages(None, 0.6) == [] and nearest_stages(prompt[:0], 0.6) == [] and nearest_stages(prompt, 0.0) == []
    assert len(nearest_stages(prompt, 0.6)) == 1


def test_a_share_beyond_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0 to 1; got 1\.5"):
        LmTts("socodec120_tts", "socodec120", generation={"prompt_share": 1.5})


@pytest.mark.parametrize("number", [2, 8])
def test_a_voice_that_nothing_was_trained_on_comes_through(number: int) -> None:
    (item,) = (item for item in load_dataset(DatasetConfig(name="embedded", kind="embedded")).items if item.id == f"flite-rms-{number:02}")
    assert item.prompt_path is not None
    prompt, encoder = read_audio(item.prompt_path), Resemblyzer()
    wanted = encoder.embed(resample(prompt.samples[0], prompt.sample_rate, encoder.info.sample_rate))
    spoken = {}
    for share in (0.0, 1.0):
        system, asked = (
            LmTts("socodec120_tts", "socodec120", generation={**SAMPLING["multi_stream"], "prompt_share": share}),
            Utterance(item.text, "en", prompt),
        )
        speech = system.synthesize(asked, seed=0).audio
        streamed = np.concatenate([chunk.samples[0] for chunk in system.stream(asked, seed=0)])
        np.testing.assert_allclose(streamed, speech.samples[0], rtol=0, atol=0.01)  # the vocoder adds roundings up, see the README
        spoken[share] = float(np.dot(wanted, encoder.embed(speech.samples[0])))
    assert spoken[1.0] > spoken[0.0] + 0.03
