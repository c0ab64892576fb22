"""Whisper of published weights; what needs them is skipped where they are not (`harness fetch whisper-base whisper-tiny.en`)."""

import re

import numpy as np
import pytest
import soundfile

from harness.api import Recogniser
from harness.data.manifests import DatasetConfig, load_dataset
from harness.errors import CheckpointError, MissingDependency, UnknownName
from harness.judges.weights import WEIGHTS, absence
from harness.judges.whisper_ct2 import TOKENS_PER_S, WINDOW_S, WhisperCt2, window_s
from harness.metrics.text import wer
from tests.unit.judges.test_embedded import with_noise


def read(path):
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == 16000
    return samples


def embedded(**chosen):
    return load_dataset(DatasetConfig("embedded", "embedded", **chosen)).items


def loaded(name):
    if reason := absence(WEIGHTS[name]):
        pytest.skip(reason)
    return WhisperCt2(name)


@pytest.fixture(scope="module")
def base():
    return loaded("whisper-base")


@pytest.fixture(scope="module")
def speech():
    """Recordings of two voices with their texts."""
    items = embedded(items=("flite-slt-01", "flite-rms-02"))
    return [(item.text, read(item.path)) for item in items]


def test_the_window_leaves_room_and_never_exceeds_the_models():
    assert [window_s(s) for s in (0.1, 15, 15.001, 18.01, 25, 25.01, 300)] == [20, 20, 20.02, 23.02, 30, 30, 30]


def test_only_whispers_weights_are_taken_and_absent_ones_told(tmp_path):
    with pytest.raises(UnknownName, match="Did you mean whisper-base"):
        WhisperCt2.missing("whisper-bass")
    with pytest.raises(UnknownName, match=r"whisper-base.*whisper-tiny\.en"):
        WhisperCt2("campplus")
    assert "lacks some of model.bin" in str(WhisperCt2.missing(checkpoint=str(tmp_path)))
    with pytest.raises(MissingDependency, match="harness fetch whisper-base"):
        WhisperCt2(checkpoint=str(tmp_path))
    assert WhisperCt2.downloads("whisper-tiny.en") == (WEIGHTS["whisper-tiny.en"],)
    assert WhisperCt2.downloads(checkpoint=str(tmp_path)) == ()


def test_other_bytes_are_never_loaded(tmp_path):
    for file in WEIGHTS["whisper-base"].files:
        (tmp_path / file.name).write_bytes(b"another model")
    with pytest.raises(CheckpointError, match=r"'model\.bin' of whisper-base .* is not the published one"):
        WhisperCt2(checkpoint=str(tmp_path))


def test_it_hears_speech_whatever_it_heard_before(base, speech):
    assert isinstance(base, Recogniser)
    clips = [*(samples for _, samples in speech), with_noise(speech[0][1], 10)]
    first = [base.transcribe(samples, "en") for samples in clips]
    assert [wer(text, heard, "plain-whisper-english") for (text, _), heard in zip(speech, first, strict=False)] == pytest.approx(
        [0, 0], abs=0.2
    )
    # More than a window is heard to its end, and leaves nothing behind.
    long = np.tile(speech[1][1], 10)
    assert len(long) > 1.2 * WINDOW_S * 16000
    assert len(base.transcribe(long, "en").split()) == pytest.approx(10 * len(speech[1][0].split()), rel=0.15)
    assert [base.transcribe(samples, "en") for samples in reversed(clips)] == first[::-1]
    another = WhisperCt2()
    assert another.transcribe(clips[-1], "en") == first[-1]
    assert another.info == base.info


def test_silence_and_noise_say_nothing_and_a_loop_has_an_end(base):
    noise = (0.05 * np.random.default_rng(0).standard_normal(3 * 16000)).astype(np.float32)
    for samples in (np.zeros(16000, np.float32), np.zeros(0, np.float32), noise):
        assert base.transcribe(samples, "en") == ""
    assert len(base.transcribe(np.full(500, 0.5, np.float32), "en")) < 100 + 10 * TOKENS_PER_S


def test_mandarin_is_written_in_simplified_characters(base):
    heard = "".join(base.transcribe(read(item.path), "zh") for item in embedded(language="zh", limit=3))
    assert re.search("[\u4e00-\u9fff]", heard)
    assert not set(heard) & set("這個們說時對國發會學體關開門東車還進與萬業產動樣過應當後點電問題無線實際")


def test_the_signature_says_how_it_listens(base):
    for told in ("whisper-base int8 beam 5", "window max(20, length + 5) to 30 s", "tokens a second", "zh after"):
        assert told in base.info.model
    assert base.info.digest == WEIGHTS["whisper-base"].digest and base.info.languages == ()
    assert base.info.package.startswith("faster-whisper==") and "ctranslate2==" in base.info.package


def test_tiny_knows_english_only(speech):
    tiny = loaded("whisper-tiny.en")
    assert tiny.info.languages == ("en",) and tiny.info.digest != WEIGHTS["whisper-base"].digest
    assert wer(speech[0][0], tiny.transcribe(speech[0][1], "en"), "plain-whisper-english") < 0.3
    with pytest.raises(ValueError, match="asked for 'zh'"):
        tiny.transcribe(speech[0][1], "zh")
