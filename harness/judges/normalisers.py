"""Text normalisers by id. The id, with the versions of the packages behind it, is part of every WER's signature.

==================  ==================================================================================================
id                  what it does
==================  ==================================================================================================
``seedtts-en``      all zhon and ASCII punctuation removed (not replaced by a space) but the straight apostrophe; lower case
``seedtts-zh``      traditional to simplified (zhconv, zh-cn), then as above
``f5-en, f5-zh``    as seedtts, the apostrophe removed too
``whisper-english`` Whisper's English normaliser: contractions expanded, British spelling Americanised, fillers and bracketed text
                    removed, numbers to digits ("fifty" and "50" become equal)
``whisper-basic``   Whisper's basic normaliser, any language: bracketed text removed, symbols to spaces, lower case
``basic``           ours, any language: as ``whisper-basic`` but that what is written alike is read alike and what is not is not (`basic`)
``plain-whisper-english``  ``whisper-english`` after what no reader sees is gone and apostrophes are straight (`plain`)
``letters``         lower-case ASCII letters, digits and apostrophes only, everything else to spaces (ZipVoice's for HuBERT)
``spoken-words``    lower-case letters, digits and inner apostrophes only, everything else to spaces (the closed vocabulary's)
==================  ==================================================================================================

Those of a published protocol are that protocol to the letter, with its weaknesses: Whisper's basic normaliser makes a space of every combining
mark (two Hindi words that differ in a vowel sign become equal) and of a zero-width space inside a word.

Numbers: only ``whisper-english`` makes digits and number words equal; elsewhere "50" and "fifty" differ, as in the protocols named.
Conversion to simplified characters needs zhconv (GPL, hence not installed by default): without it the two zh ids are refused rather
than approximated, since zhconv's phrase table also changes words that look simplified already.
"""

from __future__ import annotations

import importlib
import re
import string
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from harness.errors import MissingDependency, UnknownName
from harness.judges.checkpoints import installed, package


@dataclass(frozen=True)
class Normaliser:
    """A named text normalisation."""

    id: str  # with package versions, as it goes into signatures
    apply: Callable[[str], str]  # text to text; white space in the result separates words

    def __call__(self, text: str) -> str:
        return " ".join(self.apply(text).split())


def missing(name: str) -> str | None:
    """None if `normaliser` can build it, else one sentence saying what to install. Imports nothing heavy.

    Raises:
        UnknownName: no normaliser of that id.
    """
    if name not in _BUILDERS:
        raise UnknownName("text normaliser", name, _BUILDERS)
    lacking = [module for module in _BUILDERS[name][1] if not installed(module)]
    return f"the text normaliser '{name}' needs {', '.join(lacking)}: pip install {' '.join(lacking)}" if lacking else None


def normaliser(name: str) -> Normaliser:
    """The normaliser of an id (without versions).

    Raises:
        UnknownName: there is none of that id.
        MissingDependency: a package it needs is not installed.
    """
    if reason := missing(name):
        raise MissingDependency(reason)
    build, modules = _BUILDERS[name]
    return Normaliser(" ".join([name, *(package(module) for module in modules)]), build())


_APOSTROPHES = str.maketrans(dict.fromkeys("‘’‛ʼʹ′´`＇", "'"))
_BRACKETED = re.compile(r"[<\[][^>\]]*[>\]]|\([^)]+?\)")


def plain(text: str) -> str:
    """The text without what no reader sees, in one spelling of what looks alike.

    Format characters (category Cf: zero-width spaces and joiners, soft hyphens, direction marks, byte order marks) and variation selectors go;
    compatibility forms become the plain ones (NFKC: full and half width, ligatures, ``…`` to ``...``, no-break spaces to spaces); typographic
    apostrophes become straight.
    """
    text = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES))
    return "".join(
        c for c in text if unicodedata.category(c) != "Cf" and not ("\ufe00" <= c <= "\ufe0f" or "\U000e0100" <= c <= "\U000e01ef")
    )


def basic(text: str) -> str:
    """``basic`` of the table above: lower case, bracketed text removed, punctuation and symbols to spaces.

    What `plain` removes goes first. Combining marks are letters of most scripts and stay; but the vowel points of Arabic and Hebrew, which
    writers leave out at will, and the tatweel, which only stretches a word, go. Digits of any script become ASCII ones.
    """
    text = plain(_BRACKETED.sub("", text.lower())).lower().replace("i\u0307", "i")  # the dot that lower() leaves of a Turkish capital I
    kept = []
    for c in text:
        category = unicodedata.category(c)
        if category[0] in "PSC":
            kept.append(" ")
        elif category == "Nd":
            kept.append(str(unicodedata.digit(c)))
        elif not _optional(c):
            kept.append(c)
    return unicodedata.normalize("NFC", "".join(kept))


def _optional(c: str) -> bool:
    """Vowel points of Hebrew and Arabic, the superscript alef and the tatweel. Hamza and madda are no vowel points and stay."""
    return c == "\u0640" or c == "\u0670" or "\u064b" <= c <= "\u0652" or ("\u0591" <= c <= "\u05c7" and unicodedata.category(c) == "Mn")


def spoken_words(text: str) -> str:
    """``spoken-words`` of the table above, after `plain`."""
    text = re.sub(r"[^\w' ]|_", " ", plain(text).lower())
    return " ".join(word.strip("'") for word in text.split() if word.strip("'"))


def letters(text: str) -> str:
    """``letters`` of the table above; curly single quotes are apostrophes."""
    return re.sub(r"[^a-z0-9']", " ", text.replace("‘", "'").replace("’", "'").lower())


def _without_punctuation(kept: str, simplified: bool = False) -> Callable[[], Callable[[str], str]]:
    def build() -> Callable[[str], str]:
        from zhon.hanzi import punctuation

        table = str.maketrans("", "", "".join(set(punctuation + string.punctuation) - set(kept)))
        if not simplified:
            return lambda text: text.translate(table).lower()
        convert = importlib.import_module("zhconv").convert  # not a dependency of ours, so type checkers cannot be told of it
        return lambda text: str(convert(text, "zh-cn")).translate(table).lower()

    return build


def _whisper_english() -> Callable[[str], str]:
    from whisper_normalizer.english import EnglishTextNormalizer

    apply: Callable[[str], str] = EnglishTextNormalizer()
    return apply


def _plain_whisper_english() -> Callable[[str], str]:
    apply = _whisper_english()
    return lambda text: apply(plain(text))


def _whisper_basic() -> Callable[[str], str]:
    from whisper_normalizer.basic import BasicTextNormalizer

    apply: Callable[[str], str] = BasicTextNormalizer()
    return apply


_BUILDERS: dict[str, tuple[Callable[[], Callable[[str], str]], tuple[str, ...]]] = {
    "seedtts-en": (_without_punctuation("'"), ("zhon",)),
    "seedtts-zh": (_without_punctuation("'", simplified=True), ("zhon", "zhconv")),
    "f5-en": (_without_punctuation(""), ("zhon",)),
    "f5-zh": (_without_punctuation("", simplified=True), ("zhon", "zhconv")),
    "whisper-english": (_whisper_english, ("whisper_normalizer",)),
    "whisper-basic": (_whisper_basic, ("whisper_normalizer",)),
    "plain-whisper-english": (_plain_whisper_english, ("whisper_normalizer",)),
    "basic": (lambda: basic, ()),
    "letters": (lambda: letters, ()),
    "spoken-words": (lambda: spoken_words, ()),
}
