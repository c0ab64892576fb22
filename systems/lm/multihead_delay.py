"""Delay Multihead, the faster of QTTS's two models: one head per codebook, codebook k shifted by a fixed delay."""

from __future__ import annotations

from systems.lm.config import LmConfig
from systems.lm.multi_stream import MultiStreamLm


class DelayMultiheadLm(MultiStreamLm):
    """A Llama-like transformer over [text of prompt and target][codes of the prompt ...], which it continues.

    Predictions and loss are those of the multi-stream model; what differs is all in the configuration: rotary positions, no utterance
    embedding (the voice is in the prompt's codes), residual codebooks, for which a delay lets a codebook see the lower ones of its frame.

    Args:
        config: shape.

    Raises:
        ValueError: a configuration with an utterance embedding.
    """

    def __init__(self, config: LmConfig) -> None:
        if config.voice_dim:
            raise ValueError("the multihead model takes its voice from a prompt's codes: voice_dim is 0")
        super().__init__(config)
