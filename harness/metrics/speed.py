"""Real-time factors, first output, floors, memory: what a `Timing` says, each figure with its unit and direction.

A real-time factor is seconds of computation per second of audio: below 1 is faster than real time. What was timed badly is no number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from harness.api import Better, Evidence, MetricInfo, Need, NotApplicable, NotScorable, Sample, Side, Timing


def _info(name: str, description: str) -> MetricInfo:
    return MetricInfo(
        name=name,
        version="1",
        unit="",
        better=Better.LOWER,
        needs=frozenset({Need.TIMING}),
        sample_rate=None,
        bounds=(0.0, math.inf),
        description=description,
        params={"ratio": "wall seconds / audio seconds", "batch": 1},
        aggregation="weighted mean",
    )


def _evidence(sample: Sample, stage: str) -> Evidence:
    """Real-time factor of one stage ("total", "encode" or "decode"), weighted by seconds of audio."""
    timing = _timing(sample)
    if timing.batch > 1:
        raise NotApplicable(f"a batch of {timing.batch}: see rtf_batched")
    return Evidence(_seconds(timing, stage) / timing.audio_s, weight=timing.audio_s, counts=_counts(timing), detail=_detail(timing))


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
class Rtf:
    """Real-time factor of the whole call."""

    @property
    def info(self) -> MetricInfo:
        return _info("rtf", "real-time factor: sum of wall time over sum of audio")

    def measure(self, sample: Sample) -> Evidence:
        return _evidence(sample, "total")


@dataclass(frozen=True)
class RtfEncode:
    """Real-time factor of encoding."""

    @property
    def info(self) -> MetricInfo:
        return _info("rtf_encode", "real-time factor of the encoder")

    def measure(self, sample: Sample) -> Evidence:
        return _evidence(sample, "encode")


@dataclass(frozen=True)
class RtfDecode:
    """Real-time factor of decoding."""

    @property
    def info(self) -> MetricInfo:
        return _info("rtf_decode", "real-time factor of the decoder")

    def measure(self, sample: Sample) -> Evidence:
        return _evidence(sample, "decode")


@dataclass(frozen=True)
class RtfBatched:
    """Real-time factor of several utterances at once: seconds of the batch over the audio of all of them."""

    @property
    def info(self) -> MetricInfo:
        return replace(
            _info("rtf_batched", "real-time factor of a batch"), params={"ratio": "wall seconds / audio seconds", "batch": "setting"}
        )

    def measure(self, sample: Sample) -> Evidence:
        timing = _timing(sample)
        if timing.batch == 1:
            raise NotApplicable("one utterance at a time: see rtf")
        return Evidence(timing.total_s / timing.audio_s, weight=timing.audio_s, counts=_counts(timing), detail=_detail(timing))


@dataclass(frozen=True)
class TimingFigure:
    """One named figure of a timing.

    Args:
        name: of the metric.
        figure: of `Timing.figures`.
        unit: of the metric.
        factor: from the figure's unit to the metric's.
        better: direction.
        description: one line.
        per_audio: the figure is related to the seconds of audio, as a ratio of sums.
    """

    name: str
    figure: str
    unit: str
    factor: float
    better: Better
    description: str
    per_audio: bool = False

    @property
    def info(self) -> MetricInfo:
        return MetricInfo(
            name=self.name,
            version="1",
            unit=self.unit,
            better=self.better,
            needs=frozenset({Need.TIMING}),
            sample_rate=None,
            bounds=(0.0, math.inf),
            description=self.description,
            params={"figure": self.figure, "lap": "median"},
            aggregation="weighted mean" if self.per_audio else "mean",
        )

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


def _stage(name: str, words: str) -> Callable[[], TimingFigure]:
    return partial(TimingFigure, f"rtf_{name}", f"stage.{name}_s", "", 1.0, Better.LOWER, f"real-time factor of {words}", per_audio=True)


def _ms(name: str, figure: str, words: str) -> Callable[[], TimingFigure]:
    return partial(TimingFigure, name, figure, "ms", 1000.0, Better.LOWER, words)


def _share(stage: str) -> Callable[[], TimingFigure]:
    words = f"floor of the stage '{stage}' (bytes over measured bandwidth, operations over measured rate) over its time"
    return partial(TimingFigure, f"floor_share_{stage}", f"share.{stage}", "", 1.0, Better.HIGHER, words)


def _mib(name: str, figure: str, words: str) -> Callable[[], TimingFigure]:
    return partial(TimingFigure, name, figure, "MiB", 2.0**-20, Better.LOWER, words)


RtfPrefill = _stage("prefill", "reading text and prompt")
RtfLm = _stage("lm", "the language model's steps")
RtfCodec = _stage("codec", "the codec's decoder")
RtfVocoder = _stage("vocoder", "the vocoder")
FirstToken = _ms("ttft_token_ms", "ttft_token_s", "time from the request to the first token")
FirstFrame = _ms("ttf_frame_ms", "ttf_frame_s", "time from the request to every codebook of frame 0")
FirstChunk = _ms("ttfc_ms", "ttfc_s", "time from the request to the first chunk of audio")
FirstAudible = _ms("ttfa_ms", "ttfa_s", "time from the request to the first sample above -40 dBFS")
Underrun0 = _ms("underrun_0_ms", "underrun_0_s", "time a player without a buffer stands still")
Underrun100 = _ms("underrun_100_ms", "underrun_100_s", "time a player with 100 ms of buffer stands still")
Underrun200 = _ms("underrun_200_ms", "underrun_200_s", "time a player with 200 ms of buffer stands still")
CodebookTokens = partial(
    TimingFigure, "codebook_tokens_per_s", "codebook_tokens_per_s", "token/s", 1.0, Better.HIGHER, "codebook tokens a second, with prefill"
)
FloorShareEncode, FloorShareDecode = _share("encode"), _share("decode")
FloorSharePrefill, FloorShareLm = _share("prefill"), _share("lm")
FloorRtf = partial(
    TimingFigure,
    "floor_rtf",
    "floor_s",
    "",
    1.0,
    Better.NEITHER,
    "real-time factor of the floors of all stages that have one",
    per_audio=True,
)
HostPeak = _mib("host_peak_mib", "memory.host_peak_bytes", "peak of resident memory while it was timed")
DevicePeak = _mib("device_peak_mib", "memory.device_peak_bytes", "peak of memory allocated on the device while it was timed")
KvCache = _mib("kv_cache_mib", "memory.kv_cache_bytes", "memory of the key-value cache")
Joules = partial(TimingFigure, "joules_per_s", "joules", "J/s", 1.0, Better.LOWER, "joules per second of speech", per_audio=True)

LoadAudio = partial(
    TimingFigure, "load_audio_per_s", "load.audio_per_s", "s/s", 1.0, Better.HIGHER, "seconds of speech a second under load, all requests"
)
_AUDIBLE, _ENDED = "from a request, its wait included, to the first sample above -40 dBFS", "from a request to the end of its speech"
LoadAudibleP50 = _ms("load_ttfa_p50_ms", "load.ttfa_s.p50", f"median time {_AUDIBLE}")
LoadAudibleP90 = _ms("load_ttfa_p90_ms", "load.ttfa_s.p90", f"p90 of the time {_AUDIBLE}")
LoadAudibleP95 = _ms("load_ttfa_p95_ms", "load.ttfa_s.p95", f"p95 of the time {_AUDIBLE}")
LoadAudibleP99 = _ms("load_ttfa_p99_ms", "load.ttfa_s.p99", f"p99 of the time {_AUDIBLE}, from 459 requests")
LoadLatencyP50 = _ms("load_latency_p50_ms", "load.latency_s.p50", f"median time {_ENDED}")
LoadLatencyP95 = _ms("load_latency_p95_ms", "load.latency_s.p95", f"p95 of the time {_ENDED}")
