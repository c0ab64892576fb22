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

from reports.claims.claims import Claim, Setting, Standing

JUDGES = ("asr", "speaker", "mos")
"""Configuration groups of the models that judge."""


@dataclass(frozen=True)
class Protocol:
    """How a published value was measured, "" where that is not said or not to be had here.

    Args:
        data: in words.
        dataset, split, language: the same data under the names of ``harness run``.
        items: their number, 0 where unknown.
        only: values from other data are not shown beside it.
        judge: people or models, in words.
        asr, speaker, mos: the option that is that judge.
        machine: of a timing.
    """

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
    """A column of a paper's table.

    Args:
        id: as the paper heads it.
        decimals: as printed.
        metric: registry key, "" where nothing here measures it.
        unit: as printed.
        scale: from the metric's stored unit to the printed one.
        within: largest distance at which values count as the same, in the printed unit.
        why: nothing measures it.
        protocol: as far as it is the column's own.
    """

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
    """A row of a paper's table.

    Args:
        name: as the paper calls it.
        systems: that stand for it here, the closest first.
        values: printed, by column id.
        settings: that they are run with, as sorted pairs.
        source: where its values are from, if not from the table's source.
        protocol: as far as it is the row's own.
    """

    name: str
    systems: tuple[str, ...]
    values: Mapping[str, float]
    settings: tuple[tuple[str, Setting], ...] = ()
    source: str = ""
    protocol: Protocol = Protocol()


@dataclass(frozen=True)
class Part:
    """What is shown of a paper by itself.

    Args:
        id: unique in the paper.
        title: in words.
        source: where in the paper; claims of the same source are shown with it.
        standing: how firmly it is known.
        suite: that measures it.
    """

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
    """A figure whose numbers are not printed: what it says are the claims of the same source.

    Args:
        x: as of `harness.api.Curve`: ``settings.NAME``, ``config.NAME``, or "" for one place a system.
        y: metrics, a panel each.
        systems: drawn.
    """

    x: str
    y: tuple[str, ...]
    systems: tuple[str, ...]


@dataclass(frozen=True)
class Citation:
    """Values of others that a table may cite; nothing of them is measured here.

    Args:
        title, source: in words.
        columns: headings.
        rows: name to printed values, "" for none.
    """

    title: str
    source: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Paper:
    """Everything of a paper that is to be shown again.

    Args:
        name: as typed.
        title: with its arXiv number.
        tables, figures, citations, claims: in the paper's order.
        words: overrides that the runs of a suite need, by suite.
    """

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
