"""Somebody's outputs, lying in a folder."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from harness.api import MissingOutput, SystemInfo

_FOLDERS = "(?:[^/]+/)*"


class RecordedFolder:
    """Outputs found by item id.

    The folder is listed once. Only files in that list are ever named, and only if they (symlinks followed) lie inside the
    folder, so that no id, however hostile, reaches anything else. None is opened here: the harness reads them.

    Args:
        pattern: path of an output below ``root``, with ``{id}`` in the place of the item's id. ``*`` stands for any part of one
            name (``{id}.*``: any extension), ``**`` for any number of folders: ``**/{id}.wav`` takes a whole tree.
        description: one line for the tables.

    Raises:
        ValueError: ``root`` is not a folder, or the pattern has no ``{id}`` or leaves the folder.
    """

    def __init__(self, root: str | os.PathLike[str], pattern: str = "{id}.wav", description: str = "") -> None:
        if reason := self.missing(root, pattern, description):
            raise ValueError(reason)
        parts = PurePosixPath(pattern).parts
        if "{id}" not in pattern or pattern.startswith("/") or ".." in parts:
            raise ValueError(f"pattern wants {{id}} in a path below root, got {pattern!r}")
        self._root, self._parts = Path(root).resolve(), parts
        self._files: dict[str, list[str]] = {}
        for folder, subfolders, names in os.walk(self._root):
            subfolders.sort()
            for name in sorted(names):
                path = Path(folder) / name
                place = path.relative_to(self._root).as_posix()
                if not path.is_file():
                    continue
                for key in {name, path.stem}:
                    self._files.setdefault(key, []).append(place)
        self.info = SystemInfo(family="recorded", version="2", description=description or f"recorded outputs in {self._root.name}")

    @classmethod
    def missing(cls, root: str | os.PathLike[str] | None = None, pattern: str = "{id}.wav", description: str = "") -> str | None:
        if root is None or not str(root):
            return "recorded outputs need their folder: systems.recorded.root=FOLDER"
        return None if Path(root).is_dir() else f"the folder of recorded outputs {Path(root)} does not exist"

    def locate(self, item_id: str) -> Path:
        """The file with the output for an item.

        Raises:
            MissingOutput: no file, or one outside the folder.
            ValueError: several files fit.
        """
        found = self._matches(item_id)
        asked = "/".join(self._parts).replace("{id}", item_id)
        if not found:
            raise MissingOutput(f"no output {asked[:300]!r} in {self._root}")
        if len(found) > 1:
            raise ValueError(f"{len(found)} outputs fit {asked!r} in {self._root}: {', '.join(found[:2])} ...; make the pattern narrower")
        path = (self._root / found[0]).resolve()
        if not path.is_relative_to(self._root):
            raise MissingOutput(f"the output {asked!r} is a link that leaves {self._root}")
        return path

    def _matches(self, item_id: str) -> list[str]:
        if not item_id or item_id in (".", "..") or any(c in item_id for c in "/\\\x00"):
            return []
        last = self._parts[-1].replace("{id}", item_id)
        places = self._files.get(last if "*" not in self._parts[-1] else last.removesuffix(".*"), [])
        if "*" in self._parts[-1] and not self._parts[-1].endswith("{id}.*"):
            places = sorted({place for group in self._files.values() for place in group})
        # The id goes in literally; only the pattern's own stars are special.
        wanted = "".join(_FOLDERS if part == "**" else f"{_expression(part, item_id)}/" for part in self._parts[:-1])
        wanted += _expression(self._parts[-1], item_id)
        return [place for place in places if re.fullmatch(wanted, place)]


def _expression(part: str, item_id: str) -> str:
    """One part of a pattern as a regular expression."""
    return re.escape(part).replace(r"\*", "[^/]*").replace(re.escape("{id}"), re.escape(item_id))
