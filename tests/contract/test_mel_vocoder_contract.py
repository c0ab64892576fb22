"""The vocoder alone keeps the laws of a codec."""

from __future__ import annotations

import pytest

from harness.api import Audio, Bitstream
from harness.testing import check_codec
from systems.vocoder.adapter import MelVocoder


@pytest.mark.parametrize("weights", ["trained", "random"])
def test_laws(weights: str) -> None:
    if reason := MelVocoder.missing(weights=weights):
        pytest.skip(reason)
    codec = MelVocoder(weights=weights)
    report = check_codec(codec, factory=lambda: MelVocoder(weights=weights))
    assert set(report.checked) >= {"length", "determinism", "decode needs only the encoded", "edge lengths", "silence", "wrong sample rate"}


def test_packets_are_counted() -> None:
    codec = MelVocoder(weights="random")
    encoded = codec.encode(Audio.mono([0.1] * 1601, 16000))
    assert encoded.emitted_bits == 11 * 80 * 16
    with pytest.raises(ValueError, match="11 packets of 160 bytes, got 10"):
        codec.decode(Bitstream(encoded.packets[:-1], encoded.num_samples, encoded.sample_rate))


def test_what_is_missing_is_said(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="made by harness train"):
        MelVocoder(tmp_path / "none.safetensors")
    with pytest.raises(FileNotFoundError, match="give checkpoint="):
        MelVocoder(None)
    assert "BigVGAN" in MelVocoder(None, weights="random", shape={"size": "paper"}).info.description
