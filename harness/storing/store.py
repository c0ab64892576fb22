"""The content-keyed store: predictions once made and scores once measured are found again by what they were made from.

    predictions/ab/<key>/   audio.wav, prompt.wav (float32), codes.npz, output.npz and shifted.npz (codes once more), prediction.json:
                            appears whole, by one rename
    outcomes/               what was measured or failed (`harness.storing.outcomes`)

All that is read back is checked: descriptions by their checksum, audio and codes by the digest in the description. Several processes may
write to one store. Keys are hashes of everything the content depends on, so a changed system, item, metric or judge is simply another
key; what is stale stays, unused.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from harness.api import Bitstream, CodecSpec, Codes, Encoded, Prediction, Timing
from harness.data.audio import read_audio, write_audio
from harness.errors import DamagedFile, StoreError
from harness.storing.files import boot, read_json, write_json
from harness.storing.outcomes import Outcomes

SCHEMA = 2
"""Of the descriptions of predictions."""
DESCRIPTION = "prediction.json"
_DESCRIBED = frozenset({"digest", "timing", "stop_reason", "flags", "encoded"})
LEFT_BEHIND_S = 3600.0
"""A half-stored prediction this old is nobody's any more: to store one takes seconds, on another machine too."""
_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)


def key_of(kind: str, parts: Mapping[str, Any]) -> str:
    """32 hex digits naming content made from ``parts`` (JSON-ready)."""
    return hashlib.blake2b(_CANONICAL.encode({"kind": kind, **parts}).encode(), digest_size=16).hexdigest()


class DamagedPrediction(StoreError):
    """A stored prediction that is not what was stored."""


class OtherPrediction(DamagedPrediction):
    """A stored prediction that another version of the harness described."""


class Store:
    """A store on disk; its root is created on first write."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.outcomes = Outcomes(root / "outcomes")
        self._predictions = os.fspath(root / "predictions")

    def prediction_path(self, key: str) -> Path:
        return self.root / "predictions" / key[:2] / key

    def has_prediction(self, key: str) -> bool:
        # Asked of every attempt before the first item, so without `pathlib`, which takes ten times as long as the question.
        return os.path.exists(f"{self._predictions}/{key[:2]}/{key}/{DESCRIPTION}")  # noqa: PTH110

    def audio_path(self, key: str) -> Path:
        """Where the audio of a stored prediction lies."""
        return self.prediction_path(key) / "audio.wav"

    def save_prediction(self, key: str, prediction: Prediction, flags: Sequence[str] = ()) -> str:
        """Stores a prediction whole or not at all, with ``flags`` worth a warning ("clipped", "dc" ...). Raises StoreError.

        Returns:
            Its digest: of audio, codes, stop reason and resynthesised prompt.
        """
        final = self.prediction_path(key)
        temporary = self.root / "predictions" / _temporary()
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
            if prediction.encoded_again:
                again = prediction.encoded_again.items()
                description["encoded_again"] = {name: _save_encoded(temporary / f"{name}.npz", codes) for name, codes in again}
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

    def compact(self) -> int:
        """Compacts the outcomes; takes away, once it is old, what processes left that were killed while they stored a prediction."""
        for left in (self.root / "predictions").glob("tmp-*"):
            _, *owner, _ = left.name.split("-")
            with contextlib.suppress(OSError):
                alive = owner[:1] == [boot()] and len(owner) > 1 and Path(f"/proc/{owner[1]}").exists()
                if not alive and time.time() - left.stat().st_mtime > LEFT_BEHIND_S:
                    shutil.rmtree(left)
        return self.outcomes.compact()

    def check_prediction(self, key: str) -> str:
        """What is wrong with the description of a stored prediction, which is then set aside to be made again; or ""."""
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
        """Moves a damaged prediction out of the way; nothing is deleted. Raises StoreError where that is not writable."""
        self._move(key, f"damaged-{key}-{uuid.uuid4().hex[:8]}", "set aside the damaged")

    def discard(self, key: str) -> None:
        """Takes a prediction away, if there is one: it is to be asked for again. Raises StoreError where that is not writable."""
        shutil.rmtree(self._move(key, _temporary(), "replace the"), ignore_errors=True)

    def _move(self, key: str, name: str, doing: str) -> Path:
        there, to = self.prediction_path(key), self.root / "predictions" / name
        try:
            there.rename(to)
        except FileNotFoundError:
            pass  # another process was faster
        except OSError as error:
            raise StoreError(f"cannot {doing} prediction {there}: {error.strerror}") from error
        return to

    def describe_prediction(self, key: str) -> dict[str, Any]:
        """What is known of a stored prediction without its audio: ``digest``, ``timing``, ``stop_reason``, ``flags``, ``encoded``.

        Raises DamagedPrediction: it cannot be read or is not what was written; OtherPrediction: it has not what this version writes.
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
        """A stored prediction. Raises DamagedPrediction: it is not there or was damaged from outside."""
        folder = self.prediction_path(key)
        description = self.describe_prediction(key)
        again = description.get("encoded_again", {})
        try:
            prediction = Prediction(
                audio=read_audio(folder / "audio.wav"),
                encoded=_load_encoded(folder / "codes.npz", description["encoded"]),
                timing=Timing(**description["timing"]) if description["timing"] else None,
                stop_reason=description["stop_reason"],
                prompt_resynthesis=read_audio(folder / "prompt.wav") if (folder / "prompt.wav").exists() else None,
                encoded_again={name: _load_codes(folder / f"{name}.npz", described) for name, described in again.items()},
            )
        except Exception as error:
            raise DamagedPrediction(f"stored prediction {folder} cannot be read ({error})") from error
        if _digest(prediction) != description["digest"]:
            raise DamagedPrediction(f"stored prediction {folder} was altered after it was written")
        return prediction


def _temporary() -> str:
    """A name that tells its process, for a folder that has not taken its place yet or is going."""
    return f"tmp-{boot()}-{os.getpid()}-{uuid.uuid4().hex}"


def _digest(prediction: Prediction) -> str:
    encoded = prediction.encoded.digest() if prediction.encoded else ""
    parts = {"audio": prediction.audio.digest(), "encoded": encoded, "stop": prediction.stop_reason}
    if prediction.prompt_resynthesis is not None:  # only then, so that what was stored without one keeps its digest
        parts["prompt_resynthesis"] = prediction.prompt_resynthesis.digest()
    parts |= {f"encoded_again.{name}": codes.digest() for name, codes in prediction.encoded_again.items()}
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
    if description["kind"] == "bitstream":
        with np.load(path, allow_pickle=False) as arrays:
            ends = np.cumsum(arrays["lengths"])
            data = arrays["data"].tobytes()
            return Bitstream(
                tuple(data[e - n : e] for e, n in zip(ends, arrays["lengths"], strict=True)),
                description["num_samples"],
                description["sample_rate"],
            )
    return _load_codes(path, description)


def _load_codes(path: Path, description: Mapping[str, Any]) -> Codes:
    with np.load(path, allow_pickle=False) as arrays:
        spec = CodecSpec(**{**description["spec"], "codebook_sizes": tuple(description["spec"]["codebook_sizes"])})
        side = {k.removeprefix("side."): arrays[k] for k in arrays.files if k.startswith("side.")}
        return Codes(arrays["indices"].astype(np.int64), spec, description["num_samples"], side)
