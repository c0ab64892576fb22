"""The rules of the house: who may import whom, lint, types, light start."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("harness", "systems", "suites", "reports")
MOST_LINES, MOST_FILES, MOST_PARAMETERS = 400, 16, 7


def sources(*endings):
    """Files of the packages that are no by-products of running them."""
    found = (path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return [path for path in found if not endings or path.suffix in endings]


def test_no_file_is_longer_than_a_reader_holds_in_mind():
    long = {str(p.relative_to(ROOT)): n for p in sources(".py", ".c", ".js") if (n := len(p.read_text().splitlines())) > MOST_LINES}
    assert not long


def test_no_folder_is_a_hall():
    assert not {str(folder.relative_to(ROOT)): n for folder, n in Counter(path.parent for path in sources()).items() if n > MOST_FILES}


def test_no_function_takes_more_than_it_can_explain():
    long = []
    for path in sources(".py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
                if len(names) - (names[:1] in (["self"], ["cls"])) > MOST_PARAMETERS:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert not long


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
