"""Whether an output is its prompt over again: found through codecs, rates, levels and silence, and never in speech of its own."""

from itertools import pairwise

import numpy as np
import pytest

from harness.api import Audio
from harness.data.audio import read_audio, repeated, resample
from harness.data.manifests import DatasetConfig, load_dataset

ITEMS = [i for i in load_dataset(DatasetConfig(name="embedded", kind="embedded")).items if i.prompt_path]
ITEM = ITEMS[0]
PROMPT, OTHER = read_audio(ITEM.prompt_path), read_audio(ITEM.path)


def changed(how):
    x, rate = PROMPT.samples[0], PROMPT.sample_rate
    rng = np.random.default_rng(0)
    return {
        "the very same": (x, rate),
        "quieter, turned over": (-0.1 * x, rate),
        "at 24 kHz": (resample(x, rate, 24000), 24000),
        "at 8 kHz": (resample(x, rate, 8000), 8000),
        "37 ms later": (np.concatenate([np.zeros(592), x]), rate),
        "after 2 s of silence": (np.concatenate([np.zeros(2 * rate), x]), rate),
        "without its first 200 ms": (x[rate // 5 :], rate),
        "8 bits": (np.round(x * 127) / 127, rate),
        "at 15 dB of noise": (x + x.std() * 10 ** (-15 / 20) * rng.standard_normal(x.size), rate),
        "stereo": (np.stack([x, 0.5 * x]), rate),
        "without what is below 300 Hz": (x - np.convolve(x, np.ones(53) / 53, "same"), rate),
    }[how]


@pytest.mark.cases(
    "A21", before="output equal to the prompt: SIM 1.000 with a tick", after="flagged prompt_copied, counted in a note, no tick"
)
@pytest.mark.parametrize(
    "how",
    ["the very same", "quieter, turned over", "at 24 kHz", "at 8 kHz", "37 ms later", "after 2 s of silence", "without its first 200 ms",
     "8 bits", "at 15 dB of noise", "stereo", "without what is below 300 Hz"],
)  # fmt: skip
def test_a_copy_of_the_prompt_is_found(how):
    samples, rate = changed(how)
    assert repeated(PROMPT, Audio(np.atleast_2d(samples).astype(np.float32), rate)) == "prompt_copied"


@pytest.mark.cases(
    "A21", before="output that begins with the prompt: SIM near 1, no word", after="flagged begins_with_prompt, counted in a note, no tick"
)
def test_an_output_that_begins_with_its_prompt_is_found():
    both = np.concatenate([PROMPT.samples[0], np.zeros(1600, np.float32), OTHER.samples[0]])
    assert repeated(PROMPT, Audio.mono(both, PROMPT.sample_rate)) == "begins_with_prompt"


def test_speech_of_its_own_is_not_accused():
    for item in ITEMS:
        assert repeated(read_audio(item.prompt_path), read_audio(item.path)) == "", item.id
    for one, other in pairwise(ITEMS):
        assert repeated(read_audio(one.prompt_path), read_audio(other.path)) == "", one.id


@pytest.mark.parametrize("samples", [np.zeros(16000), np.zeros(0), np.ones(10), np.zeros(30), np.ones(16000)])
def test_what_says_nothing_repeats_nothing(samples):
    nothing = Audio.mono(samples.astype(np.float32), 16000)
    assert repeated(PROMPT, nothing) == repeated(nothing, PROMPT) == repeated(nothing, nothing) == ""
