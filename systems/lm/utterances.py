"""Batches of transcribed utterances: the codes of a frozen codec, computed once a recording, beside their text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from systems.lm.backbone import LmBatch
from systems.lm.codes import CodeSource, unpacked
from systems.training.faults import BadRecordings
from systems.training.recipe import Derived
from systems.tts.text import TextFrontEnd


def derived_codes(source: CodeSource) -> Derived:
    """The codes (and utterance embeddings, where the codec has them) of each recording, as `Batch.derived` carries them."""
    identity = f"codes of {source.num_codebooks} codebooks of {source.digest}"
    return Derived("codes", source.hop, source.frames, padded=False, identity=identity)


def utterance_batch(
    frames: Tensor, lengths: Tensor, texts: Sequence[str], languages: Sequence[str], source: CodeSource, front_end: TextFrontEnd
) -> LmBatch:
    """What a language model learns from.

    Args:
        frames: ``[B, T, D]`` of `derived_codes`.
        lengths: int64 ``[B]``, samples of the recordings.
        texts: "" where none is to be told.
        languages: of the texts.
        source: of the codes.
        front_end: of the texts.

    Raises:
        BadRecordings: a text that the front end cannot read.
    """
    device = frames.device
    text, sizes = text_batch(texts, languages, front_end)
    made = unpacked(frames, source)
    return LmBatch(text.to(device), sizes.to(device), made.codes, lengths // source.hop, made.voice)


def text_batch(texts: Sequence[str], languages: Sequence[str], front_end: TextFrontEnd) -> tuple[Tensor, Tensor]:
    """Tokens int64 ``[B, N]`` of texts, padded, and how many each has, ``[B]``.

    Raises:
        BadRecordings: a text that the front end cannot read.
    """
    tokens = [torch.tensor(_tokens(t, language, front_end), dtype=torch.int64) for t, language in zip(texts, languages, strict=True)]
    return nn.utils.rnn.pad_sequence(tokens, batch_first=True), torch.tensor([row.shape[0] for row in tokens])


def _tokens(text: str, language: str, front_end: TextFrontEnd) -> list[int]:
    if not text:
        return []
    try:
        return list(front_end.encode(text, language).ids)
    except (ValueError, RuntimeError) as error:
        raise BadRecordings(f"a text of the training data cannot be read: {text!r} ({language or 'no language'}): {error}") from error
