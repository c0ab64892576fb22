"""The content-keyed store: predictions once made and scores once measured are found again by what they were made from.

Layout below the root::

    predictions/ab/<key>/   audio.wav, prompt.wav (float32), codes.npz, prediction.json: appears whole, by one rename
    outcomes/*.seg          what was measured or failed, by key (`harness.segments`)
    outcomes/*.parquet      the same, compacted

Several processes may write to one store. Keys are hashes of everything the content depends on, so a changed system, item, metric
or backend is simply another key; what is stale stays, unused.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.api import Bitstream, CodecSpec, Codes, Encoded, Prediction, Scalar, Status, Timing
from harness.data.audio import read_audio, write_audio
from harness.errors import StoreError
from harness.segments import SegmentReader, SegmentWriter, abandoned

ENTRIES_AT_ONCE = 200_000
"""Outcomes held in memory by a compaction, and the most that a part holds."""
ROWS_AT_ONCE = 1 << 15
"""Rows of a part's row groups, the unit in which parts are read."""
_STRICT = json.JSONEncoder(allow_nan=False, ensure_ascii=False)


def key_of(kind: str, parts: Mapping[str, Any]) -> str:
    """32 hex digits naming content made from ``parts`` (JSON-ready)."""
    text = json.dumps({"kind": kind, **parts}, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


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

    @property
    def retry(self) -> bool:
        """Whether another attempt may end otherwise."""
        return self.status in (Status.FAILED, Status.TIMEOUT)


class DamagedPrediction(StoreError):
    """A stored prediction that is not what was stored."""


class Store:
    """A store on disk.

    Args:
        root: its folder; created on first write.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._outcomes = root / "outcomes"

    # -- predictions ------------------------------------------------------------------------------------------------------

    def prediction_path(self, key: str) -> Path:
        return self.root / "predictions" / key[:2] / key

    def has_prediction(self, key: str) -> bool:
        return (self.prediction_path(key) / "prediction.json").exists()

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
        temporary = self.root / "predictions" / f"tmp-{uuid.uuid4().hex}"
        digest = _digest(prediction)
        try:
            temporary.mkdir(parents=True)
            write_audio(temporary / "audio.wav", prediction.audio)
            if prediction.prompt_resynthesis is not None:
                write_audio(temporary / "prompt.wav", prediction.prompt_resynthesis)
            description: dict[str, Any] = {
                "digest": digest,
                "audio": prediction.audio.digest(),
                "timing": asdict(prediction.timing) if prediction.timing else None,
                "stop_reason": prediction.stop_reason,
                "flags": list(flags),
                "encoded": _save_encoded(temporary / "codes.npz", prediction.encoded),
            }
            with (temporary / "prediction.json").open("w", encoding="utf-8") as file:
                json.dump(description, file, allow_nan=False)
                file.flush()
                os.fsync(file.fileno())
            final.parent.mkdir(exist_ok=True)
            try:
                temporary.rename(final)
            except OSError:
                if not self.has_prediction(key):
                    raise
                shutil.rmtree(temporary)  # another process made the same prediction meanwhile
                return str(self.describe_prediction(key)["digest"])
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise StoreError(
                f"cannot store a prediction in {self.root}: {error.strerror or error}; what was stored before is intact"
            ) from error
        return digest

    def check_prediction(self, key: str) -> bool:
        """Whether the description of a stored prediction can be read; one that cannot is set aside, so that it is made again."""
        try:
            if {"digest", "timing", "stop_reason", "encoded"} <= set(self.describe_prediction(key)):
                return True
        except (OSError, ValueError):
            pass  # what is wrong with it does not matter: it has been made once and can be made again
        self.set_aside(key)
        return False

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

    def describe_prediction(self, key: str) -> dict[str, Any]:
        """What is known of a stored prediction without its audio: ``digest``, ``timing``, ``stop_reason``, ``flags``, ``encoded``."""
        description: dict[str, Any] = json.loads((self.prediction_path(key) / "prediction.json").read_text(encoding="utf-8"))
        return description

    def load_prediction(self, key: str) -> Prediction:
        """A stored prediction.

        Raises:
            DamagedPrediction: it is not there or was damaged from outside.
        """
        folder = self.prediction_path(key)
        try:
            description = json.loads((folder / "prediction.json").read_text(encoding="utf-8"))
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

    def outcomes(self, keys: Collection[str]) -> tuple[dict[str, Outcome], int]:
        """What is known under ``keys``, and how many damaged records (or whole damaged parts) were passed over on the way."""
        wanted = set(keys)
        recent: dict[str, Outcome] = {}
        found: dict[str, Outcome] = {}
        reader = SegmentReader()
        # Segments first: one that a compactor takes away meanwhile is in a part by then, and parts are listed afterwards.
        for path in sorted(self._outcomes.glob("*.seg")):
            try:
                for entry in reader.read(path):
                    if entry["key"] in wanted:
                        _keep(recent, entry["key"], _outcome(entry["outcome"]))
            except FileNotFoundError:
                continue
        for path in sorted(self._outcomes.glob("*.parquet")):
            try:
                for key, outcome in _read_part(path, wanted):
                    _keep(found, key, outcome)
            except OSError:  # pyarrow's errors for a torn file are OSErrors too: what it held is measured again
                reader.dropped += 1
        for key, outcome in recent.items():
            _keep(found, key, outcome)
        return found, reader.dropped

    def compact(self) -> int:
        """Merges abandoned segments into one Parquet part. Safe against a kill at any point and against other compactors.

        Returns:
            Number of entries in the new parts.

        Raises:
            StoreError: the disk is full or not writable; nothing is lost.
        """
        if not self._outcomes.is_dir():
            return 0
        try:
            with (self._outcomes / ".compacting").open("w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    return 0
                return self._compact(list(abandoned(self._outcomes)))
        except OSError as error:
            raise StoreError(
                f"cannot compact {self._outcomes}: {error.strerror or error}; every record is intact, free space and run the same command again"
            ) from error

    def _compact(self, paths: Sequence[Path]) -> int:
        """Segments into parts of at most `ENTRIES_AT_ONCE`; they are taken away when all parts are there."""
        reader = SegmentReader()
        latest: dict[str, Outcome] = {}
        total = 0
        for path in paths:
            for entry in reader.read(path):
                _keep(latest, entry["key"], _outcome(entry["outcome"]))
                if len(latest) >= ENTRIES_AT_ONCE:
                    total += self._write_part(latest)
                    latest.clear()
        if latest:
            total += self._write_part(latest)
        for path in paths:
            path.unlink()
        return total

    def _write_part(self, outcomes: Mapping[str, Outcome]) -> int:
        import pyarrow as pa
        import pyarrow.parquet as pq

        keys = sorted(outcomes)
        table = pa.table({"key": keys, "outcome": [_STRICT.encode(_as_json(outcomes[k])) for k in keys]})
        part = self._outcomes / f"{uuid.uuid4().hex}.parquet"
        temporary = part.with_suffix(".tmp")
        try:
            pq.write_table(table, temporary, compression="zstd", row_group_size=ROWS_AT_ONCE)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.rename(part)
        finally:
            temporary.unlink(missing_ok=True)
        return len(keys)


class OutcomeWriter:
    """Appends outcomes to this process's own segment."""

    def __init__(self, segment: SegmentWriter) -> None:
        self._segment = segment

    def append(self, key: str, outcome: Outcome) -> None:
        """Raises StoreError when the disk is full."""
        self._segment.append({"key": key, "outcome": _as_json(outcome)})

    def close(self) -> None:
        self._segment.close()


def _read_part(path: Path, wanted: set[str]) -> Iterator[tuple[str, Outcome]]:
    """Those of ``wanted`` that a part holds, read a row group at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as part:
            for number in range(part.num_row_groups):
                keys = part.read_row_group(number, columns=["key"])["key"].to_pylist()
                rows = [i for i, key in enumerate(keys) if key in wanted]
                if rows:
                    outcomes = part.read_row_group(number, columns=["outcome"])["outcome"].take(pa.array(rows)).to_pylist()
                    yield from ((keys[i], _outcome(json.loads(o))) for i, o in zip(rows, outcomes, strict=True))
    except pa.ArrowInvalid as error:
        raise OSError(str(error)) from error


def _keep(found: dict[str, Outcome], key: str, outcome: Outcome) -> None:
    """The later outcome wins, but a failure never replaces a success."""
    if key not in found or found[key].retry or not outcome.retry:
        found[key] = outcome


def _as_json(outcome: Outcome) -> dict[str, Any]:
    whole = {**vars(outcome), "status": str(outcome.status)}  # shallow: `asdict` would copy, and take most of an append's time
    return {k: v for k, v in whole.items() if v not in (None, "", {})}


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
