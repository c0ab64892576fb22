"""Importing torchaudio when its compiled part does not fit the installed torch.

The torchaudio 2.11 wheel carries a compiled extension built against CUDA. Beside a CPU build of torch that extension cannot be
loaded, and ``import torchaudio`` raises OSError as a whole, although resampling, spectra, filters and the Kaldi features are plain
torch. Worse, transformers, funasr and speechbrain import torchaudio and fail with it. Here the extension, and nothing else, is
replaced by a stub that declares "no compiled part"; torchaudio then takes its own fallbacks. `ensure_torchaudio` only puts a finder in
front of Python's own: it imports nothing, and acts when, and if, somebody imports torchaudio and its extension fails. A fitting
torchaudio is left untouched, and any other failure is raised as it is.

What stays unavailable with the stub: ``forced_align``, ``rnnt_loss`` and the CUDA CTC decoder, which raise RuntimeError when called,
and the fast loop of ``lfilter`` (the fallback steps through samples in Python: use ``scipy.signal.lfilter`` for long audio).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_EXTENSION = "torchaudio._extension"


def ensure_torchaudio() -> None:
    """Makes every later ``import torchaudio`` of this process work, whoever does it; costs nothing until then, and nothing twice."""
    if not any(isinstance(finder, _ExtensionFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _ExtensionFinder())


def load_torchaudio() -> ModuleType:
    """The torchaudio package, with its compiled extension stubbed out if and only if that extension cannot be loaded.

    Raises:
        ImportError: torchaudio or torch is not installed, or fails to import for a reason outside its compiled part.
    """
    ensure_torchaudio()
    return importlib.import_module("torchaudio")


def is_stubbed() -> bool:
    """Whether torchaudio runs without its compiled part in this process (False where it has not been imported)."""
    return hasattr(sys.modules.get(_EXTENSION), "stubbed_because")


class _ExtensionFinder(MetaPathFinder):
    """Finds torchaudio's extension where Python does, and lets it fail."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != _EXTENSION:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        loader: Any = spec and spec.loader
        if loader is not None:
            loader.exec_module = partial(_executed, loader.exec_module)
        return spec


def _executed(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    """Runs a module; where that fails, the module becomes the stub."""
    try:
        execute(module)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        # OSError: a CUDA library is missing; RuntimeError: built for another CUDA; AttributeError: an operator was not registered.
        module.__dict__.update(_stub(str(error).splitlines()[0] if str(error) else type(error).__name__))


def _stub(reason: str) -> dict[str, Any]:
    """What ``torchaudio._extension`` defines, saying that the compiled part is absent."""

    def fail_if_no_align(function: Callable[..., Any]) -> Callable[..., Any]:
        def refuse(*args: object, **kwargs: object) -> None:
            raise RuntimeError(f"torchaudio's {function.__name__} needs its compiled part, which failed to load: {reason}")

        return refuse

    def load_lib(library: str) -> bool:
        return False

    return {
        "__doc__": f"Stands in for torchaudio's compiled part, which failed to load: {reason}",
        "_IS_TORCHAUDIO_EXT_AVAILABLE": False,
        "_IS_ALIGN_AVAILABLE": False,
        "_check_cuda_version": lambda: None,
        "_load_lib": load_lib,
        "fail_if_no_align": fail_if_no_align,
        "stubbed_because": reason,
    }
