"""The kernels that decide the speed of our models: ``pytest tests/benchmarks --benchmark-enable --benchmark-autosave``."""

from __future__ import annotations

from functools import partial

import pytest

pytest.importorskip("pytest_benchmark")


@pytest.fixture
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(before)


def _residual(torch):
    from systems.quantizers.codebook import CodebookConfig
    from systems.quantizers.residual import ResidualConfig, ResidualQuantizer

    torch.manual_seed(0)
    return ResidualQuantizer(ResidualConfig(8, 256, CodebookConfig(size=1024, dim=64, update="gradient"))).eval()


def _ordered_product(torch):
    from systems.socodec.config import SocodecConfig
    from systems.socodec.model import SocodecModel

    torch.manual_seed(0)
    return SocodecModel(SocodecConfig()).eval().quantizer


@pytest.mark.parametrize("kind", ["rvq", "opq"])
def test_quantizer_encodes_a_hundred_frames(kind, benchmark, one_thread):
    torch = one_thread
    quantizer = _residual(torch) if kind == "rvq" else _ordered_product(torch)
    width = 256 if kind == "rvq" else quantizer.project_in.in_features
    latent = torch.randn(1, 100, width)
    with torch.inference_mode():
        indices = benchmark.pedantic(partial(quantizer.encode, latent), rounds=30, warmup_rounds=3)
    assert indices.shape[0] == 1 and indices.shape[2] == 100 and int(indices.min()) >= 0


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("kind", ["multi_stream", "multihead", "hierarchical"])
def test_one_decoding_step(kind, precision, benchmark, one_thread):
    """Of the small models, sampling included."""
    from systems.lm.config import LmInputs, lm_config
    from systems.lm.generation import Engine
    from systems.lm.inference import cannot_pack, prepared
    from systems.lm.models import build_lm
    from systems.lm.requests import GenerationConfig, Request

    torch = one_thread
    if precision != "float32" and (reason := cannot_pack(precision, "cpu")):
        pytest.skip(reason)
    torch.manual_seed(0)
    voice_dim = 64 if kind == "multi_stream" else 0
    model = build_lm(lm_config(kind, "small", LmInputs(4, (1024,), 150, voice_dim))).eval().requires_grad_(False)
    engine = Engine(prepared(model, "cpu", precision))
    voice = torch.zeros(voice_dim) if voice_dim else None
    config = GenerationConfig(0.8, 50, 0.95, max_frames=300, min_frames=300)
    decoding = engine._started([Request(list(range(40)), voice=voice)], config)
    benchmark.pedantic(decoding.advance, rounds=40, warmup_rounds=5)
    assert decoding.turns > 1 and not decoding.over()
