"""The default judges against the plain call of the library, on one thread, in one run: ``pytest tests/benchmarks --benchmark-only -k judges``.

Values are compared by the unit tests; here, that what is computed once makes a judge no slower than the call it stands for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
import soundfile

import harness
from harness.api import FloatArray
from harness.judges import build, missing

pytest.importorskip("pytest_benchmark")

EMBEDDED = Path(harness.__file__).parent / "data" / "embedded"
Call = Callable[[FloatArray], object]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def distillmos() -> tuple[Call, Call]:
    predictor = build("mos", {"family": "distillmos"})  # and with it torchaudio can be imported
    import torch
    from distillmos import ConvTransformerSQAModel

    network = ConvTransformerSQAModel().eval()
    return lambda samples: predictor.predict(samples)["overall"], torch.inference_mode()(lambda x: network(torch.from_numpy(x)[None]))


def dnsmos() -> tuple[Call, Call]:
    from speechmos.dnsmos import DNSMOS

    from harness.judges.checkpoints import onnx_session, packaged

    files = [packaged("speechmos", "dnsmos_models") / name for name in ("sig_bak_ovr.onnx", "model_v8.onnx")]
    package = DNSMOS(*map(str, files))
    package.onnx_sess, package.p808_onnx_sess = map(onnx_session, files)
    predictor = build("mos", {"family": "dnsmos"})
    return lambda samples: predictor.predict(samples)["overall"], lambda samples: package(samples, 16000, False)


def campplus() -> tuple[Call, Call]:
    import torch

    from harness.judges.campplus import _network
    from harness.judges.speakers import fbank

    if reason := missing("speaker", {"family": "campplus"}):
        pytest.skip(reason)
    network, encoder = _network().eval(), build("speaker", {"family": "campplus"})

    @torch.inference_mode()
    def plain(samples: FloatArray) -> object:
        features = fbank(samples, "povey", 1.0)
        return network(torch.from_numpy(features - features.mean(axis=0)).T[None])

    return encoder.embed, plain


@pytest.mark.parametrize("judge", [distillmos, dnsmos, campplus])
def test_a_judge_costs_less_than_its_library(judge: Callable[[], tuple[Call, Call]], benchmark: Any, capsys: Any) -> None:
    """Processor milliseconds a clip, in pairs, medians of twelve recordings of about 3.5 s."""
    if benchmark.disabled:
        pytest.skip("a timing: run it by pytest tests/benchmarks --benchmark-enable")
    clips = [soundfile.read(path, dtype="float32")[0] for path in sorted(EMBEDDED.glob("*/01.flac"))[:12]]
    assert all(len(samples) > 16000 for samples in clips)
    ours, library = judge()

    def spent(call: Call, samples: FloatArray) -> float:
        start = time.process_time()
        call(samples)
        return 1000 * (time.process_time() - start)

    for call in (ours, library):
        call(clips[0])
    pairs = np.array([[spent(ours, samples), spent(library, samples)] for samples in clips])
    benchmark.pedantic(ours, args=(clips[0],), rounds=3)
    ratio = median(pairs[:, 0] / pairs[:, 1])
    benchmark.extra_info.update(ours_ms=median(pairs[:, 0]), library_ms=median(pairs[:, 1]), ratio=ratio)
    with capsys.disabled():
        print(f"\n{judge.__name__}: {median(pairs[:, 0]):.0f} ms, library {median(pairs[:, 1]):.0f} ms a clip; ratio {ratio:.2f}")
    assert ratio < 0.95
