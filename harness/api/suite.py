"""What is asked of systems: a suite names the task, the metrics, the variants of each system and what its report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from harness.api.codes import CodecSpec


class Task(StrEnum):
    """RESYNTHESIS: encode and decode the item's recording. SYNTHESIS: speak the item's text in its prompt's voice.

    TIMING: do either again and again, as the suite's `TimingPlan` says, and keep how long it takes.
    """

    RESYNTHESIS = "resynthesis"
    SYNTHESIS = "synthesis"
    TIMING = "timing"


Settings = Mapping[str, int | float | str | bool]
"""One variant of a system within a suite, e.g. ``{"codebooks": 4}``. Known to the runner: ``codebooks`` (decode a prefix), and of a
timing ``batch`` (utterances at once), ``prompt_tokens`` (text tokens that a language model reads), ``concurrent`` (requests served at
once) and ``arrivals_hz`` (requests a second, by chance)."""


@dataclass(frozen=True)
class TimingPlan:
    """How often something is timed, and when a timing is no good.

    Args:
        seconds: of speech that a synthesizer makes each time, where it can be told.
        budget_s: after which no new lap begins, once there are five.
        least: laps before the interval of the median is looked at.
        width: of that interval over the median, at which it is narrow enough.
        warmups: untimed calls after the first one.
        others: cores that other processes may use without a lap being set aside.
        requests: of a load.
        seed: of the times at which requests come.
    """

    seconds: float = 2.0
    budget_s: float = 10.0
    least: int = 7
    width: float = 0.05
    warmups: int = 2
    others: float = 0.1
    requests: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("seconds", "budget_s", "least", "width", "warmups", "others", "requests", "seed"):
            value, whole = getattr(self, name), name in ("least", "warmups", "requests", "seed")
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                raise ValueError(f"{name} is a {'whole ' if whole else ''}number; got {value!r}")
        if not (self.seconds > 0 and self.budget_s > 0 and self.width > 0 and self.others >= 0):
            raise ValueError(f"seconds, budget_s and width are positive and others is not negative; got {self}")
        if self.least < 1 or self.warmups < 0 or self.requests < 1:
            raise ValueError(f"least and requests are at least 1 and warmups is not negative; got {self}")


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
        calibration: calibration rows beside the systems. Measured by voice only: "same_speaker" (the same voice saying something else
            than what SIM-o compares with: the prompt in resynthesis, the item's recording in synthesis) and "impostor" (another
            speaker's recording). "ground_truth" is the item's recording, measured with everything that listens to the output alone or
            beside text and prompt: the judges' own error, and in synthesis the voice's likeness to itself. It stands, asked for or
            not, wherever words are measured.
        timing: of a suite whose task is TIMING, else None.
    """

    name: str
    title: str
    task: Task
    systems: tuple[str, ...]
    metrics: tuple[str, ...]
    headline: tuple[str, ...]
    curves: tuple[Curve, ...] = ()
    calibration: tuple[str, ...] = ()
    timing: TimingPlan | None = None

    def __post_init__(self) -> None:
        if (self.task is Task.TIMING) != (self.timing is not None):
            raise ValueError(f"suite '{self.name}': the task TIMING has a TimingPlan, and no other has one")


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
