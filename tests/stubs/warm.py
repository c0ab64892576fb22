"""Processes that have imported torch already: forks of one process that did, and nothing else.

A test that starts ten training commands would else pay ten times for importing torch, its optimisers and accelerate: four seconds each,
of a command that trains for half a second. What is forked has computed nothing: it has no threads, no graph, no device and no random state
that a fresh process would not have.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Warm:
    """Starts code in processes of their own.

    Args:
        imports: statements carried out once, before the first fork.
        path: folders that come first in ``sys.path``, there and in what is started from there.
    """

    def __init__(self, imports: str, path: Sequence[Path]) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, path))}
        self._started = 0
        self._process = subprocess.Popen(
            [sys.executable, __file__, imports], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def start(self, code: str, words: Sequence[object], folder: Path, environment: Mapping[str, str] | None = None) -> Started:
        """Carries out ``code`` as ``python -c code words`` would, with ``folder`` as the working directory; what it says on standard error is
        kept there.
        """
        self._started += 1
        errors = folder / f"stderr{self._started}"
        request = {
            "code": code,
            "words": list(map(str, words)),
            "folder": str(folder),
            "environment": dict(environment or {}),
            "errors": str(errors),
        }
        return Started(self, self.ask(request, 60), errors)

    def ask(self, request: Mapping[str, Any], within_s: float) -> Any:
        """The answer of the process that forks; TimeoutError where it does not come in time."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], within_s)[0]:
            raise TimeoutError(f"no answer within {within_s} s to {request}")
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """Ends the process that forks."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(10)


class Started:
    """One process that was started."""

    def __init__(self, warm: Warm, pid: int, errors: Path) -> None:
        self.pid, self.returncode = pid, None
        self._warm, self._errors = warm, errors

    def poll(self) -> int | None:
        """How it ended, as `subprocess.Popen` counts it; None while it runs."""
        if self.returncode is None:
            self.returncode = self._warm.ask({"poll": self.pid}, 60)
        return self.returncode

    def wait(self, within_s: float = 120.0) -> str:
        """Waits for its end; what it said."""
        if self.returncode is None:
            try:
                self.returncode = self._warm.ask({"wait": self.pid}, within_s)
            except TimeoutError:
                os.kill(self.pid, signal.SIGKILL)
                raise AssertionError(f"it did not end within {within_s} s:\n{self._errors.read_text()}") from None
        return self._errors.read_text()


def _serve() -> None:
    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        if "code" in request:
            pid = os.fork()
            if not pid:
                _become(request)
            answer = pid
        else:
            pid = request.get("wait") or request["poll"]
            ended, status = os.waitpid(pid, 0 if "wait" in request else os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if ended else None
        print(json.dumps(answer), flush=True)


def _become(request: Mapping[str, Any]) -> None:
    """What is asked for, in a process that answers nobody."""
    null, errors = os.open(os.devnull, os.O_RDWR), os.open(request["errors"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor, target in ((null, 0), (null, 1), (errors, 2)):
        os.dup2(descriptor, target)
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = ["-c", *request["words"]]
    code = 1
    try:
        exec(compile(request["code"], "<test>", "exec"), {"__name__": "__main__"})
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    exec(sys.argv[1])
    _serve()
