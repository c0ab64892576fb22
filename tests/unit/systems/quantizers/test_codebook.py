"""A codebook against slow obvious loops."""

from __future__ import annotations

import pytest
import torch

from systems.quantizers.codebook import Codebook, CodebookConfig


def _nearest(vectors, entries):
    found = []
    for v in vectors:
        costs = [float(((v - c) ** 2).sum()) for c in entries]
        found.append(min(range(len(costs)), key=costs.__getitem__))
    return found


def test_search_is_the_nearest_entry():
    torch.manual_seed(0)
    book = Codebook(CodebookConfig(size=17, dim=5, kmeans_iterations=0)).eval()
    vectors = torch.randn(3, 11, 5)
    lookup = book(vectors)
    assert lookup.indices.reshape(-1).tolist() == _nearest(vectors.reshape(-1, 5), book.entries.detach())
    assert torch.equal(lookup.entries, book.decode(lookup.indices))


def test_moving_average_equals_averaged_sums_over_averaged_counts():
    torch.manual_seed(1)
    decay, size = 0.95, 4
    book = Codebook(CodebookConfig(size=size, dim=3, decay=decay, kmeans_iterations=0, revival_share=0.0)).train()
    sums, counts = book.entries.detach().clone(), torch.ones(size)  # the start counts as one uniform use
    for call in range(20):
        vectors = torch.randn(40, 3)
        chosen = _nearest(vectors, book.entries.detach())
        batch_sums, batch_counts = torch.zeros(size, 3), torch.zeros(size)
        for v, i in zip(vectors, chosen, strict=True):
            batch_sums[i] += v * size / len(vectors)
            batch_counts[i] += size / len(vectors)
        share = min(decay, (90 + call) / (100 + call))
        sums, counts = share * sums + (1 - share) * batch_sums, share * counts + (1 - share) * batch_counts
        book(vectors)
        torch.testing.assert_close(book.usage, counts, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(book.entries.detach(), sums / counts[:, None], rtol=1e-3, atol=1e-4)


def test_kmeans_start_finds_separate_clusters():
    generator = torch.Generator().manual_seed(2)
    centres = torch.tensor([[10.0, 0.0], [-10.0, 0.0], [0.0, 10.0], [0.0, -10.0]])
    vectors = centres.repeat(50, 1) + 0.1 * torch.randn(200, 2, generator=generator)
    # Eight entries for four clusters: whichever vectors Lloyd starts from, every cluster has an entry with all but certainty.
    book = Codebook(CodebookConfig(size=16, dim=2)).train()
    book(vectors, generator)
    assert bool(book.started)
    assert float((vectors - book.decode(book.search(vectors))).norm(dim=-1).max()) < 1.0


def test_start_with_fewer_vectors_than_entries_leaves_no_twins():
    generator = torch.Generator().manual_seed(3)
    book = Codebook(CodebookConfig(size=64, dim=4, kmeans_iterations=1, revival_share=0.0, decay=0.0)).train()
    book._start(torch.randn(10, 4, generator=generator), generator)
    assert len({tuple(row) for row in book.entries.detach().tolist()}) == 64


def test_dead_entries_come_back_as_vectors_of_the_batch():
    generator = torch.Generator().manual_seed(4)
    book = Codebook(CodebookConfig(size=8, dim=2, decay=0.5, kmeans_iterations=0, revival_share=0.1)).train()
    with torch.no_grad():
        book.entries.copy_(torch.full((8, 2), 1e3))
        book.entries[0] = 0.0
    vectors = torch.randn(64, 2, generator=generator)
    for _ in range(5):
        book(vectors, generator)
    assert float(book.entries.detach().abs().max()) < 10.0, "entries far from everything were not replaced"
    assert torch.unique(book.search(vectors)).numel() > 1
    without = Codebook(CodebookConfig(size=8, dim=2, decay=0.5, kmeans_iterations=0, revival_share=0.0)).train()
    with torch.no_grad():
        without.entries.copy_(torch.full((8, 2), 1e3))
        without.entries[0] = 0.0
    for _ in range(5):
        without(vectors, generator)
    assert float(without.entries.detach().abs().max()) > 100.0


def test_evaluation_learns_nothing_and_gradient_training_moves_nothing_by_itself():
    torch.manual_seed(5)
    vectors = torch.randn(32, 4)
    for config, training in (
        (CodebookConfig(size=8, dim=4), False),
        (CodebookConfig(8, 4, "gradient", kmeans_iterations=0, revival_share=0.0), True),
    ):
        book = Codebook(config).train(training)
        before = book.entries.detach().clone()
        book(vectors)
        assert torch.equal(before, book.entries.detach())


def test_a_supervised_entry_keeps_its_gradient_step_under_the_average():
    torch.manual_seed(6)
    plain = Codebook(CodebookConfig(size=4, dim=2))
    supervised = Codebook(CodebookConfig(size=4, dim=2, supervised=True))
    assert not plain.entries.requires_grad
    vectors = torch.randn(16, 2)
    supervised.train()(vectors)
    supervised.decode(supervised.search(vectors)).sum().backward()
    assert supervised.entries.grad is not None and float(supervised.entries.grad.abs().sum()) > 0
    with torch.no_grad():
        supervised.entries += 0.3
    moved = supervised.entries.detach().clone()
    supervised.calls.fill_(10_000)
    supervised(vectors)
    # One call pulls back by about (1 - decay) only; a table recomputed from sums would have undone the step at once.
    assert float((supervised.entries.detach() - moved).abs().max()) < 0.03


@pytest.mark.parametrize("wrong", [{"size": 0}, {"dim": 0}, {"update": "adam"}, {"decay": 1.0}, {"revival_share": -0.1}])
def test_impossible_shapes_are_refused(wrong):
    with pytest.raises(ValueError, match=r"codebook|update|decay"):
        CodebookConfig(**wrong)
