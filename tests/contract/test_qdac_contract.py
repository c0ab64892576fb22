"""QDAC keeps every law of a codec: the bundled small weights, and a small copy of the paper's shape."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.testing import check_codec
from systems.qdac.adapter import QdacCodec
from systems.qdac.config import qdac_config

_LAWS = {"codes", "length", "determinism", "decode needs only the encoded", "edge lengths", "silence", "wrong sample rate", "prefix"}


@pytest.mark.parametrize(
    "parameters", [{"checkpoint": "qdac16"}, {"checkpoint": "qdac16_noasr", "num_codebooks": 4}, {"checkpoint": "qdac8_25hz"}]
)
def test_bundled_small_weights(parameters: dict[str, object]) -> None:
    if reason := QdacCodec.missing(**parameters):
        pytest.skip(reason)
    report = check_codec(QdacCodec(**parameters), factory=lambda: QdacCodec(**parameters))
    assert set(report.checked) >= _LAWS
    if parameters["checkpoint"] == "qdac16":
        # Only there does the waveform follow the input closely enough for a lag to be read off.
        assert "delay" in report.checked, dict(report.skipped)["delay"]


@pytest.mark.parametrize("frame_rate", [25, 50])
@pytest.mark.parametrize("size", ["paper", "small"])
def test_untrained_narrow_copies(size: str, frame_rate: int) -> None:
    shape = replace(
        qdac_config(size, 3, frame_rate),
        codebook_size=32,
        codebook_dim=16,
        latent_dim=16,
        encoder_width=4,
        decoder_width=32,
        width=16,
        hidden=32,
        encoder_depth=1,
        decoder_depth=1,
    )

    def build() -> QdacCodec:
        return QdacCodec(weights="random", shape=shape)

    codec = build()
    assert codec.spec.frame_rate_hz == frame_rate
    assert codec.info.weights == "random"
    assert set(check_codec(codec, factory=build).checked) >= _LAWS
