"""Encoding and decoding with the bundled QDAC beside transformers' EnCodec of the published shape, in one run, turn and turn about."""

from __future__ import annotations

import statistics
import time

import numpy as np
import pytest

from harness.api import Audio
from harness.data.audio import read_audio
from harness.data.manifests import DatasetConfig, load_dataset
from systems.qdac.adapter import QdacCodec

SECONDS, ROUNDS = 10, 9


def _speech(rate):
    items = load_dataset(DatasetConfig(name="embedded", kind="embedded")).items
    samples = np.concatenate([read_audio(item.path).samples[0] for item in items])
    return np.resize(samples, SECONDS * rate).astype(np.float32)


def _qdac(**parameters):
    codec = QdacCodec(**parameters)
    audio = Audio.mono(_speech(codec.spec.sample_rate), codec.spec.sample_rate)

    def encode():
        return codec.encode(audio)

    return encode, codec.decode


def _encodec():
    import torch

    transformers = pytest.importorskip("transformers")
    model = transformers.EncodecModel(transformers.EncodecConfig()).eval()  # the shape of encodec_24khz; speed needs no weights
    speech = torch.from_numpy(_speech(24000))[None, None]

    def encode():
        with torch.inference_mode():
            return model.encode(speech, bandwidth=6.0)

    def decode(encoded):
        with torch.inference_mode():
            return model.decode(encoded.audio_codes, encoded.audio_scales)

    return encode, decode


def test_rtf_beside_encodec(benchmark, capsys):
    if benchmark.disabled:
        pytest.skip("a benchmark: run with --benchmark-enable on a quiet machine")
    import torch

    systems = {
        "EnCodec 24 kHz, 6 kbps": _encodec(),
        "qdac16": _qdac(),
        "qdac16, search_width=4": _qdac(search_width=4),
        "qdac8_25hz": _qdac(num_codebooks=8, frame_rate=25),
    }
    took = {name: ([], []) for name in systems}

    def compare():
        for number in range(ROUNDS + 2):
            for name, (encode, decode) in systems.items():
                start = time.perf_counter()
                encoded = encode()
                middle = time.perf_counter()
                decode(encoded)
                end = time.perf_counter()
                if number >= 2:  # the first two rounds warm up
                    took[name][0].append(middle - start)
                    took[name][1].append(end - middle)

    benchmark.pedantic(compare, rounds=1, iterations=1)
    reference = statistics.median(map(sum, zip(*took["EnCodec 24 kHz, 6 kbps"], strict=True)))
    with capsys.disabled():
        print(
            f"\n{SECONDS} s of speech, {torch.get_num_threads()} threads, median of {ROUNDS} rounds: RTF encode / decode / both, against EnCodec"
        )
        for name, (encode, decode) in took.items():
            both = statistics.median(map(sum, zip(encode, decode, strict=True)))
            parts = " / ".join(f"{t / SECONDS:.4f}" for t in (statistics.median(encode), statistics.median(decode), both))
            print(f"  {name:26s} {parts}   {both / reference:.2f}")
            benchmark.extra_info[name] = {"rtf": both / SECONDS, "against_encodec": both / reference}
    assert all(len(t) == ROUNDS for pair in took.values() for t in pair)
