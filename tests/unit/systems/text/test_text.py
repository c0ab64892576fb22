"""The text front ends, and numbers in words against readers that turn the words back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from systems.text import numbers
from systems.text.tokens import SYMBOLS, BpeFrontEnd, SymbolFrontEnd, TextFrontEnd, front_end

SAMPLES = [*range(1200), *(7**k for k in range(4, 17)), *(10**k for k in range(3, 15)), *(10**k + 10 for k in range(4, 15)), 2 * 10**14 + 1]


def from_english(words: str) -> int:
    scales = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
    ones = {numbers.english_cardinal(i): i for i in (*range(20), *range(20, 100, 10))}
    total = part = 0
    for word in words.split():
        if word in scales:
            total, part = total + part * scales[word], 0
        else:
            part = part * 100 if word == "hundred" else part + ones[word]
    return total + part


def from_mandarin(text: str) -> int:
    """Reads a number recursively: what stands before the largest unit is multiplied by it, what stands behind is added."""
    if not text:
        return 0
    for unit, size in (("亿", 10**8), ("万", 10**4), ("千", 1000), ("百", 100), ("十", 10)):
        head, found, tail = text.rpartition(unit) if unit == "亿" else text.partition(unit)
        if found:
            return (from_mandarin(head) or 1) * size + from_mandarin(tail.lstrip("零"))
    return "零一二三四五六七八九".index(text)


@pytest.mark.parametrize("number", SAMPLES[::7] + SAMPLES[-60:])
def test_a_number_in_words_is_read_back(number: int) -> None:
    assert from_english(numbers.english_cardinal(number)) == number
    assert from_mandarin(numbers.mandarin_cardinal(number)) == number


def test_known_numbers() -> None:
    assert [numbers.mandarin_cardinal(n) for n in (0, 10, 12, 105, 110, 1010, 10010, 100000001, 123456789012, 10**12)] == [
        "零", "十", "十二", "一百零五", "一百一十", "一千零一十", "一万零一十", "一亿零一", "一千二百三十四亿五千六百七十八万九千零一十二", "一万亿"
    ]  # fmt: skip
    assert [numbers.english_ordinal(n) for n in (1, 2, 3, 5, 8, 9, 11, 12, 20, 21, 40, 100, 103)] == [
        "first", "second", "third", "fifth", "eighth", "ninth", "eleventh", "twelfth", "twentieth", "twenty first", "fortieth",
        "one hundredth", "one hundred third",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1,234,567", "one million two hundred thirty four thousand five hundred sixty seven"),
        ("in 1984, 2001 and 2024", "in nineteen eighty four , two thousand one and twenty twenty four"),
        ("1905 1900", "nineteen oh five nineteen hundred"),
        ("3.14%", "three point one four percent"),
        ("$3.50 or £1 or €20", "three dollars and fifty cents or one pound or twenty euros"),
        ("the 21st and 3RD", "the twenty first and third"),
        ("007", "zero zero seven"),
        ("1234567890123456", "one two three four five six seven eight nine zero one two three four five six"),
        ("B2B & 10 000", "B two B and ten zero zero zero"),
        ("no number", "no number"),
    ],
)
def test_numbers_within_english(written: str, read: str) -> None:
    assert " ".join(numbers.spelled_english(written).split()) == read


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2024年有366天", "二零二四年有三百六十六天"),
        ("涨了12.5%", "涨了百分之十二点五"),
        ("电话13800138000", "电话一三八零零一三八零零零"),
        ("1,000元", "一千元"),
        ("0.5", "零点五"),
        ("00", "零零"),
    ],
)
def test_numbers_within_mandarin(written: str, read: str) -> None:
    assert numbers.spelled_mandarin(written) == read


def test_the_table_of_symbols_never_changes_under_one_version() -> None:
    """A change here breaks every trained model: it wants a new identity, not a new expectation."""
    assert SymbolFrontEnd.identity == "symbols-2" and len(SYMBOLS) == len(set(SYMBOLS)) == 140
    assert SYMBOLS[:14] == ("<pad>", "<end>", "<en>", "<zh>", " ", ",", ".", "?", "!", ";", ":", "-", "'", "a")
    assert {s: SYMBOLS.index(s) for s in ("z", "en:AA", "en:ZH", "zh:b", "zh:w", "zh:a", "zh:ve", "zh:m", "zh:1", "zh:5")} == IDS
    assert isinstance(SymbolFrontEnd(), TextFrontEnd)


IDS = {"z": 38, "en:AA": 39, "en:ZH": 77, "zh:b": 78, "zh:w": 100, "zh:a": 101, "zh:ve": 134, "zh:m": 80, "zh:1": 135, "zh:5": 139}


def read(text: str, language: str) -> str:
    return "".join(SymbolFrontEnd().encode(text, language).symbols)


def said(phones: str) -> str:
    return "".join(f"en:{phone}" for phone in phones.split())


def test_english_phones_and_letters() -> None:
    mister, neils, cafe = said("M IH S T ER"), said("OW N IY L Z"), said("K AH F EY")
    assert read("Mr. O’Neil’s  CAFÉ — “ok”?", "en-US") == f"<en>{mister} {neils} {cafe} - {said('OW K EY')}?<end>"
    assert read("(Wait), xqzt ... !", "en") == f"<en>{said('W EY T')}, xqzt...!<end>"
    # Endings in 's that the dictionary lacks; quotation marks that look like apostrophes.
    assert read("walnut's moss's runnels' 'cup'", "en") == (
        f"<en>{said('W AO L N AH T S')} {said('M AO S IH Z')} {said('R AH N AH L Z')} '{said('K AH P')}<end>"
    )
    found = SymbolFrontEnd().encode("a 😀 b", "en")
    assert found.left_out == ("😀",) and [SYMBOLS[i] for i in found.ids] == list(found.symbols)


def test_mandarin_syllables() -> None:
    pytest.importorskip("pypinyin")
    assert read("你好，绿 色！", "zh") == "<zh>zh:nzh:izh:3zh:hzh:aozh:3,zh:lzh:vzh:4zh:szh:ezh:4!<end>"
    assert read("5个AI", "zh-CN") == "<zh>zh:wzh:uzh:3zh:gzh:ezh:4en:AY<end>"
    # The reading depends on the phrase.
    assert read("银行", "zh").startswith("<zh>zh:yzh:inzh:2zh:hzh:angzh:2") and read("行走", "zh").startswith("<zh>zh:xzh:ingzh:2")
    assert dict(SymbolFrontEnd().tools).keys() == {"pocketsphinx", "pypinyin"}


def test_every_common_character_has_a_syllable() -> None:
    """The tables of initials and finals cover what pypinyin says of the whole basic block; what it cannot read is named."""
    pytest.importorskip("pypinyin")
    characters = "".join(map(chr, range(0x4E00, 0x9FA6, 3)))
    found = SymbolFrontEnd().encode(characters, "zh")
    tones = sum(s.startswith("zh:") and s[-1].isdigit() for s in found.symbols)
    assert tones + len(found.left_out) == len(characters) and len(found.left_out) < 15
    assert set(found.left_out) <= set(characters)


def test_what_cannot_be_read_is_refused() -> None:
    for text, language, reason in (
        ("hallo", "de", "reads en and zh, asked for 'de'"),
        ("...", "en", "nothing to speak"),
        ("", "zh", "nothing"),
    ):
        with pytest.raises(ValueError, match=reason):
            SymbolFrontEnd().encode(text, language)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab={"h": 0, "i": 1, "hi": 2, " ": 3}, merges=[("h", "i")]))
    made.save(str(tmp_path / "small.json"))
    return tmp_path / "small.json"


def test_byte_pair_units_from_a_file(tokenizer: Path) -> None:
    units = BpeFrontEnd(tokenizer, vocabulary_size=4)
    found = units.encode("hi hi", "en")
    assert (found.ids, found.symbols) == ((2, 3, 2), ("hi", " ", "hi"))
    assert units.identity.startswith("bpe4-") and isinstance(units, TextFrontEnd)
    assert front_end(units.identity, tokenizer).encode("hi", "en").ids == (2,)
    assert dict(units.tools).keys() == {"tokenizers"}
    with pytest.raises(ValueError, match="nothing to speak"):
        units.encode("", "en")


def test_another_tokenizer_than_the_models_is_refused(tokenizer: Path) -> None:
    identity = BpeFrontEnd(tokenizer, vocabulary_size=4).identity
    other = tokenizer.with_name("other.json")
    content = json.loads(tokenizer.read_text())
    content["model"]["vocab"] = {"h": 1, "i": 0, "hi": 2, " ": 3}
    other.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"trained with the tokenizer {identity}"):
        front_end(identity, other)
    with pytest.raises(ValueError, match="has 4 units, the model reads 8192"):
        front_end("bpe", tokenizer)
    other.write_text("{}")
    with pytest.raises(ValueError, match="is not a tokenizer"):
        BpeFrontEnd(other)


def test_a_front_end_by_its_identity() -> None:
    assert front_end("symbols").identity == front_end("symbols-2").identity == "symbols-2"
    with pytest.raises(ValueError, match="'symbols-1', which this version cannot make: there are symbols-2"):
        front_end("symbols-1")
    with pytest.raises(FileNotFoundError, match=r"tokenizer=FILE\.json"):
        front_end("bpe")
    with pytest.raises(FileNotFoundError, match="no tokenizer file"):
        front_end("bpe", "nowhere.json")
