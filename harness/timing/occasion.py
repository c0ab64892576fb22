"""What is timed of a codec and of a synthesizer, and under which names the figures are kept."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.api import (
    Audio,
    BatchedCodec,
    Codec,
    Codes,
    ObservedSynthesizer,
    Prediction,
    Speech,
    Synthesizer,
    Timing,
    TimingPlan,
    Utterance,
    Work,
)
from harness.timing.clock import Instruments, Measured, measure
from harness.timing.energy import EnergyMeter
from harness.timing.floors import counted_flops, machine_rates
from harness.timing.memory import begin_peaks, peaks
from harness.timing.stages import StageClock
from harness.timing.streaming import listen


@dataclass(frozen=True)
class Occasion:
    """The circumstances under which systems are timed.

    Args:
        plan: how often.
        threads: CPU threads a system may use.
        batch: utterances at once.
        prompt_tokens: text tokens that a language model reads; None for those of the item.
        instruments: other ones than the machine's.
        concurrent: of a load, requests that are served at once.
        arrivals_hz: of a load, requests a second, by chance; None for users who ask again as soon as they are answered.
    """

    plan: TimingPlan
    threads: int
    batch: int = 1
    prompt_tokens: int | None = None
    instruments: Instruments | None = None
    concurrent: int | None = None
    arrivals_hz: float | None = None

    def under(self, settings: str) -> Occasion:
        """The same with a variant's ``settings`` (JSON text)."""
        told: Mapping[str, Any] = json.loads(settings)
        return replace(
            self,
            batch=int(told.get("batch", 1)),
            prompt_tokens=told.get("prompt_tokens"),
            concurrent=told.get("concurrent"),
            arrivals_hz=told.get("arrivals_hz"),
        )

    @property
    def tools(self) -> Instruments:
        """The instruments, by default the machine's."""
        return self.instruments or Instruments()


def time_codec(codec: Codec, audio: Audio, occasion: Occasion) -> Prediction:
    """Encoding and decoding of one recording (``batch`` times the same), each by itself."""
    device, batch = codec.info.device, occasion.batch
    if batch > 1 and not isinstance(codec, BatchedCodec):
        return _inapplicable(Prediction(audio), "it takes one utterance at a time", codec.info, occasion, audio.duration_s)
    many: Any = codec
    given = audio.copy()

    def encode() -> Any:
        return codec.encode(given) if batch == 1 else many.encode_batch([given] * batch)

    begin_peaks(device)
    meter = EnergyMeter(device)
    encoding, encode_j = _with_energy(meter, encode, device, occasion)
    encoded = encoding.result
    codes = encoded if batch == 1 else encoded[0]
    code = codes.copy()  # of what decoding may write into

    def decode() -> Any:
        return codec.decode(encoded) if batch == 1 else many.decode_batch(encoded)

    decoding, decode_j = _with_energy(meter, decode, device, occasion)
    if audio.digest() != given.digest() or codes.digest() != code.digest():
        raise ValueError("it writes into the audio or the codes it is given: what was timed is not what was asked")
    output = decoding.result if batch == 1 else decoding.result[0]
    figures = _named("encode", encoding) | _named("decode", decoding) | _memory(device)
    if not math.isnan(encode_j + decode_j):
        figures["joules"] = encode_j + decode_j
    seconds = batch * audio.duration_s
    if isinstance(code, Codes):
        figures["codebook_tokens"] = float(batch * code.indices.size)
    refusal = encoding.refusal or decoding.refusal
    if not refusal:
        for stage, call, took in (("encode", encode, encoding), ("decode", decode, decoding)):
            _floor(figures, stage, Work(flops=counted_flops(call)), took.median_s, occasion, codec.info)
        _floors_together(figures)
    timing = Timing(
        total_s=0.0 if refusal else encoding.median_s + decoding.median_s,
        audio_s=seconds,
        encode_s=0.0 if refusal else encoding.median_s,
        decode_s=0.0 if refusal else decoding.median_s,
        threads=occasion.threads,
        device=device,
        precision=codec.info.precision,
        batch=batch,
        figures=figures,
        refusal=refusal,
    )
    return Prediction(output, code, timing if seconds else None)


def time_synthesizer(synthesizer: Synthesizer, utterance: Utterance, occasion: Occasion) -> Prediction:
    """Whole utterances with their stages, then the same as streams.

    A synthesizer that cannot be timed from inside is asked for the utterance as it is; its length is then its own choice.
    """
    device, info = synthesizer.info.device, synthesizer.info
    observed = isinstance(synthesizer, ObservedSynthesizer)
    silent = Prediction(Audio.mono(np.zeros(160, dtype=np.float32), synthesizer.sample_rate))
    if not observed and (occasion.batch > 1 or occasion.prompt_tokens is not None):
        return _inapplicable(silent, "it speaks one utterance at a time and does not tell of tokens", info, occasion, 0.01)
    tokens = None
    if isinstance(synthesizer, ObservedSynthesizer):
        if occasion.prompt_tokens is not None:
            utterance = lengthened(utterance, occasion.prompt_tokens, synthesizer.num_tokens)
        tokens = synthesizer.num_tokens(utterance)

    def wait() -> None:
        occasion.tools.synchronise(device)

    clocks: list[StageClock] = []

    def whole() -> list[Speech]:
        clock = StageClock(wait)
        clocks[:] = [clock]
        if isinstance(synthesizer, ObservedSynthesizer):
            return list(synthesizer.synthesize_observed([utterance] * occasion.batch, occasion.plan.seconds, clock))
        return [synthesizer.synthesize(utterance, 0)]

    def stages(_: list[Speech]) -> dict[str, float]:
        return {f"stage.{name}_s": seconds for name, seconds in clocks[0].stages_s.items()}

    begin_peaks(device)
    try:
        saying, joules = _with_energy(EnergyMeter(device), whole, device, occasion, stages)
    except ValueError as error:  # it does not fit the model: too many tokens, say
        return _inapplicable(silent, str(error), info, occasion, 0.01)
    clock, speeches = clocks[0], saying.result
    figures = _named("whole", saying) | _memory(device)
    figures |= {f"memory.{name}_bytes": float(taken) for name, taken in clock.memory_bytes.items()}
    if tokens is not None:
        figures["prompt_tokens"] = float(tokens)
    if not math.isnan(joules):
        figures["joules"] = joules
    codes = [speech.codes for speech in speeches if speech.codes is not None]
    figures["codebook_tokens"] = float(sum(code.indices.size for code in codes))
    refusal = saying.refusal
    if not refusal:
        for name in clock.stages_s:
            figures[f"stage.{name}_s"] = saying.figure(f"stage.{name}_s")
        for name, work in clock.works.items():
            _floor(figures, name, work, figures[f"stage.{name}_s"], occasion, info)
        _floors_together(figures)
        if codes and (modelled := sum(figures.get(f"stage.{name}_s", 0.0) for name in ("prefill", "lm"))):
            figures["codebook_tokens_per_s"] = figures["codebook_tokens"] / modelled
    if occasion.batch == 1:
        heard = _stream(synthesizer, utterance, occasion, wait)
        figures |= _named("stream", heard)
        refusal = refusal or heard.refusal
        if not refusal:
            names = {name for lap in heard.clean for name in lap.figures}
            figures |= {name: heard.figure(name) for name in names}
    seconds = sum(speech.audio.duration_s for speech in speeches)
    timing = Timing(
        total_s=0.0 if refusal else saying.median_s,
        audio_s=seconds,
        threads=occasion.threads,
        device=device,
        precision=info.precision,
        batch=occasion.batch,
        figures=figures,
        refusal=refusal,
    )
    first = speeches[0]
    return Prediction(first.audio, first.codes, timing if seconds else None, first.stop_reason)


def _with_energy(
    meter: EnergyMeter,
    call: Callable[[], Any],
    device: str,
    occasion: Occasion,
    figures: Callable[[Any], Mapping[str, float]] | None = None,
) -> tuple[Measured[Any], float]:
    """Times a call; and the joules of one call, NaN where nothing counts them."""
    before_j = meter.joules()
    found = measure(call, device, occasion.plan, figures, occasion.tools)
    return found, (meter.joules() - before_j) / (len(found.laps) + len(found.warmups_s) + 1)


def _stream(synthesizer: Synthesizer, utterance: Utterance, occasion: Occasion, wait: Callable[[], None]) -> Measured[dict[str, float]]:
    def call() -> dict[str, float]:
        clock = StageClock(wait)
        if isinstance(synthesizer, ObservedSynthesizer):
            chunks = synthesizer.stream_observed(utterance, occasion.plan.seconds, clock)
        else:
            chunks = synthesizer.stream(utterance, 0)
        clock.begin()
        found = listen(chunks, wait).figures()
        return found | {name: clock.events_s[event] for event, name in _EVENTS.items() if event in clock.events_s}

    return measure(call, synthesizer.info.device, occasion.plan, lambda found: found, occasion.tools)


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


def _memory(device: str) -> dict[str, float]:
    taken = peaks(device)
    found = {"memory.host_peak_bytes": taken.host_bytes, "memory.device_peak_bytes": taken.device_bytes}
    return {name: float(value) for name, value in found.items() if value is not None}


def _floor(figures: dict[str, float], stage: str, work: Work, took_s: float, occasion: Occasion, info: Any) -> None:
    """Enters the floor of a stage and the share of it that was reached; nothing where no work is known."""
    if work == Work():
        return
    floor_s = machine_rates(info.device, occasion.threads).floor_s(work, info.precision)
    figures[f"floor.{stage}_s"] = floor_s
    figures[f"share.{stage}"] = floor_s / took_s
    figures |= {f"work.{stage}_bytes": work.weight_bytes + work.cache_bytes, f"work.{stage}_flops": work.flops}


def _floors_together(figures: dict[str, float]) -> None:
    if found := [value for name, value in figures.items() if name.startswith("floor.")]:
        figures["floor_s"] = sum(found)


def _inapplicable(prediction: Prediction, reason: str, info: Any, occasion: Occasion, audio_s: float) -> Prediction:
    timing = Timing(
        0.0,
        audio_s,
        threads=occasion.threads,
        device=info.device,
        precision=info.precision,
        batch=occasion.batch,
        refusal=reason,
        applicable=False,
    )
    return replace(prediction, timing=timing)
