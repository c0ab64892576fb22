"""One step of the papers' language models on an accelerator, captured as one CUDA graph and launched kernel by kernel, beside the floor.

Random weights in bfloat16, batch 1. Wanted on an H200: SoCodec at most .3 ms a step, the hierarchical model (.5 B and .1 B x 16 codebooks) 3 ms
a frame, the delayed multihead one (.5 B) .6 ms. ``SPEED_DEVICE=cpu`` runs the same on the CPU, where there are no graphs.

    pytest tests/benchmarks/test_device_steps.py --benchmark-enable -s
"""

from __future__ import annotations

import os
import statistics

import pytest

from harness.timing.clock import StageClock, synchronise
from harness.timing.systems import machine_rates
from tests.stubs.turns import take_turns

ROUNDS, STEPS, TEXT = 9, 96, 64
WANTED_MS = {"SoCodec-40": 0.3, "SoCodec-120": 0.3, "SoCodec-240": 0.3, "hierarchical .5 B + .1 B": 3.0, "multihead .5 B": 0.6}


def _device():
    import torch

    asked = os.environ.get("SPEED_DEVICE", "cuda")
    if asked == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here; SPEED_DEVICE=cpu runs it on the CPU")
    return asked


def _shapes():
    from systems.layers.transformer import TransformerConfig
    from systems.lm.config import PARALLEL, LmConfig, LmInputs, delayed, lm_config

    half, tenth = TransformerConfig("llama", 24, 1280, 20, 3584), TransformerConfig("llama", 8, 1024, 16, 2816)
    shapes = {
        f"SoCodec-{ms}": lm_config("multi_stream", "paper", LmInputs(k, (128, 128), 8192, 1024)) for ms, k in ((40, 1), (120, 4), (240, 8))
    }
    shapes["hierarchical .5 B + .1 B"] = LmConfig("hierarchical", 16, (2048,), 8192, 0, half, tenth, PARALLEL)
    shapes["multihead .5 B"] = LmConfig("multihead", 16, (2048,), 8192, 0, half, None, delayed(1))
    return shapes


def _call(engine, device):
    """Generates a fixed number of steps; seconds and least bytes of each."""
    import torch

    from systems.lm.requests import GenerationConfig, Request

    config = engine.model.config
    frames = STEPS - config.pattern.steps(config.num_codebooks, 1) + 1
    how = GenerationConfig(0.8, 10, 0.8, 2.0, max_frames=frames, min_frames=frames, check_every=STEPS)
    voice = torch.randn(config.voice_dim, generator=torch.Generator().manual_seed(0)) if config.voice_dim else None
    request = Request(list(range(TEXT)), voice=voice)

    def call():
        clock = StageClock(lambda: synchronise(device))
        (found,) = engine.generate([request], how, clock)
        assert found.codes.shape == (config.num_codebooks, frames)
        work = clock.works["lm"]
        call.said = found.codes
        return {"step_s": clock.stages_s["lm"] / (found.steps - 1), "bytes": (work.weight_bytes + work.cache_bytes) / (found.steps - 1)}

    return call


@pytest.mark.parametrize("name", WANTED_MS)
def test_a_step_on_a_device(name, benchmark, capsys):
    if benchmark.disabled:
        pytest.skip("a benchmark: run with --benchmark-enable on a quiet machine")
    import torch

    from systems.lm.generation import Engine
    from systems.lm.inference import prepared, step_cost
    from systems.lm.models import build_lm

    device = _device()
    torch.manual_seed(0)
    plain = build_lm(_shapes()[name]).eval().requires_grad_(False)
    cost, size = step_cost(plain, 2, 2 if device == "cuda" else 4), sum(p.numel() for p in plain.parameters())
    model = prepared(plain, device, "bfloat16")
    ways = {"launched": Engine(model, "off", cost)} | ({"one graph": Engine(model, "graph", cost)} if device == "cuda" else {})
    calls = {way: _call(engine, device) for way, engine in ways.items()}
    turns = benchmark.pedantic(lambda: take_turns(calls, ROUNDS), rounds=1, iterations=1)
    bandwidth = machine_rates(device, torch.get_num_threads(), ()).bandwidth
    with capsys.disabled():
        print(f"\n{name}, {size / 1e6:.0f} M, bfloat16 on {device}, reading {bandwidth / 1e9:.0f} GB/s {turns.refusal}")
        for way in calls:
            step_s = statistics.median(turns.of(way, "step_s"))
            floor_s = turns.of(way, "bytes")[0] / bandwidth
            print(
                f"  {way:10s} {1e3 * step_s:7.3f} ms a step, floor {1e3 * floor_s:.3f} ms: {floor_s / step_s:.0%} reached; wanted {WANTED_MS[name]}"
            )
            benchmark.extra_info |= {f"{way}: ms a step": 1e3 * step_s, f"{way}: share of floor": floor_s / step_s}
        if len(calls) > 1:
            print(f"  a graph is {turns.ratio('launched', 'one graph', 'step_s')} times as fast as launches")
    if len(calls) > 1:
        assert torch.equal(calls["launched"].said, calls["one graph"].said)
