"""Content hashes of files and items: what makes a stored result stale when a recording or its text changes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from harness.api import Item

_known: dict[tuple[str, int, int, int, int], str] = {}
"""Digests made in this process. A file is taken as unchanged while its size, times and inode are: reading it again would cost
as much as using it. The change time is there because the modification time can be set back."""


def file_digest(path: Path) -> str:
    """blake2b of a file's bytes, 32 hex digits; a marker ("missing", "unreadable") where there are none to read."""
    try:
        status = path.stat()
        if not path.is_file():
            return "unreadable"
        key = (os.fspath(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        if key not in _known:
            with path.open("rb") as file:
                _known[key] = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        return _known[key]
    except FileNotFoundError:
        return "missing"
    except (OSError, ValueError):
        return "unreadable"


def item_digest(item: Item) -> str:
    """blake2b, 32 hex digits, of what an item asks: text, language, prompt text and the bytes of recording and prompt.

    Not of its id, speaker or path: a renamed recording keeps its results, changed bytes under the same path do not.
    """
    h = hashlib.blake2b(digest_size=16)
    files = ("none" if path is None else file_digest(path) for path in (item.path, item.prompt_path))
    for part in (item.text, item.language, item.prompt_text, *files):
        data = part.encode()
        h.update(len(data).to_bytes(8, "little") + data)
    return h.hexdigest()
