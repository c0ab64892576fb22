"""Numbers as they are read aloud, in English and Mandarin, so that no digit reaches a model that was trained on words.

Transcribed speech has no digits: a digit would be a token without training. Read are integers, decimals, percentages, English ordinals,
years and amounts of money, Mandarin years; what is longer than a number anybody says in words, or begins with 0, is read digit by digit.
"""

from __future__ import annotations

import re

_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SCALES = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth", "twelve": "twelfth"
}  # fmt: skip
_MONEY = {"$": ("dollar", "cent"), "€": ("euro", "cent"), "£": ("pound", "penny")}
_LONGEST = 15
"""Digits of the longest number that is read in words; with more there is no scale left."""

_NUMERALS = "零一二三四五六七八九"
_MYRIADS = ("", "万", "亿", "万亿")
_LONGEST_MANDARIN = 10
"""A mobile telephone number has 11 digits."""

_NUMBER = r"\d+(?:,\d{3})+(?!\d)|\d+"


def english_cardinal(number: int) -> str:
    """American words of a whole number from 0 to 10^15 - 1: "one hundred five"."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        return _TENS[number // 10] + (f" {_ONES[number % 10]}" if number % 10 else "")
    size, name = next(scale for scale in _SCALES if number >= scale[0])
    rest = f" {english_cardinal(number % size)}" if number % size else ""
    return f"{english_cardinal(number // size)} {name}{rest}"


def english_ordinal(number: int) -> str:
    """The same as a rank: "twenty first" for 21."""
    head, _, last = english_cardinal(number).rpartition(" ")
    last = _ORDINALS.get(last) or (f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th")
    return f"{head} {last}".strip()


def mandarin_cardinal(number: int) -> str:
    """Characters of a whole number from 0 to 10^16 - 1: 一万零一十."""
    if number == 0:
        return _NUMERALS[0]
    words, started = "", False
    for i in reversed(range(len(_MYRIADS))):
        group = number // 10 ** (4 * i) % 10**4
        if not group:
            continue
        # 零 stands where the places above are empty, once however many they are.
        skipped = started and (group < 1000 or not number // 10 ** (4 * i + 4) % 10**4)
        words += (_NUMERALS[0] if skipped else "") + _mandarin_group(group) + _unit(i, number)
        started = True
    return words[1:] if words.startswith("一十") else words


def spelled_english(text: str) -> str:
    """``text`` with its numbers in words."""
    text = re.sub(rf"([$€£])\s?({_NUMBER})(?:\.(\d\d)(?!\d))?", lambda m: _money(m[1], _value(m[2]), m[3]), text)
    text = re.sub(rf"({_NUMBER})(?:st|nd|rd|th)\b", lambda m: f" {_ordinal_or_digits(_value(m[1]))} ", text, flags=re.IGNORECASE)
    text = re.sub(rf"({_NUMBER})\.(\d+)", lambda m: f" {_english(_value(m[1]))} point {_digits(m[2])} ", text)
    text = re.sub(r"(?<![\d,])(?:1[1-9]|20)\d\d(?![\d,]*\d)", lambda m: f" {_year(int(m[0]))} ", text)
    text = re.sub(_NUMBER, lambda m: f" {_english(_value(m[0]))} ", text)
    return text.replace("%", " percent ").replace("&", " and ")


def spelled_mandarin(text: str) -> str:
    """``text`` with its numbers in characters."""
    text = re.sub(rf"({_NUMBER})(?:\.(\d+))?%", lambda m: f"百分之{_mandarin(_value(m[1]), m[2])}", text)
    text = re.sub(r"(?<!\d)\d{4}(?=年)", lambda m: _numerals(m[0]), text)
    return re.sub(rf"({_NUMBER})(?:\.(\d+))?", lambda m: _mandarin(_value(m[1]), m[2]), text)


def _value(digits: str) -> str:
    """Decimal digits in ASCII without commas."""
    return "".join(str(int(c)) for c in digits if c != ",")


def _long(digits: str, longest: int) -> bool:
    return len(digits) > longest or (len(digits) > 1 and digits.startswith("0"))


def _digits(digits: str) -> str:
    return " ".join(_ONES[int(c)] for c in digits)


def _numerals(digits: str) -> str:
    return "".join(_NUMERALS[int(c)] for c in digits)


def _english(digits: str) -> str:
    return _digits(digits) if _long(digits, _LONGEST) else english_cardinal(int(digits))


def _ordinal_or_digits(digits: str) -> str:
    return _digits(digits) if _long(digits, _LONGEST) else english_ordinal(int(digits))


def _money(sign: str, digits: str, cents: str | None) -> str:
    whole, part = _MONEY[sign]
    said = f" {_english(digits)} {whole}{'' if digits == '1' else 's'} "
    if cents is None or int(cents) == 0:
        return said
    plural = "pence" if part == "penny" else f"{part}s"
    return f"{said}and {english_cardinal(int(cents))} {part if int(cents) == 1 else plural} "


def _year(year: int) -> str:
    """Years in pairs: nineteen eighty four, nineteen oh five, nineteen hundred, two thousand one."""
    century, rest = divmod(year, 100)
    if century == 20 and rest < 10:
        return english_cardinal(year)
    tail = "hundred" if not rest else f"oh {_ONES[rest]}" if rest < 10 else english_cardinal(rest)
    return f"{english_cardinal(century)} {tail}"


def _mandarin(digits: str, decimals: str | None) -> str:
    whole = _numerals(digits) if _long(digits, _LONGEST_MANDARIN) else mandarin_cardinal(int(digits))
    return f"{whole}点{_numerals(decimals)}" if decimals else whole


def _mandarin_group(group: int) -> str:
    """1 to 9999."""
    words, skipped = "", False
    for size, unit in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = group // size % 10
        if digit:
            words += (_NUMERALS[0] if skipped else "") + _NUMERALS[digit] + unit
            skipped = False
        else:
            skipped = bool(words)
    return words


def _unit(i: int, number: int) -> str:
    """万亿 is 万 of 亿: the 亿 is said once, after the lower of the two groups where there is one."""
    return "万" if i == 3 and number // 10**8 % 10**4 else _MYRIADS[i]
