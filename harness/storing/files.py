"""Files that are written whole and read back as they were written, or refused; and folders of results held by one process at a time.

What is written takes its place by one rename, under a name of its own until then that nobody can have prepared: a symbolic link in that
place is replaced, never followed. JSON files end with a checksum of everything before it, so that one altered byte is seen.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import stat
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from harness.data.documents import NotRegular, open_regular
from harness.errors import DamagedFile, RunConflict, StoreError, UsageError

_ENCODER = json.JSONEncoder(allow_nan=False, ensure_ascii=False, default=str)
_CHECKSUM = "checksum"
_TEMPORARY = re.compile(r"\..*\.[0-9a-f]{32}\.tmp", re.DOTALL)
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SEAL = ',\n "checksum": "%s"\n}\n'
_SEALED = re.compile(rb',\n "checksum": "([0-9a-f]{32})"\n\}\n\Z')
_SEAL_LENGTH = len(_SEAL % ("0" * 32))


@contextmanager
def replacing(path: Path, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """A file, to be written and read, that takes the place of ``path`` when the context ends well; until then, and otherwise, what was there stays.

    Its permissions are ``mode``, less the user's mask. Raises StoreError where it cannot be written.
    """
    temporary = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex}.tmp")
    try:
        descriptor = os.open(temporary, _NEW, mode)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed `discard_abandoned` leaves it alone
                yield file
                file.flush()
                os.fsync(file.fileno())
                temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error


def discard_abandoned(folder: Path) -> None:
    """Takes away what `replacing` left in a folder when its process was killed; what somebody is still writing stays. Raises OSError."""
    for path in folder.glob(".*.tmp"):
        if _TEMPORARY.fullmatch(path.name):
            with suppress(FileNotFoundError, BlockingIOError), reading(path) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


@contextmanager
def reading(path: Path) -> Iterator[IO[bytes]]:
    """A regular file, open for reading; a pipe or a device would hold the reader up, and is refused. Raises OSError."""
    try:
        file = open_regular(path)
    except NotRegular as error:
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    with file:
        yield file


@contextmanager
def lock_file(path: Path) -> Iterator[IO[str]]:
    """A file to be locked, made if need be; a symbolic link in its place is taken away, never followed. Raises OSError."""
    if path.is_symlink():
        path.unlink(missing_ok=True)
    # Opening a pipe would otherwise wait for somebody at its other end.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "no regular file", str(path))
    with os.fdopen(descriptor, "r+", encoding="utf-8", errors="replace") as file:
        yield file


def boot() -> str:
    """Names this machine since it was started (8 hex digits): processes that share it share advisory locks."""
    identity = Path("/proc/sys/kernel/random/boot_id")
    text = identity.read_text(encoding="ascii") if identity.exists() else socket.gethostname()
    return f"{zlib.crc32(text.encode()):08x}"


def digest_of(file: IO[bytes]) -> str:
    """blake2b, 32 hex digits, of an open file from its beginning; it stands at its beginning afterwards."""
    digest = hashlib.blake2b(digest_size=16)
    file.seek(0)
    while piece := file.read(1 << 20):
        digest.update(piece)
    file.seek(0)
    return digest.hexdigest()


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Strict JSON with a checksum, an entry of each section a line. Raises StoreError: not writable."""
    checksum = hashlib.blake2b(digest_size=16)
    with replacing(path) as file:
        for text in _lines(data):
            encoded = text.encode("utf-8", "backslashreplace")  # half of a surrogate pair becomes the JSON that means it
            checksum.update(encoded)
            file.write(encoded)
        file.write((_SEAL % checksum.hexdigest()).encode())


def _lines(data: Mapping[str, Any]) -> Iterator[str]:
    """The text without the brace that ends it. `json.dump` with an indent would be many times slower: it leaves C."""
    encode = _ENCODER.encode
    mark = "{"
    for key, value in data.items():
        yield f"{mark}\n {encode(str(key))}: "
        mark = ","
        if isinstance(value, Mapping) and value:
            yield from _section("{}", (f"{encode(str(k))}: {encode(v)}" for k, v in value.items()))
        elif isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
            yield from _section("[]", map(encode, value))
        else:
            yield encode(value)


def _section(braces: str, entries: Iterable[str]) -> Iterator[str]:
    yield braces[0]
    for number, entry in enumerate(entries):
        yield f"{',' if number else ''}\n  {entry}"
    yield f"\n {braces[1]}"


def sealed(text: str) -> str:
    """The text of a JSON object with the checksum that `parsed_json` looks for."""
    body = text.rstrip().removesuffix("}").rstrip()
    return body + _SEAL % hashlib.blake2b(body.encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote, or a JSON object of another hand, which has no checksum. Raises OSError; and as `parsed_json`."""
    with reading(path) as file:
        return parsed_json(file.read(), str(path))


def parsed_json(data: bytes, name: str) -> dict[str, Any]:
    """A JSON object from the bytes of a file, without its checksum. Raises DamagedFile: it is not what was written, or no object at all."""
    try:
        found = json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{name} is damaged: no valid JSON ({error or type(error).__name__})") from error
    if not isinstance(found, dict):
        kind = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}.get(type(found), "a number")
        raise DamagedFile(f"{name} is damaged: it holds {kind} where an object of named sections was written")
    if _CHECKSUM in found:
        seal = _SEALED.search(data[-_SEAL_LENGTH:])
        if seal is None or seal[1] != hashlib.blake2b(data[:-_SEAL_LENGTH], digest_size=16).hexdigest().encode():
            raise DamagedFile(
                f"{name} was altered or damaged after it was written: its checksum does not fit "
                f'(to keep an edit made on purpose, take out its line "{_CHECKSUM}")'
            )
        del found[_CHECKSUM]
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number in JSON")


LOCK = ".lock"


@contextmanager
def claimed(folder: Path, conflict: Callable[[], str], *, overwrite: bool, advice: str) -> Iterator[None]:
    """The folder, made if need be and held while the context lasts; a lock left by a dead process does not hold.

    Args:
        folder: to hold.
        conflict: called once the folder is held: what it contains that is not ours ("another run ..."), or "".
        overwrite: move that content aside instead of refusing.
        advice: how the user chooses another folder or has this one overwritten, for the messages.

    Raises:
        UsageError: it cannot be written.
        RunConflict: another process holds it, or it holds something else and ``overwrite`` is off.
    """
    if folder.is_symlink() and folder.lstat().st_uid not in (os.geteuid(), 0):
        raise UsageError(f"{folder} is another user's link to {folder.resolve()}: nothing is written there; {advice}")
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context(lock_file(folder / LOCK))
        except OSError as error:
            raise UsageError(f"cannot write in {folder}: {error.strerror}; {advice}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            holder = lock.read().strip() or "?"
            raise RunConflict(f"{folder} is in use by process {holder}; wait for it, or {advice}") from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        discard_abandoned(folder)
        if what := conflict():
            if not overwrite:
                raise RunConflict(f"{folder} holds {what}; {advice}")
            move_aside(folder)
        yield


def move_aside(folder: Path) -> None:
    """Everything but the lock into ``<folder>.old1`` (or the next free number); nothing is deleted."""
    number = 1
    while os.path.lexists(aside := folder.with_name(f"{folder.name}.old{number}")):
        number += 1
    aside.mkdir()
    for path in folder.iterdir():
        if path.name != LOCK:
            shutil.move(str(path), aside / path.name)
