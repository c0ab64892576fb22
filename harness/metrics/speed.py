"""Real-time factors, first output, floors, memory: what a `Timing` says, each figure with its unit and direction.

A real-time factor is seconds of computation per second of audio: below 1 is faster than real time. What was timed badly is no number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from harness.api import Better, Evidence, MetricInfo, Need, NotApplicable, NotScorable, Sample, Side, Timing
from harness.metrics.declaration import declared


def _timing(sample: Sample) -> Timing:
    """The timing of a sample, if it is one."""
    timing = sample.timing
    if timing is None:
        raise NotApplicable("no timing was taken")
    if not timing.applicable:
        raise NotApplicable(timing.refusal)
    if timing.refusal:
        raise NotScorable(Side.OUTPUT, timing.refusal)
    if timing.audio_s <= 0:
        raise NotScorable(Side.OUTPUT, "no audio to relate the time to")
    return timing


def _seconds(timing: Timing, stage: str) -> float:
    if stage == "total":
        return timing.total_s
    if timing.encode_s == 0 and timing.decode_s == 0:
        raise NotApplicable("encoding and decoding were not timed apart")
    return timing.encode_s if stage == "encode" else timing.decode_s


def _counts(timing: Timing) -> dict[str, float]:
    told = {"total_s": timing.total_s, "encode_s": timing.encode_s, "decode_s": timing.decode_s, "audio_s": timing.audio_s}
    return {**told, **timing.figures}


def _detail(timing: Timing) -> dict[str, str | int | float | bool | None]:
    return {"device": timing.device, "threads": timing.threads, "precision": timing.precision, "batch": timing.batch}


@dataclass(frozen=True)
class RealTimeFactor:
    """Real-time factor of one stage, weighted by seconds of audio."""

    name: str
    stage: str  # "total", "encode" or "decode"
    batched: bool = False  # of several utterances at once, seconds of the batch over the audio of all of them; else of one at a time

    @property
    def info(self) -> MetricInfo:
        params = {"ratio": "wall seconds / audio seconds", "batch": "setting" if self.batched else 1}
        about = {"better": Better.LOWER, "bounds": (0.0, math.inf), "aggregation": "weighted mean"}
        return declared(self.name, Need.TIMING, params=params, **about)

    def measure(self, sample: Sample) -> Evidence:
        timing = _timing(sample)
        if self.batched and timing.batch == 1:
            raise NotApplicable("one utterance at a time: see rtf")
        if not self.batched and timing.batch > 1:
            raise NotApplicable(f"a batch of {timing.batch}: see rtf_batched")
        return Evidence(_seconds(timing, self.stage) / timing.audio_s, timing.audio_s, _counts(timing), _detail(timing))


@dataclass(frozen=True)
class TimingFigure:
    """One named figure of a timing."""

    name: str
    figure: str  # of `Timing.figures`
    unit: str = ""
    factor: float = 1.0  # from the figure's unit to the metric's
    better: Better = Better.LOWER
    per_audio: bool = False  # the figure is related to the seconds of audio, as a ratio of sums

    @property
    def info(self) -> MetricInfo:
        mean = "weighted mean" if self.per_audio else "mean"
        about = {"unit": self.unit, "better": self.better, "bounds": (0.0, math.inf), "aggregation": mean}
        return declared(self.name, Need.TIMING, params={"figure": self.figure, "lap": "median"}, **about)

    def measure(self, sample: Sample) -> Evidence:
        """The figure; what has not been taken of this system (a stage it does not have, energy that nobody counts) is skipped.

        Of a refused timing nobody knows which figures it would have had: its refusal is counted once, by the real-time factor.
        """
        if sample.timing is not None and sample.timing.refusal:
            raise NotApplicable(sample.timing.refusal)
        timing = _timing(sample)
        if self.figure == "ttfc_s" and timing.figures.get("first_chunk_audible") == 0.0:
            raise NotScorable(
                Side.OUTPUT, f"the first chunk ({timing.figures['first_chunk_s']:.3g} s) is silent: a time to it says nothing"
            )
        if self.figure not in timing.figures:
            raise NotApplicable(f"the timing has no figure '{self.figure}'")
        weight = timing.audio_s if self.per_audio else 1.0
        value = self.factor * timing.figures[self.figure] / (timing.audio_s if self.per_audio else 1.0)
        return Evidence(value, weight, _counts(timing), _detail(timing))


def _of_audio(name: str, figure: str, unit: str = "", better: Better = Better.LOWER) -> Callable[[], TimingFigure]:
    return partial(TimingFigure, name, figure, unit, better=better, per_audio=True)


def _ms(name: str, figure: str) -> Callable[[], TimingFigure]:
    return partial(TimingFigure, name, figure, "ms", 1000.0)


def _share(stage: str) -> Callable[[], TimingFigure]:
    return partial(TimingFigure, f"floor_share_{stage}", f"share.{stage}", better=Better.HIGHER)


def _mib(name: str, figure: str) -> Callable[[], TimingFigure]:
    return partial(TimingFigure, name, figure, "MiB", 2.0**-20)


rtf, rtf_batched = partial(RealTimeFactor, "rtf", "total"), partial(RealTimeFactor, "rtf_batched", "total", batched=True)
rtf_encode, rtf_decode = partial(RealTimeFactor, "rtf_encode", "encode"), partial(RealTimeFactor, "rtf_decode", "decode")
rtf_prefill, rtf_lm = _of_audio("rtf_prefill", "stage.prefill_s"), _of_audio("rtf_lm", "stage.lm_s")
rtf_codec, rtf_vocoder = _of_audio("rtf_codec", "stage.codec_s"), _of_audio("rtf_vocoder", "stage.vocoder_s")
ttft_token_ms, ttf_frame_ms = _ms("ttft_token_ms", "ttft_token_s"), _ms("ttf_frame_ms", "ttf_frame_s")
ttfc_ms, ttfa_ms = _ms("ttfc_ms", "ttfc_s"), _ms("ttfa_ms", "ttfa_s")
underrun_0_ms = _ms("underrun_0_ms", "underrun_0_s")
underrun_100_ms = _ms("underrun_100_ms", "underrun_100_s")
underrun_200_ms = _ms("underrun_200_ms", "underrun_200_s")
codebook_tokens_per_s = partial(TimingFigure, "codebook_tokens_per_s", "codebook_tokens_per_s", "token/s", better=Better.HIGHER)
floor_share_encode, floor_share_decode = _share("encode"), _share("decode")
floor_share_prefill, floor_share_lm = _share("prefill"), _share("lm")
floor_rtf = _of_audio("floor_rtf", "floor_s", better=Better.NEITHER)
host_peak_mib = _mib("host_peak_mib", "memory.host_peak_bytes")
device_peak_mib = _mib("device_peak_mib", "memory.device_peak_bytes")
kv_cache_mib = _mib("kv_cache_mib", "memory.kv_cache_bytes")
joules_per_s = _of_audio("joules_per_s", "joules", "J/s")
load_audio_per_s = partial(TimingFigure, "load_audio_per_s", "load.audio_per_s", "s/s", better=Better.HIGHER)
load_ttfa_p50_ms, load_ttfa_p90_ms = _ms("load_ttfa_p50_ms", "load.ttfa_s.p50"), _ms("load_ttfa_p90_ms", "load.ttfa_s.p90")
load_ttfa_p95_ms, load_ttfa_p99_ms = _ms("load_ttfa_p95_ms", "load.ttfa_s.p95"), _ms("load_ttfa_p99_ms", "load.ttfa_s.p99")
load_latency_p50_ms = _ms("load_latency_p50_ms", "load.latency_s.p50")
load_latency_p95_ms = _ms("load_latency_p95_ms", "load.latency_s.p95")
