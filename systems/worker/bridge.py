"""A worker that is asked, watched, and started again when it is lost; and what it says of its system when it has started."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from harness.api import CodecSpec, MissingOutput, SystemInfo, Weights
from systems.worker.elsewhere import speech_worker as wire
from systems.worker.elsewhere.speech_worker import PROTOCOL, Malformed, Message
from systems.worker.process import Launch, WorkerLost, WorkerProcess

_TEXTS = ("name", "version", "description", "origin", "weights_digest", "training_data", "device", "precision")
_LONGEST = 500


class Hello(NamedTuple):
    """The identity of a system in a worker."""

    kind: str  # "codec" or "synthesizer"
    info: SystemInfo  # for tables and keys
    sample_rate: int  # of its audio, in Hz
    spec: CodecSpec | None  # of a codec
    streams: bool  # a synthesizer speaks in pieces too


def read_hello(said: Mapping[str, Any], family: str) -> Hello:
    """The checked content of a hello.

    Raises:
        Malformed: another protocol, a field is absent or of the wrong type.
    """
    if said.get("protocol") != PROTOCOL:
        raise Malformed(f"it speaks protocol {said.get('protocol')!r}, this harness {PROTOCOL}: use the speech_worker.py of this harness")
    for name in _TEXTS:
        if not isinstance(said.get(name), str) or len(said[name]) > _LONGEST:
            raise Malformed(f"its hello wants '{name}' as text of at most {_LONGEST} characters, got {str(said.get(name))[:100]!r}")
    if not said["name"] or not said["version"]:
        raise Malformed("its hello wants a name and a version")
    if said["origin"] not in set(Weights):
        raise Malformed(f"its hello says origin={said['origin']!r}; there are {', '.join(Weights)}")
    if said["origin"] != Weights.NONE and not said["weights_digest"]:
        raise Malformed(
            f"its weights are '{said['origin']}' but it names no files of them (About.weights), so outputs could not be keyed by them"
        )
    kind = said.get("kind")
    if kind not in ("codec", "synthesizer"):
        raise Malformed(f"its hello says kind={kind!r}; there are codec and synthesizer")
    info = SystemInfo(
        family=family,
        version=f"{PROTOCOL}:{said['version']}",
        description=f"{said['name']} {said['version']} in an environment of its own"
        + (f": {said['description']}" if said["description"] else ""),
        weights=Weights(said["origin"]),
        weights_digest=said["weights_digest"],
        num_parameters=_count(said, "num_parameters"),
        training_data=said["training_data"],
        # Not a device of this process: whoever times a call must not synchronise it here. A worker answers with bytes, so it has ended.
        device=f"worker:{said['device']}",
        precision=said["precision"],
        tools=_tools(said.get("tools")),
    )
    spec = _spec(said.get("spec")) if kind == "codec" else None
    rate = spec.sample_rate if spec is not None else _count(said, "sample_rate")
    if rate <= 0:
        raise Malformed(f"its hello says sample_rate={rate}")
    return Hello(kind, info, rate, spec, said.get("streams") is True)


def _count(said: Mapping[str, Any], name: str) -> int:
    value = said.get(name)
    if type(value) is not int or value < 0:
        raise Malformed(f"its hello wants '{name}' as a whole number, got {str(value)[:100]!r}")
    return value


def _tools(said: Any) -> tuple[tuple[str, str], ...]:
    pairs = isinstance(said, list) and all(isinstance(p, list) and len(p) == 2 and all(isinstance(w, str) for w in p) for p in said)
    if not pairs or len(str(said)) > 10 * _LONGEST:
        raise Malformed(f"its hello wants tools as a list of pairs of words, got {str(said)[:100]!r}")
    return tuple((name, version) for name, version in said)


def _spec(said: Any) -> CodecSpec:
    if not isinstance(said, dict):
        raise Malformed(f"a codec's hello wants its spec, got {str(said)[:100]!r}")
    if unknown := set(said) - {f.name for f in fields(CodecSpec)}:
        raise Malformed(f"its spec has unknown entries: {', '.join(sorted(unknown))[:200]}")
    sizes = said.get("codebook_sizes", [])
    if not isinstance(sizes, list) or any(type(v) is not int or v < 2 for v in sizes) or len(sizes) > 1024:
        raise Malformed(f"its spec says codebook_sizes={str(sizes)[:100]}")
    for name in ("sample_rate", "hop_length"):
        if type(said.get(name)) is not int or said[name] <= 0:
            raise Malformed(f"its spec says {name}={str(said.get(name))[:100]!r}")
    for name, kind in (("causal", bool), ("prefix_decodable", bool), ("lookahead", int), ("delay", int)):
        if type(said.get(name, kind())) is not kind or not math.isfinite(said.get(name, 0)):
            raise Malformed(f"its spec says {name}={str(said[name])[:100]!r}")
    return CodecSpec(**{**said, "codebook_sizes": tuple(sizes)})


LOSSES_IN_A_ROW = 5
"""After so many without a good answer between them the worker is not started again: loading a model for every item helps nobody."""

Arrays = Mapping[str, npt.NDArray[Any]]


class WorkerError(RuntimeError):
    """The system in the worker raised an exception; the worker goes on."""


class Bridge:
    """Requests to one worker.

    A lost worker costs the item in flight. It is started again at once, before the item is reported, and the last request of each
    kind that went well is repeated and thrown away: neither loading nor a cold first call may fall into the timing of the next item.

    Args:
        kind: "codec" or "synthesizer", what it must be.

    Raises:
        RuntimeError: it could not be started, or is something else.
    """

    def __init__(self, launch: Launch, kind: str, family: str) -> None:
        self._launch, self._kind, self._family = launch, kind, family
        self._held: list[WorkerProcess] = []
        self._number = 0
        self._losses = 0
        self._good: dict[str, tuple[dict[str, Any], Arrays]] = {}
        # Through a list: the finaliser must not hold the bridge, only what it is to close.
        self._finalizer = weakref.finalize(self, _close, self._held)
        self.hello = self._start()

    def ask(self, op: str, fields: Mapping[str, Any], arrays: Arrays, answer: str) -> Message:
        """One request and its answer.

        Args:
            answer: the op that the answer must have.

        Raises:
            MissingOutput: the system does not do this item.
            WorkerError: it raised an exception.
            WorkerLost: the worker was lost; the message says how, whether it was started again, and what it said last.
        """
        process = self._running()
        try:
            process.require_idle()
            reply = self._exchange(process, {"op": op, **fields}, arrays, {answer})
            process.refuse_unasked()
        except WorkerLost as lost:
            raise self._again(lost, process) from None
        self._good[op] = dict(fields), arrays
        self._losses = 0
        return reply

    def stream(self, op: str, fields: Mapping[str, Any], arrays: Arrays) -> Iterator[Message]:
        """One request and its answers, as they come, until the worker says that it was the last.

        Raises:
            MissingOutput, WorkerError, WorkerLost: as in `ask`.
        """
        process = self._running()
        ended = False
        try:
            process.require_idle()
            reply = self._exchange(process, {"op": op, **fields}, arrays, {"piece", "end"})
            while reply.fields["op"] == "piece":
                yield reply
                reply = self._receive(process, b"", op, {"piece", "end"})
            ended = True
            self._losses = 0
        except WorkerLost as lost:
            ended = True
            raise self._again(lost, process) from None
        except (MissingOutput, WorkerError):
            ended = True
            raise
        finally:
            if not ended:  # nobody wants the rest; it is taken off the pipe, where the next answer will come
                self._drain(process, op)

    def close(self) -> None:
        """Ends the worker."""
        self._finalizer()

    def _drain(self, process: WorkerProcess, op: str) -> None:
        try:
            while self._receive(process, b"", op, {"piece", "end"}).fields["op"] == "piece":
                pass
        except (WorkerError, MissingOutput):
            return
        except WorkerLost as lost:
            self._again(lost, process)

    def _running(self) -> WorkerProcess:
        if self._held:
            return self._held[0]
        # Its start would be counted as this item's time, so the item is given up and the next one finds it running.
        raise self._again(WorkerLost(f"{self._launch.name} was not running"), None)

    def _again(self, lost: WorkerLost, process: WorkerProcess | None) -> WorkerLost:
        """Replaces the worker; the sentence for the record."""
        words = ""
        if process is not None:
            process.kill()
            self._held.clear()
            words = process.last_words()
        self._losses += 1
        given_up = self._losses > LOSSES_IN_A_ROW
        after = f"it is not started again after {LOSSES_IN_A_ROW} losses in a row" if given_up else self._restarted()
        return WorkerLost(f"{lost}; {after}" + (f"; its last words: {words[-700:]}" if words else ""))

    def _restarted(self) -> str:
        try:
            said = self._start()
            if said != self.hello:
                _close(self._held)
                return "started again it was another system, so it was ended"
            for op, (fields, arrays) in self._good.items():
                self._exchange(self._held[0], {"op": op, **fields}, arrays, {"speech", "encoded"})
        except (RuntimeError, MissingOutput) as error:
            _close(self._held)
            return f"it could not be started again: {error}"
        return "it was started again"

    def _start(self) -> Hello:
        process = WorkerProcess(self._launch)
        try:
            request = {"op": "hello", "protocol": wire.PROTOCOL, "parameters": dict(self._launch.parameters)}
            reply = self._exchange(process, request, {}, {"hello"}, self._launch.start_timeout_s)
            hello = read_hello(reply.fields, self._family)
            if hello.kind != self._kind:
                raise Malformed(f"it is a {hello.kind}: use family: worker_{hello.kind}")
        except (WorkerLost, WorkerError, MissingOutput, Malformed) as error:
            process.kill()
            words = process.last_words()
            said = f"{self._launch.name}: {error}" if isinstance(error, Malformed) else str(error)
            raise WorkerLost(said + (f"; its last words: {words[-1500:]}" if words else "")) from error
        self._held[:] = [process]
        return hello

    def _exchange(
        self, process: WorkerProcess, fields: Mapping[str, Any], arrays: Arrays, answers: set[str], timeout_s: float | None = None
    ) -> Message:
        self._number += 1
        frame = wire.pack({**fields, "id": self._number}, arrays)
        return self._receive(process, frame, str(fields["op"]), answers, timeout_s)

    def _receive(self, process: WorkerProcess, frame: bytes, op: str, answers: set[str], timeout_s: float | None = None) -> Message:
        reply = process.exchange(frame, self._launch.timeout_s if timeout_s is None else timeout_s, op)
        if reply.fields.get("id") != self._number:
            raise WorkerLost(f"{process.name} answered request {reply.fields.get('id')!r}, asked was {self._number}")
        said = reply.fields.get("op")
        message = str(reply.fields.get("message", ""))[:2000]
        if said == "missing":
            raise MissingOutput(message)
        if said == "error":
            raise WorkerError(f"{process.name}, {op}: {str(reply.fields.get('type', 'error'))[:100]}: {message}{_place(reply)}")
        if said not in answers:
            raise WorkerLost(f"{process.name} answered {op} with {str(said)[:100]!r}")
        return reply


def samples(reply: Message, name: str) -> npt.NDArray[np.float32]:
    """The audio of an answer, float32 ``[N]``.

    Raises:
        WorkerError: it has none, or of another kind.
    """
    audio = reply.arrays.get("audio")
    if audio is None or audio.ndim != 1 or audio.dtype != np.float32:
        raise WorkerError(f"{name} answered without audio of float32 [N]")
    return np.array(audio)


def _place(reply: Message) -> str:
    """The last place named in the traceback of an error."""
    places = [line.strip() for line in str(reply.fields.get("trace", "")).splitlines() if line.strip().startswith("File ")]
    return f" ({places[-1][:200]})" if places else ""


def _close(held: list[WorkerProcess]) -> None:
    while held:
        held.pop().close()
