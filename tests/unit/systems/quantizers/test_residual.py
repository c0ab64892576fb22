"""Laws of residual quantization, against a slow obvious implementation."""

from __future__ import annotations

import pytest
import torch

from systems.quantizers.codebook import CodebookConfig
from systems.quantizers.residual import ResidualConfig, ResidualQuantizer

SHAPES = {
    "full": ResidualConfig(num_codebooks=5, latent_dim=6, codebook=CodebookConfig(size=16, dim=6)),
    "factorised": ResidualConfig(num_codebooks=5, latent_dim=6, codebook=CodebookConfig(size=16, dim=3)),
    "gradient": ResidualConfig(num_codebooks=3, latent_dim=6, codebook=CodebookConfig(size=16, dim=6, update="gradient")),
}


def _trained(config: ResidualConfig) -> tuple[ResidualQuantizer, torch.Tensor]:
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(config).train()
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        quantizer(torch.randn(4, 20, config.latent_dim), None, generator)
    return quantizer.eval(), torch.randn(2, 9, config.latent_dim)


def _slow(quantizer: ResidualQuantizer, vector: torch.Tensor) -> tuple[list[int], list[torch.Tensor]]:
    """Indices and partial sums of one vector [D], one codebook and one entry at a time."""
    factorised = hasattr(quantizer, "project_in")
    residual, total, indices, sums = vector.clone(), torch.zeros_like(vector), [], []
    for k, book in enumerate(quantizer.codebooks):
        inner = quantizer.project_in[k](residual) if factorised else residual
        costs = [float(((inner - entry) ** 2).sum()) for entry in book.entries]
        best = min(range(len(costs)), key=costs.__getitem__)
        step = quantizer.project_out[k](book.entries[best]) if factorised else book.entries[best]
        residual, total = residual - step, total + step
        indices.append(best)
        sums.append(total)
    return indices, sums


@pytest.mark.parametrize("name", SHAPES)
def test_equals_the_slow_reference_and_every_prefix_is_its_partial_sum(name):
    quantizer, latent = _trained(SHAPES[name])
    with torch.no_grad():
        codes = quantizer.encode(latent)
        for b in range(latent.shape[0]):
            for t in range(latent.shape[1]):
                indices, sums = _slow(quantizer, latent[b, t])
                assert codes[b, :, t].tolist() == indices
                for k, partial in enumerate(sums, start=1):
                    torch.testing.assert_close(quantizer.decode(codes[b : b + 1, :k, t : t + 1])[0, 0], partial, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SHAPES)
def test_decoding_the_codes_gives_the_quantized_latent(name):
    quantizer, latent = _trained(SHAPES[name])
    full = SHAPES[name].num_codebooks
    with torch.no_grad():
        whole = quantizer(latent)
        assert torch.equal(whole.indices, quantizer.encode(latent))
        torch.testing.assert_close(whole.latent, quantizer.decode(whole.indices))
        active = torch.tensor([2, full])
        cut = quantizer(latent, active)
        for b, count in enumerate(active.tolist()):
            torch.testing.assert_close(cut.latent[b], quantizer.decode(cut.indices[b : b + 1, :count])[0])
        for b in range(1, full + 1):
            assert torch.equal(quantizer.encode(latent, b), whole.indices[:, :b])


def test_more_codebooks_come_closer():
    quantizer, latent = _trained(SHAPES["full"])
    with torch.no_grad():
        codes = quantizer.encode(latent)
        errors = [float((latent - quantizer.decode(codes[:, :b])).square().mean()) for b in range(1, 6)]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("name", ["full", "factorised", "gradient"])
def test_gradients_go_straight_through_once(name):
    quantizer, latent = _trained(SHAPES[name])
    latent.requires_grad_()
    quantized = quantizer(latent)
    quantized.latent.sum().backward(retain_graph=True)
    if name != "factorised":
        torch.testing.assert_close(latent.grad, torch.ones_like(latent))
    else:
        assert float(latent.grad.abs().sum()) > 0
        assert all(p.weight.grad is not None for p in quantizer.project_out)
    assert all(book.entries.grad is None for book in quantizer.codebooks), "the reconstruction must not move entries by gradient"
    if name == "gradient":
        quantized.codebook.backward()
        assert all(float(book.entries.grad.abs().sum()) > 0 for book in quantizer.codebooks)
    else:
        assert float(quantized.codebook) == 0.0


def test_commitment_counts_active_codebooks_only_and_pulls_the_input():
    quantizer, latent = _trained(SHAPES["full"])
    latent.requires_grad_()
    quantized = quantizer(latent, torch.tensor([1, 1]))
    entries = quantizer.codebooks[0].decode(quantized.indices[:, 0])
    torch.testing.assert_close(quantized.commitment, (latent - entries).square().mean() / 5)
    quantized.commitment.backward()
    assert float(latent.grad.abs().sum()) > 0


def test_dropout_keeps_every_prefix_length_and_the_seed_decides():
    quantizer = ResidualQuantizer(SHAPES["full"])
    drawn = quantizer.draw_active(4000, torch.Generator().manual_seed(0))
    counts = torch.bincount(drawn, minlength=6)[1:]
    # Half keep all; the other half is uniform over 1..5: 400 each, and 2400 of 5.
    assert int(counts.sum()) == 4000
    assert all(300 < int(c) < 500 for c in counts[:4]) and 2200 < int(counts[4]) < 2600
    assert torch.equal(drawn, quantizer.draw_active(4000, torch.Generator().manual_seed(0)))


def test_first_is_codebook_one_with_both_gradients():
    config = ResidualConfig(num_codebooks=3, latent_dim=6, codebook=CodebookConfig(size=16, dim=3), first_supervised=True)
    quantizer, latent = _trained(config)
    latent.requires_grad_()
    first = quantizer.first(latent)
    assert torch.equal(first, quantizer(latent).first)
    assert torch.equal(first.detach(), quantizer.codebooks[0].decode(quantizer.encode(latent, 1)[:, 0]).detach())
    first.square().sum().backward()
    assert float(latent.grad.abs().sum()) > 0
    assert float(quantizer.codebooks[0].entries.grad.abs().sum()) > 0
    later = [
        p for modules in (quantizer.codebooks, quantizer.project_in, quantizer.project_out) for m in modules[1:] for p in m.parameters()
    ]
    assert all(p.grad is None for p in later)


def test_asking_for_more_than_there_is():
    quantizer, latent = _trained(SHAPES["full"])
    with pytest.raises(ValueError, match="6 codebooks of a quantizer with 5"):
        quantizer.encode(latent, 6)
    with pytest.raises(ValueError, match="at least one"):
        ResidualConfig(num_codebooks=0)
    with pytest.raises(ValueError, match="dropout"):
        ResidualConfig(dropout=1.5)


@pytest.mark.parametrize("name", ["full", "factorised", "gradient"])
def test_a_wider_search_comes_closer_and_one_path_is_the_plain_one(name):
    quantizer, latent = _trained(SHAPES[name])
    with torch.no_grad():
        plain, wide = quantizer.encode(latent), quantizer.encode(latent, search_width=8)
        assert wide.shape == plain.shape
        errors = [float((latent - quantizer.decode(codes)).square().mean()) for codes in (plain, wide)]
        if name != "factorised":  # there a path is judged in the codebook's space until the last choice
            # Latents, not indices: revived entries may be twins.
            single = quantizer._search_paths(latent, SHAPES[name].num_codebooks, 1)
            torch.testing.assert_close(quantizer.decode(single), quantizer.decode(plain))
            assert errors[1] < errors[0]
        assert quantizer.encode(latent, 2, search_width=3).shape[1] == 2
    with pytest.raises(ValueError, match="at least one path"):
        quantizer.encode(latent, search_width=0)


def test_the_widest_search_finds_the_best_of_all_pairs():
    quantizer, latent = _trained(ResidualConfig(num_codebooks=2, latent_dim=3, codebook=CodebookConfig(size=6, dim=3)))
    first, second = (book.entries.detach() for book in quantizer.codebooks)
    with torch.no_grad():
        codes = quantizer.encode(latent, search_width=36)
    for b in range(latent.shape[0]):
        for t in range(latent.shape[1]):
            errors = {(i, j): float((latent[b, t] - first[i] - second[j]).square().sum()) for i in range(6) for j in range(6)}
            assert errors[tuple(codes[b, :, t].tolist())] == pytest.approx(min(errors.values()), abs=1e-5)
