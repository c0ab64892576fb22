"""Code that others wrote: what it raises, and what it is loading.

Plug-ins run in the same process as the built-in metrics and the store. An item's failure may be any exception with any text. What a
plug-in's code leaves changed is the business of `harness.kept`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from functools import cache
from types import FrameType
from typing import TypeVar

from harness.errors import HarnessError

T = TypeVar("T")

REASON_CHARACTERS = 2000
"""The most that is kept of a text somebody else wrote; more is cut out of its middle."""
TRACE_CHARACTERS = 20_000


class UserInterrupt(KeyboardInterrupt):
    """Ctrl-C of the user, as the harness's own handlers raise it; a plain KeyboardInterrupt may come from anywhere."""


class ForeignError(Exception):
    """What a call of somebody else's code raised that means something else here: SystemExit, an error of `harness.errors` ..."""


# -- what it raises ---------------------------------------------------------------------------------------------------------------


def bounded(text: str, limit: int = REASON_CHARACTERS) -> str:
    """``text`` as it can be stored and shown anywhere: control characters and lone surrogates escaped, at most about ``limit`` long."""
    if len(text) > limit:
        tail = limit // 4
        text = f"{text[: limit - tail]} [... {len(text) - limit} characters left out ...] {text[-tail:]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def message_of(error: BaseException) -> str:
    """The text of an exception, `bounded`; whatever its ``__str__`` does."""
    try:
        return bounded(str(error))
    except BaseException as fault:
        return f"(its message cannot be had: {type(fault).__name__})"


def raised(error: BaseException) -> BaseException:
    """What the code really raised, where `attempt` made a `ForeignError` of it."""
    return error.__cause__ if isinstance(error, ForeignError) and error.__cause__ is not None else error


def reason_of(error: BaseException) -> str:
    """Type and text of an exception."""
    error = raised(error)
    text = message_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def trace_of(error: BaseException) -> str:
    """Its traceback, `bounded`."""
    try:
        return bounded("".join(traceback.format_exception(error)), TRACE_CHARACTERS)
    except Exception as fault:
        return f"(its traceback cannot be had: {type(fault).__name__})"


def of_the_user(error: BaseException) -> bool:
    """Whether it is the user's Ctrl-C: ours, or a plain one where Python's own handler is still in place in a process that hears it."""
    if isinstance(error, UserInterrupt):
        return True
    return isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def attempt(call: Callable[[], T]) -> T:
    """Runs somebody else's code so that it can raise nothing but an ordinary exception.

    Raises:
        UserInterrupt: the user pressed Ctrl-C meanwhile.
        ForeignError: instead of SystemExit, KeyboardInterrupt, GeneratorExit and the like, and of the harness's own errors, which mean
            the end of a run where the harness raises them.
        Exception: any other, as it is.
    """
    with _listening():
        try:
            return call()
        except BaseException as error:
            if isinstance(error, UserInterrupt) or (isinstance(error, Exception) and not isinstance(error, HarnessError)):
                raise
            raise ForeignError(reason_of(error)) from error


@contextlib.contextmanager
def _listening() -> Iterator[None]:
    """Ctrl-C is told from a KeyboardInterrupt that the code raises by itself, also where Python's own handler is in place."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def pressed(number: int, frame: FrameType | None) -> None:
        raise UserInterrupt

    signal.signal(signal.SIGINT, pressed)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is pressed:
            signal.signal(signal.SIGINT, signal.default_int_handler)


# -- what it is doing -------------------------------------------------------------------------------------------------------------

_LISTENERS: list[Callable[[str], None]] = []


def tell(listener: Callable[[str], None]) -> None:
    """From now on, this process says what it is loading: should it die or hang, somebody knows what to blame."""
    _LISTENERS[:] = [listener]


def loading(what: str) -> None:
    """``what`` ("metric 'x' (plug-in y)") is about to be imported or built."""
    for listener in _LISTENERS:
        listener(what)


IMPORT_S = 120.0
"""The most that the trial import of a plug-in may take."""
_TRIAL = """
import json, os, sys
fd, sys.path[:] = int(sys.argv[1]), json.loads(sys.argv[2])
from harness.foreign import attempt, reason_of
try:
    attempt(lambda: __import__(sys.argv[3]))
    os.write(fd, b"imported")
except Exception as error:
    os.write(fd, reason_of(error).encode())
finally:
    os._exit(0)  # without what the module may have left for the exit
"""


def tried(module: str) -> str:
    """Why a module of a plug-in is not imported here, or "".

    It is imported in another process first: one that ends its process, or never comes back, would do so to this one, and nobody could
    say why. A worker that says what it is loading (`tell`) needs no trial.
    """
    if _LISTENERS or module in sys.modules:
        return ""
    return _trial(module, tuple(map(str, sys.path)))


@cache
def _trial(module: str, search_path: tuple[str, ...]) -> str:
    with tempfile.TemporaryFile() as said:  # a file: whatever the module starts could hold a pipe open
        words = [sys.executable, "-c", _TRIAL, str(said.fileno()), json.dumps(search_path), module]
        nothing = subprocess.DEVNULL
        process = subprocess.Popen(words, stdin=nothing, stdout=nothing, stderr=nothing, pass_fds=(said.fileno(),), start_new_session=True)
        try:
            fault = f"it ended the process that imported it (exit code {process.wait(IMPORT_S)})"
        except subprocess.TimeoutExpired:
            fault = f"its import did not end within {IMPORT_S:g} s"
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # with what it started
            process.wait()
        said.seek(0)
        answer = said.read().decode(errors="replace")
    return "" if answer == "imported" else answer or fault
