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
``spoken-words``    lower-case letters, digits and inner apostrophes only, everything else to spaces (the closed vocabulary's)
==================  ==================================================================================================

Numbers: only ``whisper-english`` makes digits and number words equal; elsewhere "50" and "fifty" differ, as in the protocols named.
Conversion to simplified characters needs zhconv (GPL, hence not installed by default): without it the two zh ids are refused rather
than approximated, since zhconv's phrase table also changes words that look simplified already.
"""

from __future__ import annotations

import importlib
import re
import string
from collections.abc import Callable
from dataclasses import dataclass

from harness.backends.checkpoints import installed, package
from harness.errors import MissingDependency, UnknownName


@dataclass(frozen=True)
class Normaliser:
    """A named text normalisation.

    Args:
        id: with package versions, as it goes into signatures.
        apply: text to text; whitespace in the result separates words.
    """

    id: str
    apply: Callable[[str], str]

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


def spoken_words(text: str) -> str:
    """``spoken-words`` of the table above."""
    text = re.sub(r"[^\w' ]|_", " ", text.lower().replace("’", "'"))
    return " ".join(word.strip("'") for word in text.split() if word.strip("'"))


def _without_punctuation(kept: str) -> Callable[[], Callable[[str], str]]:
    def build() -> Callable[[str], str]:
        from zhon.hanzi import punctuation

        table = str.maketrans("", "", "".join(set(punctuation + string.punctuation) - set(kept)))
        return lambda text: text.translate(table).lower()

    return build


def _simplified(kept: str) -> Callable[[], Callable[[str], str]]:
    def build() -> Callable[[str], str]:
        convert = importlib.import_module("zhconv").convert  # not a dependency of ours, so type checkers cannot be told of it
        strip = _without_punctuation(kept)()
        return lambda text: strip(convert(text, "zh-cn"))

    return build


def _whisper_english() -> Callable[[str], str]:
    from whisper_normalizer.english import EnglishTextNormalizer

    apply: Callable[[str], str] = EnglishTextNormalizer()
    return apply


def _whisper_basic() -> Callable[[str], str]:
    from whisper_normalizer.basic import BasicTextNormalizer

    apply: Callable[[str], str] = BasicTextNormalizer()
    return apply


_BUILDERS: dict[str, tuple[Callable[[], Callable[[str], str]], tuple[str, ...]]] = {
    "seedtts-en": (_without_punctuation("'"), ("zhon",)),
    "seedtts-zh": (_simplified("'"), ("zhon", "zhconv")),
    "f5-en": (_without_punctuation(""), ("zhon",)),
    "f5-zh": (_simplified(""), ("zhon", "zhconv")),
    "whisper-english": (_whisper_english, ("whisper_normalizer",)),
    "whisper-basic": (_whisper_basic, ("whisper_normalizer",)),
    "spoken-words": (lambda: spoken_words, ()),
}
