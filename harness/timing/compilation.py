"""Whether something was compiled: a call that compiles is not the call that users repeat."""

from __future__ import annotations

import sys


def compilations() -> int:
    """What torch.compile has begun to compile in this process so far; differences count.

    A process that has not imported the compiler has compiled nothing; it is not imported to be asked.
    """
    utils = sys.modules.get("torch._dynamo.utils")
    if utils is None:
        return 0
    return int(utils.counters["frames"]["total"]) + int(utils.counters["stats"]["unique_graphs"])
