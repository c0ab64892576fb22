"""What the workers of both stages share: a store to write to, and how they end what cannot begin."""

from __future__ import annotations

from pathlib import Path

from harness.api import Side, Status
from harness.data.audio import ChangedAudio, UnreadableAudio
from harness.errors import HarnessError
from harness.foreign import message_of
from harness.storing.outcomes import Outcome, OutcomeWriter
from harness.storing.store import Store


class CannotBeBuilt(Exception):
    """What could be built when it was described, and in the place of a lost worker could not."""


class StageWorker:
    """A worker that keeps outcomes in a segment of its own."""

    def __init__(self, store: Path) -> None:
        self._store = Store(store)
        self._writer: OutcomeWriter | None = None
        self._refusal: HarnessError | None = None  # to build what the job is about

    def _refuse(self, *, describing: bool) -> None:
        """Raises what was wrong with building: while the run is described it cannot begin, later only the step fails."""
        if self._refusal is not None:
            raise self._refusal if describing else CannotBeBuilt(str(self._refusal))

    def _keep(self, key: str, outcome: Outcome) -> None:
        if self._writer is None:
            self._writer = self._store.outcomes.writer()
        self._writer.append(key, outcome)

    def end(self) -> None:
        """Nothing is kept from job to job but what was built."""

    def close(self) -> None:
        """The segment is complete."""
        if self._writer is not None:
            self._writer.close()


def unread(error: UnreadableAudio) -> Outcome:
    """How a measurement ends whose recording or prompt was refused: for good, but for a file that changed, which is asked about again."""
    status = Status.FAILED if isinstance(error, ChangedAudio) else Status.INVALID_INPUT
    return Outcome(status, side=str(Side.REFERENCE), reason=message_of(error))
