"""Real-time factors: seconds of computation per second of audio. Below 1 is faster than real time."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
    timing = sample.timing
    if timing is None:
        raise NotApplicable("no timing was taken")
    if timing.audio_s <= 0:
        raise NotScorable(Side.OUTPUT, "no audio to relate the time to")
    return Evidence(_seconds(timing, stage) / timing.audio_s, weight=timing.audio_s, counts=_counts(timing), detail=_detail(timing))


def _seconds(timing: Timing, stage: str) -> float:
    if stage == "total":
        return timing.total_s
    if timing.encode_s == 0 and timing.decode_s == 0:
        raise NotApplicable("encoding and decoding were not timed apart")
    return timing.encode_s if stage == "encode" else timing.decode_s


def _counts(timing: Timing) -> dict[str, float]:
    return {"total_s": timing.total_s, "encode_s": timing.encode_s, "decode_s": timing.decode_s, "audio_s": timing.audio_s}


def _detail(timing: Timing) -> dict[str, str | int | float | bool | None]:
    return {"device": timing.device, "threads": timing.threads, "precision": timing.precision}


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
