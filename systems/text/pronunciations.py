"""How English words are said: CMUdict, as PocketSphinx packages it (134,000 words, no stress)."""

from __future__ import annotations

from functools import cache
from pathlib import Path

PHONES = (
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY", "JH", "K", "L", "M", "N", "NG",
    "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH",
)  # fmt: skip
_HISSING, _VOICELESS = ("S", "Z", "SH", "ZH", "CH", "JH"), ("P", "T", "K", "F", "TH")


def phones_of(word: str) -> tuple[str, ...] | None:
    """The first pronunciation of a word in lower case, out of `PHONES`; None where it is not known.

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
