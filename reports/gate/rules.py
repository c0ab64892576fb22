"""What a gate asks, as data: the rules in ``harness/conf/gate/*.yaml``, or in a file of the user's own.

::

    level: 0.05            # chance of a false alarm of the whole gate, at most (0.05)
    resamples: 10000       # of the intervals (10000)
    seed: 0                # of them (0)
    repeats: 1             # runs that the baseline must hold at least (1)
    coverage: 0.01         # share of outputs that may lose their value (0.01)
    rules:
      - metric: pesq_wb          # registry key
        tolerance: 0.02          # worsening allowed, in the metric's stored unit; or ``relative: 0.1``, a share of the baseline's value
        systems: [qdac16]        # optional: only these
        each: speaker            # optional: every speaker (or language) by itself
        strict: true             # optional: fail unless it is shown that the worsening lies within the tolerance
        better: lower            # only for metrics that declare no direction: which way is better
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.api import Better
from harness.data.documents import YAML_BYTES, load_yaml, read_text
from harness.errors import ConfigError, UnknownName
from harness.settings.registry import CONF_DIR, config_choices
from reports.claims.fields import Reader, between, flag, one_of, record, registered, several, whole

GROUPS = ("speaker", "language")


@dataclass(frozen=True)
class Rule:
    """One demand; ``tolerance`` is in the stored unit, or a share of the baseline's value if ``relative``."""

    metric: str
    tolerance: float
    relative: bool = False
    systems: tuple[str, ...] = ()
    each: str = ""
    strict: bool = False
    better: Better | None = None

    def __str__(self) -> str:
        allowed = f"{self.tolerance:.3g} of the baseline's" if self.relative else f"{self.tolerance:g}"
        each = f" of each {self.each}" if self.each else ""
        return (
            f"{self.metric}{each} worse by {'no more than' if self.strict else 'at most'} {allowed}{', to be shown' if self.strict else ''}"
        )


@dataclass(frozen=True)
class Rules:
    """A gate; its fields are those of the file, whose name is its own."""

    name: str
    rules: tuple[Rule, ...]
    level: float = 0.05
    resamples: int = 10_000
    seed: int = 0
    repeats: int = 1
    coverage: float = 0.01

    @property
    def margins(self) -> Mapping[str, float]:
        """The absolute tolerance of each metric as a whole: the difference that matters."""
        return {r.metric: r.tolerance for r in self.rules if not r.relative and not r.each and not r.systems and r.tolerance > 0}


def load_rules(name: str) -> Rules:
    """The rules of a bundled gate ("default"), or of a YAML file, whose name ends in .yaml or .yml.

    Raises:
        UnknownName: no such gate.
        ConfigError: the file cannot be read or is not as described above.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        known = config_choices("gate")
        if name not in known:
            raise UnknownName("gate", name, known, "A file of your own is named by its path: rules=my_gate.yaml.")
        path = Path(CONF_DIR) / "gate" / f"{name}.yaml"
    try:
        text = read_text(path, YAML_BYTES)
    except (OSError, ValueError) as problem:
        raise ConfigError(f"rules={name} cannot be read: {problem}") from problem
    return parse_rules(text, path.stem, str(name))


def parse_rules(text: str, name: str, origin: str) -> Rules:
    """The rules in a YAML text.

    Raises:
        ConfigError: not as described above; says where.
        UnknownName: a metric that does not exist.
    """
    optional = {"level": between(1e-6, 0.5), "resamples": whole(100), "seed": whole(0), "repeats": whole(1), "coverage": between(0, 1)}
    return Rules(name=name, **record(load_yaml(text, origin), origin, {"rules": several(_rule, filled=True)}, optional))


def _rule(data: Any, where: str) -> Rule:
    optional: dict[str, Reader] = {
        "tolerance": between(0), "relative": between(0), "systems": _names, "each": one_of(GROUPS), "strict": flag,
        "better": one_of((Better.HIGHER, Better.LOWER)),
    }  # fmt: skip
    found = record(data, where, {"metric": registered("metrics")}, optional)
    given = [key for key in ("tolerance", "relative") if key in found]
    if len(given) != 1:
        raise ConfigError(f"{where}: one of tolerance: and relative: says what may become worse, got {' and '.join(given) or 'neither'}")
    if "relative" in found:
        found |= {"tolerance": found["relative"], "relative": True}
    return Rule(**found)


def _names(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(s, str) and s for s in value):
        raise ConfigError(f"{where} must be a list of names, got {value!r}")
    return tuple(value)
