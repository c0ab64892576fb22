"""Text that comes from outside: read from ordinary files only, never longer than a stated size.

A named pipe, a socket or a device under a name that a manifest, a folder or a command line gives would block for ever or never end.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MIB = 1 << 20
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read_bytes(path: Path | str, limit: int = 64 * MIB) -> bytes:
    """All bytes of an ordinary file.

    Args:
        path: of the file; links are followed.
        limit: bytes it may have.

    Raises:
        OSError: it cannot be read, is no ordinary file, or is larger; ``strerror`` says which.
    """
    what = next((word for test, word in _KINDS if test(os.stat(path).st_mode)), "")  # noqa: PTH116  (opening some devices does something)
    if what:
        raise OSError(errno.EINVAL, f"it is {what}, not a file", str(path))
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):  # it was replaced in between
            raise OSError(errno.EINVAL, "it is not a file", str(path))
        if status.st_size > limit:
            raise OSError(errno.EFBIG, f"it has {status.st_size / MIB:.0f} MiB; at most {limit / MIB:.0f} are read", str(path))
        return file.read(limit + 1)
