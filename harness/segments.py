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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import StoreError

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

    Raises:
        StoreError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        name = f"{socket.gethostname()}-{boot()}-{os.getpid()}-{uuid.uuid4().hex[:12]}.seg"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / name).open("ab", buffering=0)
            fcntl.flock(self._file, fcntl.LOCK_EX)
        except OSError as error:
            raise StoreError(f"cannot write records in {folder}: {error.strerror}") from error
        self.path = folder / name
        self._synced = time.monotonic()

    def append(self, entry: Mapping[str, Any]) -> None:
        """One entry, durable against a kill at once and against a power cut within a second.

        Raises:
            StoreError: the disk is full or gone; earlier entries are intact.
            ValueError: the entry holds NaN or Inf, which strict JSON has not.
        """
        body = _STRICT.encode({"schema": SCHEMA, **entry}).encode()
        line = b"%08x %s\n" % (zlib.crc32(body), body)
        try:
            written = self._file.write(line)
            if written != len(line):
                raise OSError(28, "only part of the record was written")
            if time.monotonic() - self._synced >= FSYNC_EVERY_S:
                self.sync()
        except OSError as error:
            raise StoreError(
                f"cannot append to {self.path}: {error.strerror}; earlier records are intact, free space and run the same command again"
            ) from error

    def sync(self) -> None:
        """Everything appended so far onto the disk."""
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def close(self) -> None:
        """Sync and release. Idempotent."""
        if not self._file.closed:
            self.sync()
            self._file.close()


@dataclass
class SegmentReader:
    """Reads the entries of segments and counts what had to be dropped.

    Args:
        dropped: lines whose checksum failed, so far.
    """

    dropped: int = 0

    def read(self, path: Path) -> Iterator[dict[str, Any]]:
        """Intact entries in order of writing."""
        with path.open("rb") as lines:
            for line in lines:
                entry = _parse(line)
                if entry is None:
                    self.dropped += 1
                else:
                    yield entry


def _parse(line: bytes) -> dict[str, Any] | None:
    crc, _, body = line.partition(b" ")
    if len(crc) != 8 or not body.endswith(b"\n"):
        return None
    try:
        if int(crc, 16) != zlib.crc32(body[:-1]):
            return None
    except ValueError:
        return None
    entry: dict[str, Any] = json.loads(body.decode())
    return entry if entry.get("schema") == SCHEMA else None


def abandoned(folder: Path) -> Iterator[Path]:
    """Segments of this machine whose writer has closed them or died."""
    for path in sorted(folder.glob(f"*-{boot()}-*.seg")):
        with path.open("rb") as segment:
            try:
                fcntl.flock(segment, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            yield path
