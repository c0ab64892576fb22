"""The three language models on their common backbone: SoCodec's multi-stream one and QTTS's two; new, or from their files.

Shape letters: B batch, K codebooks, T frames, S steps, F frames of any utterance, W width of the backbone, D width of the decoder.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from systems.checkpoints import Loaded, loaded, read
from systems.layers.transformer import Transformer, Window
from systems.lm.backbone import LanguageModel, LmBatch, LmLoss, codebook_means, token_entropy
from systems.lm.config import LmConfig, lay
from systems.lm.tokens import SPECIALS, Choose, CodeHeads, WholeTokens

FAMILIES = ("lm_tts", "qtts", "socodec_tts")
"""That a file may name: the registry family of the systems that speak with it, and what that was called before."""


class MultiStreamLm(LanguageModel):
    """[utterance embedding][text][speech]; the sum of the streams' embeddings goes in, one head per stream comes out (Guo et al. 2024).

    Delay Multihead, the faster of QTTS's two models, is the same: what differs is all in the configuration. It has rotary positions, no utterance
    embedding (the voice is in the prompt's codes, which it continues), and residual codebooks, for which a delay lets a codebook see the
    lower ones of its frame.

    Stream 0 decides the end: the other streams learn their EOS, but in generation they are held to the length that stream 0 gives.
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


class HierarchicalLm(LanguageModel):
    """Hierarchical Parallel, the better of QTTS's two models: a backbone over time, and inside each frame a decoder over codebooks.

    As in CSM, codebook 0 (and with it the end) is predicted by the backbone itself, on every frame; the decoder predicts codebooks
    1 .. K - 1, and may be trained on a fraction of the frames, which costs it little and saves most of its price.
    """

    tokens: WholeTokens
    depth_fraction = 1.0
    """Share of the frames that the decoder is trained on, drawn anew at every step."""
    first_weight = 0.5
    """Of codebook 0's cross-entropy in the loss; the rest goes to the mean of the others."""

    def __init__(self, config: LmConfig) -> None:
        super().__init__(config)
        if config.depth is None:
            raise ValueError('the hierarchical model needs a depth transformer: a configuration of kind "hierarchical"')
        books, width, size = config.num_codebooks, config.depth.width, config.codebook_size + SPECIALS
        tables = self.tokens.tables if config.table_dim else None
        # The backbone predicts codebook 0 alone; the heads of the others belong to the decoder.
        self.tokens.heads = CodeHeads(1, size, config.backbone.width, tables)
        self.decoder = Transformer(config.depth)
        self.enter = nn.Linear(config.backbone.width, width, bias=False)
        self.narrow = nn.Linear(self.tokens.tables.weight.shape[2], width, bias=False)
        self.place = nn.Parameter(torch.randn(books, width) * 0.02)
        self.decoder_heads = CodeHeads(books - 1, size, width, tables)

    def emit(self, hidden: Tensor, choose: Choose) -> Tensor:
        """See `LanguageModel.emit`: a whole frame, its codebooks one after the other."""
        config = self.config
        chosen = [choose(self.tokens.heads(hidden), 0, 0)[:, 0]]
        if config.num_codebooks == 1:
            return chosen[0][:, None]
        # The backbone's state and codebook 0 go in together; from then on each codebook is one more column of a cache that lives for a frame.
        cache = self.decoder.new_cache(hidden.shape[0], config.num_codebooks)
        columns = torch.arange(config.num_codebooks, device=hidden.device)
        x = torch.stack([self.enter(hidden) + self.place[0], self._entered(chosen[0], 0)], dim=1)
        positions = columns.expand(hidden.shape[0], -1)
        states = self.decoder(x, positions[:, :2], cache, Window(columns[:2], 2))
        for k in range(1, config.num_codebooks):
            logits = self.decoder_heads.single(states[:, -1], k - 1, first=1)
            chosen.append(choose(logits[:, None], k, 0)[:, 0])
            if k + 1 < config.num_codebooks:
                x = self._entered(chosen[k], k)[:, None]
                states = self.decoder(x, positions[:, k + 1 : k + 2], cache, Window(columns[k + 1 : k + 2], k + 2))
        return torch.stack(chosen, dim=1)

    def frame_logits(self, hidden: Tensor, frames: Tensor) -> Tensor:
        """Teacher-forced logits ``[F, K - 1, V']`` of codebooks 1 ... of ``frames [F, K]``, from the states ``hidden [F, W]``."""
        entries = self.tokens.tables.entries(frames[:, :-1, None])[:, :, 0]
        x = torch.cat([self.enter(hidden)[:, None], self.narrow(entries)], dim=1) + self.place
        positions = torch.arange(x.shape[1], device=x.device).expand(x.shape[0], -1)
        return self.decoder_heads.apart(self.decoder(x, positions)[:, 1:], first=1)

    def loss(self, batch: LmBatch, generator: torch.Generator | None = None) -> LmLoss:
        """``first_weight`` of codebook 0's mean cross-entropy (its EOS included), the rest of the other codebooks' mean."""
        config = self.config
        laid = lay(config.pattern, batch.codes, batch.frames, config.codebook_size)
        hidden, away = self.guided(batch, laid.tokens)
        entropy = token_entropy(self.tokens.heads(hidden), laid.tokens[:, :1].transpose(1, 2))
        first = codebook_means(entropy.transpose(1, 2), laid.counted[:, :1])
        if config.num_codebooks == 1:
            return LmLoss(first[0], first.detach(), away)
        # Whole frames only: the end has no other codebooks.
        whole = (laid.counted[:, 0] & (laid.tokens[:, 0] < config.codebook_size)).nonzero()
        if self.depth_fraction < 1.0:
            count = max(1, round(self.depth_fraction * whole.shape[0]))
            drawn = torch.randperm(whole.shape[0], generator=generator, device=generator.device if generator else None)
            whole = whole[drawn[:count].to(whole.device)]
        items, steps = whole.unbind(dim=1)
        frames = laid.tokens[items, :, steps]
        others = token_entropy(self.frame_logits(hidden[items, steps], frames), frames[:, 1:])
        rest = others.mean(dim=0) if whole.shape[0] else others.sum(dim=0)
        total = self.first_weight * first[0] + (1.0 - self.first_weight) * rest.mean()
        return LmLoss(total, torch.cat([first, rest]).detach(), away)

    def _entered(self, tokens: Tensor, codebook: int) -> Tensor:
        """``[B, D]``: what the decoder reads of ``tokens [B]`` of a codebook."""
        entered: Tensor = self.narrow(self.tokens.tables.entry(tokens, codebook)) + self.place[codebook + 1]
        return entered


def build_lm(config: LmConfig) -> LanguageModel:
    """A model with random weights, drawn from torch's generator."""
    return HierarchicalLm(config) if config.kind == "hierarchical" else MultiStreamLm(config)


def load_lm(path: str | Path) -> Loaded[LanguageModel]:
    """Reads a model that `harness train` wrote.

    Its metadata say besides: "codec" (digest of the codec's weights whose codes it says), "front_end" (of the text), "training_data" ...

    Raises:
        FileNotFoundError: there is none.
        ValueError: no safetensors file, no language model, tensors missing, too many or of another shape, or not finite.
    """
    stored = read(path, "lm_tts")
    named = stored.metadata.get("family")
    return loaded(stored, named if named in FAMILIES else FAMILIES[0], build_lm, LmConfig)
