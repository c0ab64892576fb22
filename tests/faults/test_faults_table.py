"""The fault table itself: complete, and naming tests that exist."""

import ast
import re
from pathlib import Path

import pytest

from tests.faults.conftest import table
from tests.faults.elsewhere import ELSEWHERE

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("test", sorted({row[3] for row in ELSEWHERE}))
def test_what_the_table_points_at_exists(test):
    path, _, name = test.partition("::")
    functions = {node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.FunctionDef)}
    assert name in functions


def test_every_fault_is_in_the_table():
    texts = [path.read_text() for path in Path(__file__).parent.glob("*.py")]
    found = set(re.findall(r'"(F\d\d)"', "\n".join(texts)))
    assert found >= {f"F{i:02d}" for i in range(1, 39)}


def test_outcomes_are_told_as_they_are():
    rows = {
        ("X1", "a", "b", ""): ["passed", "failed"],
        ("X2", "a", "b", "was worse"): ["passed", "passed"],
        ("X3", "a", "b", ""): ["skipped"],
    }
    lines = list(table(rows))
    told = {line.split()[0]: line for line in lines if line.startswith("X")}
    assert told["X1"].endswith("BROKEN")
    assert told["X2"].endswith("held x2")
    assert told["X3"].endswith("skipped")
    assert any("before: was worse" in line for line in lines)
