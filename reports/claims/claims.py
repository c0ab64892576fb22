"""What the papers claim, as data: sentences with a test that a measured frame can answer.

The claims lie in ``papers/*.yaml``, one file a paper::

    paper: SoCodec (arXiv 2409.00933)
    claims:
      - id: opq_below_rq_at_one_stream        # unique over all files
        text: OPQ reconstructs better than RQ from the first stream.
        source: Figure 4                       # where in the paper
        status: published                      # or claimed: no text, code or weights of the paper at hand to check it against
        suite: stream_prefix                   # that measures it
        protocol: FunASR, 860 utterances       # optional: how the paper measured, where we do otherwise
        untrained: true                        # optional: about speed, which random weights show as well
        test:
          less: {metric: mcd_db, left: {system: socodec120, codebooks: 1}, right: {system: socodec120_rq, codebooks: 1}}

A test is a list of tests, all of which must hold, or a mapping with one of these keys:

``less``, ``greater``
    ``{metric, left, right, margin}``: left is less (greater) than right by more than ``margin``, 0 unless given.
``alike``
    ``{metric, left, right, margin}``: left and right differ by no more than ``margin``, which must be given.
``monotone``
    ``{metric, direction, system, over, from, to, margin}``: the metric is ``increasing`` or ``decreasing`` in the setting ``over``,
    step by step through all measured values from ``from`` to ``to``; other settings of the system may be given beside it.

A side (``left``, ``right``) names a system and the settings it was run with, none for the plain one. ``minus: {system, ...}`` inside a
side takes a second value away from the first, so that the gain of one system can be compared with the gain of another. Margins are
in the metric's stored unit: dB, and fractions for error rates. A system name stands for all its training seeds
(`harness train` with another seed, kept as ``<name>_seed1``, ``<name>_seed2`` ...).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, partial
from importlib.resources import files
from itertools import pairwise
from typing import Any

from harness.data.documents import load_yaml
from harness.errors import ConfigError
from reports.claims.fields import Reader, flag, mapping, number, one_of, record, registered, several, words

Setting = int | float | str | bool
SETTINGS = ("codebooks", "batch", "prompt_tokens")
"""What a side may say beside its system; a suite with a new setting adds its name."""
BESIDE = ("tables", "figures", "citations", "runs")
"""What a paper's file holds beside its claims; `reports.papers.published` reads it."""


class Standing(StrEnum):
    """How firmly the paper says it. PUBLISHED: in a text that was read. CLAIMED: second-hand, or in a paper without text or code at hand."""

    PUBLISHED = "published"
    CLAIMED = "claimed"


class Relation(StrEnum):
    LESS = "less"
    GREATER = "greater"
    ALIKE = "alike"


@dataclass(frozen=True)
class Point:
    """A system (for all its training seeds) under one setting, given as sorted pairs, none for the plain system."""

    system: str
    settings: tuple[tuple[str, Setting], ...] = ()

    def __str__(self) -> str:
        return " ".join([self.system, *(f"{k}={v}" for k, v in self.settings)])


@dataclass(frozen=True)
class Side:
    """A value, or the difference of two."""

    point: Point
    minus: Point | None = None

    def __str__(self) -> str:
        return str(self.point) if self.minus is None else f"({self.point} minus {self.minus})"


@dataclass(frozen=True)
class Contrast:
    """Two sides compared; ``margin`` is the least difference claimed or the largest allowed, in the metric's stored unit."""

    metric: str
    relation: Relation
    left: Side
    right: Side
    margin: float = 0.0

    @property
    def points(self) -> tuple[Point, ...]:
        return tuple(point for _, point in self.terms)

    @property
    def terms(self) -> tuple[tuple[float, Point], ...]:
        """Coefficients and points of left minus right."""
        sides = ((1.0, self.left.point), (-1.0, self.left.minus), (-1.0, self.right.point), (1.0, self.right.minus))
        return tuple((c, point) for c, point in sides if point is not None)

    def holds(self, low: float, high: float) -> bool:
        """Whether an interval of left minus right lies wholly in the claimed range."""
        if self.relation is Relation.ALIKE:
            return -self.margin <= low and high <= self.margin
        return low > self.margin if self.relation is Relation.GREATER else high < -self.margin

    def fails(self, low: float, high: float) -> bool:
        """Whether it lies wholly outside."""
        if self.relation is Relation.ALIKE:
            return low > self.margin or high < -self.margin
        return high < self.margin if self.relation is Relation.GREATER else low > -self.margin

    def edge(self, difference: float) -> float:
        """The end of the claimed range that a difference lies nearest to, of left minus right."""
        if self.relation is Relation.ALIKE:
            return math.copysign(self.margin, difference)
        return self.margin if self.relation is Relation.GREATER else -self.margin

    def __str__(self) -> str:
        sign = {Relation.LESS: "<", Relation.GREATER: ">", Relation.ALIKE: "="}[self.relation]
        by = ""
        if self.relation is Relation.ALIKE:
            by = f" within {self.margin:g}"
        elif self.margin:
            by = f" by more than {self.margin:g}" if self.margin > 0 else f", or beyond it by less than {-self.margin:g}"
        return f"{self.left} {sign} {self.right}{by}"


@dataclass(frozen=True)
class Monotone:
    """One metric of one system along one setting (``over``), the others of which ``point`` holds."""

    metric: str
    increasing: bool
    point: Point
    over: str
    first: float
    last: float
    margin: float = 0.0

    def at(self, value: Setting) -> Point:
        """The system with ``over`` set."""
        return Point(self.point.system, tuple(sorted({**dict(self.point.settings), self.over: value}.items())))

    def steps(self, measured: Sequence[float]) -> tuple[Contrast, ...]:
        """Each measured value from ``first`` to ``last`` against the one before; the ends belong to it even where not measured."""
        between = [v for v in measured if self.first < v < self.last]
        values = [self.first, *sorted(set(between)), self.last]
        relation = Relation.GREATER if self.increasing else Relation.LESS
        return tuple(
            Contrast(self.metric, relation, Side(self.at(after)), Side(self.at(before)), self.margin) for before, after in pairwise(values)
        )

    def __str__(self) -> str:
        return f"{self.point} {'rising' if self.increasing else 'falling'} in {self.over} from {self.first:g} to {self.last:g}"


Test = tuple[Contrast | Monotone, ...]
"""A conjunction: every part must hold."""


@dataclass(frozen=True)
class Claim:
    """One statement of a paper; its fields are those of the file."""

    id: str
    text: str
    paper: str
    source: str
    standing: Standing
    suite: str
    test: Test
    protocol: str = ""
    untrained: bool = False

    @property
    def systems(self) -> tuple[str, ...]:
        """All systems it speaks of, in order."""
        points = (p for part in self.test for p in ((part.point,) if isinstance(part, Monotone) else part.points))
        return tuple(dict.fromkeys(p.system for p in points))

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(part.metric for part in self.test))


def load_claims(suite: str) -> tuple[Claim, ...]:
    """The claims of all papers that a suite measures.

    Raises:
        ConfigError: a file is no list of claims as described above.
    """
    return tuple(claim for claim in _all_claims() if claim.suite == suite)


@cache
def _all_claims() -> tuple[Claim, ...]:
    found: list[Claim] = []
    # importlib.resources knows no order.
    for path in sorted((files("reports") / "papers").iterdir(), key=lambda p: p.name):
        if path.name.endswith(".yaml"):
            found += parse_claims(path.read_text(encoding="utf-8"), path.name)
    if len(twice := sorted({c.id for c in found if sum(o.id == c.id for o in found) > 1})):
        raise ConfigError(f"the claims {', '.join(twice)} are in the papers' files twice; each id is unique")
    return tuple(found)


def parse_claims(text: str, origin: str) -> tuple[Claim, ...]:
    """The claims of one paper's file.

    Raises:
        ConfigError: it is not as described above; says where.
        UnknownName: a suite or metric that does not exist.
    """
    about = mapping(load_yaml(text, origin), origin, ("paper", "claims"), BESIDE)
    paper = words(about["paper"], f"{origin}, paper")
    claims: tuple[Claim, ...] = several(partial(_claim, paper))(about["claims"], f"{origin}, claim")
    if len({c.id for c in claims}) < len(claims):
        raise ConfigError(f"{origin}: two claims have one id: {', '.join(c.id for c in claims)}")
    return claims


def _claim(paper: str, data: Any, where: str) -> Claim:
    fields = {"id": words, "text": words, "source": words, "status": one_of(Standing), "suite": registered("suites"), "test": _test}
    optional = {"protocol": words, "untrained": flag}
    name = words(mapping(data, where, fields, optional)["id"], f"{where}, id")
    found = record(data, f"{where} ('{name}')", fields, optional)
    return Claim(paper=paper, standing=found.pop("status"), **found)


def _test(data: Any, where: str) -> Test:
    if isinstance(data, list):
        return tuple(part for parts in several(_test, filled=True)(data, where) for part in parts)
    if not isinstance(data, dict) or len(data) != 1:
        raise ConfigError(f"{where}: a test is a list of tests or a mapping with one of the keys {', '.join(KINDS)}, got {data!r}")
    ((kind, content),) = data.items()
    if kind not in KINDS:
        raise ConfigError(f"{where}: no test '{kind}'; there are {', '.join(KINDS)}")
    return KINDS[kind](content, f"{where}, {kind}")


def _contrast(data: Any, where: str, relation: Relation) -> Test:
    fields: dict[str, Reader] = {"metric": registered("metrics"), "left": _side, "right": _side}
    if relation is not Relation.ALIKE:
        return (Contrast(relation=relation, **record(data, where, fields, {"margin": number})),)
    found = Contrast(relation=relation, **record(data, where, {**fields, "margin": number}))
    if found.margin <= 0:
        raise ConfigError(f"{where}: the margin within which two figures are alike must be above 0, got {found.margin:g}")
    return (found,)


def _monotone(data: Any, where: str) -> Test:
    fields = {
        "metric": registered("metrics"), "direction": one_of(("increasing", "decreasing")), "system": words, "over": one_of(SETTINGS),
        "from": number, "to": number,
    }  # fmt: skip
    found = record(data, where, fields, {"margin": number, **PLAIN})
    over, first, last = found["over"], found["from"], found["to"]
    if over in found:
        raise ConfigError(f"{where}: over is '{over}', a setting that is fixed beside it; it must be one that is not fixed beside it")
    if first >= last:
        raise ConfigError(f"{where}: from {first:g} to {last:g} is no range")
    return (Monotone(found["metric"], found["direction"] == "increasing", _point_of(found), over, first, last, found.get("margin", 0.0)),)


KINDS: dict[str, Callable[[Any, str], Test]] = {
    "less": partial(_contrast, relation=Relation.LESS),
    "greater": partial(_contrast, relation=Relation.GREATER),
    "alike": partial(_contrast, relation=Relation.ALIKE),
    "monotone": _monotone,
}


def _side(data: Any, where: str) -> Side:
    found = record(data, where, {"system": words}, {**PLAIN, "minus": _point})
    return Side(_point_of(found), found.get("minus"))


def _point(data: Any, where: str) -> Point:
    return _point_of(record(data, where, {"system": words}, PLAIN))


def _point_of(found: Mapping[str, Any]) -> Point:
    return Point(found["system"], tuple(sorted((k, v) for k, v in found.items() if k in SETTINGS)))


def _plain(value: Any, where: str) -> Setting:
    if not isinstance(value, int | float | str):
        raise ConfigError(f"{where}: a plain value, got {value!r}")
    return value


PLAIN: dict[str, Reader] = dict.fromkeys(SETTINGS, _plain)
