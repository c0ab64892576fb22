"""Tiny codecs, language models and a prompt, of which the tests make synthesizers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness.api import Audio, Utterance
from systems.layers.transformer import TransformerConfig
from systems.lm.config import LmConfig
from systems.lm.patterns import PARALLEL, delayed
from systems.qdac.config import QdacConfig
from systems.socodec.config import UtteranceConfig, socodec_config
from systems.text.tokens import SYMBOLS
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


PROMPTED = Utterance("A red kite.", "en", sound(0.7), "We sang.")
