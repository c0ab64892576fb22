"""What is timed of a codec and of a synthesizer, under which names the figures are kept, and the floor under a time: what this machine would
need if it did nothing but read the weights and multiply.

A floor is max(bytes / bandwidth, operations / rate), both measured here and now with the same threads. Above 100 % of it nothing can come,
except where weights stay in a cache between calls: bandwidth is that of memory, and small models are faster than it.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np

from harness.api import (
    UNOBSERVED,
    Audio,
    BatchedCodec,
    Codec,
    Codes,
    ObservedSynthesizer,
    Prediction,
    Speech,
    Synthesizer,
    SystemInfo,
    Timing,
    TimingPlan,
    Utterance,
    Work,
)
from harness.timing.clock import Instruments, Measured, StageClock, measure, timed
from harness.timing.load import LoadResult, listen, poisson_arrivals, run_load
from harness.timing.machine import begin_peaks, joules, peaks


@dataclass(frozen=True)
class TimingContext:
    """The circumstances under which systems are timed."""

    plan: TimingPlan
    threads: int  # of the CPU, that a system may use
    batch: int = 1  # utterances at once
    prompt_tokens: int | None = None  # text tokens that a language model reads; None for those of the item
    instruments: Instruments = field(default_factory=Instruments)
    concurrent: int | None = None  # of a load, requests that are served at once
    arrivals_hz: float | None = None  # of a load, requests a second, by chance; None for users who ask again as soon as they are answered

    def under(self, settings: str) -> TimingContext:
        """The same with a variant's ``settings`` (JSON text)."""
        of: Mapping[str, Any] = json.loads(settings)
        optional: dict[str, Any] = {name: of.get(name) for name in ("prompt_tokens", "concurrent", "arrivals_hz")}
        return replace(self, batch=int(of.get("batch", 1)), **optional)

    def timing(self, info: SystemInfo, total_s: float, audio_s: float, **more: Any) -> Timing:
        """A `Timing` of a system in this context; ``more`` are its other fields."""
        made = {"threads": self.threads, "device": info.device, "precision": info.precision, "batch": self.batch, **more}
        return Timing(total_s, audio_s, **made)


def time_codec(codec: Codec, audio: Audio, context: TimingContext) -> Prediction:
    """Encoding and decoding of one recording (``batch`` times the same), each by itself."""
    device, batch = codec.info.device, context.batch
    if batch > 1 and not isinstance(codec, BatchedCodec):
        return _inapplicable(Prediction(audio), "it takes one utterance at a time", codec.info, context, audio.duration_s)
    many: Any = codec
    given = audio.copy()

    def encode() -> Any:
        return codec.encode(given) if batch == 1 else many.encode_batch([given] * batch)

    begin_peaks(device)
    encoding, encode_j = _with_energy(encode, device, context)
    encoded = encoding.result
    codes = encoded if batch == 1 else encoded[0]
    code = codes.copy()  # of what decoding may write into

    def decode() -> Any:
        return codec.decode(encoded) if batch == 1 else many.decode_batch(encoded)

    decoding, decode_j = _with_energy(decode, device, context)
    if audio.digest() != given.digest() or codes.digest() != code.digest():
        raise ValueError("it writes into the audio or the codes it is given: what was timed is not what was asked")
    output = decoding.result if batch == 1 else decoding.result[0]
    figures = _named("encode", encoding) | _named("decode", decoding) | peaks(device)
    if not math.isnan(encode_j + decode_j):
        figures["joules"] = encode_j + decode_j
    seconds = batch * audio.duration_s
    if isinstance(code, Codes):
        figures["codebook_tokens"] = float(batch * code.indices.size)
    refusal = encoding.refusal or decoding.refusal
    if not refusal:
        for stage, call, took in (("encode", encode, encoding), ("decode", decode, decoding)):
            _floor(figures, stage, Work(flops=counted_flops(call)), took.median_s, context, codec.info)
        _floors_together(figures)
    encode_s, decode_s = (0.0, 0.0) if refusal else (encoding.median_s, decoding.median_s)
    timing = context.timing(
        codec.info, encode_s + decode_s, seconds, encode_s=encode_s, decode_s=decode_s, figures=figures, refusal=refusal
    )
    return Prediction(output, code, timing if seconds else None)


def time_synthesizer(synthesizer: Synthesizer, utterance: Utterance, context: TimingContext) -> Prediction:
    """Whole utterances with their stages, then the same as streams.

    A synthesizer that cannot be timed from inside is asked for the utterance as it is; its length is then its own choice.
    """
    device, info = synthesizer.info.device, synthesizer.info
    observed = isinstance(synthesizer, ObservedSynthesizer)
    silent = Prediction(Audio.mono(np.zeros(160, dtype=np.float32), synthesizer.sample_rate))
    if not observed and (context.batch > 1 or context.prompt_tokens is not None):
        return _inapplicable(silent, "it speaks one utterance at a time and does not tell of tokens", info, context, 0.01)
    tokens = None
    if isinstance(synthesizer, ObservedSynthesizer):
        if context.prompt_tokens is not None:
            utterance = lengthened(utterance, context.prompt_tokens, synthesizer.num_tokens)
        tokens = synthesizer.num_tokens(utterance)

    wait = partial(context.instruments.synchronise, device)
    clocks: list[StageClock] = []

    def whole() -> list[Speech]:
        clock = StageClock(wait)
        clocks[:] = [clock]
        if isinstance(synthesizer, ObservedSynthesizer):
            return list(synthesizer.synthesize_observed([utterance] * context.batch, context.plan.seconds, clock))
        return [synthesizer.synthesize(utterance, 0)]

    def stages(_: list[Speech]) -> dict[str, float]:
        return {f"stage.{name}_s": seconds for name, seconds in clocks[0].stages_s.items()}

    begin_peaks(device)
    try:
        saying, used_j = _with_energy(whole, device, context, stages)
    except ValueError as error:  # it does not fit the model: too many tokens, say
        return _inapplicable(silent, str(error), info, context, 0.01)
    clock, speeches = clocks[0], saying.result
    figures = _named("whole", saying) | peaks(device)
    figures |= {f"memory.{name}_bytes": float(taken) for name, taken in clock.memory_bytes.items()}
    if tokens is not None:
        figures["prompt_tokens"] = float(tokens)
    if not math.isnan(used_j):
        figures["joules"] = used_j
    codes = [speech.codes for speech in speeches if speech.codes is not None]
    figures["codebook_tokens"] = float(sum(code.indices.size for code in codes))
    refusal = saying.refusal
    if not refusal:
        for name in clock.stages_s:
            figures[f"stage.{name}_s"] = saying.figure(f"stage.{name}_s")
        for name, work in clock.works.items():
            _floor(figures, name, work, figures[f"stage.{name}_s"], context, info)
        _floors_together(figures)
        if codes and (modelled := sum(figures.get(f"stage.{name}_s", 0.0) for name in ("prefill", "lm"))):
            figures["codebook_tokens_per_s"] = figures["codebook_tokens"] / modelled
    if context.batch == 1:
        streams = _stream(synthesizer, utterance, context, wait)
        figures |= _named("stream", streams)
        refusal = refusal or streams.refusal
        if not refusal:
            names = {name for lap in streams.clean for name in lap.figures}
            figures |= {name: streams.figure(name) for name in names}
    seconds = sum(speech.audio.duration_s for speech in speeches)
    timing = context.timing(info, 0.0 if refusal else saying.median_s, seconds, figures=figures, refusal=refusal)
    first = speeches[0]
    return Prediction(first.audio, first.codes, timing if seconds else None, first.stop_reason)


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


def _with_energy(
    call: Callable[[], Any], device: str, context: TimingContext, figures: Callable[[Any], Mapping[str, float]] | None = None
) -> tuple[Measured[Any], float]:
    """Times a call; and the joules of one call, NaN where nothing counts them."""
    before_j = joules(device)
    found = measure(call, device, context.plan, figures, context.instruments)
    return found, (joules(device) - before_j) / (len(found.laps) + len(found.warmups_s) + 1)


def _stream(synthesizer: Synthesizer, utterance: Utterance, context: TimingContext, wait: Callable[[], None]) -> Measured[dict[str, float]]:
    def call() -> dict[str, float]:
        clock = StageClock(wait)
        if isinstance(synthesizer, ObservedSynthesizer):
            chunks = synthesizer.stream_observed(utterance, context.plan.seconds, clock)
        else:
            chunks = synthesizer.stream(utterance, 0)
        clock.begin()
        found = listen(chunks, wait).figures()
        return found | {name: clock.events_s[event] for event, name in _EVENTS.items() if event in clock.events_s}

    return measure(call, synthesizer.info.device, context.plan, lambda found: found, context.instruments)


_EVENTS = {"token": "ttft_token_s", "frame": "ttf_frame_s"}


def lengthened(utterance: Utterance, tokens: int, count: Callable[[Utterance], int]) -> Utterance:
    """The utterance with its words again and again, up to the last whole word within ``tokens`` text tokens.

    The prompt's text counts among the tokens of models that read it; it stays as it is.

    Raises:
        ValueError: not one word fits.
    """
    words = utterance.text.split() or [utterance.text]

    def said(number: int) -> Utterance:
        return replace(utterance, text=" ".join(words[i % len(words)] for i in range(number)))

    low, high = 0, 1
    while count(said(high)) <= tokens:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(said(middle)) <= tokens else (low, middle)
    if not low:
        raise ValueError(f"{tokens} tokens hold not one word of {utterance.text[:40]!r}")
    return said(low)


def _named(name: str, measured: Measured[Any]) -> dict[str, float]:
    return {f"{name}.{key}": value for key, value in measured.summary().items()}


def _floor(figures: dict[str, float], stage: str, work: Work, took_s: float, context: TimingContext, info: Any) -> None:
    """Enters the floor of a stage and the share of it that was reached; nothing where no work is known."""
    if work == Work():
        return
    floor_s = machine_rates(info.device, context.threads).floor_s(work, info.precision)
    figures[f"floor.{stage}_s"] = floor_s
    figures[f"share.{stage}"] = floor_s / took_s
    figures |= {f"work.{stage}_bytes": work.weight_bytes + work.cache_bytes, f"work.{stage}_flops": work.flops}


def _floors_together(figures: dict[str, float]) -> None:
    if found := [value for name, value in figures.items() if name.startswith("floor.")]:
        figures["floor_s"] = sum(found)


def _inapplicable(prediction: Prediction, reason: str, info: Any, context: TimingContext, audio_s: float) -> Prediction:
    return replace(prediction, timing=context.timing(info, 0.0, audio_s, refusal=reason, applicable=False))


_READ_BYTES = 256 * 2**20  # far beyond any cache
_MATRIX = 1536
_ROUNDS = 9


@dataclass(frozen=True)
class MachineRates:
    """What a device does at best."""

    bandwidth: float  # bytes read per second
    flops: dict[str, float] = field(default_factory=dict)  # floating-point operations per second of a matrix product, by precision

    def floor_s(self, work: Work, precision: str) -> float:
        """Seconds for ``work``; operations in a precision whose rate is not known do not count."""
        rate = self.flops.get(precision)
        return max((work.weight_bytes + work.cache_bytes) / self.bandwidth, work.flops / rate if rate else 0.0)


@lru_cache(maxsize=8)
def machine_rates(device: str, threads: int, precisions: tuple[str, ...] = ("float32", "bfloat16")) -> MachineRates:
    """Measured once per process, device and number of threads: about a second on two cores.

    The best of some rounds counts: a floor is about what is possible. What disturbs it makes floors higher and shares better than they are,
    so rates of a busy machine are no better than timings of one.
    """
    import torch

    before = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            memory = torch.ones(_READ_BYTES // 4, device=device)
            readers: list[Callable[[], Any]] = [memory.sum, memory.amax]
            bandwidth = max(_READ_BYTES / _best_s(read, device) for read in readers)
            del memory, readers
            rates = {}
            for precision in precisions:
                matrix = torch.full((_MATRIX, _MATRIX), 1e-2, device=device, dtype=getattr(torch, precision))
                rates[precision] = 2.0 * _MATRIX**3 / _best_s(partial(torch.mm, matrix, matrix), device)
    finally:
        torch.set_num_threads(before)
    return MachineRates(bandwidth, rates)


def _best_s(call: Callable[[], Any], device: str) -> float:
    _, *rest = (timed(call, device).wall_s for _ in range(_ROUNDS))  # the first one warms up
    return min(rest)


def counted_flops(call: Callable[[], Any]) -> float:
    """Operations of the matrix products and convolutions of one call through torch; 0.0 of a system that does not use it.

    Fourier transforms, recurrences and elementwise work are not counted, so a floor made from it is a lower one than it might be.
    """
    if "torch" not in sys.modules:
        return 0.0
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())
