"""Reading ``papers/NAME.yaml`` into a `Paper`; the grammar is described in `reports.papers.published`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from harness.errors import ConfigError, UnknownName
from reports.claims.claims import SETTINGS, Standing, parse_claims
from reports.claims.fields import listing, mapping, number, parsed, registered, words
from reports.papers.published import JUDGES, Citation, Paper, Protocol, PublishedColumn, PublishedFigure, PublishedRow, PublishedTable

PART = ("id", "title", "source", "status", "suite")


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

    Args:
        name: as typed.
        text: YAML.
        origin: its file, for messages.

    Raises:
        ConfigError: it is not as described; says where.
        UnknownName: a suite or metric that does not exist.
    """
    claims = parse_claims(text, origin)
    about = parsed(text, origin)
    tables = tuple(_table(entry, where) for entry, where in _entries(about, "tables", origin))
    figures = tuple(_figure(entry, where) for entry, where in _entries(about, "figures", origin))
    citations = tuple(_citation(entry, where) for entry, where in _entries(about, "citations", origin))
    ids = [*(t.id for t in tables), *(f.id for f in figures)]
    if twice := sorted({i for i in ids if ids.count(i) > 1}):
        raise ConfigError(f"{origin}: the id {', '.join(twice)} stands twice among its tables and figures")
    return Paper(name, words(about["paper"], f"{origin}, paper"), tables, figures, citations, claims, _words(about, origin))


def _words(about: Mapping[str, Any], origin: str) -> Mapping[str, tuple[str, ...]]:
    """Overrides by suite."""
    given = about.get("runs", {})
    if not isinstance(given, dict):
        raise ConfigError(f"{origin}, runs: overrides by suite, got {given!r}")
    return {
        registered("suites", suite, f"{origin}, runs"): tuple(words(word, f"{origin}, runs") for word in listing(found, f"{origin}, runs"))
        for suite, found in given.items()
    }


def _entries(about: Mapping[str, Any], key: str, origin: str) -> Iterator[tuple[Any, str]]:
    """The parts of one kind and where each stands."""
    for i, entry in enumerate(listing(about.get(key, []), f"{origin}: {key}")):
        yield entry, f"{origin}, {key} {i + 1}"


def _part(entry: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What tables and figures have in common."""
    if entry["status"] not in list(Standing):
        raise ConfigError(f"{where}: status is '{entry['status']}'; there are {' and '.join(Standing)}")
    return {
        **{key: words(entry[key], f"{where}, {key}") for key in ("id", "title", "source")},
        "standing": Standing(entry["status"]),
        "suite": registered("suites", entry["suite"], where),
    }


def _table(data: Any, where: str) -> PublishedTable:
    entry = mapping(data, where, (*PART, "protocol", "columns", "rows"))
    columns = tuple(_column(c, f"{where}, column {i + 1}") for i, c in enumerate(listing(entry["columns"], f"{where}: columns")))
    rows = tuple(_row(r, f"{where}, row {i + 1}") for i, r in enumerate(listing(entry["rows"], f"{where}: rows")))
    headings = [c.id for c in columns]
    if len(set(headings)) < len(headings):
        raise ConfigError(f"{where}: two columns have one id: {', '.join(headings)}")
    for row in rows:
        if unknown := [key for key in row.values if key not in headings]:
            raise ConfigError(f"{where}, row '{row.name}': no column {', '.join(unknown)}; there are {', '.join(headings)}")
    return PublishedTable(**_part(entry, where), protocol=_protocol(entry["protocol"], f"{where}, protocol"), columns=columns, rows=rows)


def _column(data: Any, where: str) -> PublishedColumn:
    entry = mapping(data, where, ("id", "decimals"), ("metric", "unit", "scale", "within", "why", "protocol"))
    if ("metric" in entry) == ("why" in entry):
        raise ConfigError(f"{where}: a column has either the metric that measures it or the reason why nothing does")
    within = number(entry.get("within", 0), f"{where}, within")
    if "metric" in entry and within <= 0:
        raise ConfigError(f"{where}: within, how far a figure may lie from the printed one, must be above 0, got {within:g}")
    decimals = number(entry["decimals"], f"{where}, decimals")
    if decimals != int(decimals) or not 0 <= decimals <= 6:
        raise ConfigError(f"{where}: decimals are 0 to 6, got {decimals:g}")
    return PublishedColumn(
        id=words(entry["id"], f"{where}, id"),
        metric=registered("metrics", entry["metric"], where) if "metric" in entry else "",
        unit=words(entry["unit"], f"{where}, unit") if "unit" in entry else "",
        scale=number(entry.get("scale", 1), f"{where}, scale"),
        decimals=int(decimals),
        within=within,
        why=words(entry["why"], f"{where}, why") if "why" in entry else "",
        protocol=_protocol(entry.get("protocol", {}), f"{where}, protocol"),
    )


def _row(data: Any, where: str) -> PublishedRow:
    entry = mapping(data, where, ("name", "systems", "values"), ("settings", "source", "protocol"))
    settings = mapping(entry.get("settings", {}), f"{where}, settings", (), SETTINGS)
    values = entry["values"]
    if not isinstance(values, dict) or not values:
        raise ConfigError(f"{where}, values: published figures by column, at least one, got {values!r}")
    return PublishedRow(
        name=words(entry["name"], f"{where}, name"),
        systems=tuple(words(s, f"{where}, systems") for s in listing(entry["systems"], f"{where}: systems")),
        settings=tuple(sorted(settings.items())),
        source=words(entry["source"], f"{where}, source") if "source" in entry else "",
        protocol=_protocol(entry.get("protocol", {}), f"{where}, protocol"),
        values={str(key): number(value, f"{where}, {key}") for key, value in values.items()},
    )


def _protocol(data: Any, where: str) -> Protocol:
    text = ("data", "dataset", "split", "language", "judge", *JUDGES, "machine")
    entry = mapping(data, where, (), (*text, "items", "only"))
    if not isinstance(entry.get("only", False), bool):
        raise ConfigError(f"{where}: only is true or false, got {entry['only']!r}")
    return Protocol(
        **{key: words(entry[key], f"{where}, {key}") for key in text if key in entry},
        items=int(number(entry.get("items", 0), f"{where}, items")),
        only=entry.get("only", False),
    )


def _figure(data: Any, where: str) -> PublishedFigure:
    entry = mapping(data, where, (*PART, "x", "y", "systems"))
    x = entry["x"]
    if not isinstance(x, str) or (x and not x.startswith(("settings.", "config."))):
        raise ConfigError(f"{where}: x is settings.NAME, config.NAME or empty, got {x!r}")
    return PublishedFigure(
        **_part(entry, where),
        x=x,
        y=tuple(registered("metrics", name, where) for name in listing(entry["y"], f"{where}: y")),
        systems=tuple(words(s, f"{where}, systems") for s in listing(entry["systems"], f"{where}: systems")),
    )


def _citation(data: Any, where: str) -> Citation:
    entry = mapping(data, where, ("title", "source", "columns", "rows"))
    columns = tuple(words(c, f"{where}, columns") for c in listing(entry["columns"], f"{where}: columns"))
    rows = {}
    for name, figures in entry["rows"].items() if isinstance(entry["rows"], dict) else ():
        # Printed figures are quoted in the file, so that 75.70 stays 75.70.
        given = mapping(figures, f"{where}, row '{name}'", (), columns)
        rows[str(name)] = tuple(words(str(given[c]), f"{where}, row '{name}'") if c in given else "" for c in columns)
    if not rows:
        raise ConfigError(f"{where}: rows are figures by name, at least one, got {entry['rows']!r}")
    return Citation(words(entry["title"], f"{where}, title"), words(entry["source"], f"{where}, source"), columns, rows)
