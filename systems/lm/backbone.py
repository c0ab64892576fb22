"""What the three language models share: the sequence they read, the transformer over time, prefill and step.

A sequence is [utterance embedding, where the model takes one][text tokens][BOS step][speech steps ...]. Speech inputs are the tokens of the
step before, all codebooks summed; the hidden state at a speech input predicts that step's tokens.

Shape letters: B batch, K codebooks, T frames, S speech steps (inputs: one more, BOS first), P columns of the sequence, W width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from systems.layers.transformer import KvCache, Transformer, Watched, Window, aligned_mask
from systems.lm.config import LmConfig, lay
from systems.lm.reading import GUIDED_HEADS, Reading, guided_layer, strayed
from systems.lm.tokens import Choose, PairedTokens, WholeTokens

_FEW_LENGTHS = 16
"""In training sequences are filled up to a multiple of it: oneDNN compiles its kernels for every length anew, and keeps few of them."""
_WAVE = 0.05  # about the size of what a frame's codes add up to at the start


@dataclass(frozen=True, eq=False)
class LmBatch:
    """Utterances of different lengths, padded at the end with anything valid.

    Args:
        text: int64 ``[B, N]``.
        text_lengths: int64 ``[B]``.
        codes: int64 ``[B, K, T]``.
        frames: int64 ``[B]``, valid frames.
        voice: ``[B, voice_dim]``, utterance embeddings; None for models that take none.
        spoken: ``[B, T, N]``, the text tokens that each frame speaks, in training with guidance; see `systems.lm.reading`.
    """

    text: Tensor
    text_lengths: Tensor
    codes: Tensor
    frames: Tensor
    voice: Tensor | None = None
    spoken: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Prefilled:
    """A batch that has been read, ready for steps; the cache is written in place.

    Args:
        cache: of the backbone.
        padding: int64 ``[B]``, empty columns before each item.
        speech_from: int64 ``[B]``, column of each item's BOS.
        hidden: ``[B, W]``, the states that predict the next step.
        length: columns written.
        padded: any item has empty columns.
    """

    cache: KvCache
    padding: Tensor
    speech_from: Tensor
    hidden: Tensor
    length: int
    padded: bool


@dataclass(frozen=True, eq=False)
class LmLoss:
    """Result of a teacher-forced pass: the scalar to minimise, and the nats per token of each codebook, ``[K]``.

    `systems.lm.reading.strayed` is not in the total, and None where the batch does not guide.
    """

    total: Tensor
    codebooks: Tensor
    strayed: Tensor | None = None


class LanguageModel(nn.Module):
    """The part below the predictions; a kind of model adds `emit` and `loss`."""

    def __init__(self, config: LmConfig) -> None:
        super().__init__()
        self.config = config
        width = config.backbone.width
        self.text = nn.Embedding(config.text_size, width)
        self.tokens: WholeTokens | PairedTokens = WholeTokens(config) if len(config.parts) == 1 else PairedTokens(config)
        self.voice = nn.Linear(config.voice_dim, width) if config.voice_dim else None
        self.delay = nn.Embedding(len(config.delays), width) if config.delays else None
        tables = [table for table in (self.text, self.delay) if table is not None]
        self.positioned = config.backbone.kind == "gpt2"
        if self.positioned:
            self.text_positions, self.speech_positions = nn.Embedding(config.max_text, width), nn.Embedding(config.max_steps, width)
            tables += [self.text_positions, self.speech_positions]
        for table in tables:
            nn.init.normal_(table.weight, std=0.02)
        if self.positioned and config.pace:
            self._start_together()
        self.dropout = nn.Dropout(config.backbone.dropout)
        self.transformer = Transformer(config.backbone)

    def take_delay(self, delay: int) -> None:
        """From here on codebooks lie ``delay`` frames apart.

        Raises:
            ValueError: the weights do not know that delay.
        """
        self.config = self.config.at_delay(delay)

    def emit(self, hidden: Tensor, choose: Choose) -> Tensor:
        """Tokens int64 ``[B, K]`` of the next step from ``hidden [B, W]``; ``choose`` draws from logits, once per group of tokens."""
        raise NotImplementedError(f"{type(self).__name__} predicts nothing; use one of its kinds")

    def loss(self, batch: LmBatch, generator: torch.Generator | None = None) -> LmLoss:
        """Teacher-forced loss of utterances; ``generator`` (on the CPU) for models that draw a part of the frames."""
        raise NotImplementedError(f"{type(self).__name__} predicts nothing; use one of its kinds")

    def hidden(self, batch: LmBatch, tokens: Tensor, watched: Watched | None = None) -> Tensor:
        """States ``[B, S, W]`` that predict the steps of ``tokens [B, K, S]``, teacher-forced; ``watched`` is filled in."""
        inputs = tokens.shape[2]
        pieces = self._pieces(batch, tokens[:, :, : inputs - 1])
        lead, text = self.lead, batch.text.shape[1]
        speech_from = lead + batch.text_lengths
        columns = lead + text + inputs
        if self.training:
            columns = -(-columns // _FEW_LENGTHS) * _FEW_LENGTHS
        index = torch.arange(columns, device=tokens.device).expand(tokens.shape[0], -1)
        gap = text - batch.text_lengths
        # Without a gap between text and speech a plain causal mask will do: what is padded lies behind, where nobody looks back from.
        source = torch.where(index < speech_from[:, None], index, index + gap[:, None]).clamp(max=pieces.shape[1] - 1)
        places = self._places(index, speech_from[:, None])
        states = self.transformer(self.dropout(_taken(pieces, source)), places, watched=watched)
        return _taken(states, speech_from[:, None] + torch.arange(inputs, device=tokens.device))

    def guided(self, batch: LmBatch, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """`hidden`, and how far the guided heads stray from the text that is spoken; None where the batch does not tell."""
        if batch.spoken is None:
            return self.hidden(batch, tokens), None
        watched = Watched(guided_layer(self.config), GUIDED_HEADS)
        hidden = self.hidden(batch, tokens, watched)
        return hidden, strayed(watched, self.lead, batch.text_lengths, batch.frames, batch.spoken)

    def prefill(self, batch: LmBatch, cache: KvCache) -> Prefilled:
        """Reads text, voice and prompts.

        Args:
            batch: with the prompts as its codes; ``frames`` are those of the prompts (0 for none).
            cache: of this model, for these and the steps to come; it may have been used before.

        Raises:
            ValueError: text or prompts are too long for the model or the cache.
        """
        inputs = batch.frames + 1  # BOS and the prompt's steps
        lengths = self.lead + batch.text_lengths + inputs
        total = int(lengths.max())
        if total > cache.capacity:
            raise ValueError(f"text and prompt take {total} positions, the cache has {cache.capacity}")
        laid = lay(self.config.pattern, batch.codes, batch.frames, self.config.codebook_size)
        pieces = self._pieces(batch, laid.tokens[:, :, : int(batch.frames.max())])
        # Items end in one column, so that the steps to come write one column for all of them: what is empty stands in front and is masked.
        padding = total - lengths
        columns = torch.arange(total, device=lengths.device)
        index = columns - padding[:, None]
        gap = batch.text.shape[1] - batch.text_lengths
        speech_from = (self.lead + batch.text_lengths)[:, None]
        source = torch.where(index >= speech_from, index + gap[:, None], index).clamp(0, pieces.shape[1] - 1)
        padded = bool(padding.any())
        mask = aligned_mask(padding, columns, total) if padded else None
        places = self._places(index.clamp(min=0), speech_from)
        states = self.transformer(_taken(pieces, source), places, cache, Window(columns, total, mask))
        return Prefilled(cache, padding, total - inputs, states[:, -1], total, padded)

    def step(self, state: Prefilled, tokens: Tensor, column: Tensor, seen: int | None = None, reading: Reading | None = None) -> Tensor:
        """States ``[B, W]`` that predict the step after ``tokens``.

        Args:
            state: its cache is written.
            tokens: int64 ``[B, K]``, of the step before.
            column: int64 ``[1]``, on the device: where these go.
            seen: column + 1, where the caller knows it; None to look at the whole cache and mask, as a captured graph must.
            reading: limits the guided heads, and is moved on.
        """
        x = self._embedded(tokens[:, :, None])
        if self.positioned:
            # An item that is over may still be stepped, beside longer ones; where, is of no consequence.
            place = (column - state.speech_from).clamp(max=self.config.max_steps - 1)
            x = x + self.speech_positions(place)[:, None]
        if seen is None:
            mask = aligned_mask(state.padding, column, state.cache.capacity)
            window = Window(column, state.cache.capacity, mask)
        else:
            window = Window(column, seen, aligned_mask(state.padding, column, seen) if state.padded else None)
        places = self._places(column - state.padding, state.speech_from - state.padding)
        watched = None if reading is None else reading.watch(window)
        hidden: Tensor = self.transformer(x, places[:, None], state.cache, window, watched)
        if reading is not None and watched is not None:
            reading.follow(watched)
        return hidden[:, 0]

    def check(self, text: int, steps: int) -> None:
        """That so many text tokens and speech steps have positions.

        Raises:
            ValueError: they have not.
        """
        config = self.config
        if self.positioned and text > config.max_text:
            raise ValueError(f"the text has {text} tokens, this model was made for {config.max_text}; split it")
        if self.positioned and steps > config.max_steps:
            raise ValueError(f"prompt and speech take {steps} steps, this model was made for {config.max_steps}; ask for fewer frames")

    def _places(self, index: Tensor, speech_from: Tensor) -> Tensor:
        """Rotary positions of inputs: number ``index`` (int64 ``[B, P]`` or ``[B]``) of its sequence each, or speech beside the text
        (`LmConfig.pace`) from number ``speech_from``, that of the BOS, on.
        """
        pace = self.config.pace
        return torch.where(index < speech_from, index, self.lead + pace * (index - speech_from)) if pace else index

    def _start_together(self) -> None:
        """Begins the learned positions as waves on a common axis of time, see `LmConfig.pace`."""
        waves = torch.pow(10000.0, -torch.arange(self.config.backbone.width // 2) / (self.config.backbone.width // 2))
        with torch.no_grad():
            for table, step in ((self.text_positions, 1.0), (self.speech_positions, self.config.pace)):
                angles = step * torch.arange(table.num_embeddings)[:, None] * waves
                table.weight.copy_(_WAVE * torch.cat([angles.sin(), angles.cos()], dim=1)[:, : table.embedding_dim])

    @property
    def lead(self) -> int:
        """Columns before the text: that of the voice, if any."""
        return 0 if self.voice is None else 1

    def _embedded(self, tokens: Tensor) -> Tensor:
        """Speech inputs ``[B, S, W]`` of ``tokens [B, K, S]``, without their positions."""
        speech = self.tokens.embed(tokens)
        return speech if self.delay is None else speech + self.delay.weight[self.config.delays.index(self.config.pattern.delay)]

    def _pieces(self, batch: LmBatch, tokens: Tensor) -> Tensor:
        """``[B, lead + N + 1 + S, W]``: embedded voice, text, BOS and ``tokens [B, K, S]``, each as long as the longest."""
        self.check(batch.text.shape[1], tokens.shape[2] + 1)
        text = self.text(batch.text)
        speech = self._embedded(functional.pad(tokens, (1, 0), value=self.config.bos))
        if self.positioned:
            text = text + self.text_positions.weight[: text.shape[1]]
            speech = speech + self.speech_positions.weight[: speech.shape[1]]
        pieces = [text, speech]
        if self.voice is not None:
            if batch.voice is None:
                raise ValueError("this model speaks in the voice of an utterance embedding, and none was given")
            pieces = [self.voice(batch.voice.to(text.dtype))[:, None], *pieces]
        return torch.cat(pieces, dim=1)


def _taken(x: Tensor, index: Tensor) -> Tensor:
    """``[B, M, W]``: rows ``index [B, M]`` of ``x [B, P, W]``."""
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[2]))


def joined(batches: Sequence[LmBatch]) -> LmBatch:
    """Batches of any lengths as one.

    Raises:
        ValueError: some have a voice and others have none.
    """
    texts = max(b.text.shape[1] for b in batches)
    frames = max(b.codes.shape[2] for b in batches)
    voices = [b.voice for b in batches if b.voice is not None]
    if voices and len(voices) != len(batches):
        raise ValueError("some of these utterances have a voice and others have none")
    return LmBatch(
        torch.cat([functional.pad(b.text, (0, texts - b.text.shape[1])) for b in batches]),
        torch.cat([b.text_lengths for b in batches]),
        torch.cat([functional.pad(b.codes, (0, frames - b.codes.shape[2])) for b in batches]),
        torch.cat([b.frames for b in batches]),
        torch.cat(voices) if voices else None,
    )


def token_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Nats ``[..., K]`` that tokens ``targets [..., K]`` cost under ``logits [..., K, V]``; computed in float32."""
    # Codebook by codebook: the logits are by far the largest tensor of a training step, and whichever way they lie, no more than one
    # codebook's part of them is copied at a time.
    pairs = zip(logits.movedim(-2, 0).unbind(), targets.movedim(-1, 0).unbind(), strict=True)
    return torch.stack([_costs(scores, wanted) for scores, wanted in pairs], dim=-1)


def _costs(logits: Tensor, targets: Tensor) -> Tensor:
    flat = functional.cross_entropy(logits.flatten(0, -2).float(), targets.flatten(), reduction="none")
    return flat.view(targets.shape)


def codebook_means(entropy: Tensor, counted: Tensor) -> Tensor:
    """``[K]``: mean of ``entropy [B, K, S]`` over what is ``counted`` (bool, the same shape) of each codebook; 0 where nothing is."""
    return (entropy * counted).sum(dim=(0, 2)) / counted.sum(dim=(0, 2)).clamp(min=1)
