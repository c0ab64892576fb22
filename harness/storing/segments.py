"""Append-only, checksummed segments of JSON lines: each writer has its own file, readers take the union.

A line is ``crc32 (8 hex digits), space, strict JSON, newline``. A torn or altered line fails its checksum, is counted and dropped;
it is never parsed as a result. A writer holds an advisory lock on its segment for as long as it lives, so that a compactor on the
same machine can tell an abandoned segment from one in use. Locks need not reach other machines that share the folder, so the name of a
segment tells the start of the machine that wrote it, and nobody else takes it away.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import StoreError
from harness.storing.files import reading

SCHEMA = 1
FSYNC_EVERY_S = 1.0
_STRICT = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"))
"""Made once: `json.dumps` makes one a call."""


def boot() -> str:
    """Names this machine since it was started (8 hex digits): processes that share it share advisory locks."""
    identity = Path("/proc/sys/kernel/random/boot_id")
    text = identity.read_text(encoding="ascii") if identity.exists() else socket.gethostname()
    return f"{zlib.crc32(text.encode()):08x}"


class SegmentWriter:
    """Appends entries to one new file. Every entry reaches the operating system at once and the disk within a second.

    Args:
        folder: where segments lie; created when missing.
        kept: it takes in records of another version, and its name is none that a compactor looks for.

    Raises:
        StoreError: the folder cannot be written.
    """

    def __init__(self, folder: Path, *, kept: bool = False) -> None:
        self._folder, self._maker = folder, "kept" if kept else f"{socket.gethostname()}-{boot()}-{os.getpid()}"
        self._open()

    def _open(self) -> None:
        name = f"{self._maker}-{uuid.uuid4().hex[:12]}.seg"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self._folder / name, flags, 0o666)
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            self._identity = self._seen()
        except OSError as error:
            raise StoreError(f"cannot write records in {self._folder}: {error.strerror}") from error
        self.path = self._folder / name
        self._synced = time.monotonic()

    def _seen(self) -> tuple[int, int] | None:
        """What is behind the descriptor; None where nothing is."""
        try:
            status = os.fstat(self._fd)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def append(self, entry: Mapping[str, Any]) -> None:
        """One entry, durable against a kill at once and against a power cut within a second.

        Raises:
            StoreError: the disk is full or gone; earlier entries are intact.
            ValueError: the entry holds NaN or Inf, which strict JSON has not.
        """
        body = _STRICT.encode({"schema": SCHEMA, **entry}).encode()
        self.append_line(b"%08x %s\n" % (zlib.crc32(body), body))

    def append_line(self, line: bytes) -> None:
        """A whole line as it was read elsewhere. Raises StoreError: as `append`."""
        if self._seen() != self._identity:  # a plug-in closed what is not its own, and may have opened another file under the number
            self._open()
        try:
            written = os.write(self._fd, line)
            if written != len(line):
                raise OSError(28, "only part of the record was written")
            if time.monotonic() - self._synced >= FSYNC_EVERY_S:
                os.fsync(self._fd)
                self._synced = time.monotonic()
        except OSError as error:
            raise StoreError(
                f"cannot append to {self.path}: {error.strerror}; earlier records are intact, free space and run the same command again"
            ) from error

    def close(self) -> None:
        """Sync and release. Idempotent."""
        if self._fd >= 0 and self._seen() == self._identity:
            os.fsync(self._fd)
            os.close(self._fd)
        self._fd = -1


@dataclass
class SegmentReader:
    """Reads the entries of segments and counts what it passes over."""

    dropped: int = 0  # lines whose checksum failed, so far
    others: int = 0  # intact lines that another version of the harness wrote, so far
    keep: Callable[[bytes], object] | None = None  # given each of these as it stands there

    def read(self, path: Path, parse: Callable[[dict[str, Any]], Any] = dict) -> Iterator[Any]:
        """Intact entries in order of writing, as ``parse`` makes of them what is wanted; None is passed over.

        A KeyError, TypeError or ValueError that it raises says that another version wrote the entry. Raises OSError where the segment
        cannot be read.
        """
        with reading(path) as lines:
            for line in lines:
                if not _intact(line):
                    self.dropped += 1
                    continue
                try:
                    entry = json.loads(line[9:])
                    if entry["schema"] != SCHEMA:
                        raise ValueError(entry["schema"])
                    found = parse(entry)
                except (KeyError, TypeError, ValueError):
                    self.others += 1
                    if self.keep is not None:
                        self.keep(line)
                else:
                    if found is not None:
                        yield found


def _intact(line: bytes) -> bool:
    crc, _, body = line.partition(b" ")
    if len(crc) != 8 or not body.endswith(b"\n"):
        return False
    try:
        return int(crc, 16) == zlib.crc32(body[:-1])
    except ValueError:
        return False


def abandoned(folder: Path) -> Iterator[Path]:
    """Segments of this machine whose writer has closed them or died."""
    for path in sorted(folder.glob(f"*-{boot()}-*.seg")):
        with reading(path) as segment:
            try:
                fcntl.flock(segment, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            yield path
