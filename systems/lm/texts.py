"""Texts of a training batch as tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from systems.text.tokens import TextFrontEnd
from systems.training.faults import BadRecordings


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
