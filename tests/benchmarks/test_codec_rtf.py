"""Encoding and decoding with our codecs, small and of the paper's size, beside EnCodec, DAC and Mimi of the published shapes.

All in one run, with the same threads, turn and turn about; speed needs no weights, so all but our small ones are random.
"""

from __future__ import annotations

import os
import statistics
import time

import numpy as np
import pytest

from harness.api import Audio
from harness.data.audio import read_audio
from harness.data.manifests import DatasetConfig, load_dataset
from harness.timing.systems import counted_flops, machine_rates
from harness.torchaudio import ensure_torchaudio
from tests.stubs.turns import take_turns

SECONDS, ROUNDS = 5, 9


def _speech(rate):
    items = load_dataset(DatasetConfig(name="embedded", kind="embedded")).items
    samples = np.concatenate([read_audio(item.path).samples[0] for item in items])
    return Audio.mono(np.resize(samples, SECONDS * rate).astype(np.float32), rate)


def _codecs():
    ensure_torchaudio()
    pytest.importorskip("transformers")
    from systems.published.transformers_codecs import Dac, Encodec, Mimi
    from systems.qdac.adapter import QdacCodec
    from systems.socodec.adapter import SocodecCodec

    return {
        "EnCodec 24 kHz, 6 kbps": Encodec(weights="random"),
        "DAC 16 kHz": Dac(weights="random"),
        "DAC 24 kHz": Dac(24000, weights="random"),
        "Mimi, 8 codebooks": Mimi(weights="random"),
        "qdac16": QdacCodec(),
        "qdac16, search_width=4": QdacCodec(search_width=4),
        "qdac8_25hz": QdacCodec("qdac8_25hz"),
        "qdac16_paper": QdacCodec(weights="random", shape={"size": "paper"}),
        "socodec120": SocodecCodec(),
        "socodec120_paper": SocodecCodec(weights="random", shape={"size": "paper"}),
    }


def _call(codec, audio):
    def run():
        start = time.perf_counter()
        encoded = codec.encode(audio)
        middle = time.perf_counter()
        codec.decode(encoded)
        return {"encode_s": middle - start, "decode_s": time.perf_counter() - middle}

    return run


def test_rtf_beside_other_codecs(benchmark, capsys):
    if benchmark.disabled:
        pytest.skip("a benchmark: run with --benchmark-enable on a quiet machine")
    import torch

    codecs = _codecs()
    calls = {name: _call(codec, _speech(codec.spec.sample_rate)) for name, codec in codecs.items()}
    turns = benchmark.pedantic(lambda: take_turns(calls, ROUNDS, warmups=2), rounds=1, iterations=1)
    threads = torch.get_num_threads()
    rate = machine_rates("cpu", threads).flops["float32"]
    with capsys.disabled():
        print(
            f"\n{SECONDS} s of speech, {threads} threads, float32, load {os.getloadavg()[0]:.1f}, {rate / 1e9:.0f} GFLOP/s: "
            "RTF encode / decode / both, times EnCodec, share of the floor (products and convolutions)"
        )
        if turns.refusal:
            print(f"  NO FIGURES, {turns.refusal}; what follows is of a busy machine")
        for name, call in calls.items():
            both = statistics.median(turns.of(name))
            parts = [statistics.median(turns.of(name, figure)) for figure in ("encode_s", "decode_s")]
            against = turns.ratio(name, "EnCodec 24 kHz, 6 kbps")
            share = counted_flops(call) / rate / both
            told = " / ".join(f"{t / SECONDS:.4f}" for t in (*parts, both))
            parameters = codecs[name].info.num_parameters
            print(f"  {name:24s} {parameters / 1e6:6.1f} M  {told}   {against}   {100 * share:.0f} %")
            benchmark.extra_info[name] = {"rtf": both / SECONDS, "against_encodec": against.median, "share_of_floor": share}
    assert all(len(walls) == ROUNDS for walls in turns.wall_s.values())
