"""The source of a plug-in as part of its key: a digest of the code that it is.

Built-in systems, metrics and suites are versioned by their ``version`` alone. What a third party registers is often a file that is being
worked on, whose author forgets to raise it; so the code itself counts. It is, of the module that was named: every code and
configuration file of its top-level package, or the one file of a module without a package; and, unless that is installed among other
distributions, the same of whatever these files import from the folder it lies in. Weights are not code: they have a digest of their own.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

_CODE = frozenset({".py", ".so", ".pyd", ".c", ".cpp", ".cu", ".json", ".yaml", ".yml", ".toml"})
_IMPORTED = re.compile(r"^[ \t]*(?:from[ \t]+(\w+)[\w.]*[ \t]+import|import[ \t]+([\w., \t]+))", re.MULTILINE)
_OURS = frozenset({"harness", "systems", "suites", "reports"})
_INSTALLED = frozenset({"site-packages", "dist-packages"})


def source_digest(made: Any) -> str:
    """Digest (16 hex digits) of the code behind a class, function or object of a plug-in; "" for what comes with the harness.

    The code is read now, once a process: a worker asks right after it has imported it.
    """
    kind = made if isinstance(made, type) or hasattr(made, "__qualname__") else type(made)
    top = str(getattr(kind, "__module__", "") or "").partition(".")[0]
    return "" if top in _OURS or top in sys.stdlib_module_names else _digest(top)


@cache
def _digest(top: str) -> str:
    h = hashlib.blake2b(digest_size=8)
    for name, path in sorted(_files(top)):
        try:
            data = path.read_bytes()
        except OSError as error:
            data = f"unreadable: {error.strerror}".encode()
        h.update(f"{name}\0{len(data)}\0".encode("utf-8", "surrogateescape") + data)
    return h.hexdigest()


def _files(top: str) -> Iterator[tuple[str, Path]]:
    """Name below their folder, and path, of the files that a top-level module consists of."""
    module = sys.modules.get(top)
    place = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
    if place is None:
        return  # made by hand, in a test or a notebook: there is no file
    first = Path(place)
    folder = first.parent.parent if hasattr(module, "__path__") and first.suffix else first.parent
    local = not _INSTALLED & set(folder.parts)
    waiting, seen = [top], {top}
    while waiting:
        name = waiting.pop()
        package = folder / name
        found = sorted(_below(package)) if package.is_dir() else [folder / f"{name}.py"] if name != top else [first]
        for path in found:
            yield path.relative_to(folder).as_posix(), path
            if local and path.suffix == ".py":
                for other in _imported(path) - seen - _OURS:
                    if (folder / f"{other}.py").is_file() or (folder / other / "__init__.py").is_file():
                        seen.add(other)
                        waiting.append(other)


def _below(package: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(package):
        folders[:] = [name for name in folders if name != "__pycache__" and not name.startswith(".")]
        yield from (Path(root, name) for name in names if Path(name).suffix in _CODE)


def _imported(path: Path) -> set[str]:
    """Top-level names that a file imports, anywhere in it."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()  # its digest says that it cannot be read
    found: set[str] = set()
    for origin, names in _IMPORTED.findall(text):
        found |= {origin} if origin else {name.split()[0].partition(".")[0] for name in names.split(",") if name.strip()}
    return found
