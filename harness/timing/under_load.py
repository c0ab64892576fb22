"""A streaming synthesizer under load, as the speed suite asks for it: n users at once, or requests that come by chance."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np

from harness.api import Audio, ObservedSynthesizer, Prediction, Synthesizer, Timing, Utterance
from harness.api.observing import UNOBSERVED
from harness.timing.load import Loaded, closed_loop, open_loop, poisson_arrivals
from harness.timing.occasion import Occasion

_FIGURES = ("ttfc_s", "ttfa_s", "latency_s", "waited_s")


def time_under_load(synthesizer: Synthesizer, utterance: Utterance, occasion: Occasion) -> Prediction:
    """Percentiles over the requests of one load; what is heard is the speech of a request that came alone, before.

    A system whose memory is shared between requests (captured graphs) must not be asked for several at once.

    Args:
        synthesizer: whose streams may run in several threads.
        utterance: of every request.
        occasion: with ``concurrent`` users, or ``arrivals_hz`` requests a second by chance.
    """
    info, plan, tools = synthesizer.info, occasion.plan, occasion.tools

    def serve(number: int) -> Iterable[Audio]:
        if isinstance(synthesizer, ObservedSynthesizer):
            return synthesizer.stream_observed(utterance, plan.seconds, UNOBSERVED)
        return synthesizer.stream(utterance, number)

    def wait() -> None:
        tools.synchronise(info.device)

    heard = Audio(np.concatenate([chunk.samples for chunk in serve(0)], axis=1), synthesizer.sample_rate)  # warms up, too
    neighbours = tools.neighbours()
    if occasion.arrivals_hz is not None:
        arrivals = poisson_arrivals(occasion.arrivals_hz, plan.requests, plan.seed)
        loaded = open_loop(serve, arrivals, occasion.concurrent or 1, wait)
    else:
        loaded = closed_loop(serve, occasion.concurrent or 1, plan.requests, wait)
    others = neighbours.look()
    timing = Timing(
        total_s=loaded.wall_s,
        audio_s=sum(s.stream.audio_s for s in loaded.served if s.stream is not None),
        threads=occasion.threads,
        device=info.device,
        precision=info.precision,
        batch=max(2, occasion.concurrent or 1),  # not one utterance at a time
        figures=_figures(loaded) | {"load.others": others},
        refusal=_refusal(loaded, others, plan.others),
    )
    return Prediction(heard, None, timing)


def _figures(loaded: Loaded) -> dict[str, float]:
    found = {"load.audio_per_s": loaded.audio_per_s, "load.failed": float(loaded.failed), "load.requests": float(len(loaded.served))}
    for name in _FIGURES:
        found |= {f"load.{name}.{share}": value for share, value in loaded.percentiles(name).items()}
    return found


def _refusal(loaded: Loaded, others: float, allowed: float) -> str:
    if loaded.failed:
        first = next(s.failure for s in loaded.served if s.failure)
        return f"{loaded.failed} of {len(loaded.served)} requests failed, the first with {first}"
    if others > allowed:
        cores = len(os.sched_getaffinity(0))
        return f"other processes used {others:.2f} of {cores} cores during the load (allowed {allowed:g}); repeat on a quiet machine"
    return ""
