"""Several calls turn and turn about, so that whatever the machine does meanwhile happens to all of them; ratios are of pairs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.timing.clock import FEWEST, Instruments, median_interval


@dataclass(frozen=True)
class Turns:
    """Rounds in which every call was timed once.

    Args:
        wall_s: of each call, in rounds.
        figures: of each call, what it measured itself, in rounds.
        others: cores that other processes used in each round.
        others_allowed: beside which a round counts.
    """

    wall_s: Mapping[str, Sequence[float]]
    figures: Mapping[str, Sequence[Mapping[str, float]]]
    others: Sequence[float]
    others_allowed: float

    @property
    def clean(self) -> tuple[int, ...]:
        """Rounds without a busy neighbour."""
        return tuple(i for i, used in enumerate(self.others) if not used > self.others_allowed)

    @property
    def refusal(self) -> str:
        """Why the figures are no figures, or ""."""
        if len(self.clean) >= FEWEST:
            return ""
        used = statistics.median(self.others)
        return f"only {len(self.clean)} of {len(self.others)} rounds were undisturbed ({FEWEST} are wanted): others used {used:.2f} cores"

    def of(self, name: str, figure: str | None = None) -> list[float]:
        """Seconds, or a figure, of a call in the rounds that count (all of them where too few do, see `refusal`)."""
        rounds = self.clean if not self.refusal else range(len(self.others))
        return [self.wall_s[name][i] if figure is None else self.figures[name][i][figure] for i in rounds]

    def ratio(self, name: str, to: str, figure: str | None = None) -> Ratio:
        """Of two calls, round by round."""
        pairs = [one / other for one, other in zip(self.of(name, figure), self.of(to, figure), strict=True)]
        return Ratio(statistics.median(pairs), median_interval(pairs), len(pairs))


@dataclass(frozen=True)
class Ratio:
    """Median of paired ratios.

    Args:
        median: of the pairs.
        interval: 95 %, None from fewer than six pairs.
        pairs: how many.
    """

    median: float
    interval: tuple[float, float] | None
    pairs: int

    def __str__(self) -> str:
        span = f" [{self.interval[0]:.3g}, {self.interval[1]:.3g}]" if self.interval else ""
        return f"{self.median:.3g}{span} (n = {self.pairs})"


def take_turns(
    calls: Mapping[str, Callable[[], Any]],
    rounds: int,
    warmups: int = 1,
    device: str = "cpu",
    others_allowed: float = 0.1,
    instruments: Instruments | None = None,
) -> Turns:
    """Times every call once a round; the order turns round from one round to the next.

    Args:
        calls: by name; a mapping that a call returns is kept as its figures.
        rounds: that are timed.
        warmups: rounds before.
        device: of all of them.
        others_allowed: cores that others may use beside a round that counts.
        instruments: other ones than the machine's.
    """
    tools = instruments or Instruments()
    wall: dict[str, list[float]] = {name: [] for name in calls}
    figures: dict[str, list[Mapping[str, float]]] = {name: [] for name in calls}
    used = []
    for number in range(warmups + rounds):
        neighbours = tools.neighbours()
        names = list(calls)[:: -1 if number % 2 else 1]
        for name in names:
            tools.synchronise(device)
            start = tools.now()
            found = calls[name]()
            tools.synchronise(device)
            if number >= warmups:
                wall[name].append(tools.now() - start)
                figures[name].append(found if isinstance(found, Mapping) else {})
        if number >= warmups:
            used.append(neighbours.look())
    return Turns(wall, figures, used, others_allowed)
