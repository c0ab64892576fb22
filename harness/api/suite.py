"""What is asked of systems: a suite names the task, the metrics, the variants of each system and what its report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from harness.api.codes import CodecSpec


class Task(StrEnum):
    """RESYNTHESIS: encode and decode the item's recording. SYNTHESIS: speak the item's text in its prompt's voice."""

    RESYNTHESIS = "resynthesis"
    SYNTHESIS = "synthesis"


Settings = Mapping[str, int | float | str | bool]
"""One variant of a system within a suite, e.g. ``{"codebooks": 4}``. Known to the runner: ``codebooks`` (decode a prefix)."""


@dataclass(frozen=True)
class Curve:
    """A figure of the report: pooled metrics against each other, one line a system (or family).

    Args:
        title: of the figure.
        x: metric name, ``settings.<name>``, or ``config.<name>``: a number of the system's own configuration, such as a delay it was
            trained with.
        y: metric names, one panel each.
        log_x: logarithmic x axis.
    """

    title: str
    x: str
    y: tuple[str, ...]
    log_x: bool = False


@dataclass(frozen=True)
class SuiteInfo:
    """Declaration of a suite.

    Args:
        name: as in ``suite=NAME``.
        title: one line.
        task: what each system is asked to do.
        systems: run when the user names none.
        metrics: measured by default, in the order of the full table.
        headline: the few metrics of the terminal table.
        curves: figures of the report.
        calibration: reference rows beside the systems. Measured by voice only: "same_speaker" (the same voice saying something else
            than what SIM-o compares with: the prompt in resynthesis, the item's recording in synthesis) and "impostor" (another
            speaker's recording). "ground_truth" is the item's recording, measured with everything that listens to the output alone or
            beside text and prompt: the judges' own error, and in synthesis the voice's likeness to itself.
    """

    name: str
    title: str
    task: Task
    systems: tuple[str, ...]
    metrics: tuple[str, ...]
    headline: tuple[str, ...]
    curves: tuple[Curve, ...] = ()
    calibration: tuple[str, ...] = ()


@runtime_checkable
class Suite(Protocol):
    """A question asked of every system on every item."""

    @property
    def info(self) -> SuiteInfo: ...
    def variants(self, spec: CodecSpec | None) -> Sequence[Settings]:
        """The settings under which one system is run; ``[{}]`` for just once.

        Args:
            spec: of the system if it is a codec, else None.
        """
        ...
