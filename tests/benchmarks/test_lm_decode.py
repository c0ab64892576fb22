"""Decoding with the multi-stream language model of paper size, in every way there is, beside transformers' GPT-2 `generate`.

All are 12 x 1024 with random weights at batch 1, turn and turn about in one run; theirs has one vocabulary as large as our four heads
together, so that both read the same number of weights per step. Both sample with temperature, top-k, top-p and repetition penalty.
"""

from __future__ import annotations

import copy
import os
import statistics

import pytest

from harness.timing.clock import StageClock
from harness.timing.systems import machine_rates
from harness.torchaudio import ensure_torchaudio
from tests.stubs.turns import take_turns

TEXT, STEPS, ROUNDS, STREAMS = 32, 48, 11, 4
PACKED = {"bfloat16": 2, "int8": 1}  # bytes of a weight


def _ours():
    """The plain float32 model, and a copy packed in each narrower precision, as engines with the least bytes of a step."""
    import torch

    from systems.lm.config import LmInputs, lm_config
    from systems.lm.generation import Engine
    from systems.lm.inference import cannot_pack, prepared, step_cost
    from systems.lm.models import build_lm

    torch.manual_seed(0)
    config = lm_config("multi_stream", "paper", LmInputs(STREAMS, (128, 128), 8192, 1024))
    plain = build_lm(config).eval().requires_grad_(False)
    engines = {"plain float32": Engine(plain, cost=step_cost(plain, 4, 4))}
    for precision, weight_bytes in PACKED.items():
        if not cannot_pack(precision, "cpu"):
            cost = step_cost(plain, weight_bytes, 4)
            engines[f"packed {precision}"] = Engine(prepared(copy.deepcopy(plain), "cpu", precision), cost=cost)
    return engines, sum(p.numel() for p in plain.parameters())


def _calls(engines):
    import torch

    from systems.lm.requests import GenerationConfig, Request

    frames = STEPS - (STREAMS - 1)
    config = GenerationConfig(0.8, 10, 0.8, 2.0, max_frames=frames, min_frames=frames)
    request = Request(list(range(TEXT)), voice=torch.randn(1024))

    def call(engine):
        clock = StageClock(lambda: None)
        (found,) = engine.generate([request], config, clock)
        assert found.steps == STEPS and found.codes.shape == (STREAMS, frames)
        work = clock.works["lm"]
        return {"lm_s": clock.stages_s["lm"] / (STEPS - 1), "bytes": (work.weight_bytes + work.cache_bytes) / (STEPS - 1)}

    return {name: lambda engine=engine: call(engine) for name, engine in engines.items()}


def _theirs():
    import torch

    ensure_torchaudio()
    transformers = pytest.importorskip("transformers")
    vocabulary = STREAMS * 16386
    shape = transformers.GPT2Config(
        vocab_size=vocabulary, n_positions=1536, n_embd=1024, n_layer=12, n_head=16, tie_word_embeddings=False, bos_token_id=None,
        eos_token_id=None,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(shape).eval()
    text = torch.arange(TEXT + 2)[None]  # as many positions as ours has with voice and BOS
    options = {"do_sample": True, "temperature": 0.8, "top_k": 10, "top_p": 0.8, "repetition_penalty": 2.0, "pad_token_id": 0}

    def run():
        with torch.inference_mode():
            found = model.generate(text, attention_mask=torch.ones_like(text), max_new_tokens=STEPS, min_new_tokens=STEPS, **options)
        assert found.shape[1] == TEXT + 2 + STEPS

    return run, sum(p.numel() for p in model.parameters())


def test_decoding_beside_transformers(benchmark, capsys):
    if benchmark.disabled:
        pytest.skip("a benchmark: run with --benchmark-enable on a quiet machine")
    import torch

    engines, parameters = _ours()
    calls = _calls(engines)
    calls["transformers"], their_parameters = _theirs()
    threads = torch.get_num_threads()
    # Measured in every turn: what memory gives changes with what the neighbours on the machine do.
    calls["reading"] = lambda: {"bandwidth": machine_rates.__wrapped__("cpu", threads, ()).bandwidth}
    turns = benchmark.pedantic(lambda: take_turns(calls, ROUNDS), rounds=1, iterations=1)
    bandwidths = turns.of("reading", "bandwidth")
    with capsys.disabled():
        print(
            f"\n12 x 1024, {STREAMS} heads, batch 1, {STEPS} steps, {threads} threads, load {os.getloadavg()[0]:.1f}, reading "
            f"{statistics.median(bandwidths) / 1e9:.1f} GB/s; {parameters / 1e6:.0f} M (theirs {their_parameters / 1e6:.0f} M)"
        )
        if turns.refusal:
            print(f"  NO FIGURES, {turns.refusal}; what follows is of a busy machine")
        for name in (name for name in calls if name != "reading"):
            each = [1e3 * wall / STEPS for wall in turns.of(name)]
            faster = turns.ratio("transformers", name)
            line = (
                f"  {name:16s} ms a step: median {statistics.median(each):.1f}, min {min(each):.1f}; times as fast as transformers {faster}"
            )
            if name in engines:
                steps, read = turns.of(name, "lm_s"), turns.of(name, "bytes")[0]
                share = statistics.median(read / bandwidth / step for bandwidth, step in zip(bandwidths, steps, strict=True))
                line += f"; {read / 1e6:.0f} MB a step, {100 * share:.0f} % of the floor reached"
                benchmark.extra_info[f"{name}: share of floor"] = share
            print(line)
            benchmark.extra_info[f"{name}: times transformers"] = faster.median
        print("  wanted: plain float32 >= 1, int8 >= 2")
    assert all(len(turns.wall_s[name]) == ROUNDS for name in calls)
