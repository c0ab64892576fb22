"""A codec and a synthesizer in a worker."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.api import Audio, Bitstream, CodecSpec, Codes, Encoded, Speech, Utterance
from systems.worker.bridge import Bridge, WorkerError, samples
from systems.worker.process import WORKERS, Launch, inherited


class Adapter:
    """A system in another Python environment.

    Args:
        python: interpreter of that environment; nothing of this harness need be installed there, only numpy.
        worker: script it runs: a path, or the name of a bundled one (xtts, cosyvoice, f5tts, valle, mulaw).
        via: words in front of them, as a list: [ssh, HOST], [docker, run, -i, IMAGE], [conda, run, --no-capture-output, -n, NAME]. The
            protocol then goes through standard input and output.
        parameters: for the constructor of the system in the worker.
        timeout_s: for one request. Loading comes on top when a lost worker is started again; the executor's own limit
            (executor.timeout_s) should cover both, or it ends the item first, without the worker's words.
        start_timeout_s: until the worker has loaded its system.

    Raises:
        ValueError: an impossible parameter.
        RuntimeError: the worker could not be started, or is another kind of system.
    """

    family = ""
    kind = ""

    def __init__(
        self,
        python: str | None = None,
        worker: str | None = None,
        via: Sequence[str] = (),
        parameters: Mapping[str, Any] | None = None,
        environment: Mapping[str, Any] | None = None,
        timeout_s: float = 60.0,
        start_timeout_s: float = 600.0,
    ) -> None:
        if not (timeout_s > 0 and start_timeout_s > 0):
            raise ValueError(f"timeout_s and start_timeout_s are positive, got {timeout_s} and {start_timeout_s}")
        if reason := self.missing(python, worker, via):
            raise RuntimeError(reason)
        self._bridge = Bridge(
            Launch(
                words=_command(python, worker, via),
                environment=inherited(environment or {}),
                standard_streams=bool(via),
                parameters=parameters or {},
                timeout_s=timeout_s,
                start_timeout_s=start_timeout_s,
            ),
            self.kind,
            self.family,
        )
        self.info = self._bridge.hello.info

    @classmethod
    def missing(cls, python: str | None = None, worker: str | None = None, via: Sequence[str] = (), **others: Any) -> str | None:
        """Why the command cannot be started and what to do, or None. Nothing is run."""
        if isinstance(via, str):
            return f"via is a list of words, [ssh,HOST] say, not a line for a shell; got {via!r}"
        words = _command(python, worker, via)
        if via:
            return None if shutil.which(words[0]) else f"'{words[0]}' (first word of via) is not on the PATH"
        if not python:
            return "it runs in a Python environment of its own: systems.NAME.python=ENVIRONMENT/bin/python (see systems/worker/README.md)"
        if shutil.which(words[0]) is None:
            return f"python={python} is not a program; give the interpreter of the other environment, ENVIRONMENT/bin/python"
        if not worker:
            return "no worker: systems.NAME.worker=PATH of the script that the other environment runs (see systems/worker/README.md)"
        if not Path(words[1]).is_file():
            known = ", ".join(
                sorted(path.name.removesuffix("_worker.py") for path in WORKERS.glob("*_worker.py") if path.stem != "speech_worker")
            )
            return f"worker={worker} is neither a file nor one of those that come with the harness: {known}"
        return None

    def close(self) -> None:
        """Ends the worker; otherwise it ends with this object."""
        self._bridge.close()


_SIDE = "side:"


class WorkerCodec(Adapter):
    """Codes or packets from another Python environment."""

    family = "worker_codec"
    kind = "codec"

    @property
    def spec(self) -> CodecSpec:
        """As the worker declared it when it started."""
        spec = self._bridge.hello.spec
        assert spec is not None  # `read_hello` sees to it
        return spec

    def encode(self, audio: Audio) -> Encoded:
        """What the worker makes of mono audio.

        Raises:
            ValueError: wrong sample rate, or indices outside their codebooks.
            RuntimeError: the worker failed.
        """
        if audio.sample_rate != self.spec.sample_rate:
            raise ValueError(f"{self.info.description} wants {self.spec.sample_rate} Hz, got {audio.sample_rate}")
        arrays = self._bridge.ask("encode", {}, {"audio": audio.samples[0]}, "encoded").arrays
        if "packets" in arrays:
            return Bitstream(_packets(arrays), audio.num_samples, audio.sample_rate)
        if "indices" not in arrays or arrays["indices"].dtype != np.int64:
            raise WorkerError("the worker answered encode with neither indices of int64 nor packets")
        side = {name.removeprefix(_SIDE): np.array(value) for name, value in arrays.items() if name.startswith(_SIDE)}
        return Codes(np.array(arrays["indices"]), self.spec, audio.num_samples, side)

    def decode(self, encoded: Encoded) -> Audio:
        """Audio again, as long as the input was.

        Raises:
            RuntimeError: the worker failed.
        """
        if isinstance(encoded, Bitstream):
            arrays: dict[str, npt.NDArray[Any]] = {
                "packets": np.frombuffer(b"".join(encoded.packets), np.uint8),
                "packet_bytes": np.array([len(packet) for packet in encoded.packets], np.int64),
            }
        else:
            arrays = {"indices": encoded.indices, **{f"{_SIDE}{name}": value for name, value in encoded.side.items()}}
        reply = self._bridge.ask("decode", {"num_samples": encoded.num_samples}, arrays, "speech")
        return Audio.mono(samples(reply, "decode"), self.spec.sample_rate)


def _packets(arrays: dict[str, npt.NDArray[Any]]) -> tuple[bytes, ...]:
    joined, lengths = arrays["packets"], arrays.get("packet_bytes")
    if joined.dtype != np.uint8 or joined.ndim != 1 or lengths is None or lengths.dtype != np.int64 or lengths.ndim != 1:
        raise WorkerError("the worker answered encode with packets of another layout: packets uint8 [bytes], packet_bytes int64 [packets]")
    if (lengths < 0).any() or int(lengths.sum()) != joined.size:
        raise WorkerError(f"the worker's packets are {joined.size} bytes, their lengths add up to {int(lengths.sum())}")
    ends = np.cumsum(lengths)
    return tuple(joined[end - length : end].tobytes() for length, end in zip(lengths, ends, strict=True))


class WorkerSynthesizer(Adapter):
    """Speech from another Python environment. A worker that does not stream gives one piece."""

    family = "worker_synthesizer"
    kind = "synthesizer"

    @property
    def sample_rate(self) -> int:
        """As the worker declared it when it started, in Hz."""
        return self._bridge.hello.sample_rate

    def synthesize(self, utterance: Utterance, seed: int) -> Speech:
        """What the worker says.

        Raises:
            MissingOutput: its system does not do this item.
            RuntimeError: it failed.
        """
        reply = self._bridge.ask("synthesize", *_request(utterance, seed), "speech")
        return Speech(Audio.mono(samples(reply, "synthesize"), self.sample_rate), stop_reason=str(reply.fields.get("stop_reason", ""))[:40])

    def stream(self, utterance: Utterance, seed: int) -> Iterator[Audio]:
        """The same in pieces.

        Raises:
            MissingOutput, RuntimeError: as `synthesize`.
        """
        if not self._bridge.hello.streams:
            yield self.synthesize(utterance, seed).audio
            return
        for reply in self._bridge.stream("stream", *_request(utterance, seed)):
            yield Audio.mono(samples(reply, "stream"), self.sample_rate)


def _request(utterance: Utterance, seed: int) -> tuple[dict[str, Any], dict[str, npt.NDArray[np.float32]]]:
    """Fields and arrays of a request; the prompt goes as mono at its own rate."""
    prompt = utterance.prompt
    fields = {
        "text": utterance.text,
        "language": utterance.language,
        "seed": seed,
        "prompt_text": utterance.prompt_text,
        "prompt_rate_hz": prompt.sample_rate if prompt is not None else 0,
    }
    return fields, {} if prompt is None else {"prompt": prompt.mixed()}


def _command(python: str | None, worker: str | None, via: Sequence[str]) -> tuple[str, ...]:
    """The words that start a worker.

    Args:
        python: interpreter of the other environment; None where ``via`` names it, or the worker is a program.
        worker: path of its script, or the name of one of those in `WORKERS` without ``_worker.py``. With ``via`` it is taken as it
            stands: it lies on another machine, or in a container.
    """
    script = worker
    if worker is not None and not via:
        bundled = WORKERS / f"{worker}_worker.py"
        script = str(bundled if bundled.is_file() else Path(worker).expanduser())
    return (*map(str, via), *(str(word) for word in (python, script) if word))
