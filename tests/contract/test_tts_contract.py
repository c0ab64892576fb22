"""The language-model synthesizers keep every law of a synthesizer: narrow random copies of all five, and bundled weights where there are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.api import CodecSynthesizer
from harness.settings.registry import resolve
from harness.settings.systems import system_section
from harness.testing import check_synthesizer
from systems.layers.transformer import TransformerConfig
from systems.lm.config import LmConfig
from systems.lm.patterns import PARALLEL, delayed
from systems.qdac.config import QdacConfig
from systems.socodec.config import UtteranceConfig, socodec_config
from systems.text.tokens import SYMBOLS

GPT2, LLAMA = TransformerConfig("gpt2", 2, 16, 2, 24), TransformerConfig("llama", 2, 16, 2, 24)
QDAC = QdacConfig(
    hop=640, num_codebooks=3, codebook_size=16, codebook_dim=8, latent_dim=8, window=1280, width=16, hidden=16, encoder_depth=1, decoder_depth=2,
)  # fmt: skip
NAMES = ("qtts_hierarchical", "qtts_multihead", "socodec40_tts", "socodec120_tts", "socodec240_tts")


def parameters(name: str) -> dict[str, object]:
    """Of the system's YAML, family included."""
    return system_section(name)


def narrow(name: str, **changes: object):
    """A tiny untrained copy; some 1 s of speech unless it ends by itself."""
    words = {**parameters(name), "weights": "random", "max_s": 1.0, **changes}
    family = words.pop("family")
    if family == "qtts":
        kind, depth = words["kind"], None
        pattern = delayed(words.get("delay", 1))
        if kind == "hierarchical":
            pattern, depth = PARALLEL, replace(LLAMA, width=12)
        words["codec_config"] = QDAC
        words["config"] = LmConfig(kind, 3, (16,), len(SYMBOLS), 0, LLAMA, depth, pattern, table_dim=8)
    else:
        utterance = UtteranceConfig(channels=8, pooled_channels=12, attention_channels=4, squeeze_channels=4)
        codec = replace(
            socodec_config("small", words["frame_ms"]), ssl_dim=8, width=12, groups=3, sizes=(4, 8), codebook_dim=2, utterance=utterance
        )
        words["codec_config"] = codec
        words["config"] = LmConfig(
            "multi_stream", codec.num_streams, (4, 8), len(SYMBOLS), 12, GPT2, pattern=delayed(words["delay"]), max_text=256, max_steps=128
        )
    return resolve("systems", family)(**words)


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
    kind = resolve("systems", words.pop("family"))
    if reason := kind.missing(**words):
        pytest.skip(reason)
    synthesizer = kind(**{**words, "max_s": 4.0})
    assert synthesizer.info.weights == "trained" and synthesizer.info.num_parameters > 1e6
    assert "stream" in check_synthesizer(synthesizer, tolerance=1e-3).checked
