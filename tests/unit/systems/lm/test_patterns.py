"""Codebook patterns beside a slow, obvious reference."""

from __future__ import annotations

import pytest
import torch

from systems.lm.config import EMPTY, PARALLEL, Pattern, delayed, lay

PATTERNS = [PARALLEL, *(delayed(d) for d in (1, 2, 3, 7))]


def _said(pattern, codebooks, frames):
    """Steps as lists of (codebook, frame), in the order they are said."""
    steps = []
    for s in range(frames + pattern.delay * (codebooks - 1)):
        steps.append([(k, s - pattern.delay * k) for k in range(codebooks) if 0 <= s - pattern.delay * k < frames])
    return steps


def _codes(codebooks, frames, *lead):
    return torch.randint(50, (*lead, codebooks, frames), generator=torch.Generator().manual_seed(codebooks + frames))


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize("codebooks", [1, 2, 4])
def test_counts_of_steps_and_frames(pattern, codebooks):
    reference = _said(pattern, codebooks, 12)
    for steps in range(len(reference) + 1):
        pairs = {pair for step in reference[:steps] for pair in step}
        whole = 0
        while whole < 12 and all((k, whole) in pairs for k in range(codebooks)):
            whole += 1
        assert pattern.completed(codebooks, steps) == whole
    assert [pattern.steps(codebooks, frames) for frames in range(8)] == [len(_said(pattern, codebooks, n)) if n else 0 for n in range(8)]


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_layout_has_the_frame_of_every_codebook(pattern):
    layout, reference = pattern.layout(3, 9), _said(pattern, 3, 40)
    for step in range(9):
        told = dict(reference[step])
        assert layout[:, step].tolist() == [told.get(k, EMPTY) for k in range(3)]


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_utterances_end_in_every_codebook(pattern):
    books, size = 3, 50
    codes, frames = _codes(books, 6, 3), torch.tensor([6, 2, 0])
    laid = lay(pattern, codes, frames, size)
    assert laid.tokens.shape == laid.counted.shape == (3, books, pattern.steps(books, 7))
    for item, length in enumerate(frames.tolist()):
        for k in range(books):
            row, counted = laid.tokens[item, k].tolist(), laid.counted[item, k].tolist()
            assert [token for token, c in zip(row, counted, strict=True) if c] == [*codes[item, k, :length].tolist(), size + 1]
            for step, token in enumerate(row):
                frame = dict(_said(pattern, books, 99)[step]).get(k)
                assert token == (size if frame is None else size + 1 if frame >= length else int(codes[item, k, frame]))


@pytest.mark.parametrize("values", [{"kind": "spiral"}, {"delay": -1}])
def test_impossible_patterns(values):
    with pytest.raises(ValueError, match=r"pattern|delay"):
        Pattern(**values)
