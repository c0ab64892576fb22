"""Protocols of intelligibility: which recogniser, which text normalisation and which unit, by language. Presets are data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, MutableMapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from harness.api import FloatArray, NotApplicable, Recogniser, language_code
from harness.errors import ConfigError, MissingDependency, UnknownName
from harness.judges import build, downloads, missing, normalisers
from harness.judges.normalisers import Normaliser

JudgeConfig = Mapping[str, Any]


class Unit(StrEnum):
    """What an error is counted in. CHARACTER counts the single spaces between words too, except where text is `unspaced`."""

    WORD = "word"
    CHARACTER = "char"


UNSPACED = frozenset({"zh", "yue", "wuu", "nan", "hak", "gan", "hsn", "lzh", "ja", "th", "lo", "km", "my", "shn", "bo", "dz", "ii"})
"""Languages written without spaces between words: scored per character, spaces removed. (Tibetan and Dzongkha divide syllables, not words.)"""

_UNSPACED_SCRIPTS = (
    (0x0E00, 0x0EFF), (0x0F00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3005, 0x3007), (0x3040, 0x30FF), (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF), (0xA000, 0xA4CF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F), (0xF900, 0xFAFF), (0xFF66, 0xFF9D), (0x20000, 0x323AF),
)  # fmt: skip
"""Thai and Lao, Tibetan, Burmese, Khmer, kana, Han, Yi: first and last code point of each block."""


def unspaced(language: str, text: str = "") -> bool:
    """Whether words have no spaces between them: the language says so, or most letters of ``text`` are of a script without.

    The script catches what a tag does not say: Japanese tagged "en", or a language of Burma that is not in the list.
    """
    if language in UNSPACED:
        return True
    letters = [ord(c) for c in text if c.isalpha()]
    inside = sum(any(first <= c <= last for first, last in _UNSPACED_SCRIPTS) for c in letters if c > 0xDFF)
    return 2 * inside > len(letters)


@dataclass(frozen=True)
class Preset:
    """A published (or our embedded) way to make an error rate."""

    name: str  # as in tables and signatures
    source: str  # where it is defined
    recognisers: Mapping[str, JudgeConfig]  # configuration by language
    normalisers: Mapping[str, str]  # id by language (`harness.judges.normalisers`); "*" for the others
    fixed_family: bool  # another family of recogniser would no longer be this protocol; those that only name a normaliser take any
    aggregation: str = "macro mean over utterances"  # of the utterances' rates in the headline figure

    def normaliser(self, language: str) -> str:
        """Id of the normaliser for a language."""
        return self.normalisers.get(language, self.normalisers["*"])

    def unit(self, language: str, text: str = "") -> Unit:
        """What the protocol counts errors in, by the language and, where that is written with spaces, by the script of ``text``."""
        return Unit.CHARACTER if unspaced(language, text) else Unit.WORD


_LARGE_V3: JudgeConfig = {"family": "whisper", "checkpoint": "openai/whisper-large-v3"}
_PARAFORMER: JudgeConfig = {"family": "funasr", "checkpoint": "paraformer-zh"}
_BASE: JudgeConfig = {"family": "whisper_ct2", "weights": "whisper-base"}
_QWEN: JudgeConfig = {"family": "qwen3_asr", "checkpoint": "Qwen/Qwen3-ASR-1.7B-hf"}

PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "embedded",
            "ours: Whisper base, whose weights a package brings; not comparable with published figures",
            {"en": _BASE, "zh": _BASE},
            {"*": "basic", "en": "plain-whisper-english"},
            fixed_family=True,
        ),
        Preset(
            "embedded-fast",
            "ours: as embedded with Whisper tiny.en",
            {"en": {"family": "whisper_ct2", "weights": "whisper-tiny.en"}},
            {"*": "basic", "en": "plain-whisper-english"},
            fixed_family=True,
        ),
        Preset(
            "pocketsphinx",
            "ours: the recogniser that needs no further weights; not comparable with published figures",
            {"en": {"family": "pocketsphinx"}},
            {"*": "basic", "en": "plain-whisper-english"},
            fixed_family=True,
        ),
        Preset(
            "seedtts",
            "BytedanceSpeech/seed-tts-eval, run_wer.py",
            {"en": _LARGE_V3, "zh": _PARAFORMER},
            {"*": "seedtts-en", "en": "seedtts-en", "zh": "seedtts-zh"},
            fixed_family=True,
        ),
        Preset(
            "f5",
            "SWivid/F5-TTS, eval/utils_eval.py",
            {"en": {"family": "faster_whisper", "checkpoint": "Systran/faster-whisper-large-v3", "beam_size": 5}, "zh": _PARAFORMER},
            {"*": "f5-en", "en": "f5-en", "zh": "f5-zh"},
            fixed_family=True,
        ),
        Preset(
            "whisper-en",
            "openai/whisper, normalizers/english.py",
            {"en": _LARGE_V3},
            {"*": "whisper-basic", "en": "whisper-english"},
            fixed_family=False,
        ),
        Preset(
            "hubert",
            "k2-fsa/ZipVoice, zipvoice/eval/wer/hubert.py (LibriSpeech-PC), and the tables of X-codec 2",
            {"en": {"family": "hubert_ctc", "checkpoint": "facebook/hubert-large-ls960-ft"}},
            {"*": "letters"},
            fixed_family=True,
        ),
        Preset(
            "qwen3-asr",
            "QwenLM/Qwen3-ASR; texts as in whisper-en, Mandarin as in basic",
            {"en": _QWEN, "zh": _QWEN},
            {"*": "basic", "en": "whisper-english"},
            fixed_family=True,
        ),
        Preset(
            "basic",
            "ours (harness.judges.normalisers): lower case, no punctuation, marks kept",
            {"en": _LARGE_V3, "zh": _PARAFORMER},
            {"*": "basic"},
            fixed_family=False,
        ),
    )
}


@dataclass(frozen=True, eq=False)
class AsrProtocol:
    """A preset with its recognisers loaded.

    Raises:
        MissingDependency: a normaliser's package is not installed.
    """

    preset: Preset
    recognisers: Mapping[str, Recogniser]  # by ISO 639-1 code
    normalisers: Mapping[str, Normaliser] = field(init=False)

    def __post_init__(self) -> None:
        built = {language: normalisers.normaliser(self.preset.normaliser(language)) for language in self.recognisers}
        object.__setattr__(self, "normalisers", built)

    def recogniser(self, language: str) -> Recogniser:
        """The recogniser of a language.

        Raises:
            NotApplicable: there is none, with what would be needed.
        """
        if not language:
            raise NotApplicable("the item's language is unknown, so no recogniser can be chosen: set it in the manifest")
        if language in self.recognisers:
            return self.recognisers[language]
        known = ", ".join(sorted(self.recognisers)) or "no language"
        advice = "asr=embedded, seedtts or qwen3-asr know Mandarin" if language == "zh" else "choose another preset or add one under asr"
        raise NotApplicable(f"preset '{self.preset.name}' has a recogniser for {known}, none for '{language}': {advice}")

    def params(self, units: frozenset[Unit]) -> dict[str, str]:
        """What goes into a metric's signature, for the languages the preset scores in one of ``units``."""
        params = {"preset": self.preset.name}
        for language in sorted(self.recognisers):
            if self.preset.unit(language) in units:
                info = self.recognisers[language].info
                params[f"asr_{language}"] = f"{info.family} {info.model} {info.digest} {info.package}"
                params[f"normaliser_{language}"] = self.normalisers[language].id
        return params


class Remembering:
    """A recogniser that hears the same audio once, whoever asks: a codec's perfect output and its recording, one text under two protocols.

    Args:
        recogniser: deterministic, as all are.
    """

    def __init__(self, recogniser: Recogniser) -> None:
        self.info = recogniser.info
        self._recogniser = recogniser
        self._known: dict[tuple[str, str], str] = {}

    def transcribe(self, samples: FloatArray, language: str) -> str:
        """As the recogniser's own."""
        samples = np.ascontiguousarray(samples, dtype=np.float32)
        key = hashlib.blake2b(samples.tobytes(), digest_size=16).hexdigest(), language
        if key not in self._known:
            heard = self._recogniser.transcribe(samples, language)
            if len(self._known) >= _REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[key] = heard
        return self._known[key]


_REMEMBERED = 4096
"""Transcripts kept, a few hundred bytes each; all outputs of an item are measured one after the other, and few items have so many."""


def build_asr(
    config: Mapping[str, Any], languages: Collection[str] | None = None, built: MutableMapping[str, Recogniser] | None = None
) -> AsrProtocol:
    """A protocol from its configuration.

    Args:
        config: ``preset`` and, by language code, a judge configuration ``{"family": ..., ...}``, or null for no recogniser.
            A language left out gets the preset's own.
        languages: codes of those that will be asked of; the recognisers of others are neither wanted nor loaded. All by default.
        built: recognisers by their configuration, loaded before; those loaded now are added. Protocols share them, and with them what
            was heard.

    Raises:
        UnknownName: no such preset or family.
        ConfigError: the recogniser is of another family than the preset prescribes.
        MissingDependency, CheckpointError: see the judges.
    """
    preset, chosen = _chosen(config, languages)
    # What is cheap to find missing is found for every language before the first model is loaded.
    if reason := missing_asr(config, languages):
        raise MissingDependency(reason)
    built = {} if built is None else built
    recognisers = {}
    for language, judge in chosen.items():
        key = json.dumps(judge, sort_keys=True, default=str)
        if key not in built:
            built[key] = Remembering(build("asr", judge))
        recognisers[language] = built[key]
    return AsrProtocol(preset, recognisers)


def missing_asr(config: Mapping[str, Any], languages: Collection[str] | None = None) -> str | None:
    """None if `build_asr` can be expected to succeed, else one sentence: what is missing and how to get it. Loads nothing.

    Raises:
        UnknownName, ConfigError: as in `build_asr`.
    """
    preset, chosen = _chosen(config, languages)
    for language, judge in chosen.items():
        reason = missing("asr", judge) or normalisers.missing(preset.normaliser(language))
        if reason:
            instead = (
                " or, in English, asr=pocketsphinx, which is another measure and needs no weights"
                if preset.name.startswith("embedded")
                else ""
            )
            others = f"or leave the language out: asr.{language}=null" if len(chosen) > 1 else "or choose another preset"
            return f"asr preset '{preset.name}', language '{language}': {reason} ({others}{instead})"
    return None


def asr_downloads(config: Mapping[str, Any], languages: Collection[str] | None = None) -> tuple[Any, ...]:
    """What `harness fetch` gets for a protocol; see `harness.judges.downloads`.

    Raises:
        UnknownName, ConfigError: as in `build_asr`.
    """
    return tuple(found for judge in _chosen(config, languages)[1].values() for found in downloads("asr", judge))


def _chosen(config: Mapping[str, Any], languages: Collection[str] | None = None) -> tuple[Preset, dict[str, JudgeConfig]]:
    name = str(config.get("preset", ""))
    if name not in PRESETS:
        raise UnknownName("asr preset", name, PRESETS)
    preset = PRESETS[name]
    chosen: dict[str, JudgeConfig] = dict(preset.recognisers)
    for tag, judge in config.items():
        if tag == "preset":
            continue
        language = language_code(str(tag))
        if judge is None:
            chosen.pop(language, None)
            continue
        if not isinstance(judge, Mapping):
            raise ConfigError(f"asr.{language} should be a mapping with a 'family', or null; got {judge!r}")
        wanted = preset.recognisers.get(language, {}).get("family")
        if preset.fixed_family and wanted and judge.get("family") != wanted:
            raise ConfigError(
                f"preset '{name}' prescribes {wanted} for '{language}', got {judge.get('family')}; "
                "presets 'basic' and 'whisper-en' take any recogniser"
            )
        chosen[language] = judge
    return preset, {language: judge for language, judge in chosen.items() if languages is None or language in languages}
