"""The functions of `harness.metrics`: what they say they give, what a run records, and how little importing them costs."""

from __future__ import annotations

import doctest
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

import harness.metrics
from harness import load
from harness.api import Audio, NotScorable, Side
from harness.data.audio import read_audio, resample
from harness.data.manifests import DatasetConfig, load_dataset
from harness.errors import MissingDependency
from harness.settings.registry import resolve
from harness.testing.laws import noisy, signal, speechlike
from tests.stubs.signal_pairs import sample

FUNCTIONS = [name for name in harness.metrics.__all__ if name != "METRICS"]
OPTIONAL = [name for name in FUNCTIONS if getattr(getattr(harness.metrics, name), "package", "")]
OF_PAIRS = [name for name in FUNCTIONS if name not in ("wer", "cer", "clipped_samples", *OPTIONAL)]


@pytest.mark.parametrize("name", ["__doc__", *FUNCTIONS])
def test_the_example_is_true(name: str) -> None:
    if name in OPTIONAL:
        pytest.importorskip(getattr(harness.metrics, name).package.replace("-", "_"))
    about = harness.metrics if name == "__doc__" else getattr(harness.metrics, name)
    example = doctest.DocTestParser().get_doctest(
        about.__doc__, dict(vars(sys.modules[about.__module__])) if name != "__doc__" else {}, name, None, 0
    )
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0
    assert name == "__doc__" or (("Args:" in about.__doc__ or name == "cer") and "Raises:" in about.__doc__)


@pytest.mark.parametrize("name", OF_PAIRS)
def test_arrays_give_what_a_sample_gives(name: str) -> None:
    """Two channels at 24 kHz against one at 16 kHz: channels, resampler and alignment are those of a run."""
    one, other = speechlike(1.5, 24000, 3), speechlike(1.5, 24000, 4)
    reference = Audio(np.concatenate([one.samples, one.samples + other.samples / 4]), 24000)
    output = noisy(Audio(resample(reference.samples.mean(axis=0, keepdims=True), 24000, 16000), 16000), 15)
    function = getattr(harness.metrics, name)
    expected = function.metric().measure(sample(signal(output), signal(reference))).value
    assert function(reference.samples, output.samples, 24000, 16000) == expected
    assert function(reference.samples, output.samples[0].astype(np.float64), 24000, output_rate=16000) == expected


def test_arrays_give_what_a_run_records(harness_run, tmp_path) -> None:
    item = load_dataset(DatasetConfig("embedded", "embedded", limit=1)).items[0]
    keys = [*OF_PAIRS, "clipped_samples"]
    root = tmp_path / "data"
    root.mkdir()
    shutil.copy(item.path, root / "one.flac")
    (root / "manifest.jsonl").write_text(json.dumps({"id": "one", "audio": "one.flac", "text": item.text, "language": "en"}) + "\n")
    code, folder = harness_run(root, "systems=[resample8k]", "executor=serial", metrics=f"[{','.join(keys)}]")
    assert code == 0
    recorded = load(folder).set_index("metric")["value"]
    reference = read_audio(item.path)
    codec = resolve("systems", "resampled")(8000)
    output = codec.decode(codec.encode(reference))
    for key in OF_PAIRS:
        function = getattr(harness.metrics, key)
        assert function(reference.samples, output.samples, reference.sample_rate, output.sample_rate) == recorded[key], key
    assert harness.metrics.clipped_samples(output.samples) == recorded["clipped_samples"]


@pytest.mark.parametrize("name", OPTIONAL)
def test_a_package_that_is_not_here_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.metrics.declaration.find_spec", lambda module: None)
    function, clean = getattr(harness.metrics, name), speechlike(1.5).samples
    for ask in (function.metric, lambda: function(clean, clean, 16000)):
        with pytest.raises(MissingDependency, match=f"{function.package} is not installed: pip install {function.package}"):
            ask()


def test_what_cannot_be_measured_is_refused_and_never_a_number() -> None:
    clean = speechlike(1.0).samples
    for name in OF_PAIRS:
        function = getattr(harness.metrics, name)
        for output in (np.full_like(clean, np.nan), clean[:, :0]):
            with pytest.raises(NotScorable) as refused:
                function(clean, output, 16000)
            assert refused.value.side is Side.OUTPUT and refused.value.reason
            with pytest.raises(NotScorable) as refused:
                function(output, clean, 16000)
            assert refused.value.side is Side.REFERENCE
    with pytest.raises(ValueError, match=r"\(16000, 1\); give its \.T"):
        harness.metrics.stoi(clean.T, clean.T, 16000)
    with pytest.raises(ValueError, match="positive whole number of Hz, got 0"):
        harness.metrics.stoi(clean, clean, 16000, 0)
    with pytest.raises(ValueError, match="int16 values"):
        harness.metrics.stoi((clean * 32767).astype(np.int16), clean, 16000)


def test_the_package_imports_nothing_until_a_function_is_asked_for() -> None:
    code = (
        "import sys, harness.metrics as m; light = not {'numpy', 'scipy', 'torch'} & set(sys.modules)\n"
        "assert set(m.__all__) <= set(dir(m)) and light\n"
        "from harness.metrics import pesq_wb, wer; assert 'torch' not in sys.modules and pesq_wb.__name__ == 'pesq_wb'\n"
        "try: m.pesq\n"
        "except AttributeError as error: assert str(error) == \"module 'harness.metrics' has no attribute 'pesq'\"\n"
        "else: raise AssertionError"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
