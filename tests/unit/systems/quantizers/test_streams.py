"""Laws of the multi-stream quantizers, against slow obvious implementations."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from systems.quantizers.codebook import Codebook, CodebookConfig
from systems.quantizers.streams import PairedCodebook, PairedResidualQuantizer, ProductQuantizer, StreamQuantizer, StreamsConfig

SHAPE = StreamsConfig(num_streams=3, latent_dim=10, sizes=(4, 5), codebook_dim=2, kmeans_iterations=5)
KINDS = {"product": ProductQuantizer, "residual": PairedResidualQuantizer}


def _trained(kind: str, config: StreamsConfig = SHAPE) -> tuple[StreamQuantizer, torch.Tensor]:
    torch.manual_seed(0)
    quantizer = KINDS[kind](config).train()
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        quantizer(torch.randn(6, 20, config.latent_dim), None, generator)
    return quantizer.eval(), torch.randn(3, 7, config.latent_dim)


def _nearest(book: Codebook, vector: torch.Tensor) -> int:
    return min(range(len(book.entries)), key=lambda i: float(((book.entries[i] - vector) ** 2).sum()))


def _slow(quantizer: StreamQuantizer, latent: torch.Tensor) -> tuple[list[int], list[torch.Tensor]]:
    """Joint indices and the latents of every prefix, of one vector [D], one entry at a time."""
    config = quantizer.config
    inner = quantizer.project_in(latent)
    width, product = len(inner), isinstance(quantizer, ProductQuantizer)
    rebuilt, residual, indices, prefixes = torch.zeros(width), inner.clone(), [], []
    for k, stream in enumerate(quantizer.streams):
        span = width // config.num_streams if product else width
        start = k * span if product else 0
        half = span // 2
        picked = [_nearest(book, residual[start + i * half : start + (i + 1) * half]) for i, book in enumerate(stream.codebooks)]
        for i, book in enumerate(stream.codebooks):
            entry = book.entries[picked[i]]
            rebuilt[start + i * half : start + (i + 1) * half] += entry
            residual[start + i * half : start + (i + 1) * half] -= entry
        i1, i2 = picked
        indices.append(i1 + config.sizes[0] * i2 if config.index_order == "first_fastest" else i1 * config.sizes[1] + i2)
        prefixes.append(quantizer.project_out(rebuilt.clone()))
    return indices, prefixes


@pytest.mark.parametrize("index_order", ["first_fastest", "first_slowest"])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_slow_reference_and_every_prefix_is_a_latent(kind, index_order):
    quantizer, latent = _trained(kind, replace(SHAPE, index_order=index_order))
    with torch.no_grad():
        codes = quantizer.encode(latent)
        for b in range(latent.shape[0]):
            for t in range(latent.shape[1]):
                indices, prefixes = _slow(quantizer, latent[b, t])
                assert codes[b, :, t].tolist() == indices
                for k, wanted in enumerate(prefixes, start=1):
                    torch.testing.assert_close(quantizer.decode(codes[b : b + 1, :k, t : t + 1])[0, 0], wanted, rtol=1e-4, atol=1e-5)
        assert torch.equal(quantizer.encode(latent, 2), codes[:, :2])
    assert codes.max() < 20
    assert codes.unique().numel() > 8


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_the_codes_gives_the_quantized_latent_of_as_many_active_streams(kind):
    quantizer, latent = _trained(kind)
    with torch.no_grad():
        whole = quantizer(latent)
        torch.testing.assert_close(quantizer.decode(whole.indices), whole.latent, rtol=1e-4, atol=1e-5)
        assert torch.equal(quantizer.encode(latent), whole.indices)
        active = torch.tensor([1, 3, 2])
        some = quantizer(latent, active)
        assert torch.equal(some.indices, whole.indices)
        for row, b in enumerate(active.tolist()):
            wanted = quantizer.decode(whole.indices[row : row + 1, :b])
            torch.testing.assert_close(some.latent[row : row + 1], wanted, rtol=1e-4, atol=1e-5)
        assert float(some.commitment) == pytest.approx(float(whole.commitment))
        assert not torch.allclose(some.latent[0], whole.latent[0], atol=1e-3)


def test_dropped_streams_are_zero_before_the_output_projection_whose_bias_still_acts():
    quantizer, latent = _trained("product")
    with torch.no_grad():
        quantizer.project_out.bias.fill_(3.0)
        codes = quantizer.encode(latent)
        first = quantizer.stream(0).decode(codes[:, 0])
        wanted = first @ quantizer.project_out.weight[:, :4].T + 3.0
        torch.testing.assert_close(quantizer(latent, torch.ones(3, dtype=torch.int64)).latent, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_streams_dropped_in_every_row_still_learn(kind):
    quantizer, latent = _trained(kind)
    quantizer.train()
    before = [book.entries.clone() for stream in quantizer.streams for book in stream.codebooks]
    quantizer(latent, torch.ones(3, dtype=torch.int64), torch.Generator().manual_seed(0))
    after = [book.entries for stream in quantizer.streams for book in stream.codebooks]
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_moving_average_of_a_codebook_equals_the_averages_of_what_chose_it(kind):
    """The usual form: N' = g N + (1-g) n, S' = g S + (1-g) s, entry = S' / N', with counts as shares of a uniform use."""
    config = replace(SHAPE, num_streams=1, decay=0.5)
    quantizer, latent = _trained(kind, config)
    book = quantizer.stream(0).codebooks[0]
    usage, sums = book.usage.clone(), book.entries * book.usage[:, None]
    with torch.no_grad():
        vectors = quantizer.project_in(latent)[..., :2].reshape(-1, 2)
    chosen = [_nearest(book, vector) for vector in vectors]
    quantizer.train()(latent)
    for v in range(4):
        mine = [vector for vector, c in zip(vectors, chosen, strict=True) if c == v]
        share = 4 / len(vectors)
        count = 0.5 * usage[v] + 0.5 * len(mine) * share
        total = 0.5 * sums[v] + 0.5 * share * sum(mine, torch.zeros(2))
        torch.testing.assert_close(book.entries[v], total / count, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_goes_straight_through_the_search(kind):
    quantizer, latent = _trained(kind)
    latent.requires_grad_()
    pull = torch.randn(3, 7, 10)
    (quantizer(latent).latent * pull).sum().backward()
    # As if the quantizer were its two projections.
    torch.testing.assert_close(latent.grad, pull @ quantizer.project_out.weight @ quantizer.project_in.weight, rtol=1e-4, atol=1e-5)


def test_a_dropped_slice_gets_no_gradient_from_the_output():
    quantizer, latent = _trained("product")
    quantizer(latent, torch.ones(3, dtype=torch.int64)).latent.sum().backward()
    grad = quantizer.project_in.weight.grad
    assert float(grad[:4].abs().sum()) > 0
    assert float(grad[4:].abs().sum()) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_commitment_pulls_the_input_to_its_entries_in_every_stream(kind):
    quantizer, latent = _trained(kind)
    made = quantizer(latent, torch.ones(3, dtype=torch.int64))
    made.commitment.backward()
    grad = quantizer.project_in.weight.grad
    assert all(float(part.abs().sum()) > 0 for part in grad.chunk(6))
    with torch.no_grad():
        inner, distances = quantizer.project_in(latent), []
        for k in range(3):
            part = inner[..., 4 * k : 4 * k + 4] if kind == "product" else inner
            entries = quantizer.stream(k).decode(made.indices[:, k])
            distances.append(float((part - entries).square().mean()))
            if kind == "residual":
                inner = inner - entries
    assert float(made.commitment.detach()) == pytest.approx(sum(distances) / 3, rel=1e-4)


def test_nested_dropout_keeps_one_to_all_streams_equally_often():
    generator = torch.Generator().manual_seed(0)
    drawn = ProductQuantizer(SHAPE).draw_active(3000, generator)
    assert drawn.bincount().tolist()[0] == 0
    assert all(abs(count - 1000) < 120 for count in drawn.bincount().tolist()[1:])
    assert torch.equal(drawn, ProductQuantizer(SHAPE).draw_active(3000, torch.Generator().manual_seed(0)))
    assert ProductQuantizer(replace(SHAPE, order="none")).draw_active(4).tolist() == [3, 3, 3, 3]


def test_index_orders_of_a_pair():
    config = CodebookConfig(dim=2, kmeans_iterations=0)
    pairs = torch.cartesian_prod(torch.arange(128), torch.arange(128))
    for order, wanted in (("first_fastest", pairs[:, 0] + 128 * pairs[:, 1]), ("first_slowest", pairs[:, 0] * 128 + pairs[:, 1])):
        book = PairedCodebook((128, 128), config, order)
        assert book.size == 16384
        assert torch.equal(book.join(pairs), wanted)
        assert torch.equal(book.split(wanted), pairs)
    uneven = PairedCodebook((3, 4, 5), config, "first_fastest")
    assert int(uneven.join(torch.tensor([2, 1, 4]))) == 2 + 3 * 1 + 12 * 4
    assert int(PairedCodebook((3, 4, 5), config, "first_slowest").join(torch.tensor([2, 1, 4]))) == 2 * 20 + 1 * 5 + 4
    assert torch.equal(uneven.join(uneven.split(torch.arange(60))), torch.arange(60))
    with pytest.raises(ValueError, match="first_fastest"):
        PairedCodebook((3, 4), config, "sideways")


def test_start_picks_no_vector_twice():
    vectors = torch.arange(16.0)[:, None] * 10
    for seed in range(5):
        book = Codebook(CodebookConfig(size=16, dim=1, kmeans_iterations=1, revival_share=0.0, decay=0.0)).train()
        book._start(vectors, torch.Generator().manual_seed(seed))
        assert sorted(book.entries[:, 0].tolist()) == vectors[:, 0].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_asking_for_streams_that_do_not_exist(kind):
    quantizer, latent = _trained(kind)
    with pytest.raises(ValueError, match="asked for 4 streams of a quantizer with 3"):
        quantizer.encode(latent, 4)
    with pytest.raises(ValueError, match="asked for 4 streams of a quantizer with 3"):
        quantizer.decode(torch.zeros(1, 4, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="at least one stream"):
        StreamsConfig(num_streams=0)
    with pytest.raises(ValueError, match="order"):
        StreamsConfig(order="sorted")
