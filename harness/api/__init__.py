"""The contracts between the harness, the systems under test and the suites: dataclasses and protocols, numpy only."""

from harness.api.audio import FAR_OVER, Audio, Bitstream, CodecSpec, Codes, Encoded, FloatArray, IntArray, Resampler, Signal
from harness.api.metric import (
    Better,
    Evidence,
    FeatureExtractor,
    JudgeInfo,
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
from harness.api.suite import Curve, Item, Settings, Suite, SuiteInfo, Task, TimingPlan, Utterance, language_code
from harness.api.systems import (
    UNOBSERVED,
    BatchedCodec,
    ChunkedCodec,
    Codec,
    CodecSynthesizer,
    MissingOutput,
    ObservedSynthesizer,
    Observer,
    Prediction,
    Record,
    Recorded,
    RecordedFiles,
    Scalar,
    Speech,
    Status,
    Synthesizer,
    System,
    SystemInfo,
    Timing,
    Weights,
    Work,
)
from harness.hub import HubFiles

__all__ = [
    "FAR_OVER", "UNOBSERVED", "Audio", "BatchedCodec", "Better", "Bitstream", "ChunkedCodec", "Codec", "CodecSpec",
    "CodecSynthesizer", "Codes", "Curve", "Encoded", "Evidence", "FeatureExtractor", "FloatArray", "HubFiles", "IntArray", "Item",
    "JudgeInfo", "Metric", "MetricInfo", "MissingOutput", "MosPredictor", "Need", "NotApplicable", "NotScorable",
    "ObservedSynthesizer", "Observer", "PooledMetric", "Prediction", "Recogniser", "Record", "Recorded", "RecordedFiles", "Resampler",
    "Sample", "Scalar", "Settings", "Side", "Signal", "SpeakerEncoder", "Speech", "Status", "Suite", "SuiteInfo", "Synthesizer",
    "System", "SystemInfo", "Task", "Timing", "TimingPlan", "Utterance", "Weights", "Work", "language_code",
]  # fmt: skip
