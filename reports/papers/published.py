"""What a paper printed, as data: tables of cells with their protocol, figures without numbers, rows cited from others.

A paper's file ``papers/NAME.yaml`` holds beside its claims (`reports.claims.claims`)::

    tables:
      - id: table2_analysis                    # unique in the file
        title: Semantic features and loss, analysis-synthesis
        source: Table 2                        # claims of the same source are shown below the table
        status: published                      # or claimed, as of claims
        suite: semantic_ablation               # that measures it
        protocol: {data: 860 Mandarin utterances}
        columns:
          - {id: CER, metric: cer, unit: "%", scale: 100, decimals: 2, within: 0.5, protocol: {judge: FunASR, asr: seedtts}}
          - {id: SMOS, decimals: 2, why: ten people rated the likeness of voices}      # nothing here measures it
        rows:
          - {name: SoCodec, systems: [socodec120_paper, socodec120], values: {CER: 6.41, SMOS: 3.78}}
    figures:
      - {id: figure6, title: ..., source: Figure 6, status: published, suite: delay_sweep, x: config.delay, y: [cer, sim_o], systems: [...]}
    citations:
      - {title: ..., source: ..., columns: [WER], rows: {Human: {WER: "2.14"}}}
    runs: {speed: [systems.socodec40_tts_paper.weights=random]}    # overrides that the runs of a suite need

A row names its systems in order of preference, the paper's size first; ``settings`` are those they are run with. ``within`` is how far a
measured value may lie from the printed one to be called the same, our own choice, in the printed unit; ``scale`` leads to that
from the metric's stored one. A protocol says in words what the paper measured on (``data``) and who judged (``judge``), and which
``dataset`` (with ``split``, ``language`` and the number of ``items``) and which options ``asr``, ``speaker`` or ``mos`` are the same here, where any are;
``machine`` names that of a timing. A column's or row's protocol is laid over that of its table. ``only: true`` refuses values from other data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from importlib.resources import files
from typing import Any

from harness.data.documents import load_yaml
from harness.errors import ConfigError, UnknownName
from harness.settings.schema import JUDGES
from reports.claims.claims import PLAIN, Claim, Setting, Standing, parse_claims
from reports.claims.fields import Reader, flag, mapping, number, one_of, record, registered, several, words


@dataclass(frozen=True)
class Protocol:
    """How a published value was measured, "" where that is not said or not to be had here."""

    data: str = ""
    dataset: str = ""
    split: str = ""
    language: str = ""
    items: int = 0
    only: bool = False
    judge: str = ""
    asr: str = ""
    speaker: str = ""
    mos: str = ""
    machine: str = ""

    def over(self, base: Protocol) -> Protocol:
        """Itself laid over another: what is said here counts."""
        return Protocol(**{f.name: getattr(self, f.name) or getattr(base, f.name) for f in fields(self)})

    def __str__(self) -> str:
        return "; ".join(filter(None, (self.data, self.judge, self.machine)))


@dataclass(frozen=True)
class PublishedColumn:
    """A column of a paper's table; ``metric`` is "" where nothing here measures it."""

    id: str
    decimals: int
    metric: str = ""
    unit: str = ""
    scale: float = 1
    within: float = 0
    why: str = ""
    protocol: Protocol = Protocol()

    def printed(self, value: float) -> str:
        """A value with the paper's number of decimals."""
        return f"{value:.{self.decimals}f}"


@dataclass(frozen=True)
class PublishedRow:
    """A row of a paper's table; its settings are sorted pairs, and it has a source where that is not the table's."""

    name: str
    systems: tuple[str, ...]
    values: Mapping[str, float]
    settings: tuple[tuple[str, Setting], ...] = ()
    source: str = ""
    protocol: Protocol = Protocol()


@dataclass(frozen=True)
class Part:
    """What is shown of a paper by itself."""

    id: str
    title: str
    source: str
    standing: Standing
    suite: str


@dataclass(frozen=True)
class PublishedTable(Part):
    """A table of a paper, or numbers of a text put into one."""

    protocol: Protocol
    columns: tuple[PublishedColumn, ...]
    rows: tuple[PublishedRow, ...]

    def protocol_of(self, row: PublishedRow, column: PublishedColumn) -> Protocol:
        """Of one cell."""
        return row.protocol.over(column.protocol.over(self.protocol))


@dataclass(frozen=True)
class PublishedFigure(Part):
    """A figure whose numbers are not printed, with axes as of `harness.api.Curve`; what it says are the claims of the same source."""

    x: str
    y: tuple[str, ...]
    systems: tuple[str, ...]


@dataclass(frozen=True)
class Citation:
    """Values of others that a table may cite, "" for none; nothing of them is measured here."""

    title: str
    source: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Paper:
    """Everything of a paper that is to be shown again, and by suite the overrides (``words``) that its runs need."""

    name: str
    title: str
    tables: tuple[PublishedTable, ...]
    figures: tuple[PublishedFigure, ...]
    citations: tuple[Citation, ...]
    claims: tuple[Claim, ...]
    words: Mapping[str, tuple[str, ...]]

    @cached_property
    def suites(self) -> tuple[str, ...]:
        """That measure any of it, in order."""
        named = (*(t.suite for t in self.tables), *(f.suite for f in self.figures), *(c.suite for c in self.claims))
        return tuple(dict.fromkeys(named))

    def overrides(self, suite: str, words: Sequence[str]) -> tuple[str, ...]:
        """What a suite's runs need, and after it what the user typed; a system that the user says something of is the user's alone."""
        theirs = {word.split(".")[1] for word in words if word.startswith("systems.")}
        own = [w for w in self.words.get(suite, ()) if not (w.startswith("systems.") and w.split(".")[1] in theirs)]
        return *own, *words

    def entrants(self, suite: str) -> tuple[tuple[str, ...], ...]:
        """What its part about a suite needs run: systems of which one is enough, in order of preference."""
        rows = [row.systems for t in self.tables if t.suite == suite for row in t.rows]
        others: list[PublishedFigure | Claim] = [*self.figures, *self.claims]
        return (*rows, *((s,) for part in others if part.suite == suite for s in part.systems))

    def systems_of(self, suite: str) -> frozenset[str]:
        """Every system that its part about a suite speaks of."""
        return frozenset(s for systems in self.entrants(suite) for s in systems)

    def metrics_of(self, suite: str) -> tuple[str, ...]:
        """Every metric that its part about a suite needs, in order."""
        tables = [c.metric for t in self.tables if t.suite == suite for c in t.columns if c.metric]
        figures = [m for f in self.figures if f.suite == suite for m in f.y]
        return tuple(dict.fromkeys([*tables, *figures, *(m for c in self.claims if c.suite == suite for m in c.metrics)]))

    def claims_of(self, part: Part) -> tuple[Claim, ...]:
        """What the paper's words say of a table or figure."""
        return tuple(c for c in self.claims if (c.source, c.suite) == (part.source, part.suite))


PART: dict[str, Reader] = {"id": words, "title": words, "source": words, "status": one_of(Standing), "suite": registered("suites")}
"""What tables and figures have in common."""


def paper_names() -> tuple[str, ...]:
    """The papers that come with the harness."""
    found = (path.name for path in (files("reports") / "papers").iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in found if name.endswith(".yaml")))


def load_paper(name: str) -> Paper:
    """A paper by name.

    Raises:
        UnknownName: there is no such file.
        ConfigError: it is not as described.
    """
    if name not in paper_names():
        raise UnknownName("paper", name, paper_names())
    text = (files("reports") / "papers" / f"{name}.yaml").read_text(encoding="utf-8")
    return parse_paper(name, text, f"{name}.yaml")


def parse_paper(name: str, text: str, origin: str) -> Paper:
    """A paper from its YAML.

    Raises:
        ConfigError: it is not as described; says where.
        UnknownName: a suite or metric that does not exist.
    """
    claims = parse_claims(text, origin)
    about = load_yaml(text, origin)
    kinds: dict[str, Reader] = {"tables": _table, "figures": _figure, "citations": _citation}
    parts = {kind: several(read)(about.get(kind, []), f"{origin}, {kind}") for kind, read in kinds.items()}
    ids = [part.id for part in (*parts["tables"], *parts["figures"])]
    if twice := sorted({i for i in ids if ids.count(i) > 1}):
        raise ConfigError(f"{origin}: the id {', '.join(twice)} stands twice among its tables and figures")
    given = about.get("runs", {})
    if not isinstance(given, dict):
        raise ConfigError(f"{origin}, runs: overrides by suite, got {given!r}")
    overrides = {registered("suites")(suite, f"{origin}, runs"): several(words)(found, f"{origin}, runs") for suite, found in given.items()}
    return Paper(name, words(about["paper"], f"{origin}, paper"), claims=claims, words=overrides, **parts)


def _table(data: Any, where: str) -> PublishedTable:
    found = record(data, where, {**PART, "protocol": _protocol, "columns": several(_column), "rows": several(_row)})
    headings = [c.id for c in found["columns"]]
    if len(set(headings)) < len(headings):
        raise ConfigError(f"{where}: two columns have one id: {', '.join(headings)}")
    for row in found["rows"]:
        if unknown := [key for key in row.values if key not in headings]:
            raise ConfigError(f"{where}, row '{row.name}': no column {', '.join(unknown)}; there are {', '.join(headings)}")
    return PublishedTable(standing=found.pop("status"), **found)


def _column(data: Any, where: str) -> PublishedColumn:
    optional = {"metric": registered("metrics"), "unit": words, "scale": number, "within": number, "why": words, "protocol": _protocol}
    found = PublishedColumn(**record(data, where, {"id": words, "decimals": _decimals}, optional))
    if bool(found.metric) == bool(found.why):
        raise ConfigError(f"{where}: a column has either the metric that measures it or the reason why nothing does")
    if found.metric and found.within <= 0:
        raise ConfigError(f"{where}: within, how far a figure may lie from the printed one, must be above 0, got {found.within:g}")
    return found


def _decimals(value: Any, where: str) -> int:
    if number(value, where) != int(value) or not 0 <= value <= 6:
        raise ConfigError(f"{where}: decimals are 0 to 6, got {value:g}")
    return int(value)


def _row(data: Any, where: str) -> PublishedRow:
    optional = {"settings": _settings, "source": words, "protocol": _protocol}
    return PublishedRow(**record(data, where, {"name": words, "systems": several(words), "values": _values}, optional))


def _settings(data: Any, where: str) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(record(data, where, {}, PLAIN).items()))


def _values(data: Any, where: str) -> dict[str, float]:
    if not isinstance(data, dict) or not data:
        raise ConfigError(f"{where}: published figures by column, at least one, got {data!r}")
    return {str(key): number(value, f"{where}, {key}") for key, value in data.items()}


def _protocol(data: Any, where: str) -> Protocol:
    text = dict.fromkeys(("data", "dataset", "split", "language", "judge", *JUDGES, "machine"), words)
    return Protocol(**record(data, where, {}, {**text, "items": lambda value, at: int(number(value, at)), "only": flag}))


def _figure(data: Any, where: str) -> PublishedFigure:
    found = record(data, where, {**PART, "x": _axis, "y": several(registered("metrics")), "systems": several(words)})
    return PublishedFigure(standing=found.pop("status"), **found)


def _axis(value: Any, where: str) -> str:
    if not isinstance(value, str) or (value and not value.startswith(("settings.", "config."))):
        raise ConfigError(f"{where}: x is settings.NAME, config.NAME or empty, got {value!r}")
    return value


def _citation(data: Any, where: str) -> Citation:
    entry = mapping(data, where, ("title", "source", "columns", "rows"))
    columns = several(words)(entry["columns"], f"{where}, columns")
    rows = {}
    for name, figures in entry["rows"].items() if isinstance(entry["rows"], dict) else ():
        # Printed figures are quoted in the file, so that 75.70 stays 75.70.
        given = mapping(figures, f"{where}, row '{name}'", (), columns)
        rows[str(name)] = tuple(words(str(given[c]), f"{where}, row '{name}'") if c in given else "" for c in columns)
    if not rows:
        raise ConfigError(f"{where}: rows are figures by name, at least one, got {entry['rows']!r}")
    return Citation(words(entry["title"], f"{where}, title"), words(entry["source"], f"{where}, source"), columns, rows)
