"""The one training loop: steps, and around them what happens by the clock (lines, checkpoints, models, stopping).

Nothing that the clock decides touches the training itself: how often a run reports, saves, validates or is stopped and resumed
leaves its weights the same, bit for bit on the CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from systems.training.logbook import Logbook
from systems.training.state import load_state, save_state, save_tensors
from systems.training.trainer import Trainer

CHECKPOINT, MODEL = "checkpoint.safetensors", "model.safetensors"
_POLL_STEPS = 10  # several processes: how often they agree on what to do next


class Ending(StrEnum):
    """Why a run came back."""

    FINISHED = "finished"
    OUT_OF_TIME = "out of time"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class LoopConfig:
    """What happens when.

    Args:
        minutes: stop (with a checkpoint) after so much time of this start; None for never.
        log_s: between lines and rows of the log.
        checkpoint_s: between checkpoints, each with the model, its validation and the picture of the curves.
        tensorboard: events beside the CSV.
        metadata: of the exported model, beside what recipe and loop say.
    """

    minutes: float | None = None
    log_s: float = 10.0
    checkpoint_s: float = 180.0
    tensorboard: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)


def resume(trainer: Trainer, folder: Path) -> bool:
    """Loads the folder's checkpoint into the trainer, if there is one.

    Raises:
        StateMismatch: it is damaged or belongs to another run.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return False
    trainer.restore(load_state(path))
    return True


def train(trainer: Trainer, folder: Path, config: LoopConfig, stop: Callable[[], bool], say: Callable[[str], None]) -> Ending:
    """Runs until the planned step, the end of the time, or ``stop``; leaves checkpoint, model, log and picture in ``folder``.

    Args:
        trainer: fresh or resumed.
        folder: exists; process 0 writes, all processes may name the same one.
        config: see `LoopConfig`.
        stop: asked after every step; true to save and return.
        say: takes the progress lines.

    Raises:
        Diverged: what was saved before is kept.
        OSError: the folder cannot be written.
    """
    loop = _Loop(trainer, folder, config, say)
    try:
        return loop.run(stop)
    finally:
        loop.close()


class _Loop:
    def __init__(self, trainer: Trainer, folder: Path, config: LoopConfig, say: Callable[[str], None]) -> None:
        self._trainer, self._folder, self._config, self._say = trainer, folder, config, say
        self._processes = trainer.processes
        self._leads = self._processes.rank == 0
        self._logbook = Logbook(folder, trainer.finished, config.tensorboard) if self._leads else None
        self._began = self._mark = self._saved = time.perf_counter()
        self._reported = trainer.finished

    def run(self, stop: Callable[[], bool]) -> Ending:
        trainer, processes, steps = self._trainer, self._processes, self._trainer.config.steps
        alone = processes.count == 1
        while trainer.finished < steps:
            trainer.step()
            if not alone and trainer.finished % _POLL_STEPS and trainer.finished < steps:
                continue
            now = time.perf_counter()
            wanted = [
                now - self._mark >= self._config.log_s,
                now - self._saved >= self._config.checkpoint_s,
                self._config.minutes is not None and now - self._began >= 60.0 * self._config.minutes,
            ]
            line, save, late = wanted if alone else map(bool, processes.agree([int(w) for w in wanted]))
            halted = processes.any(stop())
            if line and not (halted or late):
                self._report()
            if halted or late:
                self._save()
                return Ending.INTERRUPTED if halted else Ending.OUT_OF_TIME
            if save:
                self._save()
        self._save()
        return Ending.FINISHED

    def close(self) -> None:
        if self._logbook is not None:
            self._logbook.close()

    def _report(self) -> None:
        """A line and a row about the steps since the last one."""
        trainer, now = self._trainer, time.perf_counter()
        count, elapsed = trainer.finished - self._reported, now - self._mark
        trainer.seconds += elapsed
        self._mark, self._reported = now, trainer.finished
        if self._logbook is None or not count:
            return
        readings = trainer.readings()
        speed = count / max(elapsed, 1e-9)
        self._logbook.write(trainer.finished, {"seconds": trainer.seconds, "steps_per_s": speed, **readings})
        left_s = (trainer.config.steps - trainer.finished) / speed
        self._say(f"step {trainer.finished}/{trainer.config.steps}  {speed:.3g} steps/s  {_described(readings)}  {_duration(left_s)} left")

    def _save(self) -> None:
        """Checkpoint, validation, model and picture; the time it takes is not training time."""
        self._report()
        trainer = self._trainer
        state = trainer.state()  # every process takes part
        if self._leads and self._logbook is not None:
            export = trainer.export()  # refuses weights that are not finite, before they overwrite a good checkpoint
            save_state(self._folder / CHECKPOINT, state)
            numbers = trainer.validate()
            if numbers:
                self._logbook.write(trainer.finished, numbers)
                self._say(
                    f"step {trainer.finished}/{trainer.config.steps}  held out: "
                    + "  ".join(f"{k[6:]} {v:.4g}" for k, v in numbers.items())
                )
            metadata = {
                **self._config.metadata,
                "steps": str(trainer.finished),
                "seed": str(trainer.config.seed),
                "training_hours": f"{trainer.seconds / 3600:.4f}",
                "processes": str(self._processes.count),
                **{f"valid_{k[6:]}": f"{v:.6g}" for k, v in numbers.items()},
            }
            save_tensors(self._folder / MODEL, export.tensors, {**export.metadata, **metadata})
            self._logbook.draw()
        self._processes.wait()
        self._mark = self._saved = time.perf_counter()


def _described(readings: Mapping[str, float]) -> str:
    """For every player "generator 3.21 (mel 2.1, vq .4) lr 5e-04 norm 1.2"; skipped steps if there were any."""
    players = dict.fromkeys(name.partition("/")[0] for name in readings if "/" in name)
    words = []
    for player in players:
        own = {name.removeprefix(f"{player}/"): v for name, v in readings.items() if name.startswith(f"{player}/")}
        loss, norm, rate = own.pop("loss", math.nan), own.pop("grad_norm", math.nan), own.pop("lr")
        parts = f" ({', '.join(f'{k} {v:.3g}' for k, v in own.items())})" if own else ""
        words.append(f"{player} {loss:.4g}{parts} lr {rate:.2g} norm {norm:.3g}")
    if readings.get("skipped"):
        words.append(f"{readings['skipped']:.0f} updates skipped")
    return "  ".join(words)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min" if minutes else f"{seconds:.0f} s"
