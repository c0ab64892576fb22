"""Every error a user can cause, with its exit code.

::

    HarnessError                    1   something failed
    |-- UsageError                  2   asked for something impossible; nothing was run
    |   |-- UnknownName             2   no such system, suite, metric, dataset ...; close names are suggested
    |   |-- ConfigError             2   a value of the configuration is wrong
    |   |-- ManifestError           2   a dataset manifest is wrong; the line is named
    |   |-- MissingDependency       2   a package, program or checkpoint is not here; says how to get it
    |   |-- CheckpointError         2   weights do not fit, are corrupted, or are of a refused kind
    |   |-- RunConflict             2   the run folder belongs to another run or is in use
    |   |-- DamagedFile             2   a file of a run is not what was written
    |   `-- NewerVersion            2   a file was written by a newer version of the harness
    |-- Incomplete                  1   the run finished with more failures than allowed
    |-- StoreError                  1   the store cannot be read or written (disk full, read-only)
    |-- Incomparable                3   two runs cannot be compared
    `-- Interrupted               130   stopped by the user; the run can be resumed
"""

from __future__ import annotations

from collections.abc import Iterable


class HarnessError(Exception):
    """Base of all. The message says what was asked, what exists and what to do."""

    exit_code = 1


class UsageError(HarnessError):
    exit_code = 2


class UnknownName(UsageError):
    """A name that is not registered.

    Args:
        kind: what it should name, "system" say.
        name: as given.
        known: what exists.
        hint: further advice, appended.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        import difflib

        names = sorted(known)
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        parts = [f"no {kind} named '{name}'."]
        if close:
            parts.append(f"Did you mean {' or '.join(close)}?")
        parts.append(f"There are: {', '.join(names) if names else 'none'}.")
        if hint:
            parts.append(hint)
        super().__init__(" ".join(parts))
        self.kind, self.name, self.suggestions = kind, name, close
        self._arguments = (kind, name, names, hint)

    def __reduce__(self) -> tuple[type[UnknownName], tuple[str, str, list[str], str]]:
        return type(self), self._arguments


class ConfigError(UsageError): ...


class ManifestError(UsageError): ...


class MissingDependency(UsageError): ...


class CheckpointError(UsageError): ...


class RunConflict(UsageError): ...


class DamagedFile(UsageError): ...


class NewerVersion(UsageError): ...


class Incomplete(HarnessError): ...


class StoreError(HarnessError): ...


class Incomparable(HarnessError):
    exit_code = 3


class Interrupted(HarnessError):
    exit_code = 130
