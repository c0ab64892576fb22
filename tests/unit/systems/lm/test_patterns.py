"""Codebook patterns beside a slow, obvious reference."""

from __future__ import annotations

import pytest
import torch

from systems.lm.patterns import EMPTY, FLATTEN, PARALLEL, Pattern, delayed, lay

PATTERNS = [PARALLEL, *(delayed(d) for d in (1, 2, 3, 7)), FLATTEN]
SHAPES = [(1, 1), (1, 5), (2, 1), (3, 4), (4, 9), (8, 3), (2, 0)]


def _said(pattern, codebooks, frames):
    """Steps as lists of (codebook, frame), in the order they are said."""
    if pattern.kind == "flatten":
        return [[(k, t)] for t in range(frames) for k in range(codebooks)]
    if not frames:
        return []
    steps = []
    for s in range(frames + pattern.delay * (codebooks - 1)):
        steps.append([(k, s - pattern.delay * k) for k in range(codebooks) if 0 <= s - pattern.delay * k < frames])
    return steps


def _codes(codebooks, frames, *lead):
    return torch.randint(50, (*lead, codebooks, frames), generator=torch.Generator().manual_seed(codebooks + frames))


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize(("codebooks", "frames"), SHAPES)
def test_build_says_what_the_reference_says(pattern, codebooks, frames):
    codes, reference = _codes(codebooks, frames), _said(pattern, codebooks, frames)
    wanted = torch.full((codebooks, len(reference)), 99)
    for step, pairs in enumerate(reference):
        for k, t in pairs:
            wanted[k, step] = codes[k, t]
    built = pattern.build(codes, fill=99)
    assert pattern.steps(codebooks, frames) == len(reference)
    assert torch.equal(built, wanted)
    assert torch.equal(pattern.revert(built), codes)


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_batches_build_like_single_items(pattern):
    codes = _codes(3, 5, 2, 2)
    built = pattern.build(codes, fill=0)
    assert torch.equal(built[1, 0], pattern.build(codes[1, 0], fill=0)) and torch.equal(pattern.revert(built), codes)


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
    for frames in range(8):
        # A prompt of so many frames tells every step before the first that says anything later.
        begun = next(s for s, step in enumerate(reference) if any(t >= frames for _, t in step))
        assert pattern.begun(codebooks, frames) == begun


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


@pytest.mark.parametrize("values", [{"kind": "spiral"}, {"delay": -1}, {"kind": "flatten", "delay": 1}])
def test_impossible_patterns(values):
    with pytest.raises(ValueError, match=r"pattern|delay"):
        Pattern(**values)
