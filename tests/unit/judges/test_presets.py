"""Protocols built from their configuration: what is loaded of them, and what is heard once."""

import numpy as np
import pytest

from harness.api import Audio, Item, JudgeInfo, NotApplicable, Sample, Signal
from harness.errors import MissingDependency
from harness.judges import presets
from harness.judges.presets import PRESETS, Remembering, build_asr, missing_asr
from harness.metrics.text import Cer, DWer, Wer
from harness.running.metric_set import MetricBuilder


class Counting:
    """A recogniser that hears how loud it is, and counts its calls."""

    def __init__(self, name="counting"):
        self.info, self.calls = JudgeInfo(name, "m", "d" * 16, "p==1"), 0

    def transcribe(self, samples, language):
        self.calls += 1
        return f"{language} level {round(10 * float(samples[0]))}"


@pytest.fixture
def built(monkeypatch):
    """Judges of any family, by their configuration, without loading one."""
    made = []

    def build(kind, config):
        made.append(Counting(config["family"]))
        return made[-1]

    monkeypatch.setattr(presets, "build", build)
    monkeypatch.setattr(presets, "missing", lambda kind, config: None)
    return made


def sample(level, language="en", reference=None, hz=16000):
    output = Signal(Audio.mono(np.full(hz, level), hz), lambda x, a, b: x)
    against = Signal(Audio.mono(np.full(hz, reference), hz), lambda x, a, b: x) if reference is not None else None
    return Sample(Item("i", "d", text="en level 1", language=language), output, against)


def test_the_same_audio_is_heard_once_by_every_metric_and_protocol(built):
    shared = {}
    one = build_asr({"preset": "basic", "en": {"family": "pocketsphinx"}}, {"en"}, shared)
    other = build_asr({"preset": "whisper-en", "en": {"family": "pocketsphinx"}}, {"en"}, shared)
    assert len(built) == 1
    for asr in (one, other):
        # A codec that gives back its input: output and recording are two signals of the same samples.
        assert DWer(asr).measure(sample(0.1, reference=0.1)).value == 0
        assert Wer(asr).measure(sample(0.1)).value == Cer(asr).measure(sample(0.1)).value == 0
    assert built[0].calls == 1
    Wer(one).measure(sample(0.2))
    assert built[0].calls == 2
    assert Wer(one).info.signature() != Wer(other).info.signature()


def test_a_language_is_part_of_what_was_heard_and_memory_has_an_end(monkeypatch):
    monkeypatch.setattr(presets, "_REMEMBERED", 2)
    recogniser = Counting()
    remembering = Remembering(recogniser)
    loud, soft = np.full(4, 0.5, np.float32), np.full(4, 0.1, np.float32)
    assert [remembering.transcribe(loud, tag) for tag in ("en", "zh", "en")] == ["en level 5", "zh level 5", "en level 5"]
    assert recogniser.calls == 2
    assert remembering.transcribe(soft, "en") == "en level 1"  # the oldest goes
    assert remembering.transcribe(loud, "en") == "en level 5" and recogniser.calls == 4


def test_one_recogniser_of_two_languages_is_loaded_once(built):
    asr = build_asr({"preset": "embedded"})
    assert set(asr.recognisers) == {"en", "zh"} and len(built) == 1
    assert len(build_asr({"preset": "basic"}, {"zh", "en"}, shared := {}).recognisers) == 2 and len(shared) == 2


@pytest.mark.parametrize(("language", "other"), [("en", "zh"), ("zh", "en")])
def test_data_in_one_language_do_not_ask_for_the_others_model(language, other, tmp_path, monkeypatch):
    there, absent = {"family": "pocketsphinx"}, {"family": "funasr", "checkpoint": str(tmp_path)}
    config = {"preset": "basic", language: there, other: absent}
    assert missing_asr(config, {language}) is None
    assert "config.yaml" in str(missing_asr(config, {other})) and f"language '{other}'" in str(missing_asr(config))
    with pytest.raises(MissingDependency, match=f"language '{other}'"):
        build_asr(config)
    # The same of a run's metrics, which know the languages of the dataset.
    section = {"asr": config, "speaker": {}, "mos": {}}
    wer = MetricBuilder(["wer"], section, (), languages=frozenset({language})).build().metrics["wer"]
    assert f"asr_{language}" in wer.info.params or language == "zh"
    with pytest.raises(MissingDependency, match=f"metric 'cer': .*'{other}'"):
        MetricBuilder(["cer"], section, (), languages=frozenset({language, other})).build()


def test_an_item_in_a_language_without_recogniser_is_not_applicable():
    asr = build_asr({"preset": "pocketsphinx"}, {"zh", "de"})
    assert asr.recognisers == {}
    for language in ("zh", "de"):
        with pytest.raises(NotApplicable, match=f"preset 'pocketsphinx' has a recogniser for no language, none for '{language}'"):
            Cer(asr).measure(sample(0.1, language))


def test_nothing_takes_the_place_of_missing_weights(tmp_path):
    for preset in ("embedded", "embedded-fast"):
        judge = {**PRESETS[preset].recognisers["en"], "checkpoint": str(tmp_path)}
        reason = str(missing_asr({"preset": preset, "en": judge}, {"en"}))
        assert "harness fetch whisper-" in reason and "asr=pocketsphinx, which is another measure" in reason
        with pytest.raises(MissingDependency, match="harness fetch whisper-"):
            build_asr({"preset": preset, "en": judge}, {"en"})
