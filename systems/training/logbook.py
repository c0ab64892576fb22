"""What a run writes down about itself: log.csv, a picture of its curves, and TensorBoard events if asked for."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from systems.training.faults import TrainingFault

LOG, CURVE, EVENTS = "log.csv", "curve.png", "events"
_FIRST = ("step", "seconds", "steps_per_s", "skipped")


class Logbook:
    """Rows of numbers by training step; columns may join later and are empty in the rows before.

    Args:
        folder: of the run.
        step: where the run goes on; rows of later steps, written before a crash, are dropped.
        tensorboard: write TensorBoard events too.

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
        self._columns = self._all_columns()
        self._rewrite()
        self._events = _event_writer(folder / EVENTS) if tensorboard else None

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a row, or joins the row of the same step; on disk when it returns."""
        if self._rows and self._rows[-1]["step"] == step:
            self._rows[-1].update(values)
            self._columns = self._all_columns()
            self._rewrite()
        else:
            self._rows.append({"step": float(step), **values})
            columns = self._all_columns()
            if columns != self._columns:
                self._columns = columns
                self._rewrite()
            else:
                with (self._folder / LOG).open("a", encoding="utf-8", newline="") as file:
                    csv.writer(file).writerow(self._cells(self._rows[-1]))
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)

    def draw(self) -> None:
        """The curves of everything that was written, a panel for each quantity, as a PNG."""
        names = [c for c in self._columns if c not in ("step", "seconds", "skipped")]
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
        temporary = self._folder / f".{CURVE}.tmp"
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:  # a new file: a link that somebody put there is not followed
            figure.savefig(file, format="png", dpi=80)
        temporary.replace(self._folder / CURVE)

    def close(self) -> None:
        """Finishes the TensorBoard events."""
        if self._events is not None:
            self._events.close()

    def _all_columns(self) -> list[str]:
        found = {name for row in self._rows for name in row}
        return [c for c in _FIRST if c in found or c == "step"] + sorted(found - set(_FIRST))

    def _cells(self, row: Mapping[str, float]) -> list[str]:
        return ["" if c not in row else f"{row[c]:.8g}" for c in self._columns]

    def _rewrite(self) -> None:
        temporary = self._folder / f".{LOG}.tmp"
        temporary.unlink(missing_ok=True)
        with temporary.open("x", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(self._columns)
            writer.writerows(self._cells(row) for row in self._rows)
        temporary.replace(self._folder / LOG)


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    try:
        # A short row has None for the cells it lacks.
        return {name: float(text) for name, text in row.items() if text != ""}
    except (TypeError, ValueError):
        return {}


def _event_writer(folder: Path) -> Any:
    for module in ("torch.utils.tensorboard", "tensorboardX"):
        import importlib

        try:
            return importlib.import_module(module).SummaryWriter(str(folder))
        except ImportError:
            continue  # the other one may be there
    raise TrainingFault("tensorboard=true needs the package tensorboard: pip install tensorboard")
