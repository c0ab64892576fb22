"""The harness's own metrics of audio, and its suites, keep the laws that plug-ins are held to."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import harness.metrics
from harness.api import CodecSpec, Codes, Need, Sample, Timing
from harness.data.audio import read_audio
from harness.data.manifests import DatasetConfig, load_dataset
from harness.judges.weights import WEIGHTS, absence
from harness.running.metric_set import MetricBuilder
from harness.settings.config import compose
from harness.settings.registry import METRICS, config_names, resolve
from harness.testing import check_metric, check_suite
from harness.testing.laws import noisy, signal
from tests.stubs.signal_pairs import sides

_OF_AUDIO = [name for name, (target, _) in METRICS.items() if target.endswith(".metric")]  # functions on arrays
_OF_NO_WAVEFORM = ("length_ratio",)  # of broken outputs, too, they have nothing to say but a length
_OF_TIME = [name for name, (target, _) in METRICS.items() if target.startswith("harness.metrics.speed:")]  # tests/unit/suites/test_speed.py


@pytest.mark.parametrize("name", _OF_AUDIO)
def test_metrics_of_audio(name: str) -> None:
    assert name in METRICS
    if package := getattr(getattr(harness.metrics, name), "package", ""):
        pytest.importorskip(package.replace("-", "_"))
    kind = resolve("metrics", name)
    assert kind().info.needs <= {Need.OUTPUT, Need.REFERENCE}
    checked = {"declaration", "determinism", "NaN output", "faulty output", "equal instance"}
    if name in _OF_NO_WAVEFORM:
        checked -= {"NaN output", "faulty output"}
    assert checked <= set(check_metric(kind(), factory=kind, sides=sides(name)).checked)


@pytest.mark.parametrize("name", config_names("suite"))
def test_suites(name: str) -> None:
    check_suite(resolve("suites", name)())


ITEMS = load_dataset(DatasetConfig(name="embedded", kind="embedded", items=("flite-slt-07", "flite-kal16-01"))).items


@pytest.fixture(scope="module")
def panel():
    """Every metric that needs more than audio, with judges that install; and why those that are absent are (no weights, no package).

    PocketSphinx recognises: the laws are the metrics', and of noise it hears less the more there is, where Whisper guesses.
    """
    chosen = ["asr=pocketsphinx", *(["speaker=resemblyzer"] if absence(WEIGHTS["campplus"]) else [])]
    keys = [name for name in METRICS if name not in (*_OF_AUDIO, *_OF_TIME)]
    built = MetricBuilder(keys, compose(chosen), tuple(item.text for item in ITEMS), allow_missing=True).build()
    assert {"wer", "sim_o", "mos", "emitted_bps", "token_consistency"} <= set(built.metrics)
    return built


def full_sample(item, snr_db) -> Sample:
    """Real words, codes, a prompt, as recorded and resynthesised, a timing and a stop reason: whatever a metric may need."""
    audio = read_audio(item.path)
    spec = CodecSpec(16000, 320, (64, 64))
    frames = -(-audio.num_samples // 320)
    draw = np.random.default_rng(len(item.id))
    codes = Codes(draw.integers(0, 64, (2, frames)), spec, audio.num_samples, {"voice": np.zeros(8, np.float32)})
    again = replace(codes, indices=np.where(draw.random((2, frames)) < 0.3, 5, codes.indices))
    return Sample(
        item=item,
        output=signal(noisy(audio, snr_db)),
        reference=signal(audio),
        prompt=signal(read_audio(item.prompt_path)),
        encoded=codes,
        timing=Timing(total_s=0.4, audio_s=audio.duration_s, encode_s=0.3, decode_s=0.1),
        stop_reason="end" if snr_db > 15 else "length",
        prompt_resynthesis=signal(noisy(read_audio(item.prompt_path), 25)),
        encoded_again={"output": again, "shifted": again},
    )


_OF_ENCODER = ("speech_bert_score", "frechet_distance")
"""Whisper's encoder hears 30 s at a time; the same metrics of cheaper frames are in tests/unit/metrics/test_features.py."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in _OF_ENCODER else ()) for name in METRICS if name not in (*_OF_AUDIO, *_OF_TIME)],
)
def test_metrics_of_words_voices_and_codes(name: str, panel) -> None:
    if name in panel.cards.absent:
        pytest.skip(panel.cards.absent[name])
    audio = read_audio(ITEMS[0].path)
    report = check_metric(
        panel.metrics[name],
        probes=[partial(full_sample, item, snr) for item, snr in zip(ITEMS, (40, 10), strict=True)],
        sides=(audio, audio),
    )
    assert {"declaration", "determinism", "evidence", "samples untouched"} <= set(report.checked)
