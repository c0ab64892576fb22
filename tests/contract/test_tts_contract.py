"""The language-model synthesizers keep every law of a synthesizer: narrow random copies of all five, and bundled weights where there are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.api import CodecSynthesizer
from harness.settings.systems import system_section
from harness.testing import check_synthesizer
from systems.socodec.config import socodec_config
from systems.tts.lm_tts import LmTts
from systems.tts.settings import Shape
from tests.stubs.tiny_synthesizers import HIERARCHICAL, MULTI, MULTIHEAD, QDAC, SOCODEC

NAMES = ("qtts_hierarchical", "qtts_multihead", "socodec40_tts", "socodec120_tts", "socodec240_tts")


def parameters(name: str) -> dict[str, object]:
    """Of the system's YAML."""
    section = system_section(name)
    assert section.pop("family") == "lm_tts"
    return section


def narrow(name: str, **changes: object) -> LmTts:
    """A tiny untrained copy; some 1 s of speech unless it ends by itself."""
    words = {**parameters(name), "weights": "random", "run": {"max_s": 1.0}, **changes}
    kind = words.get("shape", {}).get("kind", "multi_stream")
    if kind != "multi_stream":
        words["shape"] = Shape(kind, codec=QDAC, lm={"multihead": MULTIHEAD, "hierarchical": HIERARCHICAL}[kind])
    else:
        codec = replace(SOCODEC, **_frames(int(name.removeprefix("socodec").partition("_")[0])))
        words["shape"] = Shape(codec=codec, lm=replace(MULTI, num_codebooks=codec.num_streams))
    return LmTts(**words)


def _frames(ms: int) -> dict[str, object]:
    """What makes a codec's frames so long."""
    config = socodec_config("small", ms)
    return {"strides": config.strides, "num_streams": config.num_streams}


@pytest.mark.parametrize("name", NAMES)
def test_untrained_narrow_copies(name: str) -> None:
    synthesizer = narrow(name)
    assert isinstance(synthesizer, CodecSynthesizer) and synthesizer.info.weights == "random"
    # Roundings of a pitch add up in the phase of the vocoder's pulses.
    report = check_synthesizer(synthesizer, factory=lambda: narrow(name), tolerance=1e-3)
    assert {"speech", "determinism", "fresh instance", "stream", "resynthesis"} <= set(report.checked)


@pytest.mark.parametrize("name", NAMES)
def test_bundled_small_weights(name: str) -> None:
    words = parameters(name)
    if reason := LmTts.missing(**words):
        pytest.skip(reason)
    synthesizer = LmTts(**words | {"run": {"max_s": 2.0}})
    assert synthesizer.info.weights == "trained" and synthesizer.info.num_parameters > 1e6
    assert "stream" in check_synthesizer(synthesizer, tolerance=1e-3).checked
