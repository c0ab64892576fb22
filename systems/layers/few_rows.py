"""`few_rows.c`, compiled for this processor where the machine has a C compiler: a decoding step at the speed of memory.

A step of a language model at batch 1 multiplies one row with every matrix once, so reading the matrices is what takes the time. Of the
libraries, oneDNN is the fastest at it and reads at two thirds of what the memory gives.

Shape letters: R rows, I inputs, O outputs.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

_SOURCE = Path(__file__).with_suffix(".c")
_FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fPIC", "-fopenmp", "-Wno-psabi")
_NAMES = {torch.float32: "product_float32", torch.bfloat16: "product_bfloat16"}
_INPUTS, _OUTPUTS = 64, 4
_COMPILER_S = 120


class NotCompiled(RuntimeError):
    """Why there is no compiled product on this machine."""


def cannot_take(weight: Tensor) -> str | None:
    """Why `few_rows_product` cannot multiply with ``weight [O, I]``, or None."""
    if weight.device.type != "cpu" or weight.dtype not in _NAMES:
        return f"it is for float32 and bfloat16 on the CPU, not {weight.dtype} on {weight.device}"
    outputs, inputs = weight.shape
    if inputs % _INPUTS or outputs % _OUTPUTS:
        return f"it takes multiples of {_INPUTS} inputs and {_OUTPUTS} outputs, not {inputs} and {outputs}"
    try:
        _library()
    except NotCompiled as error:
        return str(error)
    return None


def few_rows_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x [..., I]`` to ``[..., O]`` like ``torch.nn.functional.linear``, for inference, with as many threads as torch has.

    Args:
        x: float32.
        weight: contiguous, one that `cannot_take` has nothing against; float32 is computed with, however it is stored.
        bias: float32 ``[O]``, contiguous, or None.
    """
    rows = x.contiguous()
    outputs, inputs = weight.shape
    out = x.new_empty(*x.shape[:-1], outputs)
    product = _library()[_NAMES[weight.dtype]]
    product(
        weight.data_ptr(),
        rows.data_ptr(),
        None if bias is None else bias.data_ptr(),
        out.data_ptr(),
        rows.numel() // inputs,
        outputs,
        inputs,
        torch.get_num_threads(),
    )
    return out


@functools.cache
def _library() -> dict[str, ctypes._NamedFuncPointer]:
    """The compiled functions by name.

    Raises:
        NotCompiled: there is no compiler, or its work cannot be kept or loaded.
    """
    compiler = shlex.split(os.environ.get("CC", "")) or [shutil.which("cc") or shutil.which("gcc") or ""]
    if not compiler[0]:
        raise NotCompiled("this machine has no C compiler")
    try:
        version = subprocess.run([*compiler, "--version"], capture_output=True, check=True, timeout=_COMPILER_S).stdout
        path = _cache() / f"few_rows-{_key(version)}.so"
        if not path.exists():
            _compile(compiler, path)
        # OpenMP is not linked: its functions are found in the runtime that torch has loaded, so that there is one pool of threads.
        loaded = ctypes.CDLL(str(path))
    except subprocess.CalledProcessError as error:
        raise NotCompiled(f"{shlex.join(compiler)} failed: {error.stderr.decode(errors='replace').strip()[-500:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotCompiled(f"{type(error).__name__}: {error}") from error
    found = {}
    for name in _NAMES.values():
        function = loaded[name]
        function.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_ssize_t] * 3 + [ctypes.c_int]
        function.restype = None
        found[name] = function
    return found


def _compile(compiler: list[str], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        objects, shared = Path(folder) / "few_rows.o", Path(folder) / "few_rows.so"
        for command in ([*_FLAGS, "-c", str(_SOURCE), "-o", str(objects)], ["-shared", str(objects), "-o", str(shared)]):
            subprocess.run([*compiler, *command], capture_output=True, check=True, timeout=_COMPILER_S)
        shared.replace(path)  # whole or not at all, whoever else compiles at this moment


def _key(version: bytes) -> str:
    """Of everything that the compiled file depends on: homes are shared by machines with different processors."""
    digest = hashlib.sha256(_SOURCE.read_bytes() + version + " ".join(_FLAGS).encode() + platform.machine().encode())
    information = Path("/proc/cpuinfo")
    if information.exists():
        digest.update(
            "".join(sorted(set(line for line in information.read_text().splitlines() if line.startswith(("flags", "Features"))))).encode()
        )
    return digest.hexdigest()[:16]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "harness"
