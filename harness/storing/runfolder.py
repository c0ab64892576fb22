"""The files of a run folder: manifest.json and records.parquet, both replaced atomically, and reading them back checked; and a run as its
readers see it: one DataFrame row a measurement, and where the audio lies.

The manifest carries the digest of the records that belong to it, and a checksum of its own (`harness.storing.files`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from harness.api import Better, Record
from harness.errors import DamagedFile, NewerVersion, UsageError
from harness.storing.aliases import places
from harness.storing.files import digest_of, parsed_json, reading, replacing
from harness.storing.store import Store

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


MANIFEST = "manifest.json"
RECORDS = "records.parquet"
SCHEMA = 2
"""Of manifests. From 2 on each tells the digest of its records."""
_KEY = re.compile(r"[0-9a-f]{32}")
ROWS_AT_ONCE = 1 << 15
"""Records held in memory while a file of them is written; also the rows of its row groups."""


@dataclass
class RecordsFile:
    """A file of records being written."""

    writer: Any  # takes tables and batches
    schema: pa.Schema
    digest: str = ""  # of the whole file, once it is written

    @property
    def section(self) -> dict[str, str]:
        """What its manifest says of it."""
        return {"digest": self.digest}


def records_schema() -> pa.Schema:
    """The columns of a run's records."""
    import pyarrow as pa

    types = {"seed": pa.int64(), "value": pa.float64(), "weight": pa.float64(), "synthetic": pa.bool_()}
    return pa.schema([(f.name, types.get(f.name, pa.string())) for f in fields(Record)])


@contextmanager
def records_file(folder: Path, schema: pa.Schema | None = None) -> Iterator[RecordsFile]:
    """A file of records (`records_schema` unless told), which takes the place of `RECORDS` when the context ends well.

    Raises StoreError where it is not writable; a file that was there stays as it was.
    """
    import pyarrow.parquet as pq

    schema = schema or records_schema()
    with replacing(folder / RECORDS) as file:
        with pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as out:
            records = RecordsFile(out, schema)
            yield records
        records.digest = digest_of(file)


def write_records(folder: Path, records: Iterable[Record]) -> dict[str, str]:
    """All records of a run as one Parquet file, by temporary file and rename; memory does not grow with their number. Raises StoreError.

    Returns:
        The section ``records`` of the manifest that belongs to them.
    """
    import pyarrow as pa

    rest = iter(records)
    dump = json.JSONEncoder(allow_nan=False, ensure_ascii=False, sort_keys=True).encode
    with records_file(folder) as out:
        while rows := list(islice(rest, ROWS_AT_ONCE)):
            columns = {name: [getattr(row, name) for row in rows] for name in out.schema.names}
            columns["status"] = [str(status) for status in columns["status"]]
            for name in ("counts", "detail"):
                columns[name] = [dump(evidence) if evidence else "{}" for evidence in columns[name]]
            out.writer.write_table(pa.Table.from_pydict(columns, schema=out.schema))
    return out.section


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run or a baseline. Raises UsageError: the folder is neither; and as `parsed_manifest`."""
    path = folder / MANIFEST
    try:
        with reading(path) as file:
            data = file.read()
    except OSError as error:
        raise UsageError(
            f"{folder} is not a run folder: {MANIFEST} cannot be read ({error.strerror or error}). Runs lie in runs/ unless run.root= says otherwise."
        ) from error
    return parsed_manifest(data, str(path))


def parsed_manifest(data: bytes, name: str) -> dict[str, Any]:
    """A manifest from the bytes of its file. Raises DamagedFile: it is not what was written; NewerVersion: its schema is not known here."""
    try:
        manifest = parsed_json(data, name)
    except DamagedFile as error:
        raise DamagedFile(f"{error}; {AGAIN}") from error
    schema = manifest.get("schema", 1)
    if isinstance(schema, int) and schema > SCHEMA:
        raise NewerVersion(f"{name} was written by a newer version of the harness (schema {schema}, this one reads {SCHEMA}): upgrade it")
    if wrong := _wrong(manifest, _SHAPE):
        raise DamagedFile(f"{name} is no manifest of a run: {wrong}; {AGAIN}")
    return manifest


AGAIN = "the command that made the run writes it again, from what the store holds"


class _Each(NamedTuple):
    """The shape of every entry of a section."""

    entry: Any


class _Rule(NamedTuple):
    """What a value must keep beside its kind, and the words where it does not."""

    keeps: Callable[[Any], bool]
    words: str


_NUMBER, _TEXT = (int, float), (str, type(None))
_BOUNDS = _Rule(
    lambda v: isinstance(v, list) and len(v) == 2 and all(bound is None or isinstance(bound, int | float) for bound in v),
    "holds not two numbers",
)
_SHAPE: Mapping[str, Any] = {
    "suite!": {"name": str, "title": _TEXT, "task": _TEXT, "metrics": [str], "headline": [str], "curves": [{"title!": object, "x!": object, "y!": list}]},
    "systems!": _Each({"config": dict, "tools": [_Rule(lambda v: isinstance(v, list) and len(v) == 2, "holds a tool that is no name with its version")],
                       "num_parameters": _NUMBER, "sample_rate": _NUMBER}),
    "metrics!": _Each({"name!": str, "unit!": str, "better!": _Rule(lambda v: v in list(Better), "is no direction"), "bounds": _BOUNDS,
                       "worst": (int, float, type(None)), "description": _TEXT, "needs": [str], "params": dict, "aggregation": str, "signature": str}),
    "items!": _Each({"text": _TEXT, "language": _TEXT, "speaker": _TEXT, "path": _TEXT, "digest": _TEXT}),
    "dataset": {"name": _TEXT, "digest": _TEXT, "num_items": _NUMBER, "left_out": [str]},
    "config": {"report": dict, "run": dict},
    "counts": _Each(int), "packages": dict, "machine": dict, "git": dict, "absent_metrics": dict, "records": dict,
    "baseline": {"repeats": list},
    # A key names a folder of the store: anything else may lead out of it.
    "outputs": [{"label!": str, "settings!": str, "item!": str, "seed!": int, "stored!": bool, "stop_reason": str, "flags": [str],
                 "key!": _Rule(lambda v: isinstance(v, str) and bool(_KEY.fullmatch(v)), "is no key of the store")}],
    "warnings": [{"system!": str, "flag!": str, "items!": int, "side": str}],
    "calibration": [str],
}  # fmt: skip
"""What a manifest holds, section by section: a mapping has fields ("!": one it cannot lack), a list entries of one shape."""


def _wrong(value: Any, shape: Any, where: str = "") -> str:
    """Which part of a manifest is missing or not of its kind, or ""."""
    if isinstance(shape, _Rule):
        return "" if shape.keeps(value) else f"'{where}' {shape.words}: {value!r:.40}"
    if isinstance(shape, list):
        if not isinstance(value, list | tuple):
            return f"'{where}' should hold a list"
        return next(filter(None, (_wrong(entry, shape[0], where) for entry in value)), "")
    if isinstance(shape, _Each | Mapping) and not isinstance(value, dict):
        return f"'{where}' should hold sections by name"
    if isinstance(shape, _Each):
        return next(filter(None, (_wrong(entry, shape.entry, where) for entry in value.values())), "")
    if isinstance(shape, Mapping):
        for field, inner in shape.items():
            name = field.rstrip("!")
            if name in value:
                if wrong := _wrong(value[name], inner, f"{where}.{name}".strip(".")):
                    return wrong
            elif field != name:
                return f"{f'an entry of {where!r}' if where else 'it'} lacks '{name}'"
        return ""
    return "" if isinstance(value, shape) else f"'{where}' is a {type(value).__name__}"


def read_records(folder: Path, manifest: Mapping[str, Any], wanted: Mapping[str, Collection[str]] | None = None) -> pa.Table:
    """The records that belong to a manifest; of a run too large to be held at once those with the ``wanted`` values, by column.

    Raises UsageError: there are none yet; DamagedFile: they are not what was written.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    path = folder / RECORDS
    if not path.exists() or (manifest.get("schema", 1) >= 2 and "records" not in manifest):
        raise UsageError(f"{folder} was stopped before it had any records; run the same command again: {manifest.get('command', '')}")
    sets = {name: pa.array(sorted(values), pa.string()) for name, values in (wanted or {}).items()}
    kept: list[pa.RecordBatch] = []
    try:
        with reading(path) as file:
            for batch in record_batches(file, str(path), manifest):
                for name, values in sets.items():
                    batch = batch.filter(pc.is_in(batch[name], value_set=values))
                kept.append(batch)
    except OSError as error:
        raise DamagedFile(f"{path} cannot be read ({error.strerror or error}); {AGAIN}") from error
    return pa.Table.from_batches(kept)


def record_batches(file: IO[bytes], name: str, manifest: Mapping[str, Any]) -> Iterator[pa.RecordBatch]:
    """Records from an open (seekable) file, checked before the first is given; at least one batch, which may be empty.

    The manifest tells their digest; one of an earlier version tells none. Raises DamagedFile where they are not what was written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    declared = manifest.get("records", {}).get("digest")
    if declared is not None and digest_of(file) != declared:
        raise DamagedFile(f"{name} is damaged or of another run: it is not what its {MANIFEST} was written for; {AGAIN}")
    try:
        records = pq.ParquetFile(file, page_checksum_verification=True)
        found, expected = records.schema_arrow, records_schema()
        if lacking := [column for column in expected.names if column not in found.names]:
            raise DamagedFile(
                f"{name} holds no records of a run: it lacks the column{'s' * (len(lacking) > 1)} {', '.join(lacking)}; {AGAIN}"
            )
        schema = pa.schema([expected.field(f.name) if f.name in expected.names else f for f in found], found.metadata)
        yield pa.RecordBatch.from_pylist([], schema)
        for batch in records.iter_batches(batch_size=ROWS_AT_ONCE):
            if declared is None:
                batch.validate(full=True)
            yield batch.cast(schema)
    except (OSError, pa.ArrowException) as error:
        raise DamagedFile(f"{name} is damaged ({error}); {AGAIN}") from error


COLUMNS = (
    "suite", "system", "settings", "item", "seed", "metric", "name", "unit", "better", "signature", "status", "side", "reason", "value", "weight",
    "dataset", "language", "speaker", "synthetic", "counts", "detail",
)  # fmt: skip
"""``counts`` and ``detail`` are JSON text; ``value`` and ``weight`` are NaN unless ``status`` is "ok"."""

OutputKey = tuple[str, str, str, int]
"""(system, settings, item, seed)."""


@dataclass(frozen=True, eq=False)
class OpenedRun:
    """A run folder, read."""

    path: Path  # the folder
    manifest: Mapping[str, Any]  # what ran, where and with what (`harness.running.provenance`)
    frame: pd.DataFrame  # a row per measurement, columns `COLUMNS`
    references: Mapping[str, Path]  # recordings by item id; none where the run was sent here without its store
    outputs: Mapping[OutputKey, Path]  # saved audio of each prediction that succeeded
    digests: Mapping[str, str] = field(default_factory=dict)  # blake2b (32 hex digits) by item id of the recording that was measured


def open_run(path: str | Path, metrics: Collection[str] | None = None, items: Collection[str] | None = None) -> OpenedRun:
    """Reads a run folder; of a run too large to be held at once the records of some ``metrics`` or ``items``: memory grows with what is kept.

    Raises:
        UsageError: not a run, or a run that was killed before its records were joined.
        DamagedFile: manifest or records are not what was written.
    """
    import pandas as pd

    folder = Path(path)
    manifest = read_manifest(folder)
    store = Store(folder.parent / "store")
    wanted = {name: values for name, values in (("metric", metrics), ("item", items)) if values is not None}
    frame = read_records(folder, manifest, wanted).to_pandas(ignore_metadata=True)  # which may tell other kinds of columns
    declared = manifest["metrics"]
    which, keys = pd.factorize(frame["metric"])  # once: mapping a column of strings three times takes half of reading a large run
    for column in ("name", "unit", "better"):
        told = pd.Series([declared[key][column] if key in declared else None for key in keys], dtype=frame["metric"].dtype)
        frame[column] = told.array.take(which)
    frame = frame.loc[:, list(COLUMNS)]
    aliases = places(store.root, str(manifest.get("plan_digest", "")))
    digests = {name: str(item["digest"]) for name, item in manifest["items"].items() if item.get("digest")}
    located = (
        (name, aliases.located(str(item["path"]))) for name, item in manifest["items"].items() if name in digests and item.get("path")
    )
    references = {name: path for name, path in located if path is not None}
    outputs = {
        (o["label"], o["settings"], o["item"], o["seed"]): store.audio_path(o["key"])
        for o in manifest.get("outputs", [])
        # A link in a store that was sent leads to a file of this machine.
        if o["stored"]
        and store.has_prediction(o["key"])
        and not any(p.is_symlink() for p in (store.prediction_path(o["key"]), store.audio_path(o["key"])))
    }
    return OpenedRun(folder, manifest, frame, references, outputs, digests)
