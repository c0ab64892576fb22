"""A streaming synthesizer under load: n requests that are always there (closed loop), or arrivals by chance (Poisson)."""

from __future__ import annotations

import os
import queue
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from harness.api import UNOBSERVED, Audio, ObservedSynthesizer, Prediction, Synthesizer, Utterance
from harness.timing.clock import percentile, wanted
from harness.timing.streaming import Stream, listen
from harness.timing.systems import TimingContext

Serve = Callable[[int], Iterable[Audio]]
"""The stream of request number i."""


@dataclass(frozen=True)
class Request:
    """One request."""

    number: int
    arrived_s: float  # when it was made, after the start
    waited_s: float  # until somebody took it up
    stream: Stream | None  # from its being taken up; None of a request that failed
    failure: str = ""  # why

    def figures(self) -> dict[str, float]:
        """As `Stream.figures`, with the wait in what a user waits for; and ``latency_s``, from arrival to end."""
        if self.stream is None:
            return {}
        found = self.stream.figures()
        for name in ("ttfc_s", "ttfa_s"):
            if name in found:
                found[name] += self.waited_s
        return found | {"latency_s": self.waited_s + self.stream.total_s, "waited_s": self.waited_s}


@dataclass(frozen=True)
class LoadResult:
    """A load that was carried through."""

    served: tuple[Request, ...]  # by number
    wall_s: float  # from the first arrival to the last end

    @property
    def failed(self) -> int:
        """Requests without speech."""
        return sum(s.stream is None for s in self.served)

    @property
    def audio_per_s(self) -> float:
        """Seconds of speech per second, all requests together."""
        return sum(s.stream.audio_s for s in self.served if s.stream is not None) / self.wall_s

    def percentiles(self, figure: str, shares: Sequence[float] = (0.5, 0.9, 0.95, 0.99)) -> dict[str, float]:
        """``p50``, ``p90`` ... of a figure of the requests that were served; those that need more requests are left out."""
        values = [found[figure] for s in self.served if figure in (found := s.figures())]
        return {f"p{100 * share:.0f}": percentile(values, share) for share in shares if values and len(values) >= wanted(share)}


def poisson_arrivals(rate_hz: float, count: int, seed: int) -> tuple[float, ...]:
    """Seconds after the start of ``count`` requests that come by chance, ``rate_hz`` a second on average; the same for the same seed."""
    if rate_hz <= 0 or count < 1:
        raise ValueError(f"a load has a positive rate and at least one request, got {rate_hz} and {count}")
    draw = random.Random(seed)
    found, at = [], 0.0
    for _ in range(count):
        at += draw.expovariate(rate_hz)
        found.append(at)
    return tuple(found)


def run_load(serve: Serve, arrivals: Sequence[float | None], workers: int, synchronise: Callable[[], None]) -> LoadResult:
    """Requests at given times, whether or not those before are answered; at most ``workers`` are served at once, the others wait.

    One thread per request in service. A request without a time arrives when somebody is free to ask it: where none has one, ``workers``
    users ask again as soon as they are answered (a closed loop).
    """
    if workers < 1 or not arrivals:
        raise ValueError(f"a load has at least one worker or user and one request, got {workers} and {len(arrivals)}")
    waiting: queue.SimpleQueue[tuple[int, float | None] | None] = queue.SimpleQueue()
    served: dict[int, Request] = {}
    start = time.perf_counter()

    def work() -> None:
        while (request := waiting.get()) is not None:
            number, due = request
            taken = time.perf_counter() - start
            arrived = taken if due is None else due
            try:
                stream = listen(serve(number), synchronise)
                served[number] = Request(number, arrived, taken - arrived, stream)
            except Exception as error:  # a request that fails is counted, the others go on
                served[number] = Request(number, arrived, taken - arrived, None, f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for number, due in enumerate(arrivals):
        if due is not None:
            time.sleep(max(0.0, start + due - time.perf_counter()))
        waiting.put((number, due))
    for _ in threads:
        waiting.put(None)
    for thread in threads:
        thread.join()
    first = min(s.arrived_s for s in served.values())
    return LoadResult(tuple(served[number] for number in sorted(served)), time.perf_counter() - start - first)


def time_under_load(synthesizer: Synthesizer, utterance: Utterance, context: TimingContext) -> Prediction:
    """Percentiles over the requests of one load; what is heard is the speech of a request that came alone, before.

    The context tells of ``concurrent`` users, or of ``arrivals_hz`` requests a second by chance. A system whose memory is shared between
    requests (captured graphs) must not be asked for several at once.
    """
    info, plan, tools = synthesizer.info, context.plan, context.instruments

    def serve(number: int) -> Iterable[Audio]:
        if isinstance(synthesizer, ObservedSynthesizer):
            return synthesizer.stream_observed(utterance, plan.seconds, UNOBSERVED)
        return synthesizer.stream(utterance, number)

    wait = partial(tools.synchronise, info.device)
    alone = Audio(np.concatenate([chunk.samples for chunk in serve(0)], axis=1), synthesizer.sample_rate)  # warms up, too
    neighbours = tools.neighbours()
    arrivals: Sequence[float | None] = [None] * plan.requests
    if context.arrivals_hz is not None:
        arrivals = poisson_arrivals(context.arrivals_hz, plan.requests, plan.seed)
    load = run_load(serve, arrivals, context.concurrent or 1, wait)
    others = neighbours.look()
    figures = {"load.audio_per_s": load.audio_per_s, "load.failed": float(load.failed), "load.requests": float(len(load.served))}
    for name in ("ttfc_s", "ttfa_s", "latency_s", "waited_s"):
        figures |= {f"load.{name}.{share}": value for share, value in load.percentiles(name).items()}
    timing = context.timing(
        info,
        load.wall_s,
        sum(s.stream.audio_s for s in load.served if s.stream is not None),
        batch=max(2, context.concurrent or 1),  # not one utterance at a time
        figures=figures | {"load.others": others},
        refusal=_refusal(load, others, plan.others),
    )
    return Prediction(alone, None, timing)


def _refusal(load: LoadResult, others: float, allowed: float) -> str:
    if load.failed:
        first = next(s.failure for s in load.served if s.failure)
        return f"{load.failed} of {len(load.served)} requests failed, the first with {first}"
    if others > allowed:
        cores = len(os.sched_getaffinity(0))
        return f"other processes used {others:.2f} of {cores} cores during the load (allowed {allowed:g}); repeat on a quiet machine"
    return ""
