"""One worker process: how it is started, frames in both directions under a deadline, its last words, its end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from systems.worker.elsewhere import speech_worker as wire
from systems.worker.elsewhere.speech_worker import FDS_VARIABLE, FOLDER_VARIABLE, Malformed, Message

WORKERS = Path(__file__).parent / "elsewhere"
"""The workers that come with the harness, and speech_worker.py, which all of them import."""

_OF_THIS_PYTHON = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "PYTHONSTARTUP", FDS_VARIABLE, FOLDER_VARIABLE)


@dataclass(frozen=True)
class Launch:
    """A command and what surrounds it."""

    words: tuple[str, ...]  # program and arguments, never a shell line
    environment: Mapping[str, str]  # of the process, whole
    standard_streams: bool  # the protocol goes through standard input and output: nothing else reaches the worker (ssh, docker)
    parameters: Mapping[str, Any]  # for the worker's constructor
    timeout_s: float  # for one request
    start_timeout_s: float  # until the worker has loaded its system and said hello

    @property
    def name(self) -> str:
        """The worker in messages: its script, or else its program."""
        return f"worker '{Path(self.words[-1]).name}'"


def inherited(extra: Mapping[str, Any]) -> dict[str, str]:
    """What the worker's process inherits: everything but what describes this Python; and a path on which speech_worker.py lies.

    Args:
        extra: variables to set; a PYTHONPATH is searched before ours.
    """
    found = {name: value for name, value in os.environ.items() if name not in _OF_THIS_PYTHON}
    # So that the last words before a crash are heard, a native one included.
    found.update(PYTHONUNBUFFERED="1", PYTHONFAULTHANDLER="1")
    found.update({name: str(value) for name, value in extra.items()})
    found["PYTHONPATH"] = os.pathsep.join(filter(None, [str(extra.get("PYTHONPATH") or ""), str(WORKERS)]))
    return found


_EXCERPT_BYTES = 60


class FrameBuffer:
    """Bytes of a worker that have not yet become messages.

    What cannot become a frame is refused with the first byte that shows it, before anything more is read or room is made for it.
    """

    def __init__(self) -> None:
        self._bytes = bytearray()

    def __len__(self) -> int:
        return len(self._bytes)

    def feed(self, data: bytes) -> None:
        """Appends what came."""
        self._bytes += data

    @property
    def wanted(self) -> int | None:
        """Length in bytes of the frame that has begun, head included; None before its head is complete.

        Raises:
            Malformed: no frame begins here, or one that is too long.
        """
        if not wire.MAGIC.startswith(bytes(self._bytes[: len(wire.MAGIC)])):
            raise Malformed(f"not a frame: it begins with {self.excerpt()!r}")
        if len(self._bytes) < wire.HEAD.size:
            return None
        head = wire.read_head(self._bytes)
        return wire.HEAD.size + head.json_bytes + head.data_bytes

    def take(self) -> Message | None:
        """The first frame, taken off; None where it is not all there.

        Raises:
            Malformed: as `wanted`, or its content is damaged.
        """
        wanted = self.wanted
        if wanted is None or len(self._bytes) < wanted:
            return None
        head = wire.read_head(self._bytes)
        body = bytes(self._bytes[wire.HEAD.size : wanted])
        del self._bytes[:wanted]
        return wire.unpack(head, body)

    def excerpt(self) -> bytes:
        """The first bytes, for messages."""
        return bytes(self._bytes[:_EXCERPT_BYTES])


_TICK_S = 0.5  # how often a worker is looked at whose pipe is kept open by a process of its own
_LAST_WORDS_BYTES = 4000
_READ_BYTES = 1 << 20
_PIPE_BYTES = 1 << 20  # Linux's default limit for a process without privileges
_POLITE_S = 3.0


class WorkerLost(RuntimeError):
    """The worker died, did not answer in time, or broke the protocol: nothing it says can be relied on any more."""


class WorkerProcess:
    """A started worker.

    It has a session of its own: Ctrl-C reaches the harness only, which lets what is in flight finish, and ending the worker ends
    whatever it has started. When the harness is gone it finds its pipe closed and ends itself; where it hangs and does not look, a
    `_Watcher` ends it, with whatever it has started.

    Raises:
        WorkerLost: it cannot be started.
    """

    def __init__(self, launch: Launch) -> None:
        self.name = launch.name
        self._received = FrameBuffer()
        theirs_in, self._to_worker = os.pipe()
        self._from_worker, theirs_out = os.pipe()
        said, theirs_words = os.pipe()
        # Ours to remove where the worker cannot: it is killed with a prompt in it. It removes it itself where we cannot.
        self._folder = tempfile.TemporaryDirectory(prefix="speech-worker-", ignore_cleanup_errors=True)
        environment = {**launch.environment, wire.FOLDER_VARIABLE: self._folder.name}
        if not launch.standard_streams:
            environment[wire.FDS_VARIABLE] = f"{theirs_in},{theirs_out}"
        try:
            self._process = subprocess.Popen(
                launch.words,
                stdin=theirs_in if launch.standard_streams else subprocess.DEVNULL,
                stdout=theirs_out if launch.standard_streams else theirs_words,
                stderr=theirs_words,
                pass_fds=() if launch.standard_streams else (theirs_in, theirs_out),
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            for fd in (self._to_worker, self._from_worker, said):
                os.close(fd)
            raise WorkerLost(f"{self.name} cannot be started with {' '.join(launch.words)}: {error}") from error
        finally:
            for fd in (theirs_in, theirs_out, theirs_words):
                os.close(fd)
        self._watcher = _Watcher(self._process.pid)
        for fd in (self._to_worker, self._from_worker):
            os.set_blocking(fd, False)
            # Ten seconds of audio then pass at one go instead of in ten turns of both processes, whose waiting would be timed as theirs.
            with contextlib.suppress(OSError):  # the user's share of pipe memory is used up: it works, in more turns
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._words = _LastWords(said)

    def exchange(self, frame: bytes, timeout_s: float, doing: str) -> Message:
        """Sends a frame and waits for the next one.

        Args:
            frame: from `speech_worker.pack`; b"" to wait only.
            timeout_s: for both.
            doing: what it is about, for messages.

        Raises:
            WorkerLost: with the reason.
        """
        try:
            return self._transferred(frame, timeout_s, doing)
        except Malformed as error:
            raise WorkerLost(f"{self.name} broke the protocol: {error}") from None

    def refuse_unasked(self) -> None:
        """Makes sure that nothing follows the last answer among the bytes read with it.

        Raises:
            WorkerLost: otherwise.
        """
        if len(self._received):
            raise WorkerLost(f"{self.name} sent {len(self._received)} bytes unasked: {self._received.excerpt()!r}")

    def require_idle(self) -> None:
        """Makes sure that the worker lives and has sent nothing since its last answer.

        Raises:
            WorkerLost: otherwise.
        """
        poll = select.poll()
        poll.register(self._from_worker, select.POLLIN)
        if poll.poll(0):
            self._read("a pause between requests")
        if self._process.poll() is not None:
            raise WorkerLost(self._ended("a pause between requests"))
        self.refuse_unasked()

    def last_words(self) -> str:
        """The end of what the worker wrote to its standard error, and of what it printed; one line."""
        return self._words.text()

    def kill(self) -> None:
        """Ends the worker and everything it has started, at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._watcher.leave()  # while the number of the group is still the worker's
        self._process.wait()
        self._words.finish()
        self._folder.cleanup()
        for fd in (self._to_worker, self._from_worker):
            with contextlib.suppress(OSError):  # the first may be closed by `close`
                os.close(fd)
        self._to_worker = self._from_worker = -1

    def close(self) -> None:
        """Ends the worker politely, then by force."""
        if self._from_worker < 0:
            return
        os.close(self._to_worker)
        self._to_worker = -1
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_POLITE_S)
        self.kill()

    def _transferred(self, frame: bytes, timeout_s: float, doing: str) -> Message:
        """Both directions at once: a worker that writes without reading must not keep us from writing."""
        deadline = time.monotonic() + timeout_s
        left, message = memoryview(frame), None
        while left or (message := self._received.take()) is None:
            waited_s = deadline - time.monotonic()
            if waited_s <= 0:
                raise WorkerLost(self._late(timeout_s, doing, sent=not left))
            poll = select.poll()
            poll.register(self._from_worker, select.POLLIN)
            if left:
                poll.register(self._to_worker, select.POLLOUT)
            ready = dict(poll.poll(1000 * min(waited_s, _TICK_S)))
            if self._from_worker in ready:
                self._read(doing)
            elif not ready and self._process.poll() is not None:
                raise WorkerLost(self._ended(doing))
            if self._to_worker in ready:
                try:
                    left = left[os.write(self._to_worker, left) :]
                except BlockingIOError:
                    continue
                except OSError:
                    raise WorkerLost(self._ended(doing)) from None
        return message

    def _read(self, doing: str) -> None:
        try:
            data = os.read(self._from_worker, _READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise WorkerLost(self._ended(doing))
        self._received.feed(data)
        if len(self._received) > wire.MAX_JSON_BYTES + wire.MAX_DATA_BYTES + 2 * _READ_BYTES:
            raise WorkerLost(f"{self.name} sends without end")

    def _late(self, timeout_s: float, doing: str, sent: bool) -> str:
        wanted = self._received.wanted if len(self._received) else None
        if wanted is not None:
            return f"{self.name} announced a frame of {wanted} bytes and sent {len(self._received)} within {timeout_s:g} s of {doing}"
        how = "did not answer" if sent else "did not read its request"
        return f"{self.name} {how} within {timeout_s:g} s of {doing}"

    def _ended(self, doing: str) -> str:
        try:
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return f"{self.name} closed its pipe during {doing} (it still runs)"
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"{self.name} {how} during {doing}"


class _Watcher:
    """A shell that waits for the end of a pipe only this process holds open, and then kills a process group.

    The kernel closes the pipe however this process ends. A parent-death signal would come when the *thread* that started the worker
    ends, and has to be asked for between fork and exec, where a process with threads may run no Python.
    """

    def __init__(self, group: int) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", f"read word || kill -s KILL -- -{group}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def leave(self) -> None:
        """The group is ended by other means."""
        with contextlib.suppress(OSError):  # somebody killed the shell
            self._process.communicate(b"leave\n")


class _LastWords:
    """Reads a pipe to its end in a thread, so that a talkative worker never waits for us, and keeps the tail."""

    def __init__(self, fd: int) -> None:
        self._tail = bytearray()
        self._thread = threading.Thread(target=self._read, args=(fd,), daemon=True)
        self._thread.start()

    def _read(self, fd: int) -> None:
        with open(fd, "rb", buffering=0) as pipe:
            while data := pipe.read(1 << 16):
                self._tail += data
                del self._tail[:-_LAST_WORDS_BYTES]

    def finish(self) -> None:
        self._thread.join(1.0)

    def text(self) -> str:
        return " / ".join(bytes(self._tail).decode(errors="replace").split("\n")).strip(" /")
