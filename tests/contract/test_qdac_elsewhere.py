"""The bundled weights in another process and with another number of threads: the same codes, the same audio."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from harness.data.audio import read_audio
from harness.data.manifests import DatasetConfig, load_dataset
from systems.qdac.adapter import QdacCodec

TOLERANCE = 1e-4
"""Of samples in -1..1 for equal codes: sums are taken in another order with another number of threads."""

ELSEWHERE = """
import sys
import numpy as np, torch
from harness.api import Audio
from systems.qdac.adapter import QdacCodec
threads, source, target = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.set_num_threads(threads)
codec = QdacCodec()
found = {}
for name, samples in np.load(source).items():
    codes = codec.encode(Audio.mono(samples, codec.spec.sample_rate))
    found[name + ".codes"], found[name + ".audio"] = codes.indices, codec.decode(codes).samples
np.savez(target, **found)
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_another_process_gives_the_same_codes_and_audio(tmp_path, threads):
    codec = QdacCodec()
    items = load_dataset(DatasetConfig(name="embedded", kind="embedded")).items[::30]
    speech = {item.id: read_audio(item.path) for item in items}
    np.savez(tmp_path / "speech.npz", **{name: audio.samples[0] for name, audio in speech.items()})
    command = [sys.executable, "-c", ELSEWHERE, str(threads), str(tmp_path / "speech.npz"), str(tmp_path / "found.npz")]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    subprocess.run(command, check=True, env=environment, timeout=300)
    found = np.load(tmp_path / "found.npz")
    for name, audio in speech.items():
        codes = codec.encode(audio)
        assert np.array_equal(found[f"{name}.codes"], codes.indices), name
        assert np.abs(found[f"{name}.audio"] - codec.decode(codes).samples).max() <= TOLERANCE, name
