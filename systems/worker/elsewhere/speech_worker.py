"""The worker's side: gives a codec or a synthesizer of this Python environment to a harness in another one.

This one file is all that the other environment needs beside numpy (Python 3.8 or later). A worker is a class and a call::

    import speech_worker

    class MySpeech:
        sample_rate = 24000

        def __init__(self, model, device="cpu"):            # the `parameters` of the harness's YAML
            self.about = speech_worker.About(name="my speech", version="1", device=device)

        def synthesize(self, request):                      # text language prompt prompt_rate_hz prompt_text seed
            return samples                                  # float [N], or Speech(samples, stop_reason="end")

    if __name__ == "__main__":
        speech_worker.serve(MySpeech)

A synthesizer may also have ``stream(request)``, which yields pieces of the same speech as they come. A codec has ``spec`` (a dict:
sample_rate, hop_length, codebook_sizes ...), ``encode(samples)`` returning `Codes` or `Bitstream`, and ``decode(encoded, num_samples)``
returning samples.

A frame is sixteen bytes (``SWP1``, length of the JSON, length of the data, CRC-32 of both, little-endian), the JSON object, the data.
The JSON names what the data holds: ``"arrays": [{"name", "dtype", "shape"}]``, one after the other. Nothing received is ever executed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import queue
import random
import shutil
import struct
import sys
import tempfile
import threading
import traceback
import wave
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

PROTOCOL = 1
FDS_VARIABLE, FOLDER_VARIABLE = "SPEECH_WORKER_FDS", "SPEECH_WORKER_FOLDER"
HEAD, MAGIC = struct.Struct("<4sIII"), b"SWP1"
MAX_JSON_BYTES = 1 << 20
MAX_DATA_BYTES = 1 << 28  # 256 MiB: 23 minutes of float32 at 48 kHz
DTYPES = ("<f2", "<f4", "<f8", "<i4", "<i8", "|u1")


class Malformed(Exception):
    """Bytes that are no frame of this protocol."""


class MissingOutput(LookupError):
    """The system does not do this item (a language it does not speak, a prompt without transcript): no error of the worker."""


# What the first sixteen bytes of a frame announce, and the frame itself: its JSON object and its arrays by name.
class Head(NamedTuple):
    json_bytes: int
    data_bytes: int
    crc: int


class Message(NamedTuple):
    fields: dict[str, Any]
    arrays: dict[str, Any]


@dataclass
class About:
    """What the harness prints of a system and keys its outputs by."""

    name: str
    version: str
    description: str = ""  # one line
    weights: tuple[str, ...] = ()  # files or folders of the parameters; their content is hashed when the worker starts
    origin: str = "trained"  # or "random", or "none" (no parameters)
    num_parameters: int = 0  # 0 where unknown
    training_data: str = ""
    device: str = "cpu"
    precision: str = "float32"
    packages: tuple[str, ...] = ()  # distributions whose versions shape the output


@dataclass
class Speech:
    """float ``[N]`` samples; stop_reason is "end" (the model ended itself), "length" (cut at a limit) or "" (it does not say)."""

    samples: Any
    stop_reason: str = ""


@dataclass
class Codes:
    """int ``[K, T]`` indices and side information by name."""

    indices: Any
    side: dict[str, Any] = field(default_factory=dict)


@dataclass
class Bitstream:
    """Packets of a codec that emits bytes instead of indices."""

    packets: list[bytes]


@dataclass
class Request:
    """What to say, and in whose voice."""

    text: str
    language: str  # ISO 639-1 code
    seed: int
    prompt: Any  # float32 [M] at prompt_rate_hz, or None
    prompt_rate_hz: int
    prompt_text: str  # what the prompt says, "" where unknown
    folder: str  # for prompt_file

    def prompt_file(self) -> str:
        """Path of the prompt as a 16-bit mono WAV file, which lasts as long as the request.

        Raises:
            MissingOutput: there is no prompt.
        """
        if self.prompt is None:
            raise MissingOutput("the item has no voice prompt, and this system cannot speak without one")
        path = str(Path(self.folder) / "prompt.wav")
        with wave.open(path, "wb") as file:
            file.setparams((1, 2, self.prompt_rate_hz, 0, "NONE", ""))  # one channel of two bytes a sample
            file.writeframes(np.clip(np.round(np.asarray(self.prompt) * 32768.0), -32768, 32767).astype("<i2").tobytes())
        return path


def pack(fields: Mapping[str, Any], arrays: Mapping[str, Any] | None = None) -> bytes:
    """The bytes of one frame; ValueError where it is too large, or an array is of a kind that does not travel."""
    listed, blobs = [], []
    for name, array in (arrays or {}).items():
        array = np.asarray(array)
        dtype = array.dtype.newbyteorder("<").str
        if dtype not in DTYPES:
            raise ValueError(f"array '{name}' is of dtype {array.dtype}; there are {', '.join(DTYPES)}")
        listed.append({"name": name, "dtype": dtype, "shape": list(array.shape)})
        blobs.append(array.astype(dtype, copy=False).tobytes())
    text = json.dumps({**fields, "arrays": listed}, allow_nan=False).encode()
    data = b"".join(blobs)
    if len(text) > MAX_JSON_BYTES or len(data) > MAX_DATA_BYTES:
        raise ValueError(f"a frame of {len(text)} + {len(data)} bytes; at most {MAX_JSON_BYTES} + {MAX_DATA_BYTES} travel")
    return HEAD.pack(MAGIC, len(text), len(data), zlib.crc32(data, zlib.crc32(text))) + text + data


def read_head(first: bytes | bytearray) -> Head:
    """What the first sixteen bytes announce; Malformed where they are not the head of a frame, or announce too much."""
    magic, json_bytes, data_bytes, crc = HEAD.unpack(bytes(first[: HEAD.size]))
    if magic != MAGIC:
        raise Malformed(f"not a frame: it begins with {bytes(first[:60])!r}")
    if json_bytes > MAX_JSON_BYTES or data_bytes > MAX_DATA_BYTES:
        raise Malformed(f"a frame announces {json_bytes} + {data_bytes} bytes; at most {MAX_JSON_BYTES} + {MAX_DATA_BYTES} are read")
    return Head(json_bytes, data_bytes, crc)


def unpack(head: Head, body: bytes) -> Message:
    """The message in the bytes behind a head; Malformed where they are damaged, no JSON object, or do not fit the arrays listed."""
    if zlib.crc32(body) != head.crc:
        raise Malformed("the checksum of a frame is wrong: bytes were lost, or others came in between")
    try:
        fields = json.loads(bytes(body[: head.json_bytes]).decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"a frame without readable JSON: {error}") from None
    if not isinstance(fields, dict):
        raise Malformed("the JSON of a frame is not an object")
    return Message(fields, _arrays(fields.pop("arrays", None), memoryview(body)[head.json_bytes :]))


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _arrays(listed: Any, data: memoryview) -> dict[str, Any]:
    if not isinstance(listed, list):
        raise Malformed("a frame without a list of arrays")
    found: dict[str, Any] = {}
    start = 0
    for entry in listed:
        name, dtype, shape = (entry.get(k) for k in ("name", "dtype", "shape")) if isinstance(entry, dict) else (None, None, None)
        if not isinstance(name, str) or name in found or dtype not in DTYPES or not isinstance(shape, list) or len(shape) > 4:
            raise Malformed(f"a frame lists an array it cannot have: {str(entry)[:200]}")
        if any(type(n) is not int or n < 0 for n in shape):
            raise Malformed(f"array '{name}' has the shape {str(shape)[:100]}")
        end = start + math.prod(shape) * np.dtype(dtype).itemsize
        if end > len(data):
            raise Malformed(f"array '{name}' of shape {shape} wants more than the {len(data)} bytes of data in its frame")
        found[name] = np.frombuffer(data[start:end], dtype=dtype).reshape(shape)
        start = end
    if start != len(data):
        raise Malformed(f"a frame carries {len(data)} bytes of data, its arrays take {start}")
    return found


def digest(paths: Any) -> str:
    """Content hash (32 hex digits) of files and of all files in folders, "" for none; FileNotFoundError where one is not there."""
    h = hashlib.blake2b(digest_size=16)
    files: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"no weights at {path}")
        files += sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for path in files:
        h.update(f"{path.name}:{path.stat().st_size}:".encode())
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                h.update(block)
    return h.hexdigest() if files else ""


def serve(build: Callable[..., Any]) -> None:
    """Answers the harness until it goes away.

    What libraries print never reaches the protocol: it has descriptors of its own, and file descriptor 1 is turned to the standard
    error, whose last lines the harness shows when something fails.

    Args:
        build: class or function; called with the ``parameters`` of the harness's YAML.
    """
    reading, writing = _descriptors()
    folder = os.environ.pop(FOLDER_VARIABLE, "") or tempfile.mkdtemp(prefix="speech-worker-")
    try:
        _Server(build, reading, writing, folder).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _descriptors() -> tuple[int, int]:
    named = os.environ.pop(FDS_VARIABLE, "")
    if named:
        reading, writing = map(int, named.split(","))
    else:  # behind ssh, docker or conda run: only the standard streams get through
        reading, writing = os.dup(0), os.dup(1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for fd in (reading, writing):
        os.set_inheritable(fd, False)
    sys.stdout.flush()
    os.dup2(2, 1)
    return reading, writing


class _Server:
    def __init__(self, build: Callable[..., Any], reading: int, writing: int, folder: str) -> None:
        self.build, self.reading, self.writing, self.folder = build, reading, writing, folder
        self.inbox: queue.Queue[Message | None] = queue.Queue()
        self.system: Any = None
        self.busy = False

    def run(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()
        while (message := self.inbox.get()) is not None:
            self.busy = True
            self._answer(message)
            self.busy = False

    def _listen(self) -> None:
        """Reads ahead of the work, so that a harness that is gone is noticed in the midst of it: nobody would hear the answer."""
        try:
            with open(self.reading, "rb") as harness:  # noqa: PTH123 - a descriptor, not a path
                while first := harness.read(HEAD.size):
                    head = read_head(first)
                    self.inbox.put(unpack(head, harness.read(head.json_bytes + head.data_bytes)))
        except (Malformed, OSError, struct.error) as error:
            print(f"speech_worker: the harness sent what is no frame: {error}", file=sys.stderr)
        if self.busy:
            shutil.rmtree(self.folder, ignore_errors=True)
            os._exit(1)
        self.inbox.put(None)

    def _answer(self, message: Message) -> None:
        number = message.fields.get("id")
        try:
            for reply, arrays in self._replies(message.fields.get("op"), message.fields, message.arrays):
                self._send({**reply, "id": number}, arrays)
        except MissingOutput as error:
            self._send({"op": "missing", "id": number, "message": str(error)[:2000]})
        except Exception as error:
            trace = traceback.format_exc()
            print(trace, file=sys.stderr, flush=True)
            self._send({"op": "error", "id": number, "type": type(error).__name__, "message": str(error)[:2000], "trace": trace[-4000:]})

    def _send(self, fields: Mapping[str, Any], arrays: Mapping[str, Any] | None = None) -> None:
        left = memoryview(pack(fields, arrays))
        while left:
            left = left[os.write(self.writing, left) :]

    def _replies(self, op: Any, fields: dict[str, Any], arrays: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Any]]:
        if op == "hello":
            yield self._hello(fields), None
        elif op == "synthesize":
            with self._request(fields, arrays) as request:
                speech = self.system.synthesize(request)
            speech = speech if isinstance(speech, Speech) else Speech(speech)
            yield {"op": "speech", "stop_reason": speech.stop_reason}, {"audio": _mono(speech.samples)}
        elif op == "stream":
            with self._request(fields, arrays) as request:
                for piece in self.system.stream(request):
                    yield {"op": "piece"}, {"audio": _mono(piece)}
            yield {"op": "end"}, None
        elif op == "encode":
            yield {"op": "encoded"}, _encoded_arrays(self.system.encode(arrays["audio"]))
        elif op == "decode":
            yield {"op": "speech", "stop_reason": ""}, {"audio": _mono(self.system.decode(_encoded(arrays), fields["num_samples"]))}
        else:
            raise ValueError(f"this worker knows no '{op}'")

    @contextmanager
    def _request(self, fields: dict[str, Any], arrays: dict[str, Any]) -> Iterator[Request]:
        """The request of a message; every generator is seeded, so that none depends on those before; its prompt file goes with it."""
        prompt, folder = arrays.get("prompt"), tempfile.mkdtemp(dir=self.folder)
        names = {k: fields[k] for k in ("text", "language", "seed", "prompt_rate_hz", "prompt_text")}
        random.seed(names["seed"])
        np.random.seed(names["seed"] % 2**32)
        if "torch" in sys.modules:
            sys.modules["torch"].manual_seed(names["seed"])
        try:
            yield Request(prompt=None if prompt is None else prompt.copy(), folder=folder, **names)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _hello(self, fields: dict[str, Any]) -> dict[str, Any]:
        if (theirs := fields.get("protocol")) != PROTOCOL:
            raise ValueError(f"this speech_worker.py speaks protocol {PROTOCOL}, the harness {theirs}: copy the harness's file")
        self.system = self.build(**fields["parameters"])
        kind = "synthesizer" if hasattr(self.system, "synthesize") else "codec"
        about = asdict(self.system.about)
        return {
            "op": "hello",
            "protocol": PROTOCOL,
            "kind": kind,
            **{k: about[k] for k in ("name", "version", "description", "origin", "num_parameters", "training_data", "device", "precision")},
            "weights_digest": digest(about["weights"]),
            "tools": _tools(about["packages"]),
            "sample_rate": self.system.sample_rate if kind == "synthesizer" else self.system.spec["sample_rate"],
            "spec": None if kind == "synthesizer" else dict(self.system.spec),
            "streams": hasattr(self.system, "stream"),
        }


def _tools(packages: tuple[str, ...]) -> list[list[str]]:
    main = getattr(sys.modules["__main__"], "__file__", None)
    own = [["worker file", digest(_beside(main))]] if main else []
    return [["python", ".".join(map(str, sys.version_info[:3]))], *own, *([name, _version(name)] for name in packages)]


def _beside(main: str) -> list[str]:
    """The worker's file, and what it has imported from its own folder."""
    own = Path(main).resolve()
    files = {Path(f).resolve() for f in (getattr(m, "__file__", None) for m in list(sys.modules.values())) if isinstance(f, str)}
    return [main, *sorted(str(f) for f in files - {own} if own.parent in f.parents and "site-packages" not in f.parts)]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "from a checkout"


def _mono(samples: Any) -> Any:
    if hasattr(samples, "detach"):  # a torch tensor, perhaps on a GPU, perhaps bfloat16
        samples = samples.detach().float().cpu().numpy()
    samples = np.asarray(samples)
    if samples.dtype.kind != "f":
        raise ValueError(f"audio is float within +-1, got {samples.dtype}")
    if samples.ndim != 1 and samples.size != max(samples.shape, default=0):
        raise ValueError(f"audio is mono, [N], got shape {samples.shape}")
    return samples.reshape(-1).astype(np.float32)


def _encoded_arrays(encoded: Any) -> dict[str, Any]:
    if isinstance(encoded, Bitstream):
        joined = np.frombuffer(b"".join(encoded.packets), dtype=np.uint8)
        return {"packets": joined, "packet_bytes": np.array([len(p) for p in encoded.packets], dtype=np.int64)}
    if not isinstance(encoded, Codes):
        raise ValueError(f"encode returns Codes or Bitstream of speech_worker, got {type(encoded).__name__}")
    return {"indices": np.asarray(encoded.indices, dtype=np.int64), **{f"side:{k}": np.asarray(v) for k, v in encoded.side.items()}}


def _encoded(arrays: dict[str, Any]) -> Codes | Bitstream:
    if "packets" in arrays:
        return Bitstream([part.tobytes() for part in np.split(arrays["packets"], np.cumsum(arrays["packet_bytes"]))[:-1]])
    return Codes(arrays["indices"], {k[len("side:") :]: v for k, v in arrays.items() if k.startswith("side:")})
