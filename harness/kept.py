"""Settings of the whole process that somebody else's code leaves changed: they are put back after every call, and named.

They would change other people's numbers, or end the run. Native crashes, hangs and ``os._exit`` are beyond this module: worker
processes are for them (`harness.workers.processes`).
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
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple


class Kept:
    """Process-wide settings are as they were when the context ends.

    Args:
        settling: something is being imported or built, which may set environment variables for its libraries; those that were there
            keep their values.

    Attributes:
        changed: in words, what had to be put back. To draw from a random state is no misdeed: it is put back like the others, and not named.
    """

    def __init__(self, settling: bool = False) -> None:
        self.changed: tuple[str, ...] = ()
        self._settling = settling

    def __enter__(self) -> Kept:
        self._main = threading.current_thread() is threading.main_thread()
        self._before = {
            name: setting.initial if module is None else setting.read(module)
            for module, table in _tables(self._main)
            for name, setting in table.items()
        }
        _hold(self._before[_DESCRIPTORS])
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        changed = []
        for module, table in _tables(self._main):
            for name, setting in table.items() if module is not None else ():
                before, after = self._before[name], setting.read(module)
                if self._settling and name == _ENVIRONMENT:
                    before = after | before
                if before is _UNKNOWN or after == before:
                    continue
                with contextlib.suppress(OSError, ValueError):  # what cannot be put back is named all the same
                    setting.write(module, before)
                if not name.endswith("random state"):
                    changed.append(name)
        self.changed = tuple(changed)


_UNKNOWN = object()


class _Setting(NamedTuple):
    """How a setting of a module is read and written, and what it is right after the import."""

    read: Callable[[Any], Any]
    write: Callable[[Any, Any], object]
    initial: Any = _UNKNOWN


def _tables(main_thread: bool) -> Iterator[tuple[Any, Mapping[str, _Setting]]]:
    """Settings by name with the module they belong to; None while nobody has imported it (whole)."""
    yield sys, _PROCESS
    if main_thread:
        yield sys, _OF_MAIN_THREAD
    yield sys.modules.get("numpy"), _NUMPY
    torch = sys.modules.get("torch")
    yield torch if hasattr(torch, "get_rng_state") and hasattr(torch, "backends") else None, _TORCH


# -- of the process ---------------------------------------------------------------------------------------------------------------

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


def _lead_back(_: Any, before: tuple[tuple[int, int] | None, ...]) -> None:
    for number, file in enumerate(before):
        if file is not None and _file_behind(number) != file:
            os.dup2(_HELD[number][1], number)


def _folder(_: Any) -> str:
    try:
        return os.getcwd()  # noqa: PTH109  (half the time, twice a call)
    except OSError:
        return ""  # somebody has removed it


def _set_environment(_: Any, before: Mapping[str, str]) -> None:
    for key in set(os.environ) - set(before):
        del os.environ[key]
    os.environ.update(before)


def _set_warnings(_: Any, before: tuple[Any, Any]) -> None:
    with warnings.catch_warnings():  # leaving it tells the interpreter that the filters are others
        pass
    filters: Any = warnings.filters
    filters[:], warnings.showwarning = before


def _set_logging(_: Any, before: tuple[int, int, list[logging.Handler]]) -> None:
    logging.root.setLevel(before[0])
    logging.disable(before[1])
    logging.root.handlers[:] = before[2]


def _stream(name: str) -> _Setting:
    def read(system: Any) -> tuple[Any, bool]:
        stream = getattr(system, name)
        return stream, bool(getattr(stream, "closed", False))

    def write(system: Any, before: tuple[Any, bool]) -> None:
        stream, closed = before
        if stream is not None and not closed and stream.closed:
            stream = open(1 if name == "stdout" else 2, "w", closefd=False, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
            setattr(system, f"__{name}__", stream)
        setattr(system, name, stream)

    return _Setting(read, write)


def _umask(_: Any) -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


_TINY = 5e-324
_DESCRIPTORS, _ENVIRONMENT = "the standard descriptors", "environment variables"
_PROCESS = {
    _DESCRIPTORS: _Setting(lambda _: tuple(_file_behind(number) for number in range(3)), _lead_back),
    "the working directory": _Setting(_folder, lambda _, v: os.chdir(v)),
    _ENVIRONMENT: _Setting(lambda _: dict(os.environ), _set_environment),
    "the locale": _Setting(lambda _: locale.setlocale(locale.LC_ALL), lambda _, v: locale.setlocale(locale.LC_ALL, v)),
    "warning filters": _Setting(lambda _: (list(warnings.filters), warnings.showwarning), _set_warnings),
    "logging": _Setting(lambda _: (logging.root.level, logging.root.manager.disable, list(logging.root.handlers)), _set_logging),
    "sys.stdout": _stream("stdout"),
    "sys.stderr": _stream("stderr"),
    "Python's random state": _Setting(lambda _: random.getstate(), lambda _, v: random.setstate(v)),
    "the recursion limit": _Setting(lambda s: s.getrecursionlimit(), lambda s, v: s.setrecursionlimit(v)),
    "garbage collection": _Setting(lambda _: gc.isenabled(), lambda _, v: gc.enable() if v else gc.disable()),
    "the processor's handling of denormal numbers": _Setting(
        lambda _: _TINY * 1.0 == 0.0, lambda s, v: s.modules["torch"].set_flush_denormal(v) if "torch" in s.modules else None
    ),
    "the umask": _Setting(_umask, lambda _, v: os.umask(v)),
}
if hasattr(os, "sched_getaffinity"):
    _PROCESS["the cores it may use"] = _Setting(lambda _: os.sched_getaffinity(0), lambda _, v: os.sched_setaffinity(0, v))
_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGCHLD", "SIGPIPE", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)


def _set_signals(_: Any, before: list[Any]) -> None:
    for number, handler in zip(_SIGNALS, before, strict=True):
        if signal.getsignal(number) is not handler and handler is not None:
            signal.signal(number, handler)


_OF_MAIN_THREAD = {
    "signal handlers": _Setting(lambda _: [signal.getsignal(number) for number in _SIGNALS], _set_signals),
    "blocked signals": _Setting(lambda _: signal.pthread_sigmask(signal.SIG_BLOCK, ()), lambda _, v: signal.pthread_sigmask(signal.SIG_SETMASK, v)),
    "a timer": _Setting(lambda _: signal.getitimer(signal.ITIMER_REAL)[0] > 0, lambda _, v: signal.setitimer(signal.ITIMER_REAL, 0.0)),
}  # fmt: skip


# -- of libraries -----------------------------------------------------------------------------------------------------------------


def _numpy_random(numpy: Any) -> tuple[Any, ...]:
    state = numpy.random.get_state(legacy=False)
    return state["state"]["key"].tobytes(), state["state"]["pos"], state["has_gauss"], state["gauss"]


_NUMPY = {
    "numpy's floating-point errors": _Setting(lambda n: n.geterr(), lambda n, v: n.seterr(**v)),
    "numpy's print options": _Setting(lambda n: n.get_printoptions(), lambda n, v: n.set_printoptions(**v)),
    "numpy's random state": _Setting(
        _numpy_random, lambda n, v: n.random.set_state(("MT19937", n.frombuffer(v[0], dtype=n.uint32), *v[1:]))
    ),
}


def _backend(module: str, name: str, initial: Any) -> _Setting:
    return _Setting(
        lambda t: getattr(getattr(t.backends, module), name), lambda t, v: setattr(getattr(t.backends, module), name, v), initial
    )


_TORCH = {
    "torch's default dtype": _Setting(
        lambda t: str(t.get_default_dtype()), lambda t, v: t.set_default_dtype(getattr(t, v.removeprefix("torch."))), "torch.float32"
    ),
    "torch's default device": _Setting(
        lambda t: str(t.get_default_device()), lambda t, v: t.set_default_device(None if v == "cpu" else v), "cpu"
    ),
    "torch's number of threads": _Setting(lambda t: t.get_num_threads(), lambda t, v: t.set_num_threads(v)),
    "torch's gradients": _Setting(lambda t: t.is_grad_enabled(), lambda t, v: t.set_grad_enabled(v), True),
    "torch's deterministic algorithms": _Setting(
        lambda t: (t.are_deterministic_algorithms_enabled(), t.is_deterministic_algorithms_warn_only_enabled()),
        lambda t, v: t.use_deterministic_algorithms(v[0], warn_only=v[1]),
        (False, False),
    ),
    "torch's precision of products": _Setting(
        lambda t: t.get_float32_matmul_precision(), lambda t, v: t.set_float32_matmul_precision(v), "highest"
    ),
    "torch's autocast": _Setting(
        lambda t: tuple(t.is_autocast_enabled(device) for device in ("cpu", "cuda")),
        lambda t, v: [t.set_autocast_enabled(device, on) for device, on in zip(("cpu", "cuda"), v, strict=True)],
        (False, False),
    ),
    "torch.backends.cudnn.enabled": _backend("cudnn", "enabled", True),
    "torch.backends.cudnn.benchmark": _backend("cudnn", "benchmark", False),
    "torch.backends.cudnn.deterministic": _backend("cudnn", "deterministic", False),
    "torch.backends.cudnn.allow_tf32": _backend("cudnn", "allow_tf32", True),
    "torch.backends.mkldnn.enabled": _backend("mkldnn", "enabled", True),
    "torch's random state": _Setting(
        lambda t: t.get_rng_state().numpy().tobytes(), lambda t, v: t.set_rng_state(t.frombuffer(bytearray(v), dtype=t.uint8))
    ),
}
