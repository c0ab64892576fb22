"""Importing torchaudio when its compiled part does not fit the installed torch.

The torchaudio 2.11 wheel carries a compiled extension built against CUDA. Beside a CPU build of torch that extension cannot be
loaded, and ``import torchaudio`` raises OSError as a whole, although resampling, spectra, filters and the Kaldi features are plain
torch. Worse, transformers, funasr and speechbrain import torchaudio and fail with it. Here the extension, and nothing else, is
replaced by a stub that declares "no compiled part"; torchaudio then takes its own fallbacks. This happens only after a real import
has failed inside the extension: a fitting torchaudio is left untouched, and any other failure is raised as it is.

What stays unavailable with the stub: ``forced_align``, ``rnnt_loss`` and the CUDA CTC decoder, which raise RuntimeError when called,
and the fast loop of ``lfilter`` (the fallback steps through samples in Python: use ``scipy.signal.lfilter`` for long audio).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any

_EXTENSION = "torchaudio._extension"


def load_torchaudio() -> ModuleType:
    """The torchaudio package, with its compiled extension stubbed out if and only if that extension cannot be loaded.

    Raises:
        ImportError: torchaudio or torch is not installed, or fails to import for a reason outside its compiled part.
    """
    try:
        return importlib.import_module("torchaudio")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        # OSError: a CUDA library is missing; RuntimeError: built for another CUDA; AttributeError: an operator was not registered.
        if not _raised_in(error.__traceback__, _EXTENSION):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    for name in [name for name in sys.modules if name == "torchaudio" or name.startswith("torchaudio.")]:
        del sys.modules[name]  # what the failed attempt left half imported
    stub = _stub(reason)
    sys.modules[_EXTENSION] = stub
    try:
        package = importlib.import_module("torchaudio")
    except BaseException:
        sys.modules.pop(_EXTENSION, None)
        raise
    package.__dict__["_extension"] = stub  # a submodule found in sys.modules is not bound to its package by the import system
    return package


def ensure_torchaudio() -> None:
    """Makes a later ``import torchaudio`` work; call it before importing transformers, funasr or speechbrain. Costs nothing twice."""
    load_torchaudio()


def is_stubbed() -> bool:
    """Whether torchaudio runs without its compiled part in this process (False where it has not been imported)."""
    return hasattr(sys.modules.get(_EXTENSION), "stubbed_because")


def _raised_in(traceback: TracebackType | None, module: str) -> bool:
    while traceback is not None:
        if traceback.tb_frame.f_globals.get("__name__") == module:
            return True
        traceback = traceback.tb_next
    return False


def _stub(reason: str) -> ModuleType:
    """A stand-in for ``torchaudio._extension`` that says the compiled part is absent."""
    stub = ModuleType(_EXTENSION, f"Stands in for torchaudio's compiled part, which failed to load: {reason}")

    def fail_if_no_align(function: Callable[..., Any]) -> Callable[..., Any]:
        def refuse(*args: object, **kwargs: object) -> None:
            raise RuntimeError(f"torchaudio's {function.__name__} needs its compiled part, which failed to load: {reason}")

        return refuse

    def load_lib(library: str) -> bool:
        return False

    stub.__dict__.update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        _check_cuda_version=lambda: None,
        _load_lib=load_lib,
        fail_if_no_align=fail_if_no_align,
        stubbed_because=reason,
    )
    return stub
