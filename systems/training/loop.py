"""The one training loop: steps, and around them what happens by the clock (lines, checkpoints, models, stopping); and what a run writes
down about itself: log.csv, a picture of its curves, and TensorBoard events if asked for.

Nothing that the clock decides touches the training itself: how often a run reports, saves, validates or is stopped and resumed
leaves its weights the same, bit for bit on the CPU.
"""

from __future__ import annotations

import csv
import importlib
import io
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from systems.training.recipe import TrainingFault
from systems.training.trainer import Trainer, load_state, replacing, save_state, save_tensors

CHECKPOINT, MODEL = "checkpoint.safetensors", "model.safetensors"
LOG, CURVE, EVENTS = "log.csv", "curve.png", "events"
_FIRST = ("step", "seconds", "steps_per_s", "skipped")
_POLL_STEPS = 10  # several processes: how often they agree on what to do next


class Logbook:
    """Rows of numbers by training step; columns may join later and are empty in the rows before.

    The run goes on at ``step``; rows of later steps, written before a crash, are dropped.

    Raises:
        TrainingFault: TensorBoard is asked for and not installed.
    """

    def __init__(self, folder: Path, step: int = 0, tensorboard: bool = False) -> None:
        self._folder = folder
        self._rows: list[dict[str, float]] = []
        if step and (folder / LOG).exists():
            with (folder / LOG).open(encoding="utf-8", newline="") as file:
                # The last line may be torn; a row that does not parse is one that was never finished.
                self._rows = [row for row in map(_numbers, csv.DictReader(file)) if 0 < row.get("step", 0) <= step]
        self._rewrite()
        self._events = _event_writer(folder / EVENTS) if tensorboard else None

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a row, or joins the row of the same step; on disk when it returns."""
        if self._rows and self._rows[-1]["step"] == step:
            self._rows[-1].update(values)
        else:
            self._rows.append({"step": float(step), **values})
        self._rewrite()
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)

    def draw(self) -> None:
        """The curves of everything that was written, a panel for each quantity, as a PNG."""
        names = [c for c in self._columns() if c not in ("step", "seconds", "skipped")]
        if not self._rows or not names:
            return
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        across = min(4, len(names))
        down = -(-len(names) // across)
        figure = Figure(figsize=(3.6 * across, 2.4 * down))
        FigureCanvasAgg(figure)
        for place, name in enumerate(names):
            axes = figure.add_subplot(down, across, place + 1)
            points = [(r["step"], r[name]) for r in self._rows if math.isfinite(r.get(name, math.nan))]
            axes.plot([x for x, _ in points], [y for _, y in points], linewidth=1, marker="." if len(points) < 40 else None)
            axes.set_title(name, fontsize=9)
            axes.tick_params(labelsize=7)
            axes.grid(alpha=0.3)
            if place >= len(names) - across:
                axes.set_xlabel("step", fontsize=8)
        # Margins by hand, in inches: matplotlib's own layout engines take ten times as long as the drawing.
        height, width = 2.4 * down, 3.6 * across
        figure.subplots_adjust(0.55 / width, 0.45 / height, 1 - 0.15 / width, 1 - 0.3 / height, wspace=0.28, hspace=0.32)
        with replacing(self._folder / CURVE) as file:
            figure.savefig(file, format="png", dpi=80)

    def close(self) -> None:
        """Finishes the TensorBoard events."""
        if self._events is not None:
            self._events.close()

    def _columns(self) -> list[str]:
        found = {name for row in self._rows for name in row}
        return [c for c in _FIRST if c in found or c == "step"] + sorted(found - set(_FIRST))

    def _rewrite(self) -> None:
        with replacing(self._folder / LOG) as file, io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
            writer = csv.DictWriter(text, self._columns())
            writer.writeheader()
            writer.writerows({name: f"{value:.8g}" for name, value in row.items()} for row in self._rows)


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    try:
        # A short row has None for the cells it lacks.
        return {name: float(text) for name, text in row.items() if text != ""}
    except (TypeError, ValueError):
        return {}


def _event_writer(folder: Path) -> Any:
    for module in ("torch.utils.tensorboard", "tensorboardX"):
        try:
            return importlib.import_module(module).SummaryWriter(str(folder))
        except ImportError:
            continue  # the other one may be there
    raise TrainingFault("tensorboard=true needs the package tensorboard: pip install tensorboard")


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
    """Runs until the planned step, the end of the time, or ``stop``, asked after every step; ``say`` takes the progress lines.

    Leaves checkpoint, model, log and picture in ``folder``, which exists; process 0 writes, all processes may name the same one.

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
            line, save, late = processes.agree(wanted)
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
            tensors, told = trainer.export()  # refuses weights that are not finite, before they overwrite a good checkpoint
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
            save_tensors(self._folder / MODEL, tensors, {**told, **metadata})
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
