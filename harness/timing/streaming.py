"""First output of a stream, as a listener has it: when the first chunk is there, when the first sound, and how long playing would wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.api import Audio

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
