"""A stream as a listener has it: when the first chunk is there, when the first sound, and how long playing would wait. And streams under
load: n requests that are always there (closed loop), or arrivals by chance (Poisson).
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.api import Audio
from harness.timing.clock import percentile, wanted

AUDIBLE_DBFS = -40.0
BUFFERS_MS = (0, 100, 200)


@dataclass(frozen=True)
class Arrival:
    """A chunk of a stream."""

    at_s: float  # after the request
    seconds: float  # of audio
    audible_s: float | None  # from its beginning to its first sample above `AUDIBLE_DBFS`; None where all of it is quieter


@dataclass(frozen=True)
class Stream:
    """What a listener got of one request."""

    arrivals: tuple[Arrival, ...]  # chunks with at least one sample, in order
    total_s: float  # until the stream ended

    @property
    def audio_s(self) -> float:
        """Of speech."""
        return sum(a.seconds for a in self.arrivals)

    def figures(self) -> dict[str, float]:
        """``ttfc_s``, ``ttfa_s`` (absent where nothing is audible), ``underrun_N_s``, chunk lengths; empty of an empty stream."""
        if not self.arrivals:
            return {}
        lengths = sorted(a.seconds for a in self.arrivals)
        found = {
            "ttfc_s": self.arrivals[0].at_s,
            "first_chunk_s": self.arrivals[0].seconds,
            "chunk_s": lengths[len(lengths) // 2],
            "chunks": float(len(lengths)),
            "first_chunk_audible": float(self.arrivals[0].audible_s is not None),
        }
        if (audible_s := time_to_audible(self.arrivals)) is not None:
            found["ttfa_s"] = audible_s
        return found | {f"underrun_{buffer}_s": underrun(self.arrivals, buffer / 1000) for buffer in BUFFERS_MS}


def listen(stream: Iterable[Audio], synchronise: Callable[[], None], now: Callable[[], float] = time.perf_counter) -> Stream:
    """Takes a stream to its end; the request is made by taking the first chunk. A chunk is there once the device is waited for."""
    synchronise()
    start, arrivals = now(), []
    for chunk in stream:
        synchronise()
        at = now() - start
        if chunk.num_samples:
            arrivals.append(Arrival(at, chunk.duration_s, _audible(chunk)))
    return Stream(tuple(arrivals), now() - start)


def time_to_audible(arrivals: Sequence[Arrival]) -> float | None:
    """Seconds from the request to the first audible sample, if every chunk is played as soon as it is there and the one before is over.

    Silence that comes first has to be listened to: a system gains nothing by sending it early.
    """
    playing = 0.0
    for arrival in arrivals:
        begins = max(playing, arrival.at_s)
        if arrival.audible_s is not None:
            return begins + arrival.audible_s
        playing = begins + arrival.seconds
    return None


def underrun(arrivals: Sequence[Arrival], buffer_s: float) -> float:
    """Seconds for which a player stands still that begins ``buffer_s`` after the first chunk has come."""
    if not arrivals:
        return 0.0
    free_at, waited = arrivals[0].at_s + buffer_s, 0.0
    for arrival in arrivals:
        if arrival.at_s > free_at:
            waited += arrival.at_s - free_at
            free_at = arrival.at_s
        free_at += arrival.seconds
    return waited


def _audible(chunk: Audio) -> float | None:
    loud = np.flatnonzero(np.abs(chunk.samples).max(axis=0) > 10 ** (AUDIBLE_DBFS / 20))
    return float(loud[0] / chunk.sample_rate) if loud.size else None


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
