"""What the tests of training commands share."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stubs.warm import Warm

ROOT = Path(__file__).resolve().parents[3]
IMPORTS = """
import matplotlib.figure, torch
import harness.commands.train, stub_recipe, systems.training.loop
torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])  # imports what it needs of torch when it is first made
"""


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """Starts training commands in processes that need not import torch."""
    accelerate = "import accelerate" if importlib.util.find_spec("accelerate") else ""
    forks = Warm(f"{IMPORTS}{accelerate}", [ROOT, ROOT / "tests" / "stubs"])
    yield forks
    forks.close()
