"""Arbitrary overrides, manifests and audio headers: refused with a message or understood, never another exception."""

import json
import tracemalloc

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from harness.api import Audio
from harness.data.audio import UnreadableAudio, read_audio
from harness.data.manifests import DatasetConfig, load_dataset
from harness.errors import HarnessError
from harness.settings.config import compose

fault = pytest.mark.fault
calm = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

KEYS = st.sampled_from(
    ["suite", "systems", "dataset", "dataset.limit", "dataset.items", "metrics", "seeds", "run.root", "run.shard", "executor", "executor.workers",
     "systems.opus16.bitrate_bps", "systems.none.x", "+a.b", "~run.name", "++run.x", "hydra.verbose", "+_target_", "asr.zh"]
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(["codec", "[opus16]", "[opus16,opus16]", "null", "3", "-1", "nan", "1e400", "{_target_: os.system}", "[a,b", "${run.root}", "${oc.env:HOME}",
                     "${nothing}", "'", "\\", "", "../../etc", "[[[[", "{a:{b:", "a=b", "2/1"]),
    st.text(max_size=12),
)  # fmt: skip


@fault("Z01", "arbitrary overrides (hypothesis)", "a configuration, or a message with exit 2; no _target_ gets through",
    before="systems= given twice: KeyError traceback")  # fmt: skip
@settings(calm, max_examples=60)
@given(st.lists(st.one_of(st.builds("{}={}".format, KEYS, VALUES), st.text(max_size=20)), max_size=4))
@example(["systems=[opus16]", "systems=[noise]"])
@example(["run.name=\x00"])
@example(["dataset.limit={a: ${b}}"])
def test_any_overrides(words):
    try:
        config = compose(words)
    except HarnessError as error:
        assert error.exit_code == 2
        assert str(error)
    else:
        assert "_target_" not in json.dumps(config)
        assert {"suite", "dataset", "systems", "run", "executor"} <= set(config)


ROWS = st.dictionaries(
    st.sampled_from(["id", "audio", "path", "text", "language", "speaker", "prompt_audio", "synthetic", "note", "_target_"]),
    st.one_of(st.text(max_size=15), st.integers(), st.none(), st.booleans(), st.lists(st.integers(), max_size=2),
              st.sampled_from(["0.wav", "../x.wav", "/etc/passwd", "a |", "a/../../b.wav", ".", "..", "\ud800", "CON", "a\u202eb"])),
    max_size=5,
)  # fmt: skip


@fault("Z02", "arbitrary manifest rows (hypothesis)", "items inside the root, or every offending line named")
@settings(calm, max_examples=150)
@given(st.lists(ROWS, min_size=1, max_size=4))
def test_any_manifest_rows(tmp_path, rows):
    (tmp_path / "manifest.jsonl").write_text("\n".join(json.dumps(r) for r in rows), encoding="utf-8")
    try:
        dataset = load_dataset(DatasetConfig("fuzz", "jsonl", tmp_path))
    except HarnessError as error:
        assert error.exit_code == 2
    else:
        for item in dataset.items:
            for path in (item.path, item.prompt_path):
                assert path is None or path.resolve().is_relative_to(tmp_path.resolve())


def sound(suffix):
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, 2000)
    if suffix == "flac":
        return samples, {"format": "FLAC"}
    return samples, {"format": "WAV", "subtype": "PCM_16" if suffix == "wav" else "FLOAT"}


@pytest.mark.parametrize("kind", ["wav", "float", "flac"])
@fault("Z03", "audio files with arbitrary bytes in the header, cut anywhere (hypothesis)", "audio, or a reason; bounded memory")
@settings(calm, max_examples=120)
@given(edits=st.lists(st.tuples(st.integers(0, 63), st.integers(0, 255)), max_size=5), length=st.integers(0, 5000))
@example(edits=[(40, 255), (41, 255), (42, 255), (43, 127)], length=5000)  # a data chunk of 2 GiB
@example(edits=[(22, 255), (23, 255)], length=5000)  # 65535 channels
@example(edits=[(24, 0), (25, 0), (26, 0), (27, 0)], length=5000)  # 0 Hz
def test_any_audio_header(tmp_path, kind, edits, length):
    path = tmp_path / "x.bin"
    samples, how = sound(kind)
    soundfile.write(path, samples, 16000, **how)
    data = bytearray(path.read_bytes())
    for position, value in edits:
        data[position] = value
    path.write_bytes(bytes(data[:length]))
    tracemalloc.start()
    try:
        audio = read_audio(path)
    except UnreadableAudio as error:
        assert str(path) in str(error)
        assert "\n" not in error.reason
    else:
        assert isinstance(audio, Audio)
        assert audio.num_samples > 0
        assert audio.sample_rate > 0
        assert np.isfinite(audio.samples).all()
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 600 << 20
