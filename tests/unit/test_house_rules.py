"""The rules of the house: who may import whom, lint, types, light start."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "command",
    [["lint-imports", "--config", "pyproject.toml"], ["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]],
    ids=["import-linter", "ruff check", "ruff format", "mypy"],
)
def test_the_tool_is_content(command):
    program = Path(sys.executable).with_name(command[0])
    result = subprocess.run([str(program), *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]


@pytest.mark.parametrize("words", [["--help"], ["list"], ["list", "systems"], ["run", "--help"]])
def test_help_and_list_import_nothing_heavy(words):
    code = (
        "import sys; from harness.cli import main\n"
        f"try: main({words!r})\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'hydra', 'pandas', 'numpy', 'scipy', 'rich', 'yaml', 'omegaconf'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_import_harness_is_light():
    code = "import harness, sys; sys.exit(bool({'torch', 'hydra', 'pandas', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
