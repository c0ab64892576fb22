"""Checked reading of what a person wrote in YAML: every refusal says where it stands, what is there and what belongs there.

A reader takes a value and the place where it stands, for messages, and returns what is meant or raises ConfigError. `record` reads a
mapping by a reader for each of its keys::

    record(data, "mine.yaml, rule 1", {"metric": registered("metrics")}, {"tolerance": between(0, 1), "strict": flag})
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from harness.errors import ConfigError, UnknownName
from harness.settings.registry import entries

Reader = Callable[[Any, str], Any]
NOTHING: Mapping[str, Reader] = {}


def record(data: Any, where: str, required: Mapping[str, Reader], optional: Mapping[str, Reader] = NOTHING) -> dict[str, Any]:
    """What a mapping holds: all keys of ``required``, and of ``optional`` those that are there.

    Raises:
        ConfigError: no mapping, a key too many or too few, or a value that its reader refuses.
    """
    entry = mapping(data, where, required, optional)
    return {key: read(entry[key], f"{where}, {key}") for key, read in {**required, **optional}.items() if key in entry}


def mapping(data: Any, where: str, wanted: Iterable[str], optional: Iterable[str] = ()) -> Mapping[str, Any]:
    """``data`` if it is a mapping with all keys of ``wanted`` and no others than ``optional``."""
    wanted = list(wanted)
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: a mapping with the keys {', '.join(wanted)}, got {data!r}")
    keys = list(dict.fromkeys([*wanted, *optional]))
    if unknown := [str(k) for k in data if k not in keys]:
        raise ConfigError(f"{where}: unknown keys {', '.join(unknown)}; there are {', '.join(keys)}")
    if missing := [k for k in wanted if k not in data]:
        raise ConfigError(f"{where}: lacks {', '.join(missing)}; it has {', '.join(map(str, data)) or 'no keys'}")
    return data


def several(read: Reader, filled: bool = False) -> Reader:
    """A list, each entry read by ``read``, as a tuple; not an empty one if it must be ``filled``."""

    def reader(data: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(data, list):
            raise ConfigError(f"{where} must be a list, got {type(data).__name__}")
        if filled and not data:
            raise ConfigError(f"{where} must hold at least one, got an empty list")
        return tuple(read(entry, f"{where} {i + 1}") for i, entry in enumerate(data))

    return reader


def words(value: Any, where: str) -> str:
    """Text that is not empty, on one line."""
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{where}: words, got {value!r}")
    return " ".join(value.split())


def flag(value: Any, where: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ConfigError(f"{where} is true or false, got {value!r}")
    return value


def number(value: Any, where: str) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{where}: a number, got {value!r}")
    return value


def between(low: float, high: float = math.inf) -> Reader:
    """A finite number from ``low`` to ``high``, as a float."""

    def reader(value: Any, where: str) -> float:
        if not low <= number(value, where) <= high:
            raise ConfigError(f"{where}: a number from {low:g}{f' to {high:g}' if math.isfinite(high) else ''}, got {value!r}")
        return float(value)

    return reader


def whole(low: int) -> Reader:
    """A whole number from ``low`` on."""

    def reader(value: Any, where: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ConfigError(f"{where}: a whole number from {low}, got {value!r}")
        return value

    return reader


def one_of(choices: Iterable[str]) -> Reader:
    """One of some words, as it stands among them."""
    *others, last = known = list(choices)

    def reader(value: Any, where: str) -> str:
        if value not in known:
            raise ConfigError(f"{where} is '{value}'; there are {', '.join(others)} and {last}")
        return known[known.index(value)]

    return reader


def registered(group: str) -> Reader:
    """A name that the registry has in ``group`` ("suites", "metrics"); UnknownName where it has not."""

    def reader(name: Any, where: str) -> str:
        there = entries(group)
        if name not in there:
            raise UnknownName(group.rstrip("s"), str(name), there, f"(asked by {where})")
        return str(name)

    return reader
