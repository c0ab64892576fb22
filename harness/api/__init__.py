"""The contracts between the harness, the systems under test and the suites: dataclasses and protocols, numpy only."""

from harness.api.audio import Audio, FloatArray, Resampler, Signal
from harness.api.backends import BackendInfo, MosPredictor, Recogniser, SpeakerEncoder
from harness.api.codes import Bitstream, CodecSpec, Codes, Encoded, IntArray
from harness.api.items import Item, Utterance
from harness.api.metric import (
    Better,
    Evidence,
    Metric,
    MetricInfo,
    Need,
    NotApplicable,
    NotScorable,
    PooledMetric,
    Sample,
    Scalar,
    Side,
)
from harness.api.prediction import Prediction, Timing
from harness.api.record import Record, Status
from harness.api.suite import Curve, Settings, Suite, SuiteInfo, Task
from harness.api.systems import (
    BatchedCodec,
    ChunkedCodec,
    Codec,
    CodecSynthesizer,
    MissingOutput,
    Recorded,
    Speech,
    Synthesizer,
    System,
    SystemInfo,
    Weights,
)

__all__ = [
    "Audio",
    "BackendInfo",
    "BatchedCodec",
    "Better",
    "Bitstream",
    "ChunkedCodec",
    "Codec",
    "CodecSpec",
    "CodecSynthesizer",
    "Codes",
    "Curve",
    "Encoded",
    "Evidence",
    "FloatArray",
    "IntArray",
    "Item",
    "Metric",
    "MetricInfo",
    "MissingOutput",
    "MosPredictor",
    "Need",
    "NotApplicable",
    "NotScorable",
    "PooledMetric",
    "Prediction",
    "Recogniser",
    "Record",
    "Recorded",
    "Resampler",
    "Sample",
    "Scalar",
    "Settings",
    "Side",
    "Signal",
    "SpeakerEncoder",
    "Speech",
    "Status",
    "Suite",
    "SuiteInfo",
    "Synthesizer",
    "System",
    "SystemInfo",
    "Task",
    "Timing",
    "Utterance",
    "Weights",
]
