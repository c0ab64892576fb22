"""Normalisers, edit counts, presets and the intelligibility metrics, with a scripted recogniser."""

from __future__ import annotations

import random
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from harness.api import (
    Audio,
    FloatArray,
    Item,
    JudgeInfo,
    Metric,
    NotApplicable,
    NotScorable,
    Recogniser,
    Sample,
    Side,
    Signal,
    language_code,
)
from harness.errors import ConfigError, MissingDependency, UnknownName
from harness.judges import normalisers
from harness.judges.normalisers import normaliser
from harness.judges.presets import PRESETS, AsrProtocol, Unit, build_asr, missing_asr
from harness.metrics.text import Cer, ClosedRecogniser, DWer, IntelligibilityProbe, Wer, align, cer, wer

CONF = Path(__file__).resolve().parents[3] / "harness" / "conf" / "asr"


class Scripted:
    """A recogniser whose transcript is chosen by the length of the audio in tenths of a second; it counts its calls."""

    def __init__(self, transcripts: Mapping[int, str], languages: tuple[str, ...] = ("en",), unknown: Sequence[str] = ()) -> None:
        self.info = JudgeInfo("scripted", "m", "d" * 16, "p==1", languages=languages)
        self.transcripts, self.unknown, self.calls = transcripts, unknown, 0

    def transcribe(self, samples: FloatArray, language: str) -> str:
        self.calls += 1
        return self.transcripts[round(len(samples) / 1600)]

    def out_of_vocabulary(self, text: str) -> tuple[str, ...]:
        return tuple(word for word in text.split() if word in self.unknown)


def signal(tenths: int, value: float = 0.1) -> Signal:
    return Signal(Audio.mono(np.full(1600 * tenths, value), 16000), lambda x, a, b: x)


def sample(text: str, tenths: int = 10, language: str = "en", reference: Signal | None = None) -> Sample:
    return Sample(Item("i", "d", text=text, language=language), signal(tenths), reference)


def protocol(transcripts: Mapping[int, str], preset: str = "basic", language: str = "en") -> AsrProtocol:
    return AsrProtocol(PRESETS[preset], {language: Scripted(transcripts, (language,))})


# --- edit counts


def slow_distance(a: Sequence[str], b: Sequence[str]) -> int:
    """Levenshtein by its definition."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def test_counts_agree_with_the_definition() -> None:
    rng = random.Random(0)
    for _ in range(200):
        a, b = ([rng.choice("abcd") for _ in range(rng.randint(1, 9))], [rng.choice("abcd") for _ in range(rng.randint(0, 9))])
        edits = align(" ".join(a), " ".join(b), Unit.WORD, "en")
        assert edits.substitutions + edits.deletions + edits.insertions == slow_distance(a, b)
        assert edits.reference_length == len(a)
        assert edits.hits + edits.substitutions + edits.insertions == len(b)


def test_empty_hypothesis_is_all_deletions() -> None:
    for unit in Unit:
        edits = align("one two", "", unit, "en")
        assert (edits.hits, edits.insertions, edits.rate) == (0, 0, 1.0)


def test_characters_count_spaces_only_where_words_have_them() -> None:
    assert align("a b", "ab", Unit.CHARACTER, "en").deletions == 1
    assert align("你 好", "你好", Unit.CHARACTER, "zh").rate == 0
    assert align("你好", "你号", Unit.CHARACTER, "zh").rate == 0.5


# --- normalisers


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("seedtts-en", "Don't  PANIC, it’s - well-known!", "don't panic its wellknown"),
        ("f5-en", "Don't  PANIC, it’s - well-known!", "dont panic its wellknown"),
        ("seedtts-en", "“Quoted”（全角）。", "quoted全角"),
        ("whisper-english", "I've got Fifty colours, uh, [noise]", "i have got 50 colors"),
        ("whisper-english", "I have got 50 colors", "i have got 50 colors"),
        ("whisper-basic", "Don't (aside) PANIC", "don t panic"),
        ("whisper-basic", "今天，天气很好！", "今天 天气很好"),
        ("letters", "It’s a ‘well-known’ TRICK; naïve o'clock 3", "it's a 'well known' trick na ve o'clock 3"),
        ("spoken-words", "It’s a 'well-known' TRICK; o'clock.", "it's a well known trick o'clock"),
    ],
)
def test_normalisers(name: str, text: str, expected: str) -> None:
    assert normaliser(name)(text) == expected


@pytest.mark.cases(
    "A16",
    before="zero-width characters, … and ... and typographic apostrophes cost words in basic",
    after="what reads alike is alike in basic and embedded",
)
@pytest.mark.parametrize(
    ("written", "alike"),
    [
        ("hello\u200b wor\u00adld\ufeff", "hello world"),
        ("\u200fشكرا\u200e", "شكرا"),
        ("wait… what", "wait... what"),
        ("wait…what", "wait...what"),
        ("it’s", "it's"),
        ("don´t", "don't"),
        ("１２ ｗｏｒｄｓ", "12 words"),
        ("no\u00a0break\u202fspaces\u3000here", "no break spaces here"),
        ("cafe\u0301", "caf\u00e9"),
        ("ﬁne", "fine"),
    ],
)
def test_what_reads_alike_is_alike(written: str, alike: str) -> None:
    for name in ("basic", "plain-whisper-english", "spoken-words"):
        assert normaliser(name)(written) == normaliser(name)(alike), name


@pytest.mark.cases(
    "A16", before="combining marks of Indic scripts lost in basic: two words equal", after="marks stay; optional vowel points go"
)
def test_basic_keeps_the_marks_that_are_letters() -> None:
    basic = normaliser("basic")
    for one, other in (("काम", "कीम"), ("കട", "കുട"), ("ไก", "ไก่"), ("தமிழ்", "தமழ்"), ("বল", "বাল")):
        assert basic(one) != basic(other)
        assert basic(one) == one
        assert len(basic(one).split()) == 1
    assert basic("مُحَمَّدٌ") == basic("محمد")
    assert basic("شـــكرا") == "شكرا"
    assert basic("סֵפֶר") == basic("ספר")
    assert basic("آ") != basic("ا")
    assert basic("٣ १२") == "3 12"
    assert basic("İstanbul") == "istanbul"
    assert basic("Don't (aside) PANIC, naïve_1!") == "don t panic naïve 1"
    assert basic("今天，（好）天气！") == "今天 好 天气"


@pytest.mark.cases(
    "A16", before="improved protocols would be others' protocols no more", after="published presets keep their normalisers to the letter"
)
def test_published_presets_keep_their_normalisers() -> None:
    assert dict(PRESETS["seedtts"].normalisers) == {"*": "seedtts-en", "en": "seedtts-en", "zh": "seedtts-zh"}
    assert dict(PRESETS["f5"].normalisers) == {"*": "f5-en", "en": "f5-en", "zh": "f5-zh"}
    assert dict(PRESETS["whisper-en"].normalisers) == {"*": "whisper-basic", "en": "whisper-english"}
    assert normaliser("whisper-basic")("काम") == "क म"
    assert dict(PRESETS["basic"].normalisers) == {"*": "basic"}


@pytest.mark.cases("A16", before="jpn, zho, tha counted in words", after="ISO 639-3 is known, scripts without spaces count characters")
def test_languages_and_scripts_without_spaces() -> None:
    tags = ("jpn", "zho", "chi", "cmn-Hans-CN", "tha", "lao", "khm", "mya", "bur", "THA_TH")
    assert [language_code(tag) for tag in tags] == ["ja", "zh", "zh", "zh", "th", "lo", "km", "my", "my", "th"]
    assert [language_code(tag) for tag in ("deu", "eng", "fra", "yue", "xyz")] == ["de", "en", "fr", "yue", "xyz"]
    basic = PRESETS["basic"]
    assert all(basic.unit(language_code(tag)) is Unit.CHARACTER for tag in tags)
    for text in ("สวัสดีครับ", "ສະບາຍດີ", "សួស្តី", "မင်္ဂလာပါ", "こんにちは", "你好吗 ok"):
        assert basic.unit("", text) is Unit.CHARACTER
        assert align(text, text.replace(" ", ""), Unit.CHARACTER, "").rate == 0
    for text in ("नमस्ते दुनिया", "안녕하세요 세계", "hello 你", "12"):
        assert basic.unit("", text) is Unit.WORD
    with pytest.raises(NotApplicable, match="per character"):
        Wer(protocol({10: "สวัสดี"}, language="en")).measure(sample("สวัสดี", language="en"))
    assert Cer(protocol({10: "สวัสดี"}, language="th")).measure(sample("สวัสดี", language="tha")).value == 0


def test_normaliser_ids_carry_versions() -> None:
    from importlib.metadata import version

    assert normaliser("seedtts-en").id == f"seedtts-en zhon=={version('zhon')}"
    assert normaliser("spoken-words").id == "spoken-words"


def test_every_punctuation_mark_goes_but_the_straight_apostrophe() -> None:
    from zhon.hanzi import punctuation

    everything = punctuation + string.punctuation
    assert normaliser("seedtts-en")(everything) == "'"
    assert normaliser("f5-en")(everything) == ""


def test_unknown_normaliser_is_suggested() -> None:
    with pytest.raises(UnknownName, match="whisper-english"):
        normaliser("whisper-englsh")


def test_simplified_conversion() -> None:
    pytest.importorskip("zhconv", reason="zhconv (GPL) is optional")
    assert normaliser("seedtts-zh")("漢語，WORD！") == "汉语word"


def test_without_zhconv_the_mandarin_normaliser_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalisers, "installed", lambda module: module != "zhconv")
    with pytest.raises(MissingDependency, match="pip install zhconv"):
        normaliser("seedtts-zh")


# --- presets


def test_preset_facts() -> None:
    seedtts, f5 = PRESETS["seedtts"], PRESETS["f5"]
    assert seedtts.recognisers["en"] == {"family": "whisper", "checkpoint": "openai/whisper-large-v3"}
    assert seedtts.recognisers["zh"] == {"family": "funasr", "checkpoint": "paraformer-zh"}
    assert (seedtts.unit("en"), seedtts.unit("zh")) == (Unit.WORD, Unit.CHARACTER)
    assert f5.recognisers["en"]["family"] == "faster_whisper"
    assert f5.recognisers["en"]["beam_size"] == 5
    assert set(PRESETS) == {
        "embedded", "embedded-fast", "pocketsphinx", "seedtts", "f5", "whisper-en", "hubert", "qwen3-asr", "basic",
    }  # fmt: skip
    assert dict(PRESETS["hubert"].recognisers) == {"en": {"family": "hubert_ctc", "checkpoint": "facebook/hubert-large-ls960-ft"}}
    assert {p.aggregation for p in PRESETS.values()} == {"macro mean over utterances"}
    for preset in PRESETS.values():  # every id exists
        for name in preset.normalisers.values():
            normalisers.missing(name)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_yaml_says_what_the_preset_says(name: str) -> None:
    text = (CONF / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# ")
    config = yaml.safe_load(text)
    assert config.pop("preset") == name
    assert {k: v for k, v in config.items() if v is not None} == dict(PRESETS[name].recognisers)
    missing_asr({"preset": name, **config})  # raises where a family or an argument is unknown


def test_another_family_is_not_the_protocol() -> None:
    with pytest.raises(ConfigError, match="prescribes whisper for 'en', got pocketsphinx"):
        build_asr({"preset": "seedtts", "en": {"family": "pocketsphinx"}, "zh": None})
    assert missing_asr({"preset": "basic", "en": {"family": "pocketsphinx"}, "zh": None}) is None


def test_configuration_mistakes() -> None:
    with pytest.raises(UnknownName, match="seedtts"):
        build_asr({"preset": "seedtss"})
    with pytest.raises(UnknownName, match="Did you mean pocketsphinx"):
        build_asr({"preset": "basic", "en": {"family": "pocketsphynx"}})
    with pytest.raises(ConfigError, match="takes"):
        build_asr({"preset": "pocketsphinx", "en": {"family": "pocketsphinx", "beam": 3}})
    with pytest.raises(ConfigError, match="needs a 'family'"):
        build_asr({"preset": "basic", "en": {}})
    with pytest.raises(ConfigError, match="mapping"):
        build_asr({"preset": "basic", "en": "pocketsphinx"})


def test_a_missing_checkpoint_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    config: dict[str, Any] = {"preset": "basic", "en": {"family": "pocketsphinx"}, "zh": {"family": "funasr", "checkpoint": str(tmp_path)}}
    with pytest.raises(MissingDependency, match=r"language 'zh'.*config\.yaml.*model\.pt"):
        build_asr(config)


def test_language_tags() -> None:
    assert [language_code(tag) for tag in ("zh-CN", "en_GB", "EN", "")] == ["zh", "en", "en", ""]


# --- metrics


def test_wer_keeps_counts_and_transcripts() -> None:
    evidence = Wer(protocol({10: "The CAT sat, on mat"})).measure(sample("the cat sat on the mat."))
    assert evidence.value == pytest.approx(1 / 6)
    assert evidence.counts == {"hits": 5, "substitutions": 0, "deletions": 1, "insertions": 0}
    assert evidence.detail["transcript"] == "The CAT sat, on mat"
    assert evidence.detail["transcript_normalised"] == "the cat sat on mat"
    assert evidence.weight == 1


@pytest.mark.parametrize(
    ("text", "heard", "language"),
    [("The boats' crew came home, late!", "the boats crew came in home", "en"), ("今天下雨。", "今天 下雪", "zh")],
)
def test_two_texts_give_what_a_transcript_gives(text: str, heard: str, language: str) -> None:
    for preset in ("basic", "embedded"):
        asr = protocol({10: heard}, preset, language)
        name = PRESETS[preset].normaliser(language)
        assert cer(text, heard, name, language) == Cer(asr).measure(sample(text, language=language)).value
        if language == "en":
            assert wer(text, heard, name) == Wer(asr).measure(sample(text)).value > 0
        else:
            with pytest.raises(NotApplicable, match="per character: see cer"):
                wer(text, heard, name, language)
            with pytest.raises(NotApplicable, match="per character: see cer"):
                Wer(asr).measure(sample(text, language=language))
    with pytest.raises(NotScorable, match="the reference text is empty"):
        wer("...", heard)


def test_a_looping_transcript_exceeds_one() -> None:
    assert Wer(protocol({10: "yes yes yes yes yes yes yes yes"})).measure(sample("yes")).value == 7


def test_nothing_heard_is_all_wrong() -> None:
    assert Wer(protocol({10: ""})).measure(sample("yes it is")).value == 1


def test_numbers_follow_the_normaliser() -> None:
    spoken, written = {10: "fifty people"}, sample("50 people")
    assert Wer(protocol(spoken, "whisper-en")).measure(written).value == 0
    assert Wer(protocol(spoken, "basic")).measure(written).value == 0.5


def test_mandarin_is_per_character_and_without_punctuation() -> None:
    asr = protocol({10: "今天天气很号。"}, "basic", "zh")
    item = sample("今天，天气很好！", language="zh-CN")
    assert Cer(asr).measure(item).value == pytest.approx(1 / 6)
    with pytest.raises(NotApplicable, match="see cer"):
        Wer(asr).measure(item)


def test_no_recogniser_for_the_language_says_what_is_needed() -> None:
    asr = protocol({10: "x"}, "pocketsphinx")
    with pytest.raises(NotApplicable, match="none for 'zh': asr=embedded, seedtts or qwen3-asr know Mandarin"):
        Cer(asr).measure(sample("你好", language="zh"))
    with pytest.raises(NotApplicable, match="language is unknown"):
        Wer(asr).measure(sample("hello", language=""))


@pytest.mark.parametrize("text", ["", "  ", "?!", "[noise]"])
def test_an_empty_reference_text_is_not_scorable(text: str) -> None:
    for metric in (Wer(protocol({10: "x"})), Cer(protocol({10: "x"}))):
        with pytest.raises(NotScorable) as caught:
            metric.measure(sample(text))
        assert caught.value.side is Side.REFERENCE


def test_bad_output_is_the_output_s_fault() -> None:
    metric = Wer(protocol({10: "x"}))
    for samples, reason in ((np.zeros(0), "0 samples"), (np.array([0.1, np.nan, np.inf]), "2 samples are NaN or Inf")):
        bad = Sample(Item("i", "d", text="hello", language="en"), Signal(Audio.mono(samples, 16000), lambda x, a, b: x))
        with pytest.raises(NotScorable, match=reason) as caught:
            metric.measure(bad)
        assert caught.value.side is Side.OUTPUT


def test_output_shorter_than_a_frame_is_heard_as_nothing() -> None:
    short = Sample(Item("i", "d", text="hello", language="en"), Signal(Audio.mono(np.full(300, 0.1), 16000), lambda x, a, b: x))
    asr = protocol({})
    assert Wer(asr).measure(short).value == 1


def test_one_decode_serves_every_metric() -> None:
    asr = protocol({10: "a b c", 20: "a b d"})
    reference = signal(20)
    item = sample("a b d", reference=reference)
    values = [metric.measure(item).value for metric in (Wer(asr), Cer(asr), DWer(asr))]
    assert values == [pytest.approx(1 / 3), pytest.approx(1 / 5), pytest.approx(1 / 3)]
    recogniser = asr.recognisers["en"]
    assert isinstance(recogniser, Scripted)
    assert recogniser.calls == 2  # the output once, the reference once
    DWer(asr).measure(sample("", tenths=20, reference=reference))
    assert recogniser.calls == 3  # the reference is shared between systems


def test_dwer_needs_no_text_and_blames_a_mute_reference() -> None:
    asr = protocol({10: "one two", 20: "one two three", 30: ""})
    assert DWer(asr).measure(sample("", reference=signal(20))).value == pytest.approx(1 / 3)
    with pytest.raises(NotScorable, match="heard nothing in the reference") as caught:
        DWer(asr).measure(sample("", reference=signal(30)))
    assert caught.value.side is Side.REFERENCE
    with pytest.raises(NotApplicable):
        DWer(asr).measure(sample(""))


def test_probe() -> None:
    probe = Scripted({10: "sphinx of quartz"}, unknown=("zau",))
    assert isinstance(probe, ClosedRecogniser)
    metric = IntelligibilityProbe(probe)
    assert metric.measure(sample("Sphinx of black quartz!")).value == 0.25
    with pytest.raises(NotApplicable, match="dictionary lacks zau"):
        metric.measure(sample("sphinx zau"))
    with pytest.raises(NotApplicable, match="probe knows en"):
        metric.measure(sample("你好", language="zh"))
    with pytest.raises(NotScorable):
        metric.measure(sample(""))
    assert "wer" not in metric.info.name


def test_signatures_tell_protocols_apart() -> None:
    one, other = protocol({}), protocol({}, "whisper-en")
    assert Wer(one).info.signature() != Wer(other).info.signature()
    assert Wer(one).info.signature() == Wer(protocol({})).info.signature()
    changed = Scripted({})
    changed.info = JudgeInfo("scripted", "m", "e" * 16, "p==1", languages=("en",))
    assert Wer(AsrProtocol(PRESETS["basic"], {"en": changed})).info.signature() != Wer(one).info.signature()
    mandarin = AsrProtocol(PRESETS["basic"], {**one.recognisers, "zh": changed})
    assert Wer(mandarin).info.signature() == Wer(one).info.signature()  # no word error rate depends on the Mandarin recogniser
    assert Cer(mandarin).info.signature() != Cer(one).info.signature()


def test_they_are_metrics() -> None:
    asr = protocol({})
    assert all(isinstance(m, Metric) for m in (Wer(asr), Cer(asr), DWer(asr), IntelligibilityProbe(Scripted({}))))
    assert [m.info.name for m in (Wer(asr), Cer(asr), DWer(asr))] == ["wer", "cer", "dwer"]
    assert isinstance(Scripted({}), Recogniser)
