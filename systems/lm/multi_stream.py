"""The multi-stream language model of SoCodec: a head per stream, all streams of a step predicted together (Guo et al. 2024)."""

from __future__ import annotations

import torch
from torch import Tensor

from systems.lm.backbone import LanguageModel, LmBatch
from systems.lm.objective import LmLoss, codebook_means, token_entropy
from systems.lm.patterns import lay
from systems.lm.tokens import Choose


class MultiStreamLm(LanguageModel):
    """GPT-2 over [utterance embedding][BPE text][speech]; the sum of the streams' embeddings goes in, one head per stream comes out.

    Stream 0 decides the end: the other streams learn their EOS, but in generation they are held to the length that stream 0 gives.

    Args:
        config: shape.
    """

    def emit(self, hidden: Tensor, choose: Choose) -> Tensor:
        """See `LanguageModel.emit`; the streams of a step do not see one another."""
        return self.tokens.emit(hidden, choose)

    def logits(self, batch: LmBatch) -> tuple[Tensor, ...]:
        """Teacher-forced logits ``[B, S, K, V']`` of each part of the tokens, over every step of the pattern and the end."""
        tokens = lay(self.config.pattern, batch.codes, batch.frames, self.config.codebook_size).tokens
        return self.tokens.logits(self.hidden(batch, tokens), tokens)

    def loss(self, batch: LmBatch, generator: torch.Generator | None = None) -> LmLoss:
        """Mean of the streams' mean cross-entropies, over codes and each stream's first EOS."""
        laid = lay(self.config.pattern, batch.codes, batch.frames, self.config.codebook_size)
        hidden, away = self.guided(batch, laid.tokens)
        logits = self.tokens.logits(hidden, laid.tokens)
        targets = self.tokens.targets(laid.tokens)
        entropy = token_entropy(logits[0], targets[0].transpose(1, 2))
        if len(targets) > 1:  # an EOS has no second half
            code = (laid.tokens < self.config.codebook_size).transpose(1, 2)
            entropy = entropy + code * token_entropy(logits[1], (targets[1] * code.transpose(1, 2)).transpose(1, 2))
        means = codebook_means(entropy.transpose(1, 2), laid.counted)
        return LmLoss(means.mean(), means.detach(), away)
