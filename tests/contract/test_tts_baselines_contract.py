"""espeak, flite and hibari keep every law of a synthesizer, and no text is more to them than text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.api import MissingOutput, Utterance
from harness.settings.registry import SYSTEMS, resolve
from harness.settings.systems import system_section
from harness.testing import check_synthesizer, speechlike


def built(name: str, **parameters: Any) -> Any:
    """The system of a YAML, or a skip that says what to install."""
    config = {**system_section(name), **parameters}
    kind = resolve("systems", config.pop("family"))
    if reason := kind.missing(**config):
        pytest.skip(reason)
    return kind(**config)


@pytest.mark.parametrize("name", ["espeak", "flite", "hibari"])
def test_every_law_holds(name: str) -> None:
    report = check_synthesizer(built(name), factory=lambda: built(name))
    assert {"prompt untouched", "speech", "determinism", "fresh instance", "stream"} <= set(report.checked)


def test_mandarin_is_spoken_by_espeak_and_refused_by_flite() -> None:
    request = Utterance("今天早上图书馆门口排了很长的队。", "zh", speechlike(0.5, 16000))
    audio = built("espeak").synthesize(request, 0).audio
    # 15 syllables; letter by letter, or as English, they would take longer, and unread hardly any time.
    assert 2.5 < audio.duration_s < 6 and np.abs(audio.samples).max() < 1
    with pytest.raises(MissingOutput, match="English only, asked for 'zh'"):
        built("flite").synthesize(request, 0)


def test_a_language_without_a_voice_is_refused() -> None:
    with pytest.raises(MissingOutput, match="espeak speaks en, zh as configured, asked for 'fr'"):
        built("espeak").synthesize(Utterance("bonjour", "fr"), 0)
    assert built("espeak", voices={"fr": "fr-fr"}).synthesize(Utterance("bonjour", "fr"), 0).audio.duration_s > 0.3
    with pytest.raises(MissingOutput, match="asked for 'zh'"):
        built("espeak", voices={"en": "en-us", "zh": None}).synthesize(Utterance("你好", "zh"), 0)


@pytest.mark.parametrize("name", ["espeak", "flite", "hibari"])
@pytest.mark.parametrize(
    "text",
    ["-h is an option", "--version", "$(touch spoken) `touch spoken`; touch spoken", "a\x00b\nc \x1b[31m", "naïve “café” 100% <b>x</b>"],
)
def test_no_text_is_an_option_or_a_command(name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    audio = built(name).synthesize(Utterance(text, "en"), 0).audio
    assert audio.duration_s > 0.3 and np.abs(audio.samples).max() > 0.05
    assert list(tmp_path.iterdir()) == []


def test_brackets_are_not_phonemes_to_espeak() -> None:
    def heard(text: str) -> int:
        return int(built("espeak").synthesize(Utterance(text, "en"), 0).audio.num_samples)

    # As phonemes the brackets would hold one short syllable.
    assert heard("[[everybody]]") > 0.8 * heard("everybody")


def test_hibari_reads_no_phonemes_streams_by_the_sentence_and_speaks_english_only() -> None:
    hibari = built("hibari")

    def heard(text: str, **parameters: Any) -> int:
        return int((built("hibari", **parameters) if parameters else hibari).synthesize(Utterance(text, "en"), 0).audio.num_samples)

    # As phonemes of that word the brackets would make it one short syllable.
    assert heard("[everybody](/ɑ/)") > 0.8 * heard("everybody")
    assert len(list(hibari.stream(Utterance("It rained. We stayed at home.", "en"), 0))) == 2
    assert heard("We stayed at home.", speed=2.0) < 0.7 * heard("We stayed at home.")
    assert hibari.synthesize(Utterance("Yes.", "en"), 0).audio.digest() != hibari.synthesize(Utterance("Yes.", "en"), 1).audio.digest()
    with pytest.raises(MissingOutput, match="English only, asked for 'zh'"):
        hibari.synthesize(Utterance("你好", "zh"), 0)
    with pytest.raises(ValueError, match="speed"):
        resolve("systems", "hibari")(speed=3.0)


def test_an_accent_does_not_cost_flite_the_word() -> None:
    flite = built("flite")
    assert flite.synthesize(Utterance("café", "en"), 0).audio.digest() == flite.synthesize(Utterance("cafe", "en"), 0).audio.digest()


@pytest.mark.parametrize("name", ["espeak", "flite"])
def test_a_program_that_takes_too_long_is_ended(name: str) -> None:
    with pytest.raises(RuntimeError, match="was ended after"):
        built(name, timeout_s=0.001).synthesize(Utterance("one two three " * 2000, "en"), 0)


def test_voices_and_paces_that_do_not_exist_are_refused() -> None:
    espeak, flite = resolve("systems", "espeak"), resolve("systems", "flite")
    with pytest.raises(ValueError, match="is not the name of an espeak-ng voice"):
        espeak(voices={"en": "--help"})
    with pytest.raises(ValueError, match="ISO 639"):
        espeak(voices={"English": "en-us"})
    with pytest.raises(ValueError, match="at least one voice"):
        espeak(voices={"en": None})
    with pytest.raises(ValueError, match="80 to 450"):
        espeak(words_per_minute=20)
    with pytest.raises(ValueError, match="no voice 'kal32' here; there are slt"):
        flite(voice="kal32")
    with pytest.raises(ValueError, match="duration_stretch"):
        flite(duration_stretch=0.0)
    built("espeak")
    for voice in ("en-xx", "en-us+nobody"):  # the program itself would take another one without a word
        with pytest.raises(RuntimeError, match="has no voice"):
            espeak(voices={"en": voice})


@pytest.mark.parametrize("name", ["espeak", "flite"])
def test_without_the_program_the_package_to_install_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    kind = resolve("systems", name)
    assert "apt-get install" in kind.missing()
    with pytest.raises(RuntimeError, match="apt-get install"):
        kind()


@pytest.mark.parametrize("voice", ["kal", "rms"])
def test_a_voice_speaks_at_its_own_rate(voice: str) -> None:
    flite = built("flite", voice=voice)
    audio = flite.synthesize(Utterance("hello", "en"), 0).audio
    assert audio.sample_rate == flite.sample_rate == {"kal": 8000, "rms": 16000}[voice]


def test_they_are_registered() -> None:
    assert {"espeak", "flite", "hibari"} <= set(SYSTEMS)
