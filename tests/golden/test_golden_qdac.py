"""The bundled QDAC on another machine: codes and audio written down on one, looked for on this one.

`qdac16_small.npz` was made by running this file: ``python tests/golden/test_golden_qdac.py``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.api import Audio, Codes
from harness.data.audio import read_audio
from harness.data.manifests import DatasetConfig, load_dataset
from systems.qdac.adapter import QdacCodec

GOLDEN = Path(__file__).with_name("qdac16_small.npz")
EQUAL_CODES = 0.995
"""Share of codes: another processor adds in another order, and where two entries are nearly as near the other one may win."""
TOLERANCE = 2e-3
"""Of samples in -1..1 for equal codes; the golden audio is stored as float16 (5e-4 at full scale)."""


def _speech() -> Audio:
    item = load_dataset(DatasetConfig(name="embedded", kind="embedded")).items[0]
    audio = read_audio(item.path)
    return Audio(audio.samples[:, : 2 * audio.sample_rate], audio.sample_rate)


def test_codes_and_audio_are_those_of_another_machine() -> None:
    codec, golden = QdacCodec(), np.load(GOLDEN)
    assert codec.info.weights_digest == str(golden["weights"])
    speech = _speech()
    codes = codec.encode(speech)
    assert codes.indices.shape == golden["codes"].shape
    assert np.mean(codes.indices == golden["codes"]) >= EQUAL_CODES
    made = codec.decode(Codes(golden["codes"].astype(np.int64), codec.spec, speech.num_samples)).samples
    assert np.abs(made[0] - golden["audio"].astype(np.float32)).max() <= TOLERANCE


if __name__ == "__main__":
    codec_, speech_ = QdacCodec(), _speech()
    codes_ = codec_.encode(speech_)
    audio_ = codec_.decode(codes_).samples[0].astype(np.float16)
    np.savez_compressed(GOLDEN, weights=codec_.info.weights_digest, codes=codes_.indices.astype(np.uint16), audio=audio_)
