"""A folder of results held by one process at a time, which refuses what belongs to something else."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.errors import RunConflict, UsageError
from harness.storing.files import discard_abandoned, lock_file

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
