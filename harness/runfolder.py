"""The files of a run folder: manifest.json and records.parquet, both replaced atomically, and reading them back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any

from harness.api import Record
from harness.errors import StoreError, UsageError

MANIFEST = "manifest.json"
RECORDS = "records.parquet"


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Strict JSON by temporary file and rename.

    Raises:
        StoreError: not writable.
    """
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(data, file, allow_nan=False, ensure_ascii=False, indent=1, default=str)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error


ROWS_AT_ONCE = 1 << 15
"""Records held in memory while a file of them is written; also the rows of its row groups."""


@contextmanager
def records_file(folder: Path) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetWriter` of records, renamed to `RECORDS` when the context ends well.

    Raises:
        StoreError: not writable; a file that was there stays as it was.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"seed": pa.int64(), "value": pa.float64(), "weight": pa.float64(), "synthetic": pa.bool_()}
    schema = pa.schema([(f.name, types.get(f.name, pa.string())) for f in fields(Record)])
    temporary = folder / "records.tmp"
    try:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as out:
            yield out
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(folder / RECORDS)
    except OSError as error:
        raise StoreError(f"cannot write {folder / RECORDS}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_records(folder: Path, records: Iterable[Record]) -> None:
    """All records of a run as one Parquet file, by temporary file and rename; memory does not grow with their number.

    Raises:
        StoreError: not writable.
    """
    import pyarrow as pa

    rest = iter(records)
    with records_file(folder) as out:
        while rows := list(islice(rest, ROWS_AT_ONCE)):
            columns = {name: [getattr(row, name) for row in rows] for name in out.schema.names}
            columns["status"] = [str(status) for status in columns["status"]]
            for name in ("counts", "detail"):
                columns[name] = [_as_text(evidence) for evidence in columns[name]]
            out.write_table(pa.Table.from_pydict(columns, schema=out.schema))


def _as_text(evidence: Mapping[str, Any]) -> str:
    return json.dumps(evidence, allow_nan=False, ensure_ascii=False, sort_keys=True) if evidence else "{}"


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run.

    Raises:
        UsageError: the folder is not a run.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{folder} is not a run folder: {MANIFEST} cannot be read ({error.strerror}). Runs lie in runs/ unless run.root= says otherwise."
        ) from error
    except ValueError as error:
        raise UsageError(f"{folder / MANIFEST} is not valid JSON: {error}") from error
    return manifest
