"""Tiny codecs, language models and a prompt, of which the tests make synthesizers."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from harness.api import Audio, Utterance
from systems.layers.transformer import TransformerConfig
from systems.lm.config import PARALLEL, LmConfig, delayed
from systems.qdac.config import QdacConfig
from systems.socodec.config import UtteranceConfig, socodec_config
from systems.text.tokens import SYMBOLS
from systems.tts.lm_tts import LmTts
from systems.tts.settings import Runtime, Shape
from systems.vocoder.wave import WaveVocoderConfig

GPT2, LLAMA = TransformerConfig("gpt2", 2, 16, 2, 24), TransformerConfig("llama", 2, 16, 2, 24)
HOP, BOOKS, SIZE, TEXT = 640, 3, 16, len(SYMBOLS)
QDAC = QdacConfig(
    hop=HOP, num_codebooks=BOOKS, codebook_size=SIZE, codebook_dim=8, latent_dim=8, window=2 * HOP, width=16, hidden=16, encoder_depth=1,
    decoder_depth=2,
)  # fmt: skip
SOCODEC = replace(
    socodec_config("small", 120), ssl_dim=8, width=12, groups=3, sizes=(4, 5), codebook_dim=2,
    utterance=UtteranceConfig(channels=8, pooled_channels=12, attention_channels=4, squeeze_channels=4),
)  # fmt: skip
MULTI = LmConfig("multi_stream", 4, (4, 5), TEXT, 12, GPT2, pattern=delayed(1), max_text=256, max_steps=128)
MULTIHEAD = LmConfig("multihead", BOOKS, (SIZE,), TEXT, 0, LLAMA, pattern=delayed(1), table_dim=8)
HIERARCHICAL = LmConfig("hierarchical", BOOKS, (SIZE,), TEXT, 0, LLAMA, replace(LLAMA, width=12), PARALLEL, table_dim=8)
VOCODER = WaveVocoderConfig(width=8, hidden=8, depth=2, pitch_depth=1)


def sound(seconds: float, rate: int = 16000, seed: int = 0, channels: int = 1) -> Audio:
    return Audio(np.random.default_rng(seed).uniform(-0.5, 0.5, (channels, round(seconds * rate))), rate)


SAMPLING = {
    "multi_stream": {"temperature": 0.8, "top_k": 10, "top_p": 0.8, "repetition_penalty": 2.0},
    "multihead": {"top_k": 50, "top_p": 0.95},
    "hierarchical": {"top_k": 50, "top_p": 0.95},
}
"""The papers', by kind of model."""


def tiny(kind: str = "multihead", delay: int | None = None, shape: dict[str, object] | None = None, **settings: object) -> LmTts:
    """A synthesizer of 2 s at most, with random weights; ``settings`` are those of `Runtime` and of the generation."""
    lm, codec = {"multi_stream": (MULTI, SOCODEC), "multihead": (MULTIHEAD, QDAC), "hierarchical": (HIERARCHICAL, QDAC)}[kind]
    run = {name: settings.pop(name) for name in [f.name for f in fields(Runtime)] if name in settings}
    asked = Shape(kind, **{"codec": codec, "lm": lm, **(shape or {})})
    return LmTts(delay=delay, generation=SAMPLING[kind] | settings, weights="random", shape=asked, run={"max_s": 2.0} | run)


PROMPTED = Utterance("A red kite.", "en", sound(0.7), "We sang.")
