"""What a codec and a synthesizer in a worker have in common: how they are configured and started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from systems.worker.bridge import Bridge
from systems.worker.launch import Launch, command, environment, missing


class Adapter:
    """A system in another Python environment.

    Args:
        python: interpreter of that environment; nothing of this harness need be installed there, only numpy.
        worker: script it runs: a path, or the name of a bundled one (xtts, cosyvoice, f5tts, valle, mulaw).
        via: words in front of them, as a list: [ssh, HOST], [docker, run, -i, IMAGE], [conda, run, --no-capture-output, -n, NAME]. The
            protocol then goes through standard input and output.
        parameters: for the constructor of the system in the worker.
        environment: variables to set for it.
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
                words=command(python, worker, via),
                environment=_environment(environment or {}),
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
        return missing(python, worker, via)

    def close(self) -> None:
        """Ends the worker; otherwise it ends with this object."""
        self._bridge.close()


_environment = environment  # the constructor's argument of that name hides it
