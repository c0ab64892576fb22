"""The content-keyed store: predictions once made and scores once measured are found again by what they were made from.

Layout below the root::

    predictions/ab/<key>/   audio.wav, prompt.wav (float32), codes.npz, prediction.json: appears whole, by one rename
    outcomes/*.seg          what was measured or failed, by key (`harness.storing.segments`)
    outcomes/v2-*.parquet   the same, compacted; the rest of the name is the digest of the file

All that is read back is checked: descriptions by their checksum, audio and codes by the digest in the description, segments line by line,
parts by their name and, where that no longer fits, row by row. What is damaged is passed over, counted and made again; what another
version of the harness wrote is kept and counted.

Several processes may write to one store. Keys are hashes of everything the content depends on, so a changed system, item, metric
or backend is simply another key; what is stale stays, unused.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.api import Bitstream, CodecSpec, Codes, Encoded, Prediction, Scalar, Status, Timing
from harness.data.audio import read_audio, write_audio
from harness.errors import DamagedFile, StoreError
from harness.foreign import bounded
from harness.storing.files import digest_of, lock_file, read_json, reading, replacing, write_json
from harness.storing.segments import SegmentReader, SegmentWriter, abandoned, boot

ENTRIES_AT_ONCE = 200_000
"""Outcomes held in memory by a compaction, and the most that a part holds."""
ROWS_AT_ONCE = 1 << 15
"""Rows of a part's row groups, the unit in which parts are read."""
SCHEMA = 2
"""Of the descriptions of predictions."""
PART = "v2-"
"""Begins the name of a part."""
DESCRIPTION = "prediction.json"
_DESCRIBED = frozenset({"digest", "timing", "stop_reason", "flags", "encoded"})
LEFT_BEHIND_S = 3600.0
"""A half-stored prediction this old is nobody's any more: to store one takes seconds, on another machine too."""
_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
_STRICT = json.JSONEncoder(allow_nan=False, ensure_ascii=False)


def key_of(kind: str, parts: Mapping[str, Any]) -> str:
    """32 hex digits naming content made from ``parts`` (JSON-ready)."""
    return hashlib.blake2b(_CANONICAL.encode({"kind": kind, **parts}).encode(), digest_size=16).hexdigest()


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
    """What a store knows.

    Args:
        found: outcomes by key.
        damaged: records, or whole parts, passed over on the way because they are not what was written.
        others: records passed over because another version of the harness wrote them.
    """

    found: dict[str, Outcome]
    damaged: int = 0
    others: int = 0


class DamagedPrediction(StoreError):
    """A stored prediction that is not what was stored."""


class OtherPrediction(DamagedPrediction):
    """A stored prediction that another version of the harness described."""


class Store:
    """A store on disk.

    Args:
        root: its folder; created on first write.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._outcomes = root / "outcomes"
        self._predictions = os.fspath(root / "predictions")
        self._damaged: set[Path] = set()

    # -- predictions ------------------------------------------------------------------------------------------------------

    def prediction_path(self, key: str) -> Path:
        return self.root / "predictions" / key[:2] / key

    def has_prediction(self, key: str) -> bool:
        # Asked of every attempt before the first item, so without `pathlib`, which takes ten times as long as the question.
        return os.path.exists(f"{self._predictions}/{key[:2]}/{key}/{DESCRIPTION}")  # noqa: PTH110

    def audio_path(self, key: str) -> Path:
        """Where the audio of a stored prediction lies."""
        return self.prediction_path(key) / "audio.wav"

    def save_prediction(self, key: str, prediction: Prediction, flags: Sequence[str] = ()) -> str:
        """Stores a prediction whole or not at all, with ``flags`` worth a warning ("clipped", "dc" ...).

        Returns:
            Its digest: of audio, codes, stop reason and resynthesised prompt.

        Raises:
            StoreError: the disk is full or not writable.
        """
        final = self.prediction_path(key)
        temporary = self.root / "predictions" / f"tmp-{boot()}-{os.getpid()}-{uuid.uuid4().hex}"
        digest = _digest(prediction)
        try:
            temporary.mkdir(parents=True)
            write_audio(temporary / "audio.wav", prediction.audio)
            if prediction.prompt_resynthesis is not None:
                write_audio(temporary / "prompt.wav", prediction.prompt_resynthesis)
            description: dict[str, Any] = {
                "schema": SCHEMA,
                "digest": digest,
                "audio": prediction.audio.digest(),
                "timing": asdict(prediction.timing) if prediction.timing else None,
                "stop_reason": prediction.stop_reason,
                "flags": list(flags),
                "encoded": _save_encoded(temporary / "codes.npz", prediction.encoded),
            }
            write_json(temporary / DESCRIPTION, description)
            final.parent.mkdir(exist_ok=True)
            try:
                temporary.rename(final)
            except OSError:
                if not self.has_prediction(key):
                    raise
                shutil.rmtree(temporary)  # another process made the same prediction meanwhile
                return str(self.describe_prediction(key)["digest"])
        except BaseException as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if not isinstance(error, (OSError, StoreError)):
                raise
            reason = getattr(error, "strerror", None) or error
            raise StoreError(f"cannot store a prediction in {self.root}: {reason}; what was stored before is intact") from error
        return digest

    def _sweep(self) -> None:
        """Takes away what processes that were killed while they stored a prediction have left, once it is old."""
        for left in (self.root / "predictions").glob("tmp-*"):
            _, *owner, _ = left.name.split("-")
            with contextlib.suppress(OSError):
                alive = owner[:1] == [boot()] and len(owner) > 1 and Path(f"/proc/{owner[1]}").exists()
                if not alive and time.time() - left.stat().st_mtime > LEFT_BEHIND_S:
                    shutil.rmtree(left)

    def check_prediction(self, key: str) -> str:
        """What is wrong with the description of a stored prediction, or "".

        One with a fault is set aside, so that it is made again.
        """
        try:
            self.describe_prediction(key)
        except OtherPrediction:
            wrong = "written by another version of the harness"
        except DamagedPrediction:
            wrong = "damaged"
        else:
            return ""
        self.set_aside(key)
        return wrong

    def set_aside(self, key: str) -> None:
        """Moves a damaged prediction out of the way; nothing is deleted.

        Raises:
            StoreError: not writable.
        """
        aside = self.root / "predictions" / f"damaged-{key}-{uuid.uuid4().hex[:8]}"
        try:
            self.prediction_path(key).rename(aside)
        except FileNotFoundError:
            return  # another process was faster
        except OSError as error:
            raise StoreError(f"cannot set aside the damaged prediction {self.prediction_path(key)}: {error.strerror}") from error

    def discard(self, key: str) -> None:
        """Takes a prediction away, if there is one: it is to be asked for again.

        Raises:
            StoreError: not writable.
        """
        going = self.root / "predictions" / f"tmp-{boot()}-{os.getpid()}-{uuid.uuid4().hex}"
        try:
            self.prediction_path(key).rename(going)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"cannot replace the prediction {self.prediction_path(key)}: {error.strerror}") from error
        shutil.rmtree(going, ignore_errors=True)

    def describe_prediction(self, key: str) -> dict[str, Any]:
        """What is known of a stored prediction without its audio: ``digest``, ``timing``, ``stop_reason``, ``flags``, ``encoded``.

        Raises:
            DamagedPrediction: it cannot be read or is not what was written.
            OtherPrediction: it has not what this version writes.
        """
        path = self.prediction_path(key) / DESCRIPTION
        try:
            description = read_json(path)
        except (OSError, DamagedFile) as error:
            raise DamagedPrediction(f"stored prediction {path.parent} cannot be read ({error})") from error
        if description.get("schema") != SCHEMA or not description.keys() >= _DESCRIBED:
            raise OtherPrediction(f"stored prediction {path.parent} was written by another version of the harness")
        return description

    def load_prediction(self, key: str) -> Prediction:
        """A stored prediction.

        Raises:
            DamagedPrediction: it is not there or was damaged from outside.
        """
        folder = self.prediction_path(key)
        description = self.describe_prediction(key)
        try:
            prediction = Prediction(
                audio=read_audio(folder / "audio.wav"),
                encoded=_load_encoded(folder / "codes.npz", description["encoded"]),
                timing=Timing(**description["timing"]) if description["timing"] else None,
                stop_reason=description["stop_reason"],
                prompt_resynthesis=read_audio(folder / "prompt.wav") if (folder / "prompt.wav").exists() else None,
            )
        except Exception as error:
            raise DamagedPrediction(f"stored prediction {folder} cannot be read ({error})") from error
        if _digest(prediction) != description["digest"]:
            raise DamagedPrediction(f"stored prediction {folder} was altered after it was written")
        return prediction

    # -- outcomes ---------------------------------------------------------------------------------------------------------

    def writer(self) -> OutcomeWriter:
        """A writer of its own for this process."""
        return OutcomeWriter(SegmentWriter(self._outcomes))

    def outcomes(self, keys: Collection[str]) -> Lookup:
        """What is known under ``keys``.

        Raises:
            StoreError: a file of the store cannot be opened.
        """
        wanted = set(keys)
        recent: dict[str, Outcome] = {}
        found: dict[str, Outcome] = {}
        reader = SegmentReader()
        damaged = others = 0

        def asked(entry: Mapping[str, Any]) -> tuple[str, Outcome] | None:
            return _keyed(entry) if entry["key"] in wanted else None

        try:
            # Segments first: one that a compactor takes away meanwhile is in a part by then, and parts are listed afterwards.
            for path in sorted(self._outcomes.glob("*.seg")):
                try:
                    for key, outcome in reader.read(path, asked):
                        _keep(recent, key, outcome)
                except FileNotFoundError:
                    continue
            for path in sorted(self._outcomes.glob("*.parquet")):
                if not path.name.startswith(PART):
                    others += _num_rows(path)
                    continue
                try:
                    part = _read_part(path, wanted)
                except FileNotFoundError:
                    continue  # another process found it damaged, and what was intact is in a part that was not listed yet
                if part.damaged:
                    damaged += 1
                    self._damaged.add(path)
                others += part.others
                for key, outcome in part.found:
                    _keep(found, key, outcome)
        except OSError as error:
            raise StoreError(f"cannot read {error.filename or self._outcomes}: {error.strerror or error}") from error
        for key, outcome in recent.items():
            _keep(found, key, outcome)
        return Lookup(found, reader.dropped + damaged, reader.others + others)

    def compact(self) -> int:
        """Merges abandoned segments, and what is intact of damaged parts met so far, into new parts.

        Safe against a kill at any point and against other compactors. Records of other versions are carried over as they are.

        Returns:
            Number of entries in the new parts.

        Raises:
            StoreError: the disk is full or not writable; nothing is lost.
        """
        if not self._outcomes.is_dir():
            return 0
        try:
            with lock_file(self._outcomes / ".compacting") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    return 0
                self._sweep()
                return self._compact(list(abandoned(self._outcomes)))
        except (OSError, StoreError) as error:
            reason = getattr(error, "strerror", None) or error
            raise StoreError(
                f"cannot compact {self._outcomes}: {reason}; every record is intact, free space and run the same command again"
            ) from error

    def _compact(self, paths: Sequence[Path]) -> int:
        """Segments into parts of at most `ENTRIES_AT_ONCE`; they are taken away when all parts are there."""
        latest: dict[str, Outcome] = {}
        total = 0
        with _Kept(self._outcomes) as kept:
            reader = SegmentReader(keep=kept.append)
            damaged = [path for path in self._damaged if path.exists()]
            sources = itertools.chain(*(_read_part(path).found for path in damaged), *(reader.read(path, _keyed) for path in paths))
            for key, outcome in sources:
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
        table = pa.table({"key": keys, "outcome": [_row(k, _STRICT.encode(_as_json(outcomes[k]))) for k in keys]})
        temporary = self._outcomes / f"{uuid.uuid4().hex}.tmp"
        try:
            with replacing(temporary) as file:
                pq.write_table(table, file, compression="zstd", row_group_size=ROWS_AT_ONCE, write_page_checksum=True)
                digest = digest_of(file)
            temporary.rename(self._outcomes / f"{PART}{digest}.parquet")
        finally:
            temporary.unlink(missing_ok=True)
        return len(keys)


class _Kept:
    """Takes the lines of other versions out of segments that are compacted, into a segment made for the first of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: SegmentWriter | None = None

    def __enter__(self) -> _Kept:
        return self

    def __exit__(self, *details: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def append(self, line: bytes) -> None:
        if self._writer is None:
            self._writer = SegmentWriter(self._folder, kept=True)
        self._writer.append_line(line)


class OutcomeWriter:
    """Appends outcomes to this process's own segment."""

    def __init__(self, segment: SegmentWriter) -> None:
        self._segment = segment

    def append(self, key: str, outcome: Outcome) -> None:
        """Raises StoreError when the disk is full."""
        self._segment.append({"key": key, "outcome": _as_json(outcome)})

    def close(self) -> None:
        self._segment.close()


@dataclass
class _Part:
    """What a part holds: outcomes, whether its file is not what was written, and how many of its rows another version wrote."""

    found: list[tuple[str, Outcome]] = field(default_factory=list)
    damaged: bool = False
    others: int = 0


def _read_part(path: Path, wanted: Collection[str] | None = None) -> _Part:
    """Those of ``wanted`` (or all) that a part holds, read a row group at a time; of a damaged one the rows that are intact.

    Raises:
        OSError: it cannot be opened.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = _Part()
    with reading(path) as file:
        intact = digest_of(file) == path.stem.removeprefix(PART)
        found.damaged = not intact
        try:
            part = pq.ParquetFile(file, page_checksum_verification=True)
            groups = range(part.num_row_groups)
        except (OSError, pa.ArrowException):
            return found
        for number in groups:
            try:
                keys = part.read_row_group(number, columns=["key"])["key"].to_pylist()
                rows = [i for i, key in enumerate(keys) if wanted is None or key in wanted]
                if not rows:
                    continue
                texts = part.read_row_group(number, columns=["outcome"])["outcome"].take(pa.array(rows)).to_pylist()
            except (OSError, ValueError, KeyError, pa.ArrowException):
                found.damaged = True
                continue
            for row, text in zip(rows, texts, strict=True):
                if not intact and not (text and text == _row(keys[row], text[9:])):
                    continue
                try:
                    found.found.append((keys[row], _outcome(json.loads(text[9:]))))
                except (KeyError, TypeError, ValueError):
                    found.others += 1
    return found


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


def _digest(prediction: Prediction) -> str:
    encoded = prediction.encoded.digest() if prediction.encoded else ""
    parts = {"audio": prediction.audio.digest(), "encoded": encoded, "stop": prediction.stop_reason}
    if prediction.prompt_resynthesis is not None:  # only then, so that what was stored without one keeps its digest
        parts["prompt_resynthesis"] = prediction.prompt_resynthesis.digest()
    return key_of("prediction content", parts)


def _save_encoded(path: Path, encoded: Encoded | None) -> dict[str, Any] | None:
    if encoded is None:
        return None
    if isinstance(encoded, Bitstream):
        np.savez(
            path,
            data=np.frombuffer(b"".join(encoded.packets), dtype=np.uint8),
            lengths=np.array([len(p) for p in encoded.packets], dtype=np.int64),
        )
        return {"kind": "bitstream", "num_samples": encoded.num_samples, "sample_rate": encoded.sample_rate}
    side: dict[str, Any] = {f"side.{k}": v for k, v in encoded.side.items()}
    np.savez(path, indices=encoded.indices.astype(np.int32), **side)
    return {"kind": "codes", "num_samples": encoded.num_samples, "spec": asdict(encoded.spec)}


def _load_encoded(path: Path, description: Mapping[str, Any] | None) -> Encoded | None:
    if description is None:
        return None
    with np.load(path, allow_pickle=False) as arrays:
        if description["kind"] == "bitstream":
            ends = np.cumsum(arrays["lengths"])
            data = arrays["data"].tobytes()
            return Bitstream(
                tuple(data[e - n : e] for e, n in zip(ends, arrays["lengths"], strict=True)),
                description["num_samples"],
                description["sample_rate"],
            )
        spec = CodecSpec(**{**description["spec"], "codebook_sizes": tuple(description["spec"]["codebook_sizes"])})
        side = {k.removeprefix("side."): arrays[k] for k in arrays.files if k.startswith("side.")}
        return Codes(arrays["indices"].astype(np.int64), spec, description["num_samples"], side)
