"""How numbers, labels and caveats are worded, the same in every format."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence

from harness.api import Better

ARROWS = {Better.HIGHER: "↑", Better.LOWER: "↓", Better.NEITHER: ""}
WORDS = {Better.HIGHER: "higher is better", Better.LOWER: "lower is better", Better.NEITHER: "descriptive"}
ABSENT = "–"
PROBLEM_LIMIT = 300
"""Characters of what foreign code says went wrong."""


def decimals(values: Iterable[float]) -> int:
    """Digits after the point for a column: about four significant ones at its largest magnitude, never more than 6."""
    largest = max((abs(v) for v in values), default=0.0)
    if largest == 0:
        return 3
    return min(6, max(0, 3 - max(0, math.floor(math.log10(largest)))) if largest >= 0.1 else 3 - math.floor(math.log10(largest)) - 1)


SHOWN_UNITS = {"bit/s": ("kbit/s", 1e-3)}
"""Units that are stored as they are counted and printed as they are spoken of: the printed unit and the factor to it."""


def significant(value: float, digits: int = 3) -> str:
    """``value`` with ``digits`` significant digits, whole numbers never rounded: 512, 5.93, 0.0280."""
    if value == 0:
        return "0"
    # The exponent after rounding: 9.999 is 10.0, not 10.00.
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
    return number(value, min(9, max(0, digits - 1 - exponent)))


def signed(value: float) -> str:
    """A difference: three significant digits, with its sign unless it is zero."""
    return significant(value) if value <= 0 else f"+{significant(value)}"


def number(value: float | None, digits: int) -> str:
    """``value`` with ``digits`` after the point and thousands apart; a dash where there is none."""
    if value is None:
        return ABSENT
    text = f"{value:,.{digits}f}"
    return text[1:] if text.startswith("-") and not any(c in "123456789" for c in text) else text


def count(parameters: int) -> str:
    """A parameter count: 5.4 M, 860 k; "" for none."""
    for size, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if parameters >= size:
            return f"{parameters / size:.3g} {suffix}"
    return str(parameters) if parameters else ""


def percent(share: float) -> str:
    """``95 %``, as an interval's level is printed."""
    return f"{100 * share:.0f} %"


def plural(number: int, noun: str) -> str:
    """``1 item``, ``1,200 items``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def some(names: Sequence[str], most: int) -> str:
    """The first names, and dots where there are more: ``a, b, c ...``."""
    return f"{', '.join(names[:most])}{' ...' if len(names) > most else ''}"


def heading(name: str, unit: str, better: Better) -> str:
    """``pesq_wb (MOS) ↑``; a unit that the name already ends in is not repeated."""
    return f"{with_unit(name, unit_beside(name, unit))} {ARROWS[better]}".rstrip()


def with_unit(name: str, unit: str) -> str:
    """``CER (%)``, or the name alone where there is no unit."""
    return f"{name} ({unit})" if unit else name


def unit_beside(name: str, unit: str) -> str:
    """The unit, or "" where the name already ends in it."""
    return "" if name.rsplit("_", 1)[-1].lower() in (unit.lower(), unit.lower().replace("bit/s", "bps")) else unit


def printable(text: str) -> str:
    """``text`` on one line without control, format and surrogate characters, so that no terminal or XML parser trips over it."""
    return "".join(c if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Cn", "Zl", "Zp") else " " for c in text)


def in_words(problem: BaseException) -> str:
    """An exception of foreign code as one line of bounded length."""
    return shortened(printable(f"{type(problem).__name__}: {problem}".rstrip(": ")), PROBLEM_LIMIT)


def shortened(text: str, limit: int) -> str:
    """At most ``limit`` characters, the middle left out."""
    if len(text) <= limit:
        return text
    head = (limit - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"
