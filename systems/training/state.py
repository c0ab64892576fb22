"""Everything a run needs to go on as if it had never stopped, in one safetensors file: no pickle is written or read.

Tensors are named ``module/...``, ``average/...``, ``optimiser/<player>/<index>/...``, ``skipped/<player>`` and ``rng/<rank>/...``; the rest
is JSON in the file's metadata. The order of the data is a function of the step (`systems.training.data`) and needs no state.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from systems.training.recipe import StateMismatch

FORMAT = 1


@dataclass(frozen=True, eq=False)
class State:
    """A checkpoint in memory.

    Args:
        tensors: by name, on the CPU.
        facts: JSON-ready.
    """

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of ``path`` when all of it is written, or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        with temporary.open("xb") as file:  # a new file: a link that somebody put there is not followed
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """A safetensors file that appears whole or not at all, also when the machine stops.

    Raises:
        OSError: the disk is full or read-only; what stood there before still stands.
    """
    from safetensors.torch import save

    # Tied weights share memory, which the format refuses: each name gets a copy of its own.
    own = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    with replacing(path) as file:  # the library's own file writer leaves files that only their owner can read
        file.write(save(own, metadata=dict(metadata)))
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def save_state(path: Path, state: State) -> None:
    """Writes a checkpoint atomically."""
    save_tensors(path, state.tensors, {"state": json.dumps({"format": FORMAT, **state.facts}, allow_nan=False)})


def load_state(path: Path) -> State:
    """Reads a checkpoint.

    Raises:
        StateMismatch: damaged, or of another format.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except (SafetensorError, OSError) as error:
        raise StateMismatch(f"{path} cannot be read: {error}. Start anew in another folder.") from error
    facts = json.loads(metadata.get("state", "{}"))
    if facts.get("format") != FORMAT:
        raise StateMismatch(f"{path} is no checkpoint of this program (format {facts.get('format')}, wanted {FORMAT})")
    return State(tensors, facts)


def random_state(device: torch.device, generator: torch.Generator) -> State:
    """The states of every random number generator that a recipe may draw from: torch (CPU and device), numpy, python, the recipe's own."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, words, spare = random.getstate()
    tensors = {
        "torch": torch.get_rng_state(),
        "generator": generator.get_state(),
        "numpy": torch.from_numpy(np.asarray(keys, dtype=np.int64)),
    }
    if device.type != "cpu":
        tensors["device"] = torch.get_device_module(device).get_rng_state(device)
    return State(tensors, {"numpy": [kind, int(position), int(has_gauss), float(gauss)], "python": [version, list(words), spare]})


def restore_random_state(state: State, device: torch.device, generator: torch.Generator) -> None:
    """Undoes what was drawn since `random_state`. A device of another kind than the saved one keeps its own."""
    torch.set_rng_state(state.tensors["torch"])
    generator.set_state(state.tensors["generator"])
    kind, position, has_gauss, gauss = state.facts["numpy"]
    np.random.set_state((kind, state.tensors["numpy"].numpy().astype(np.uint32), position, has_gauss, gauss))
    version, words, spare = state.facts["python"]
    random.setstate((version, tuple(words), spare))
    if device.type != "cpu" and "device" in state.tensors:
        torch.get_device_module(device).set_rng_state(state.tensors["device"], device)


@contextmanager
def undisturbed(device: torch.device, generator: torch.Generator) -> Iterator[None]:
    """Whatever is drawn inside, training goes on as if nothing had been."""
    before = random_state(device, generator)
    try:
        yield
    finally:
        restore_random_state(before, device, generator)
