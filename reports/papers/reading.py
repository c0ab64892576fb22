"""Reading ``papers/NAME.yaml`` into a `Paper`; the grammar is described in `reports.papers.published`."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from harness.data.documents import load_yaml
from harness.errors import ConfigError, UnknownName
from reports.claims.claims import PLAIN, Standing, parse_claims
from reports.claims.fields import Reader, flag, mapping, number, one_of, record, registered, several, words
from reports.papers.published import JUDGES, Citation, Paper, Protocol, PublishedColumn, PublishedFigure, PublishedRow, PublishedTable

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

    Args:
        name: as typed.
        text: YAML.
        origin: its file, for messages.

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
