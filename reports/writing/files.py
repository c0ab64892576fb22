"""Files of a report: each whole or not at all, and tables of data as CSV that starts no formula in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from harness.errors import StoreError
from harness.storing.files import replacing
from reports.writing.wording import printable

FORMULA = ("=", "+", "-", "@")
"""What a spreadsheet takes for the beginning of a formula."""


def written(path: Path, parts: Iterable[str | bytes]) -> Path:
    """``path``, in a folder made if need be, replaced in one step by a file of ``parts``; a failure on the way leaves what was there.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise StoreError(f"cannot write {path}: {problem}") from problem
    with replacing(path) as stream:
        stream.writelines(part if isinstance(part, bytes) else part.encode("utf-8", "backslashreplace") for part in parts)
    return path


def tidy(fields: Sequence[str], lines: Iterable[Mapping[str, object]]) -> str:
    """CSV with a header; words on one line and without control characters, figures in full precision, empty where there is none."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows({field: _guarded(value) for field, value in line.items()} for line in lines)
    return stream.getvalue()


def _guarded(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.lstrip().startswith(FORMULA) else text
