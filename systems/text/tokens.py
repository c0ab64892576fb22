"""From text to the tokens that a language model reads.

A front end never changes under a trained model: its ``identity`` (name and version) goes into the metadata of the model's checkpoint, and
`front_end` gives back the one that belongs to it. `SymbolFrontEnd`, for the small models, needs little data, since what a letter sounds like need not be learnt;
`BpeFrontEnd` is the papers' byte-pair encoding of 8,192 units (SoCodec, section 3.2), read from a file.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata, util
from pathlib import Path
from typing import Any

from systems.text.numbers import spelled_english, spelled_mandarin

BPE_SIZE = 8192


@dataclass(frozen=True)
class TextTokens:
    """A text as a model reads it: ids ``[L]`` below the front end's ``vocabulary_size``, and the same in readable form.

    Characters that have no symbol are left out, in order; nothing is heard of them.
    """

    ids: tuple[int, ...]
    symbols: tuple[str, ...]
    left_out: tuple[str, ...] = ()


PHONES = (
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY", "JH", "K", "L", "M", "N", "NG",
    "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH",
)  # fmt: skip
_HISSING, _VOICELESS = ("S", "Z", "SH", "ZH", "CH", "JH"), ("P", "T", "K", "F", "TH")
PAD, END = "<pad>", "<end>"
_LANGUAGES = {"en": "<en>", "zh": "<zh>"}
_PUNCTUATION = " ,.?!;:-'"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_INITIALS = (
    "b", "p", "m", "f", "d", "t", "n", "l", "g", "k", "h", "j", "q", "x", "zh", "ch", "sh", "r", "z", "c", "s", "y", "w",
)  # fmt: skip
_FINALS = (
    "a", "o", "e", "ai", "ei", "ao", "ou", "an", "en", "ang", "eng", "ong", "er", "i", "ia", "ie", "iao", "iu", "ian", "in", "iang",
    "ing", "iong", "u", "ua", "uo", "uai", "ui", "uan", "un", "uang", "ue", "v", "ve",
)  # fmt: skip
_TONES = "12345"  # 5 is the neutral tone

SYMBOLS: tuple[str, ...] = (
    PAD,
    END,
    *_LANGUAGES.values(),
    *_PUNCTUATION,
    *_LETTERS,
    *(f"en:{phone}" for phone in PHONES),
    *(f"zh:{part}" for part in (*_INITIALS, *_FINALS, *_TONES)),
)
"""Ids are positions in this table. It is never reordered; a change is a new version."""
_IDS = {symbol: i for i, symbol in enumerate(SYMBOLS)}

_HAN = r"[\u3400-\u4dbf\u4e00-\u9fff\u3007]"
_SYLLABLE = re.compile(rf"({'|'.join(sorted(_INITIALS, key=len, reverse=True))})?([a-z]*)([{_TONES}])")
_SPOKEN_ALIKE = str.maketrans(
    {
        **dict.fromkeys("‘’ʼ`´", "'"),
        **dict.fromkeys("，、", ","),
        **dict.fromkeys("。．…", "."),
        **dict.fromkeys("–—―～", "-"),
        **dict.fromkeys("？", "?"),
        **dict.fromkeys("！", "!"),
        **dict.fromkeys("；", ";"),
        **dict.fromkeys("：", ":"),
        "％": "%",
    }
)
_SILENT = frozenset('"“”«»‹›„「」『』《》〈〉（）()[]{}【】*_/\\|~·•')
"""Marks that nobody speaks: left out without mention."""
_TITLES = {"mr": "mister", "mrs": "missus", "ms": "miss", "dr": "doctor"}


class SymbolFrontEnd:
    """Phones for English; for Mandarin the initial, final and tone of each syllable, three symbols in place of thousands of characters.

    English is lower case without accents, with numbers in words; a word that the dictionary lacks stays in letters, and of a word with
    several pronunciations the first is taken. Mandarin is read by pypinyin, phrase by phrase, so that characters with several readings
    mostly get the right one; tone sandhi is left to the model. Latin words within Mandarin are read as English.

    The first symbol names the language and the last is the end of the text. ``identity``, name and version, goes into checkpoints: other ids
    or another meaning of one is another identity. ``tools`` are the outside libraries that shape the tokens, with their versions.
    """

    identity, vocabulary_size = "symbols-2", len(SYMBOLS)

    def __init__(self) -> None:
        self.tools = tuple((name, metadata.version(name)) for name in ("pocketsphinx", "pypinyin") if util.find_spec(name))

    def encode(self, text: str, language: str) -> TextTokens:
        """The tokens of a text in a language (ISO 639-1); the same text gives the same tokens.

        Raises:
            ValueError: neither English nor Mandarin, or nothing to speak.
            RuntimeError: Chinese characters, and pypinyin is not installed.
        """
        code = language.replace("_", "-").partition("-")[0].lower()
        if code not in _LANGUAGES:
            raise ValueError(f"this text front end reads {' and '.join(_LANGUAGES)}, asked for '{language}'")
        left_out: list[str] = []
        spoken = tuple(self._spoken(_plain(text, code), left_out))
        if not any(symbol[-1].isalnum() for symbol in spoken):
            raise ValueError(f"nothing to speak in {text[:80]!r}")
        symbols = (_LANGUAGES[code], *spoken, END)
        return TextTokens(tuple(_IDS[s] for s in symbols), symbols, tuple(left_out))

    def _spoken(self, text: str, left_out: list[str]) -> Iterator[str]:
        for run in re.findall(rf"{_HAN}+|[^{_HAN[1:-1]}]+", text):
            if re.match(_HAN, run):
                yield from _syllables(run, left_out)
                continue
            for word in re.findall(r"[a-z]+(?:'[a-z]+)*'?|[^a-z]", run):
                if phones := phones_of(word):
                    yield from (f"en:{phone}" for phone in phones)
                    continue
                for character in word:
                    if character in _IDS:
                        yield character
                    else:
                        left_out.append(character)


class BpeFrontEnd:
    """Byte-pair encoding by a ``tokenizers`` file (JSON), as the papers use it; nothing is downloaded.

    Args:
        tokenizer: the file, as ``tokenizers.Tokenizer.save`` or ``transformers`` (tokenizer.json) write it.
        vocabulary_size: that the model was made for.

    Raises:
        FileNotFoundError: no such file.
        RuntimeError: the package ``tokenizers`` is not installed.
        ValueError: not a tokenizer, or of another size.
    """

    def __init__(self, tokenizer: str | Path, vocabulary_size: int = BPE_SIZE) -> None:
        path = Path(tokenizer)
        if reason := self.missing(path):
            raise (RuntimeError if path.is_file() else FileNotFoundError)(reason)
        from tokenizers import Tokenizer

        content = path.read_bytes()
        try:
            self._tokenizer: Any = Tokenizer.from_buffer(content)
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"{path} is not a tokenizer of the package tokenizers: {error}") from error
        # Added tokens count, and ids may have gaps: what a model must have rows for is the largest id.
        size = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
        if size != vocabulary_size:
            raise ValueError(f"{path} has {size} units, the model reads {vocabulary_size}")
        self.vocabulary_size, self.tools = size, (("tokenizers", metadata.version("tokenizers")),)
        self.identity = f"bpe{size}-{hashlib.blake2b(content, digest_size=8).hexdigest()}"

    @classmethod
    def missing(cls, tokenizer: str | Path | None) -> str | None:
        """Why it cannot be built and what to do, or None."""
        if tokenizer is None:
            return "a model of the paper's size reads byte-pair units: give its tokenizer as a local file, tokenizer=FILE.json"
        if not Path(tokenizer).is_file():
            return f"there is no tokenizer file {tokenizer}: give a tokenizer.json of the package tokenizers"
        if util.find_spec("tokenizers") is None:
            return "byte-pair units need the package tokenizers: pip install 'speech-systems-harness[hf]'"
        return None

    def encode(self, text: str, language: str) -> TextTokens:
        """The tokens of a text; the language changes nothing.

        Raises:
            ValueError: nothing to speak.
        """
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        if not encoded.ids:
            raise ValueError(f"nothing to speak in {text[:80]!r}")
        return TextTokens(tuple(encoded.ids), tuple(encoded.tokens))


TextFrontEnd = SymbolFrontEnd | BpeFrontEnd


def front_end(identity: str, tokenizer: str | Path | None = None) -> TextFrontEnd:
    """The front end that a model was trained with.

    Args:
        identity: from the model's metadata; or "symbols" or "bpe" for the present one of that kind, for a model to be trained.
        tokenizer: file of a `BpeFrontEnd`.

    Raises:
        ValueError: another version than there is here, or another tokenizer than the model's.
        FileNotFoundError, RuntimeError: as `BpeFrontEnd`.
    """
    if identity in ("symbols", SymbolFrontEnd.identity):
        return SymbolFrontEnd()
    known = f"there are {SymbolFrontEnd.identity} and bpe{BPE_SIZE} with a tokenizer file"
    match = re.fullmatch(r"bpe(?:(\d+)-[0-9a-f]+)?", identity)
    if match is None:
        raise ValueError(f"the model reads text as '{identity}', which this version cannot make: {known}")
    if reason := BpeFrontEnd.missing(tokenizer):
        raise (FileNotFoundError if "file" in reason else RuntimeError)(reason)
    assert tokenizer is not None
    found = BpeFrontEnd(tokenizer, int(match[1] or BPE_SIZE))
    if match[1] and found.identity != identity:
        raise ValueError(f"the model was trained with the tokenizer {identity}, {tokenizer} is {found.identity}")
    return found


def _plain(text: str, language: str) -> str:
    """Lower case, without accents, numbers in words, punctuation in ASCII, white space only between Latin words."""
    text = "".join(" " if c in _SILENT else c for c in text.translate(_SPOKEN_ALIKE))
    text = spelled_mandarin(text) if language == "zh" else spelled_english(text)
    text = "".join(c for c in unicodedata.normalize("NFKD", text).lower() if not unicodedata.combining(c))
    text = unicodedata.normalize("NFKC", text)
    text = re.sub(r"\b(mr|mrs|ms|dr)\b\.?", lambda m: _TITLES[m[1]], text)
    text = re.sub(rf"\s*({_HAN})\s*", r"\1", " ".join(text.split()))
    return re.sub(r" +([,.?!;:])", r"\1", text).strip()


def _syllables(characters: str, left_out: list[str]) -> Iterator[str]:
    try:
        from pypinyin import Style, lazy_pinyin
    except ImportError as error:
        raise RuntimeError("Mandarin text needs the package pypinyin: pip install pypinyin") from error
    for said in lazy_pinyin(characters, style=Style.TONE3, neutral_tone_with_five=True):
        match = _SYLLABLE.fullmatch(said)
        # 嗯 and 呣 are syllables without a vowel: an initial and a tone.
        parts = [part for part in match.groups() if part] if match else []
        if len(parts) < 2 or any(f"zh:{part}" not in _IDS for part in parts):
            left_out.extend(said.rstrip(_TONES))
            continue
        yield from (f"zh:{part}" for part in parts)


def phones_of(word: str) -> tuple[str, ...] | None:
    """The first pronunciation of a word in lower case, out of `PHONES`, by CMUdict as PocketSphinx packages it; None where it is not known.

    A word in 's that is not in the dictionary is said as the word with the ending that its last sound asks for.
    """
    words = _dictionary()
    if word in words:
        return words[word]
    stem, ending, rest = word.rpartition("'")
    if not rest and stem in words:  # a closing quotation mark, or the plural's apostrophe
        return words[stem]
    if ending and rest == "s" and stem in words:
        said = words[stem]
        return (*said, "IH", "Z") if said[-1] in _HISSING else (*said, "S" if said[-1] in _VOICELESS else "Z")
    return None


@cache
def _dictionary() -> dict[str, tuple[str, ...]]:
    from pocketsphinx import get_model_path

    found: dict[str, tuple[str, ...]] = {}
    for line in Path(get_model_path("en-us/cmudict-en-us.dict")).read_text(encoding="utf-8").splitlines():
        word, *phones = line.split()
        if phones and "(" not in word:
            found[word] = tuple(phones)
    return found
