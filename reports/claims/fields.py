"""Checked reading of what a person wrote in YAML: every refusal says where it stands, what is there and what belongs there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.data.documents import load_yaml
from harness.errors import ConfigError, UnknownName
from harness.settings.registry import entries


def parsed(text: str, origin: str) -> Any:
    """YAML as plain data; ``origin`` names the file in the message.

    Raises:
        ConfigError: it is not YAML, or beyond the limits of `harness.data.documents`.
    """
    return load_yaml(text, origin)


def mapping(data: Any, where: str, wanted: Sequence[str], optional: Sequence[str] = ()) -> Mapping[str, Any]:
    """``data`` if it is a mapping with all keys of ``wanted`` and no others than ``optional``.

    Raises:
        ConfigError: it is not.
    """
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: a mapping with the keys {', '.join(wanted)}, got {data!r}")
    keys = list(dict.fromkeys([*wanted, *optional]))
    if unknown := [str(k) for k in data if k not in keys]:
        raise ConfigError(f"{where}: unknown keys {', '.join(unknown)}; there are {', '.join(keys)}")
    if missing := [k for k in wanted if k not in data]:
        raise ConfigError(f"{where}: lacks {', '.join(missing)}; it has {', '.join(map(str, data)) or 'no keys'}")
    return data


def listing(data: Any, where: str) -> Sequence[Any]:
    """``data`` if it is a list.

    Raises:
        ConfigError: it is not.
    """
    if not isinstance(data, list):
        raise ConfigError(f"{where} must be a list, got {type(data).__name__}")
    return data


def words(value: Any, where: str) -> str:
    """Text on one line.

    Raises:
        ConfigError: no text, or an empty one.
    """
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{where}: words, got {value!r}")
    return " ".join(value.split())


def number(value: Any, where: str) -> float:
    """A finite number.

    Raises:
        ConfigError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{where}: a number, got {value!r}")
    return value


def registered(group: str, name: Any, where: str) -> str:
    """``name`` if the registry has it in ``group`` ("suites", "metrics").

    Raises:
        UnknownName: it has not.
    """
    there = entries(group)
    if name not in there:
        raise UnknownName(group.rstrip("s"), str(name), there, f"(asked by {where})")
    return str(name)
