"""A recipe in training: one step at a time, and its whole state. When things happen is `systems.training.loop`'s matter.

The state, everything needed to go on as if the run had never stopped, is one safetensors file; no pickle is written or read. Tensors are named
``module/...``, ``average/...``, ``optimiser/<player>/<index>/...``, ``skipped/<player>`` and ``rng/<rank>/...``; the rest is JSON in the
file's metadata. The order of the data is a function of the step (`systems.training.data`) and needs no state.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from systems.training.data import Corpus, DerivedFrames, HostBatch, Split, Stream
from systems.training.optimisation import Averages, Player
from systems.training.processes import Processes
from systems.training.recipe import Batch, Diverged, Recipe, StateMismatch

PRECISIONS = ("float32", "bfloat16")
_CHECK_STEPS = 50  # on a device, how often the count of skipped steps is waited for
FORMAT = 1  # of a checkpoint


@dataclass(frozen=True)
class TrainerConfig:
    """How a recipe is trained.

    Args:
        steps: planned altogether; schedules end there.
        seed: of the data order and of every generator.
        precision: "float32", or "bfloat16" for the forward pass under autocast (weights and moments stay float32).
        average_decay: of the exported moving average.
        max_skipped: steps without a finite loss and gradient in a row before the run is given up.
        valid_s: held-out utterances are cut after so many seconds.
        identity: what must agree for a checkpoint to be continued, by name (system, parameters, data ...).
        cache: see `DerivedFrames`.
    """

    steps: int
    seed: int = 0
    precision: str = "float32"
    average_decay: float = 0.999
    max_skipped: int = 20
    valid_s: float = 8.0
    identity: Mapping[str, str] = field(default_factory=dict)
    cache: Path | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision={self.precision} is unknown; there are: {', '.join(PRECISIONS)}")
        if self.steps < 1:
            raise ValueError(f"steps must be positive, got {self.steps}")


@dataclass(frozen=True, eq=False)
class State:
    """A checkpoint in memory: tensors by name, on the CPU, and facts that are ready for JSON."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


class Trainer:
    """A recipe with optimisers, averages, streams of data and generators, as one process among others.

    The global generators of torch, numpy and python are seeded here: a recipe may use them, and they are part of the state. The recipe comes on the
    CPU; its modules are moved to the device of ``processes``.

    Raises:
        BadRecordings: a stream finds nothing to draw.
        ValueError: the corpus has another sample rate, or an averaged module does not exist.
    """

    def __init__(self, recipe: Recipe, data: Split, config: TrainerConfig, processes: Processes) -> None:
        corpus = data.training
        if corpus.sample_rate != recipe.sample_rate:
            raise ValueError(f"the recipe wants {recipe.sample_rate} Hz, the corpus is at {corpus.sample_rate} Hz")
        self.recipe, self.config, self.processes, self.finished, self.seconds = recipe, config, processes, 0, 0.0
        self._device = processes.device
        self._modules = dict(recipe.modules())
        for module in self._modules.values():
            module.to(self._device)
            module.train()
            processes.follow_first(t.data for t in (*module.parameters(), *module.buffers()))
        unknown = set(recipe.averaged()) - set(self._modules)
        if unknown:
            raise ValueError(f"the recipe averages modules it has not: {', '.join(sorted(unknown))}")
        self.averages = Averages({name: self._modules[name] for name in recipe.averaged()}, config.average_decay)
        self._players = [Player(p, recipe.parameters(p), recipe.optimiser(p), config.steps, processes) for p in recipe.players]
        self._frozen = _frozen_after(self._players)
        self._streams = {
            name: Stream(corpus, name, spec, config.seed, processes.rank, processes.count) for name, spec in recipe.wants().items()
        }
        self._derived = {
            name: DerivedFrames(corpus, spec.derived, round(spec.crop_s * corpus.sample_rate), self._device, cache=config.cache)
            for name, spec in recipe.wants().items()
        }
        self._held_out = [self._whole(data.held_out, i) for i in range(len(data.held_out.items))] if processes.rank == 0 else []
        seed = config.seed * 1000 + processes.rank  # each process draws its own numbers
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        self._generator = torch.Generator().manual_seed(seed + 500)

    def step(self) -> None:
        """One update of every player.

        Raises:
            Diverged: too many steps in a row were not finite.
        """
        batch = {name: self._on_device(name, stream.draw(self.finished)) for name, stream in self._streams.items()}
        narrow = self.config.precision == "bfloat16"
        for player in self._players:
            with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=narrow):
                losses = self.recipe.losses(player.name, batch, self.finished, self._generator)
            player.update(losses, self.finished)
            for parameter in self._frozen[player.name]:
                parameter.requires_grad_(False)
        for parameters in self._frozen.values():
            for parameter in parameters:
                parameter.requires_grad_(True)
        if self.processes.count > 1:
            self.processes.follow_first(b for module in self._modules.values() for b in module.buffers())
        self.averages.update(self.finished)
        self.finished += 1
        if self._device.type == "cpu" or self.finished % _CHECK_STEPS == 0:
            self._check()

    def readings(self) -> dict[str, float]:
        """Means since the last reading: "player/part", "player/lr"; "skipped" counts from the start of the run. Waits for the device."""
        found: dict[str, float] = {}
        for player in self._players:
            found |= {f"{player.name}/{name}": value for name, value in player.meter.read().items()}
            found[f"{player.name}/lr"] = player.learning_rate(self.finished - 1)
        found["skipped"] = sum(float(p.skipped[0]) for p in self._players)
        return found

    def validate(self) -> dict[str, float]:
        """The recipe's numbers on the held-out recordings, with averaged weights; nothing of the training is disturbed."""
        if not self._held_out:
            return {}
        for module in self._modules.values():
            module.eval()
        try:
            with undisturbed(self._device, self._generator), self.averages.in_place(), torch.no_grad():
                return {f"valid/{name}": float(value) for name, value in self.recipe.validate(self._held_out).items()}
        finally:
            for module in self._modules.values():
                module.train()

    def export(self) -> tuple[dict[str, Tensor], Mapping[str, str]]:
        """The usable model with averaged weights: tensors for a safetensors file, and the recipe's own metadata.

        Raises:
            Diverged: a weight is not finite.
        """
        with undisturbed(self._device, self._generator), self.averages.in_place(), torch.no_grad():
            tensors, metadata = self.recipe.export()
            # Copied before the averages leave their place again.
            copies = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}
        for name, tensor in copies.items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise Diverged(f"weight '{name}' is not finite after {self.finished} steps; the last checkpoint and model are kept")
        return copies, metadata

    def state(self) -> State:
        """Everything needed to go on. All processes must ask together; only process 0 need keep it."""
        tensors: dict[str, Tensor] = {}
        for name, module in self._modules.items():
            tensors |= {f"module/{name}/{key}": value for key, value in module.state_dict().items()}
        tensors |= {f"average/{name}": value for name, value in self.averages.tensors().items()}
        for player in self._players:
            tensors[f"skipped/{player.name}"] = player.skipped
            for index, moments in player.optimiser.state_dict()["state"].items():
                tensors |= {f"optimiser/{player.name}/{index}/{key}": value for key, value in moments.items()}
        everyone = self.processes.gather(random_state(self._device, self._generator))
        for rank, drawn in enumerate(everyone):
            tensors |= {f"rng/{rank}/{name}": value for name, value in drawn.tensors.items()}
        facts = {
            "step": self.finished,
            "seconds": self.seconds,
            "rng": [drawn.facts for drawn in everyone],
            "identity": dict(self.config.identity),
        }
        return State(tensors, facts)

    def restore(self, state: State) -> None:
        """Goes on from a state, bit for bit with as many processes on the same kind of machine.

        Raises:
            StateMismatch: it belongs to another system, other parameters or other data; or weights are missing or do not fit.
        """
        theirs, ours = state.facts["identity"], dict(self.config.identity)
        different = [f"{k}: {theirs.get(k)} there, {ours.get(k)} here" for k in sorted({*theirs, *ours}) if theirs.get(k) != ours.get(k)]
        if different:
            raise StateMismatch(f"the checkpoint belongs to another run ({'; '.join(different)})")
        for name, module in self._modules.items():
            try:
                module.load_state_dict(_below(state.tensors, f"module/{name}/"))
            except RuntimeError as error:
                raise StateMismatch(f"module '{name}' does not fit the checkpoint: {' '.join(str(error).split())}") from error
        averages = _below(state.tensors, "average/")
        for name, tensor in self.averages.tensors().items():
            if name not in averages or averages[name].shape != tensor.shape:
                raise StateMismatch(f"the checkpoint has no fitting average of '{name}'")
            tensor.copy_(averages[name])
        for player in self._players:
            moments: dict[int, dict[str, Tensor]] = {}
            for key, tensor in _below(state.tensors, f"optimiser/{player.name}/").items():
                index, _, what = key.partition("/")
                moments.setdefault(int(index), {})[what] = tensor
            player.optimiser.load_state_dict({"state": moments, "param_groups": player.optimiser.state_dict()["param_groups"]})
            player.skipped = state.tensors[f"skipped/{player.name}"].to(self._device)
        self.finished, self.seconds = int(state.facts["step"]), float(state.facts["seconds"])
        rank = self.processes.rank
        if len(state.facts["rng"]) == self.processes.count:  # with another number of processes each keeps its fresh seed
            drawn = State(_below(state.tensors, f"rng/{rank}/"), state.facts["rng"][rank])
            restore_random_state(drawn, self._device, self._generator)

    def _check(self) -> None:
        for player in self._players:
            if float(player.skipped[2]) >= self.config.max_skipped:
                raise Diverged(
                    f"{int(player.skipped[2])} steps of '{player.name}' in a row had no finite loss and gradient, up to step {self.finished}. "
                    "Lower the learning rate, or train in float32; the checkpoint written before can be resumed."
                )

    def _on_device(self, stream: str, batch: HostBatch) -> Batch:
        # int16 travels at half the size; scaled on the device.
        audio = torch.from_numpy(batch.audio).to(self._device, non_blocking=True).float().mul_(1.0 / 32768.0)
        lengths = torch.from_numpy(batch.lengths).to(self._device, non_blocking=True)
        return Batch(audio, lengths, batch.texts, batch.languages, self._derived[stream].of(batch))

    def _whole(self, corpus: Corpus, index: int) -> Tensor:
        samples = corpus.read(index, 0, round(self.config.valid_s * corpus.sample_rate))
        return torch.from_numpy(samples.astype(np.float32) / 32768.0).to(self._device)


def _frozen_after(players: Sequence[Player]) -> dict[str, list[torch.nn.Parameter]]:
    """By player, the parameters that nobody moves any more in a step after it has moved them."""
    frozen = {}
    for place, player in enumerate(players):
        later = {id(p) for other in players[place + 1 :] for p in other.parameters}
        is_last = place == len(players) - 1
        frozen[player.name] = [] if is_last else [p for p in player.parameters if p.requires_grad and id(p) not in later]
    return frozen


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


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
