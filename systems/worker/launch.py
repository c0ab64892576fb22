"""How a worker is started: the words of its command, its environment, and how long it may take."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from systems.worker.elsewhere.speech_worker import FDS_VARIABLE, FOLDER_VARIABLE

WORKERS = Path(__file__).parent / "elsewhere"
"""The workers that come with the harness, and speech_worker.py, which all of them import."""

_OF_THIS_PYTHON = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "PYTHONSTARTUP", FDS_VARIABLE, FOLDER_VARIABLE)


@dataclass(frozen=True)
class Launch:
    """A command and what surrounds it.

    Args:
        words: program and arguments, never a shell line.
        environment: of the process, whole.
        standard_streams: the protocol goes through standard input and output, because nothing else reaches the worker (ssh, docker).
        parameters: for the worker's constructor.
        timeout_s: for one request.
        start_timeout_s: until the worker has loaded its system and said hello.
    """

    words: tuple[str, ...]
    environment: Mapping[str, str]
    standard_streams: bool
    parameters: Mapping[str, Any]
    timeout_s: float
    start_timeout_s: float

    @property
    def name(self) -> str:
        """The worker in messages: its script, or else its program."""
        return f"worker '{Path(self.words[-1]).name}'"


def command(python: str | None, worker: str | None, via: Sequence[str]) -> tuple[str, ...]:
    """The words that start a worker.

    Args:
        python: interpreter of the other environment; None where ``via`` names it, or the worker is a program.
        worker: path of its script, or the name of one of those in `WORKERS` without ``_worker.py``. With ``via`` it is taken as it
            stands: it lies on another machine, or in a container.
        via: words in front.
    """
    script = worker
    if worker is not None and not via:
        bundled = WORKERS / f"{worker}_worker.py"
        script = str(bundled if bundled.is_file() else Path(worker).expanduser())
    return (*map(str, via), *(str(word) for word in (python, script) if word))


def missing(python: str | None, worker: str | None, via: Sequence[str]) -> str | None:
    """Why the command cannot be started and what to do, or None. Nothing is run."""
    if isinstance(via, str):
        return f"via is a list of words, [ssh,HOST] say, not a line for a shell; got {via!r}"
    words = command(python, worker, via)
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


def environment(extra: Mapping[str, Any]) -> dict[str, str]:
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
