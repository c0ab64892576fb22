"""SoCodec keeps every law of a codec: the bundled small weights, and narrow random copies of every kind."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.testing import check_codec
from systems.socodec.adapter import SocodecCodec
from systems.socodec.config import UtteranceConfig, socodec_config

_LAWS = {"codes", "length", "determinism", "decode needs only the encoded", "edge lengths", "silence", "wrong sample rate", "prefix"}
_BUNDLED = ["socodec40", "socodec120", "socodec240", "socodec120_pq", "socodec120_rq", "socodec120_codec1", "socodec120_codec2"]


@pytest.mark.parametrize("name", _BUNDLED)
def test_bundled_small_weights(name: str) -> None:
    if reason := SocodecCodec.missing(name):
        pytest.skip(reason)
    report = check_codec(SocodecCodec(name), factory=lambda: SocodecCodec(name))
    assert set(report.checked) >= _LAWS


@pytest.mark.parametrize("frame_ms", [40, 120, 240])
@pytest.mark.parametrize("quantizer", ["opq", "rq"])
@pytest.mark.parametrize("source", ["ssl", "mel"])
def test_untrained_narrow_copies(frame_ms: int, quantizer: str, source: str) -> None:
    shape = replace(
        socodec_config("small", frame_ms, quantizer, source),
        ssl_dim=8,
        width=12,
        groups=3,
        sizes=(8, 8),
        codebook_dim=2,
        utterance=UtteranceConfig(channels=8, pooled_channels=12, attention_channels=4, squeeze_channels=4),
    )

    def build() -> SocodecCodec:
        return SocodecCodec(weights="random", shape=shape)

    assert SocodecCodec.missing(weights="random", shape=shape) is None
    codec = build()
    assert codec.spec.hop_length == 16 * frame_ms
    assert codec.spec.codebook_sizes == (64,) * {40: 1, 120: 4, 240: 8}[frame_ms]
    assert codec.info.weights == "random"
    assert set(check_codec(codec, factory=build).checked) >= _LAWS
