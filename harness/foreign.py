"""Code that others wrote: what it raises, what it is given, and what it leaves changed.

Plug-ins run in the same process as the built-in metrics and the store. An item's failure may be any exception with any text; what a
plug-in is given is its own copy; and process-wide settings that change other people's numbers, or end the run, are put back after every
call. Native crashes, hangs and ``os._exit`` are beyond this module: worker processes are for them (`harness.workers.processes`).
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import locale
import logging
import os
import random
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import FrameType, TracebackType
from typing import Any, NamedTuple, TypeVar

from harness.errors import HarnessError

T = TypeVar("T")

REASON_CHARACTERS = 2000
"""The most that is kept of a text somebody else wrote; more is cut out of its middle."""
TRACE_CHARACTERS = 20_000
_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGCHLD", "SIGPIPE", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)


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
        except UserInterrupt:
            raise
        except HarnessError as error:
            raise ForeignError(reason_of(error)) from error
        except Exception:
            raise
        except BaseException as error:
            raise ForeignError(reason_of(error)) from error


@contextlib.contextmanager
def _listening() -> Iterator[None]:
    """Ctrl-C is told from a KeyboardInterrupt that the code raises by itself, also where Python's own handler is in place."""
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not ours:
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

_TOLD: list[Callable[[str], None]] = []


def tell(listener: Callable[[str], None]) -> None:
    """From now on, this process says what it is loading: should it die or hang, somebody knows what to blame."""
    _TOLD[:] = [listener]


def loading(what: str) -> None:
    """``what`` ("metric 'x' (plug-in y)") is about to be imported or built."""
    for listener in _TOLD:
        listener(what)


IMPORT_S = 120.0
"""The most that the trial import of a plug-in may take."""
_TRIED: dict[tuple[str, ...], str] = {}  # by search path and module
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
    if _TOLD or module in sys.modules:
        return ""
    key = (*sys.path, module)
    if key not in _TRIED:
        _TRIED[key] = _trial(module)
    return _TRIED[key]


def _trial(module: str) -> str:
    import json
    import subprocess
    import tempfile

    with tempfile.TemporaryFile() as said:  # a file: whatever the module starts could hold a pipe open
        words = [sys.executable, "-c", _TRIAL, str(said.fileno()), json.dumps([str(p) for p in sys.path]), module]
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(said.fileno(),),
            start_new_session=True,
        )
        fault = ""
        try:
            code = process.wait(IMPORT_S)
            fault = f"it ended the process that imported it (exit code {code})"
        except subprocess.TimeoutExpired:
            fault = f"its import did not end within {IMPORT_S:g} s"
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # with what it started
            process.wait()
        said.seek(0)
        answer = said.read().decode(errors="replace")
    if not answer:
        return fault
    return "" if answer == "imported" else answer


# -- what it leaves changed -------------------------------------------------------------------------------------------------------


class Kept:
    """Process-wide settings are as they were when the context ends.

    Args:
        settling: something is being imported or built, which may set environment variables for its libraries; those that were there
            keep their values.

    Attributes:
        changed: in words, what had to be put back.
    """

    def __init__(self, settling: bool = False) -> None:
        self.changed: tuple[str, ...] = ()
        self._settling = settling

    def __enter__(self) -> Kept:
        self._main = threading.current_thread() is threading.main_thread()
        self._before = self._state()
        _hold(self._before[_DESCRIPTORS])
        self._torch = _torch_state()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        changed = []
        after = self._state()
        if self._settling:
            self._before["environment variables"] = after["environment variables"] | self._before["environment variables"]
        for name, before in self._before.items():
            if after.get(name) != before:
                _put_back(name, before)
                if name not in _UNTOLD:
                    changed.append(name)
        changed += _torch_put_back(self._torch)
        self.changed = tuple(changed)

    def _state(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            _DESCRIPTORS: tuple(_file_behind(number) for number in range(3)),
            "the working directory": _folder(),
            "environment variables": dict(os.environ),
            "the locale": locale.setlocale(locale.LC_ALL),
            "warning filters": (list(warnings.filters), warnings.showwarning),
            "logging": (logging.root.level, logging.root.manager.disable, list(logging.root.handlers)),
            "sys.stdout": _stream("stdout"),
            "sys.stderr": _stream("stderr"),
            "Python's random state": random.getstate(),
            "the recursion limit": sys.getrecursionlimit(),
            "garbage collection": gc.isenabled(),
            "the processor's handling of denormal numbers": _TINY * 1.0 == 0.0,
        }
        if hasattr(os, "sched_getaffinity"):
            found["the cores it may use"] = os.sched_getaffinity(0)
        umask = os.umask(0o077)
        os.umask(umask)
        found["the umask"] = umask
        if self._main:
            found["signal handlers"] = [signal.getsignal(number) for number in _SIGNALS]
            found["blocked signals"] = signal.pthread_sigmask(signal.SIG_BLOCK, ())
            found["a timer"] = signal.getitimer(signal.ITIMER_REAL)[0] > 0
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            found["numpy's floating-point errors"] = numpy.geterr()
            found["numpy's print options"] = numpy.get_printoptions()
            state = numpy.random.get_state(legacy=False)
            found["numpy's random state"] = (state["state"]["pos"], state["has_gauss"], state["gauss"], state["state"]["key"].tobytes())
        return found


_TINY = 5e-324
_DESCRIPTORS = "the standard descriptors"
_HELD: dict[int, tuple[tuple[int, int], int]] = {}
"""By number of a standard descriptor, what it was last seen to lead to, and a duplicate to put it back from."""


def _file_behind(descriptor: int) -> tuple[int, int] | None:
    """Device and inode, None where it is closed."""
    try:
        about = os.fstat(descriptor)
    except OSError:
        return None
    return about.st_dev, about.st_ino


def _hold(files: tuple[tuple[int, int] | None, ...]) -> None:
    """Keeps duplicates: a file that is opened after one was closed takes its number, and gets the messages meant for the terminal."""
    for number, file in enumerate(files):
        held = _HELD.get(number)
        if file is None or (held is not None and held[0] == file):
            continue
        if held is not None:
            os.close(held[1])
        _HELD[number] = file, fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 10)


_UNTOLD = ("Python's random state", "numpy's random state")
"""Put back like the others, but to draw from them is no misdeed."""


def _folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109  (half the time, twice a call)
    except OSError:
        return ""  # somebody has removed it


def _stream(name: str) -> tuple[Any, bool]:
    stream = getattr(sys, name)
    return stream, bool(getattr(stream, "closed", False))


def _put_back(name: str, before: Any) -> None:
    numpy: Any = sys.modules.get("numpy")
    with contextlib.suppress(OSError, ValueError):  # what cannot be put back is named all the same
        if name == _DESCRIPTORS:
            for number, file in enumerate(before):
                if file is not None and _file_behind(number) != file:
                    os.dup2(_HELD[number][1], number)
        elif name == "the working directory":
            os.chdir(before)
        elif name == "environment variables":
            for key in set(os.environ) - set(before):
                del os.environ[key]
            os.environ.update(before)
        elif name == "the locale":
            locale.setlocale(locale.LC_ALL, before)
        elif name == "warning filters":
            with warnings.catch_warnings():  # leaving it tells the interpreter that the filters are others
                pass
            filters: Any = warnings.filters
            filters[:], warnings.showwarning = before
        elif name == "logging":
            logging.root.setLevel(before[0])
            logging.disable(before[1])
            logging.root.handlers[:] = before[2]
        elif name in ("sys.stdout", "sys.stderr"):
            short = name.removeprefix("sys.")
            stream, closed = before
            if stream is not None and not closed and stream.closed:
                stream = open(1 if short == "stdout" else 2, "w", closefd=False, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
                setattr(sys, f"__{short}__", stream)
            setattr(sys, short, stream)
        elif name == "Python's random state":
            random.setstate(before)
        elif name == "the recursion limit":
            sys.setrecursionlimit(before)
        elif name == "garbage collection":
            (gc.enable if before else gc.disable)()
        elif name == "the processor's handling of denormal numbers":
            if "torch" in sys.modules:
                sys.modules["torch"].set_flush_denormal(before)
        elif name == "the cores it may use":
            os.sched_setaffinity(0, before)
        elif name == "the umask":
            os.umask(before)
        elif name == "signal handlers":
            for number, handler in zip(_SIGNALS, before, strict=True):
                if signal.getsignal(number) is not handler and handler is not None:
                    signal.signal(number, handler)
        elif name == "blocked signals":
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        elif name == "a timer":
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        elif name == "numpy's floating-point errors":
            numpy.seterr(**before)
        elif name == "numpy's print options":
            numpy.set_printoptions(**before)
        elif name == "numpy's random state":
            key = numpy.frombuffer(before[3], dtype=numpy.uint32)
            numpy.random.set_state(("MT19937", key, before[0], before[1], before[2]))


class _Torch(NamedTuple):
    """A setting of torch: how it is read and written, and what it is right after the import (None: of the machine)."""

    read: Callable[[Any], Any]
    write: Callable[[Any, Any], Any]
    initial: Any


def _attribute(module: str, name: str, initial: Any) -> _Torch:
    def of(torch: Any) -> Any:
        return getattr(torch.backends, module)

    return _Torch(lambda torch: getattr(of(torch), name), lambda torch, value: setattr(of(torch), name, value), initial)


_TORCH = {
    "torch's default dtype": _Torch(
        lambda t: str(t.get_default_dtype()), lambda t, v: t.set_default_dtype(getattr(t, v.removeprefix("torch."))), "torch.float32"
    ),
    "torch's default device": _Torch(
        lambda t: str(t.get_default_device()), lambda t, v: t.set_default_device(None if v == "cpu" else v), "cpu"
    ),
    "torch's number of threads": _Torch(lambda t: t.get_num_threads(), lambda t, v: t.set_num_threads(v), None),
    "torch's gradients": _Torch(lambda t: t.is_grad_enabled(), lambda t, v: t.set_grad_enabled(v), True),
    "torch's deterministic algorithms": _Torch(
        lambda t: (t.are_deterministic_algorithms_enabled(), t.is_deterministic_algorithms_warn_only_enabled()),
        lambda t, v: t.use_deterministic_algorithms(v[0], warn_only=v[1]),
        (False, False),
    ),
    "torch's precision of products": _Torch(
        lambda t: t.get_float32_matmul_precision(), lambda t, v: t.set_float32_matmul_precision(v), "highest"
    ),
    "torch's autocast": _Torch(
        lambda t: tuple(t.is_autocast_enabled(device) for device in ("cpu", "cuda")),
        lambda t, v: [t.set_autocast_enabled(device, on) for device, on in zip(("cpu", "cuda"), v, strict=True)],
        (False, False),
    ),
    "torch.backends.cudnn.enabled": _attribute("cudnn", "enabled", True),
    "torch.backends.cudnn.benchmark": _attribute("cudnn", "benchmark", False),
    "torch.backends.cudnn.deterministic": _attribute("cudnn", "deterministic", False),
    "torch.backends.cudnn.allow_tf32": _attribute("cudnn", "allow_tf32", True),
    "torch.backends.mkldnn.enabled": _attribute("mkldnn", "enabled", True),
}


def _torch() -> Any:
    """Torch, when somebody has imported it whole."""
    torch: Any = sys.modules.get("torch")
    return torch if hasattr(torch, "get_rng_state") and hasattr(torch, "backends") else None


def _torch_state() -> dict[str, Any]:
    torch = _torch()
    if torch is None:
        return {name: setting.initial for name, setting in _TORCH.items()}
    found = {name: setting.read(torch) for name, setting in _TORCH.items()}
    return found | {"torch's random state": torch.get_rng_state()}


def _torch_put_back(before: Mapping[str, Any]) -> list[str]:
    torch = _torch()
    changed = []
    if torch is not None:
        for name, setting in _TORCH.items():
            if before[name] is not None and setting.read(torch) != before[name]:
                setting.write(torch, before[name])
                changed.append(name)
        state = before.get("torch's random state")
        if state is not None and not torch.equal(torch.get_rng_state(), state):
            torch.set_rng_state(state)
    return changed
