"""The contracts between the harness, the systems under test and the suites: dataclasses and protocols, numpy only."""

from harness.api.audio import FAR_OVER, Audio, FloatArray, Resampler, Signal
from harness.api.codes import Bitstream, CodecSpec, Codes, Encoded, IntArray
from harness.api.items import Item, Utterance, language_code
from harness.api.metric import (
    BackendInfo,
    Better,
    Evidence,
    Metric,
    MetricInfo,
    MosPredictor,
    Need,
    NotApplicable,
    NotScorable,
    PooledMetric,
    Recogniser,
    Sample,
    Side,
    SpeakerEncoder,
)
from harness.api.results import Prediction, Record, Scalar, Status, Timing
from harness.api.suite import Curve, Settings, Suite, SuiteInfo, Task, TimingPlan
from harness.api.systems import (
    UNOBSERVED,
    BatchedCodec,
    ChunkedCodec,
    Codec,
    CodecSynthesizer,
    MissingOutput,
    ObservedSynthesizer,
    Observer,
    Recorded,
    RecordedFiles,
    Speech,
    Synthesizer,
    System,
    SystemInfo,
    Weights,
    Work,
)

__all__ = [
    "FAR_OVER", "UNOBSERVED", "Audio", "BackendInfo", "BatchedCodec", "Better", "Bitstream", "ChunkedCodec", "Codec", "CodecSpec",
    "CodecSynthesizer", "Codes", "Curve", "Encoded", "Evidence", "FloatArray", "IntArray", "Item", "Metric", "MetricInfo",
    "MissingOutput", "MosPredictor", "Need", "NotApplicable", "NotScorable", "ObservedSynthesizer", "Observer", "PooledMetric",
    "Prediction", "Recogniser", "Record", "Recorded", "RecordedFiles", "Resampler", "Sample", "Scalar", "Settings", "Side", "Signal",
    "SpeakerEncoder", "Speech", "Status", "Suite", "SuiteInfo", "Synthesizer", "System", "SystemInfo", "Task", "Timing", "TimingPlan",
    "Utterance", "Weights", "Work", "language_code",
]  # fmt: skip
