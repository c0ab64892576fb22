"""Scoring that begins while predictions are still made: what idle scorers take in hand meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from harness.running.plan import Attempt
from harness.running.scoring import Measure
from harness.running.session import Session
from harness.workers.jobs import RETRIED, Broken, Event, Executor, Job, Loading, again, run_with_retries
from harness.workers.supervision import side_by_side

READ_BYTES = 32 * 2**20
"""Of outcomes in the store, up to which all of them are read to know what is measured already; with more, nothing is measured early."""


class Early:
    """Measurements of predictions that this run makes, handed out as soon as half of what an item still lacks is there.

    What is derived from an item's recording is computed once for each hand-out, so these are few. Nothing is handed out where times are
    taken, which scoring would disturb. What goes wrong for reasons of the machine is left to the scoring stage, which tries it again.

    Args:
        made: the predictions that this run makes and whose outputs nobody has measured.
        total: of all predictions that it makes.
    """

    def __init__(self, session: Session, made: Sequence[Attempt], total: int) -> None:
        self.measured = 0
        self._session, self._unfinished = session, total
        self._lacking = Counter(attempt.item for attempt in made)
        self._awaited = {attempt.key for attempt in made}
        self._ready: dict[str, list[Attempt]] = {}  # by item, outputs that are there and not handed out
        self._due: dict[str, None] = {}  # items of which enough is ready, in the order in which it was
        self._known: set[str] = set()  # scores that are there, or were handed out
        store = session.store.outcomes
        self._off = not made or _timed(session) or store.num_bytes() > READ_BYTES
        if not self._off:
            self._known.update(store.find(None).found)
        self._signatures = {name: info.signature() for name, info in session.metrics.metrics.items()}

    def events(self, predictors: Executor, jobs: Sequence[Job], scorers: Executor) -> Iterator[Event]:
        """What becomes of the predictions, with what becomes of measurements between."""
        if self._off:
            yield from run_with_retries(predictors, jobs)
            return
        victims: list[Broken] = []
        for event in side_by_side([(predictors, jobs), (scorers, self._jobs())]):
            if isinstance(event, Loading):
                yield event
            elif isinstance(event.step, Measure) or (event.step is None and isinstance(event.job.steps[0], Measure)):
                if not isinstance(event, Broken) or event.kind not in RETRIED:
                    self.measured += 1 if event.step is not None else len(event.job.steps)
                    yield event
            else:
                steps = event.job.steps if event.step is None else (event.step,)
                self._unfinished -= len(steps)
                if isinstance(event, Broken) and event.kind in RETRIED:
                    victims.append(event)
                    continue
                yield event
                for step in steps:
                    self._ended(step)
        for first in victims:
            yield from again(predictors, first)

    def _ended(self, attempt: Attempt) -> None:
        if attempt.key in self._awaited:
            ready = self._ready.setdefault(attempt.item, [])
            ready.append(attempt)
            if 2 * len(ready) >= self._lacking[attempt.item]:
                self._due[attempt.item] = None

    def _jobs(self) -> Iterator[Job | None]:
        while self._unfinished:
            yield self._next()

    def _next(self) -> Job | None:
        """Of the item whose outputs wait longest."""
        while self._due:
            item = next(iter(self._due))
            del self._due[item]
            ready = self._ready.pop(item)
            self._lacking[item] -= len(ready)
            if steps := list(self._steps(ready)):
                return self._session.job(item, steps)
        return None

    def _steps(self, ready: Sequence[Attempt]) -> Iterator[Measure]:
        for attempt in ready:
            for name in self._session.enter(attempt):
                key = self._session.score_keys[attempt.key, name]
                if key not in self._known:
                    self._known.add(key)
                    yield Measure(attempt.key, name, key, self._signatures[name])


def _timed(session: Session) -> bool:
    """Whether anything is made from times that this run takes."""
    return session.suite.timing is not None or any(map(session.times, session.metrics.metrics))
