"""The stub for torchaudio's compiled part, on fake packages in fresh interpreters, and on the real one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PACKAGE = "from . import _extension\nfrom . import functional\n"
FUNCTIONAL = """
from torchaudio._extension import _IS_TORCHAUDIO_EXT_AVAILABLE, fail_if_no_align

@fail_if_no_align
def forced_align():
    return "aligned"
"""
WORKING = "_IS_TORCHAUDIO_EXT_AVAILABLE = True\ndef fail_if_no_align(f): return f\n"
PROBE = """
from harness.torchaudio import ensure_torchaudio, is_stubbed, load_torchaudio
package = load_torchaudio()
ensure_torchaudio()
import torchaudio
assert torchaudio is package
print(is_stubbed(), package.functional._IS_TORCHAUDIO_EXT_AVAILABLE)
try:
    print(package.functional.forced_align())
except RuntimeError as error:
    print("refused", error)
"""


def fake(folder: Path, extension: str, package: str = PACKAGE) -> Path:
    for name, text in {"__init__.py": package, "_extension/__init__.py": extension, "functional.py": FUNCTIONAL}.items():
        path = folder / "torchaudio" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def run(folder: Path, code: str = PROBE) -> subprocess.CompletedProcess[str]:
    program = f"import sys; sys.path[:0] = [{str(folder)!r}, {str(ROOT)!r}]\n{code}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("failure", ["raise OSError('libcudart.so: not found')", "raise RuntimeError('other CUDA')", "None.x"])
def test_stubs_a_broken_compiled_part(tmp_path: Path, failure: str) -> None:
    result = run(fake(tmp_path, failure))
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "True False"
    assert lines[1].startswith("refused torchaudio's forced_align needs its compiled part")


def test_leaves_a_working_torchaudio_alone(tmp_path: Path) -> None:
    result = run(fake(tmp_path, WORKING))
    assert result.stdout.splitlines() == ["False True", "aligned"], result.stderr


def test_raises_what_fails_elsewhere(tmp_path: Path) -> None:
    result = run(fake(tmp_path, WORKING, package="raise OSError('disk on fire')"))
    assert result.returncode != 0
    assert "disk on fire" in result.stderr


def test_raises_when_another_part_fails_behind_the_stub(tmp_path: Path) -> None:
    result = run(fake(tmp_path, "raise OSError('no cuda')", package=PACKAGE + "raise ImportError('second fault')"))
    assert result.returncode != 0
    assert "second fault" in result.stderr


def test_nothing_happens_at_import(tmp_path: Path) -> None:
    result = run(fake(tmp_path, "raise OSError('no cuda')"), "import harness.torchaudio; print('torchaudio' in sys.modules)")
    assert result.stdout.strip() == "False", result.stderr


def test_the_installed_one_computes_features() -> None:
    pytest.importorskip("torch")
    from harness.torchaudio import load_torchaudio

    torchaudio = load_torchaudio()
    import torch

    noise = torch.randn(1, 1600, generator=torch.Generator().manual_seed(0))
    assert torchaudio.functional.resample(noise, 16000, 8000).shape == (1, 800)
    assert torchaudio.transforms.MelSpectrogram(16000)(noise).isfinite().all()


def test_ensuring_imports_nothing_and_serves_whoever_imports_later(tmp_path: Path) -> None:
    code = """
from harness.torchaudio import ensure_torchaudio, is_stubbed
ensure_torchaudio(); ensure_torchaudio()
print('torchaudio' in sys.modules, is_stubbed(), sum(type(f).__name__ == '_ExtensionFinder' for f in sys.meta_path))
import torchaudio.functional
print(is_stubbed())
"""
    result = run(fake(tmp_path, "raise OSError('no cuda')"), code)
    assert result.stdout.splitlines() == ["False False 1", "True"], result.stderr
