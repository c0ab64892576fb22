"""Decoding with the multi-stream language model of paper size beside transformers' GPT-2 `generate`, in one run, turn and turn about.

Both are 12 x 1024 in float32 with random weights at batch 1; theirs has one vocabulary as large as our four heads together, so that both
read the same number of weights per step. Both sample with temperature and top-k.
"""

from __future__ import annotations

import os
import statistics
import time

import pytest

from harness.torchaudio import ensure_torchaudio

TEXT, STEPS, ROUNDS, STREAMS = 32, 48, 7, 4


def _ours():
    import torch

    from systems.layers.sampling import SamplingConfig
    from systems.lm.config import LmInputs, lm_config
    from systems.lm.generation import GenerationConfig, Request, generate
    from systems.lm.models import build_lm

    config = lm_config("multi_stream", "paper", LmInputs(STREAMS, (128, 128), 8192, 1024))
    model = build_lm(config).eval().requires_grad_(False)
    frames = STEPS - (STREAMS - 1)
    sampling = SamplingConfig(temperature=0.8, top_k=10, top_p=0.8, repetition_penalty=2.0)
    request = Request(list(range(TEXT)), voice=torch.randn(1024))

    def run():
        found = generate(model, [request], GenerationConfig(sampling, max_frames=frames, min_frames=frames))[0]
        assert found.steps == STEPS and found.codes.shape == (STREAMS, frames)

    return run, sum(p.numel() for p in model.parameters())


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

    systems = {"ours": _ours(), "transformers": _theirs()}
    wall: dict[str, list[float]] = {name: [] for name in systems}
    cpu: dict[str, list[float]] = {name: [] for name in systems}

    def compare():
        for number in range(ROUNDS + 1):
            for name, (run, _) in systems.items():
                start, used = time.perf_counter(), time.process_time()
                run()
                if number:  # the first round warms up
                    wall[name].append((time.perf_counter() - start) / STEPS)
                    cpu[name].append((time.process_time() - used) / STEPS)

    benchmark.pedantic(compare, rounds=1, iterations=1)
    ratios = [ours / theirs for ours, theirs in zip(wall["ours"], wall["transformers"], strict=True)]
    with capsys.disabled():
        print(
            f"\n12 x 1024, batch 1, float32, {STEPS} steps, {torch.get_num_threads()} threads, n = {ROUNDS}, load {os.getloadavg()[0]:.1f}"
        )
        for name, (_, parameters) in systems.items():
            print(
                f"  {name:13s} {parameters / 1e6:.0f} M  ms a step: median {1e3 * statistics.median(wall[name]):.1f}, "
                f"min {1e3 * min(wall[name]):.1f}, CPU {1e3 * statistics.median(cpu[name]):.1f}"
            )
        print(f"  ours against transformers: {statistics.median(ratios):.3f} (median of pairs)")
    benchmark.extra_info["ratio"] = statistics.median(ratios)
    assert len(ratios) == ROUNDS
