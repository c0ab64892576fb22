"""Content hashes of files and items: what makes a stored result stale when a recording or its text changes."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.api import Item
from harness.api.libraries import library
from harness.data.documents import open_regular

_ITEMS = "item 2"
"""Raised when the same files and texts are to be read otherwise than before, so that no result of the old reading is taken for one of
the new: 2 refuses what `harness.data.audio.read_recording` refuses."""
_LOSSY = frozenset({".mp3", ".mp2", ".ogg", ".oga", ".opus"})
"""What decoders are free to turn into somewhat different samples: the version of the one at hand counts."""
_SETTLED_S = 2.0
"""Age of a file's change time from which its digest may be remembered (FAT's clock has the coarsest ticks, two seconds)."""
_known: dict[tuple[int, int, int, int, int], str] = {}
"""Digests made in this process, by device, inode, size and times. The change time cannot be set by a program, so a file whose five are
the same holds the same bytes, with one exception: written again within one tick of the clock it keeps them. Only files that were last
changed `_SETTLED_S` before they were read are kept here; a later write then has another time."""


def bytes_digest(data: bytes) -> str:
    """blake2b of a file's bytes, 32 hex digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def file_digest(path: Path) -> str:
    """`bytes_digest` of a file; "missing:" or "unreadable:" with a hash of its place where there are no bytes to read.

    The place is in it because two files that are not there have no content in common: nothing found for one may be taken for the other.
    """
    try:
        key = _state(path.stat())
        if key in _known:
            return _known[key]
        with open_regular(path) as file:
            before, now_ns = os.fstat(file.fileno()), time.time_ns()
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
            key = _state(before)
            if now_ns - before.st_ctime_ns > _SETTLED_S * 1e9 and key == _state(os.fstat(file.fileno())):
                _known[key] = digest
        return digest
    except FileNotFoundError:
        return f"missing:{_place(path)}"
    except (OSError, ValueError):
        return f"unreadable:{_place(path)}"


@dataclass(frozen=True, slots=True)
class Contents:
    """What an item's files held when a run was planned."""

    recording: str = ""  # as `file_digest` gives it; "" where the item has none
    prompt: str = ""  # likewise

    @classmethod
    def of(cls, item: Item) -> Contents:
        """Of the files as they are now."""
        return cls(*("" if path is None else file_digest(path) for path in (item.path, item.prompt_path)))

    def told(self) -> dict[str, str]:
        """By name, as a manifest says them: of what is not there, that it is not, wherever."""
        return {"digest": self.recording.partition(":")[0], "prompt_digest": self.prompt.partition(":")[0]}


def item_digest(item: Item, contents: Contents | None = None) -> str:
    """blake2b, 32 hex digits, of what an item asks: text, language, prompt text, the bytes of recording and prompt, and the channel.

    Not of its id, speaker or path: a renamed recording keeps its results, changed bytes under the same path do not. The
    ``contents`` are by default those of its files as they are now.
    """
    contents = contents or Contents.of(item)
    h = hashlib.blake2b(digest_size=16)
    channel = f"{item.channel or ''}"
    lossy = any(path is not None and path.suffix.lower() in _LOSSY for path in (item.path, item.prompt_path))
    decoder = (library("soundfile"),) if lossy else ()
    for part in (_ITEMS, item.text, item.language, item.prompt_text, contents.recording, contents.prompt, channel, *decoder):
        data = part.encode()
        h.update(len(data).to_bytes(8, "little") + data)
    return h.hexdigest()


def contents_digest(rows: str, contents: Mapping[str, Contents]) -> str:
    """blake2b, 32 hex digits, of a dataset: what its manifest says (`Dataset.rows_digest`) and its files hold, by item id."""
    h = hashlib.blake2b(rows.encode(), digest_size=16)
    for item in sorted(contents):
        h.update("\0".join((item, *contents[item].told().values(), "\n")).encode())
    return h.hexdigest()


def _state(status: os.stat_result) -> tuple[int, int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _place(path: Path) -> str:
    return bytes_digest(os.fsencode(os.path.abspath(path)))  # noqa: PTH100  (a link's target is not the place that was asked for)
