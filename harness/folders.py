"""A folder of results held by one process at a time, which refuses what belongs to something else."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import RunConflict, UsageError

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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("a+")
    except OSError as error:
        raise UsageError(f"cannot write in {folder}: {error.strerror}; {advice}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            holder = lock.read().strip() or "?"
            raise RunConflict(f"{folder} is in use by process {holder}; wait for it, or {advice}") from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        if what := conflict():
            if not overwrite:
                raise RunConflict(f"{folder} holds {what}; {advice}")
            move_aside(folder)
        yield


def move_aside(folder: Path) -> None:
    """Everything but the lock into ``<folder>.old1`` (or the next free number); nothing is deleted."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.old{number}")).exists():
        number += 1
    aside.mkdir()
    for path in folder.iterdir():
        if path.name != LOCK:
            shutil.move(str(path), aside / path.name)
