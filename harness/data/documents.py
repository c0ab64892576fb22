"""Files that come from outside: ordinary ones only, of a bounded size; and YAML and JSON of bounded depth.

A named pipe, a socket or a device under a name that a manifest, a folder or a command line gives would block its reader for ever or never
end. YAML grows by aliases and JSON and YAML nest: what a parser would take minutes for, or overflow its stack with, is refused before.
"""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any

from harness.errors import ConfigError

MIB = 1 << 20
YAML_BYTES, YAML_DEPTH, YAML_VALUES = MIB, 50, 50_000
"""What a YAML text may have: bytes, collections in one another, and values when its aliases are written out."""


class NotRegular(OSError):
    """What a path leads to is no regular file. A named pipe or a device would block its reader for ever, so nothing else is opened."""


def open_regular(path: Path | str) -> BufferedReader:
    """A regular file, opened once; never waits, whatever lies under the name, and what is opened is what was looked at.

    Raises:
        NotRegular: a folder, named pipe, socket or device.
        FileNotFoundError: nothing there.
        OSError: no permission, a loop of links ...
        ValueError: no file can be called that (a NUL in the name).
    """
    _require_regular(Path(path).stat().st_mode)  # the other end of a pipe is to hear nothing of us
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _require_regular(os.fstat(descriptor).st_mode)  # it may have been replaced meanwhile
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: Path | str, limit: int) -> bytes:
    """All bytes of a regular file that has no more than ``limit``; links are followed.

    Raises:
        OSError: it cannot be opened (see `open_regular`), or is larger.
        ValueError: no file can be called that.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise OSError(f"it has {size / MIB:.0f} MiB; at most {limit / MIB:.0f} are read")
        return file.read(limit + 1)


def read_text(path: Path | str, limit: int = 64 * MIB) -> str:
    """The text of a regular file in UTF-8, without its byte order mark.

    Raises:
        OSError: as `read_bytes`.
        ValueError: not UTF-8, or no file can be called that.
    """
    return read_bytes(path, limit).decode("utf-8-sig")


def load_yaml(text: str, name: str) -> Any:
    """YAML as plain data; ``name`` of the file or setting stands in messages.

    Raises:
        ConfigError: not YAML, or beyond the limits.
    """
    import yaml

    try:
        check_yaml(text, name)
        # libyaml reads a paper's file ten times as fast; a build without it has the other.
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError) as problem:
        raise ConfigError(f"{name} is not YAML: {problem}") from problem


def check_yaml(text: str, name: str) -> None:
    """Refuses a YAML text beyond the limits, without building anything of it.

    Raises:
        ConfigError: too long, too deep, or too large once its aliases are written out; names the limit.
        YAMLError: not YAML.
    """
    import yaml

    if len(text) > YAML_BYTES or len(text.encode("utf-8", "replace")) > YAML_BYTES:
        raise ConfigError(f"{name} has more than {YAML_BYTES / MIB:.0f} MiB, which no settings are")
    counts: dict[str, int] = {}  # values of what an anchor names
    open_: list[tuple[str | None, int]] = []  # anchor and values so far of the collections around
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, 1))
            if len(open_) > YAML_DEPTH:
                raise ConfigError(f"{name}: lists and mappings lie more than {YAML_DEPTH} deep in one another")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, values = open_.pop()
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open_):
                raise ConfigError(f"{name}: *{event.anchor} stands inside of what it names")
            anchor, values = None, counts.get(str(event.anchor), 1)
        elif isinstance(event, yaml.ScalarEvent):
            anchor, values = event.anchor, 1
        else:
            continue
        if anchor:
            counts[anchor] = values
        if open_:
            around, so_far = open_[-1]
            open_[-1] = around, so_far + values
            if so_far + values > YAML_VALUES:
                raise ConfigError(f"{name}: more than {YAML_VALUES} values once its aliases are written out")


def _require_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"))
        raise NotRegular(f"{next((kind for test, kind in kinds if test(mode)), 'a device')}, not a file")
