"""One entry of ``systems`` that stands for several: a folder of folders, each with somebody's outputs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import ConfigError

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_TREE = "tree"


def expanded(systems: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The systems, one with a ``tree`` replaced by one for each folder in it, under the folder's name and with it as ``root``.

    Args:
        systems: family and parameters by label.

    Raises:
        ConfigError: the tree is no folder or holds none, a name cannot be a label or is taken, or both tree and root are given.
    """
    found: dict[str, dict[str, Any]] = {}
    for label, section in systems.items():
        parameters = dict(section)
        tree = parameters.pop(_TREE, None)
        if tree is None:
            _add(found, label, parameters)
            continue
        where = f"systems.{label}.{_TREE}={tree}"
        if parameters.get("root"):
            raise ConfigError(f"{where} and systems.{label}.root exclude each other: root is the folder of one system, tree holds several")
        for folder in _folders(Path(str(tree)).expanduser(), where):
            _add(found, folder.name, {**parameters, "root": str(folder)})
    return found


def _folders(tree: Path, where: str) -> list[Path]:
    if not tree.is_dir():
        raise ConfigError(f"{where}: there is no such folder")
    folders = sorted(path for path in tree.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise ConfigError(f"{where} holds no folders; it wants one for each system, with its outputs inside")
    if odd := [path.name for path in folders if not NAME.fullmatch(path.name)]:
        raise ConfigError(f"{where}: the folder {odd[0]!r} cannot name a system; use letters, digits, '_', '.' and '-'")
    return folders


def _add(found: dict[str, dict[str, Any]], label: str, parameters: dict[str, Any]) -> None:
    if label in found:
        raise ConfigError(f"two systems are called '{label}'; rename the folder")
    found[label] = parameters
