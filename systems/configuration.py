"""Configurations read back from a file: plain values whose names must be known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any


def refuse_unknown(names: Iterable[str], kind: type[Any], whose: str) -> None:
    """Makes sure that every name is a field of ``kind``, a dataclass.

    Args:
        names: as a file gives them.
        kind: what they shall configure.
        whose: configuration it is, for the message: "a QDAC configuration".

    Raises:
        ValueError: a name that is none of the fields.
    """
    if unknown := set(names) - {field.name for field in fields(kind)}:
        raise ValueError(f"{whose} has no {', '.join(sorted(unknown))}")
