"""How predictions and measurements ended, by key: segments that are appended to, and the Parquet parts they are compacted into.

    outcomes/*.seg          lines as they were appended, each writer to a file of its own: crc32 (8 hex digits), space, strict JSON
    outcomes/v2-*.parquet   the same, compacted; the rest of the name is the digest of the file

Segments are checked line by line, parts by their name and, where that no longer fits, row by row. What is damaged is passed over, counted
and made again, never parsed as a result; what another version of the harness wrote is kept and counted.

A writer holds an advisory lock on its segment for as long as it lives, so that a compactor on the same machine can tell an abandoned
segment from one in use. Locks need not reach other machines that share the folder, so the name of a segment tells the start of the
machine that wrote it, and nobody else takes it away.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import socket
import time
import uuid
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.api import Scalar, Status
from harness.errors import StoreError
from harness.foreign import bounded
from harness.storing.files import boot, digest_of, lock_file, reading, replacing

SCHEMA = 1
FSYNC_EVERY_S = 1.0
_LINE = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"))
_PART = json.JSONEncoder(allow_nan=False, ensure_ascii=False)
"""Made once: `json.dumps` makes one a call."""


class SegmentWriter:
    """Appends entries to one new file of a folder: each reaches the operating system at once and the disk within a second.

    A ``kept`` one takes in records of another version, and its name is none that a compactor looks for. Raises StoreError where the
    folder cannot be written.
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
        """One entry. Raises StoreError: the disk is full or gone, earlier entries are intact; ValueError: it holds NaN or Inf."""
        body = _LINE.encode({"schema": SCHEMA, **entry}).encode()
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


ENTRIES_AT_ONCE = 200_000
"""Outcomes held in memory by a compaction, and the most that a part holds."""
ROWS_AT_ONCE = 1 << 15
"""Rows of a part's row groups, the unit in which parts are read."""
PART = "v2-"
"""Begins the name of a part."""


@dataclass(frozen=True)
class Outcome:
    """How one prediction or measurement ended, without the names a run gives it: the stored part of a `Record`."""

    status: Status
    value: float | None = None
    weight: float | None = None
    side: str = ""
    reason: str = ""
    counts: Mapping[str, float] = field(default_factory=dict)
    detail: Mapping[str, Scalar] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.reason:  # others' words, often: kept as every file and terminal can hold them
            object.__setattr__(self, "reason", bounded(self.reason))

    @property
    def retry(self) -> bool:
        """Whether another attempt may end otherwise."""
        return self.status in (Status.FAILED, Status.TIMEOUT)


@dataclass(frozen=True)
class Lookup:
    """What a store knows."""

    found: dict[str, Outcome]
    damaged: int = 0  # records, or whole parts, passed over on the way because they are not what was written
    others: int = 0  # records passed over because another version of the harness wrote them


class OutcomeWriter:
    """Appends outcomes to this process's own segment."""

    def __init__(self, segment: SegmentWriter) -> None:
        self._segment = segment

    def append(self, key: str, outcome: Outcome) -> None:
        """Raises StoreError when the disk is full."""
        self._segment.append({"key": key, "outcome": _as_json(outcome)})

    def close(self) -> None:
        self._segment.close()


class Outcomes:
    """The outcomes of a store, in a folder that is created on first write. Several processes may write, and compact, at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._damaged: set[Path] = set()

    def writer(self) -> OutcomeWriter:
        """A writer of its own for this process."""
        return OutcomeWriter(SegmentWriter(self._folder))

    def num_bytes(self) -> int:
        """Of all files together."""
        return sum(path.stat().st_size for path in self._folder.glob("*.*"))

    def find(self, keys: Collection[str] | None) -> Lookup:
        """What is known under ``keys``, or all (None). Raises StoreError: a file of the store cannot be opened."""
        wanted = None if keys is None else set(keys)
        recent: dict[str, Outcome] = {}
        found: dict[str, Outcome] = {}
        reader = SegmentReader()
        damaged = others = 0

        def asked(entry: Mapping[str, Any]) -> tuple[str, Outcome] | None:
            return _keyed(entry) if wanted is None or entry["key"] in wanted else None

        try:
            # Segments first: one that a compactor takes away meanwhile is in a part by then, and parts are listed afterwards.
            for path in sorted(self._folder.glob("*.seg")):
                with suppress(FileNotFoundError):
                    for key, outcome in reader.read(path, asked):
                        _keep(recent, key, outcome)
            for path in sorted(self._folder.glob("*.parquet")):
                if not path.name.startswith(PART):
                    others += _num_rows(path)
                    continue
                try:
                    part = _read_part(path, wanted)
                except FileNotFoundError:
                    continue  # another process found it damaged, and what was intact is in a part that was not listed yet
                if part.damaged:
                    self._damaged.add(path)
                damaged += part.damaged
                others += part.others
                for key, outcome in part.found.items():
                    _keep(found, key, outcome)
        except OSError as error:
            raise StoreError(f"cannot read {error.filename or self._folder}: {error.strerror or error}") from error
        for key, outcome in recent.items():
            _keep(found, key, outcome)
        return Lookup(found, reader.dropped + damaged, reader.others + others)

    def compact(self) -> int:
        """Merges abandoned segments, and what is intact of damaged parts met so far, into new parts; says how many entries these have.

        Safe against a kill at any point and against other compactors. Records of other versions are carried over as they are. Raises
        StoreError where the disk is full or not writable; nothing is lost.
        """
        if not self._folder.is_dir():
            return 0
        try:
            with lock_file(self._folder / ".compacting") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    return 0
                return self._compact(list(abandoned(self._folder)))
        except (OSError, StoreError) as error:
            reason = getattr(error, "strerror", None) or error
            raise StoreError(
                f"cannot compact {self._folder}: {reason}; every record is intact, free space and run the same command again"
            ) from error

    def _compact(self, paths: Sequence[Path]) -> int:
        """Segments into parts of at most `ENTRIES_AT_ONCE`; they are taken away when all parts are there."""
        latest: dict[str, Outcome] = {}
        total = 0
        kept: list[SegmentWriter] = []  # takes the lines of other versions, made for the first of them
        with ExitStack() as stack:

            def keep(line: bytes) -> None:
                if not kept:
                    kept.append(SegmentWriter(self._folder, kept=True))
                    stack.callback(kept[0].close)
                kept[0].append_line(line)

            reader = SegmentReader(keep=keep)
            damaged = [path for path in self._damaged if path.exists()]
            for key, outcome in itertools.chain(
                *(_read_part(path).found.items() for path in damaged), *(reader.read(path, _keyed) for path in paths)
            ):
                _keep(latest, key, outcome)
                if len(latest) >= ENTRIES_AT_ONCE:
                    total += self._write_part(latest)
                    latest.clear()
        if latest:
            total += self._write_part(latest)
        for path in paths:
            path.unlink()
        for path in damaged:
            path.rename(path.with_suffix(".damaged"))
        self._damaged.clear()
        return total

    def _write_part(self, outcomes: Mapping[str, Outcome]) -> int:
        import pyarrow as pa
        import pyarrow.parquet as pq

        keys = sorted(outcomes)
        table = pa.table({"key": keys, "outcome": [_row(k, _PART.encode(_as_json(outcomes[k]))) for k in keys]})
        temporary = self._folder / f"{uuid.uuid4().hex}.tmp"
        try:
            with replacing(temporary) as file:
                pq.write_table(table, file, compression="zstd", row_group_size=ROWS_AT_ONCE, write_page_checksum=True)
                digest = digest_of(file)
            temporary.rename(self._folder / f"{PART}{digest}.parquet")
        finally:
            temporary.unlink(missing_ok=True)
        return len(keys)


def _read_part(path: Path, wanted: Collection[str] | None = None) -> Lookup:
    """Those of ``wanted`` (or all) that a part holds, by row groups; of a damaged one the rows that are intact. Raises OSError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found: dict[str, Outcome] = {}
    others = 0
    with reading(path) as file:
        whole = intact = digest_of(file) == path.stem.removeprefix(PART)
        try:
            part = pq.ParquetFile(file, page_checksum_verification=True)
            groups = range(part.num_row_groups)
        except (OSError, pa.ArrowException):
            return Lookup({}, damaged=int(not intact))
        for number in groups:
            try:
                keys = part.read_row_group(number, columns=["key"])["key"].to_pylist()
                rows = [i for i, key in enumerate(keys) if wanted is None or key in wanted]
                if not rows:
                    continue
                texts = part.read_row_group(number, columns=["outcome"])["outcome"].take(pa.array(rows)).to_pylist()
            except (OSError, ValueError, KeyError, pa.ArrowException):
                whole = False
                continue
            for row, text in zip(rows, texts, strict=True):
                if not intact and not (text and text == _row(keys[row], text[9:])):
                    continue
                try:
                    found[keys[row]] = _outcome(json.loads(text[9:]))
                except (KeyError, TypeError, ValueError):
                    others += 1
    return Lookup(found, int(not whole), others)


def _row(key: str, outcome: str) -> str:
    """What a part holds of an outcome: the CRC32 of key and outcome, a space, the outcome."""
    return f"{zlib.crc32(f'{key} {outcome}'.encode()):08x} {outcome}"


def _num_rows(path: Path) -> int:
    """Of a Parquet file of another version; one, where it does not say."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with reading(path) as file:
            return int(pq.read_metadata(file).num_rows)
    except (OSError, pa.ArrowException):
        return 1


def _keep(found: dict[str, Outcome], key: str, outcome: Outcome) -> None:
    """The later outcome wins, but a failure never replaces a success."""
    if key not in found or found[key].retry or not outcome.retry:
        found[key] = outcome


def _as_json(outcome: Outcome) -> dict[str, Any]:
    whole = {**vars(outcome), "status": str(outcome.status)}  # shallow: `asdict` would copy, and take most of an append's time
    return {k: v for k, v in whole.items() if v not in (None, "", {})}


def _keyed(entry: Mapping[str, Any]) -> tuple[str, Outcome]:
    return entry["key"], _outcome(entry["outcome"])


def _outcome(data: Mapping[str, Any]) -> Outcome:
    return Outcome(**{**data, "status": Status(data["status"])})
