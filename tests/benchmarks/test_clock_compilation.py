"""That the compiler of torch is counted by what it really does; apart, because it takes ten seconds to import."""

from __future__ import annotations

import pytest

from harness.timing.machine import compilations


def test_compilations_of_torch_are_counted(benchmark):
    if benchmark.disabled:
        pytest.skip("imports a compiler for ten seconds: run with --benchmark-enable")
    import torch

    compiled = torch.compile(lambda x: x + 1, backend="eager", dynamic=False)
    counts = []
    for size in (4, 4, 5):
        compiled(torch.zeros(size))
        counts.append(compilations())
    assert 0 < counts[0] == counts[1] < counts[2]
    benchmark.pedantic(compilations, rounds=5)
