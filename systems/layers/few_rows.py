"""`few_rows.c`, compiled for this processor where the machine has a C compiler: decoding at the speed of memory.

A step of a language model multiplies a row or two with every matrix once. In large models reading the matrices is what takes the time, and of
the libraries the fastest, oneDNN, read at 54 to 77 % of what the memory gave where this did at 76 to 98 %; in small ones it is the calls, dozens
a layer. Environment: ``CC`` names another compiler, ``XDG_CACHE_HOME`` another place than ``~/.cache`` for what was compiled.

Shape letters: R rows, I inputs, O outputs, B batch, S queries an item, H heads, D numbers a head, W width, C columns of a cache.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from systems.layers.attention import LayerMemory, Rotation, Watched

Stored = Literal["float32", "bfloat16", "int8"]
_STORED: dict[Stored, int] = {"float32": 0, "bfloat16": 1, "int8": 2}
_SOURCE = Path(__file__).with_suffix(".c")
_FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fPIC", "-fopenmp", "-Wno-psabi")
_BLOCK, _TOGETHER, _LANES = 64, 4, 16
_COMPILER_S = 120
_WORTH_SHARING = 1 << 20
"""Weights from which on a call is shared among threads; our choice. Threads wait for one another eight times a block, which costs much where
another process holds a core and gains little where a block's weights lie in a processor's own cache."""


class NotCompiled(RuntimeError):
    """Why there is no compiled code on this machine."""


def cannot_take(weight: Tensor) -> str | None:
    """Why ``weight [O, I]`` cannot be a `Matrix`, or None."""
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return f"few_rows.c is given float32 on the CPU, not {weight.dtype} on {weight.device}"
    outputs, inputs = weight.shape
    if inputs % _BLOCK or outputs % _TOGETHER:
        return f"few_rows.c takes multiples of {_BLOCK} inputs and {_TOGETHER} outputs, not {inputs} and {outputs}"
    found = _library()
    return found if isinstance(found, str) else None


class _MatrixStruct(ctypes.Structure):
    _fields_: ClassVar = [
        *[(name, ctypes.c_void_p) for name in ("weight", "scale", "bias")],
        *[(name, ctypes.c_ssize_t) for name in ("outputs", "inputs")],
        ("stored", ctypes.c_int),
    ]


class _NormStruct(ctypes.Structure):
    _fields_: ClassVar = [("weight", ctypes.c_void_p), ("bias", ctypes.c_void_p), ("epsilon", ctypes.c_float)]


class _LayerStruct(ctypes.Structure):
    _fields_: ClassVar = [
        *[(name, _NormStruct) for name in ("before_attention", "before_forward")],
        *[(name, _MatrixStruct) for name in ("attention_enter", "attention_leave", "forward_enter", "forward_leave")],
        ("heads", ctypes.c_ssize_t),
        ("gated", ctypes.c_int),
    ]


class _MemoryStruct(ctypes.Structure):
    _fields_: ClassVar = [
        *[(name, ctypes.c_void_p) for name in ("keys", "values", "columns")],
        *[(name, ctypes.c_ssize_t) for name in ("capacity", "seen")],
        ("mask", ctypes.c_void_p),
        *[(name, ctypes.c_ssize_t) for name in ("by_item", "by_head", "by_query")],
        *[(name, ctypes.c_void_p) for name in ("cosine", "sine", "queries")],
    ]


class Matrix:
    """Weights as `few_rows.c` reads them, and the product with them.

    Args:
        weight: float32 ``[O, I]``, one that `cannot_take` has nothing against.
        bias: float32 ``[O]`` or None.
        stored: how the weights are kept; "int8" with a scale for each output.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, stored: Stored) -> None:
        self.outputs, self.inputs = weight.shape
        scale = None
        if stored == "int8":
            scale = row_scales(weight)
            levels = (weight / scale[:, None]).round().clamp(-127, 127).to(torch.int8)
            kept = levels.view(self.outputs, self.inputs // _BLOCK, _BLOCK // _LANES, _LANES).transpose(2, 3).contiguous()
        else:
            kept = weight.detach().to(getattr(torch, stored)).contiguous()
        self._kept = (kept, scale, None if bias is None else bias.detach().contiguous())
        self.struct = _MatrixStruct(*map(_address, self._kept), self.outputs, self.inputs, _STORED[stored])

    def product(self, x: Tensor) -> Tensor:
        """``x [..., I]``, float32, to ``[..., O]``, like ``torch.nn.functional.linear``."""
        x = x.contiguous()
        out = x.new_empty(*x.shape[:-1], self.outputs)
        rows = x.numel() // self.inputs
        _functions()["product"](ctypes.byref(self.struct), rows, x.data_ptr(), out.data_ptr(), _threads(self.inputs * self.outputs))
        return out


class Layer:
    """A layer of a transformer: norm, attention over a cache, norm, feed-forward network.

    Args:
        norms: before attention and before the feed-forward network.
        matrices: of attention and of the feed-forward network, each where it is entered and left.
        heads: H.
        gated: SwiGLU, else GELU in its tanh form.
    """

    def __init__(
        self, norms: tuple[nn.Module, nn.Module], matrices: tuple[Matrix, Matrix, Matrix, Matrix], heads: int, gated: bool
    ) -> None:
        self._kept: list[Any] = [matrices]
        self._heads, self._hidden = heads, matrices[3].inputs
        self._weights = sum(matrix.inputs * matrix.outputs for matrix in matrices)
        self._struct = _LayerStruct(*map(self._norm, norms), *(matrix.struct for matrix in matrices), heads, gated)

    def run(self, x: Tensor, rotation: Rotation | None, memory: LayerMemory, watched: Watched | None) -> Tensor:
        """``x [B, S, W]``, float32, to the same; see `systems.layers.transformer.Block`, whose arguments these are."""
        batch, queries, width = x.shape
        window, keys = memory.window, memory.keys
        mask = window.mask if watched is None or watched.mask is None else watched.mask
        mask = None if mask is None else mask.contiguous()
        strides = (0, 0, 0) if mask is None else mask.expand(batch, self._heads, queries, window.seen).stride()[:3]
        asked = None if watched is None else x.new_empty(batch, self._heads, queries, width // self._heads)
        turned = (None, None) if rotation is None else (_rows(rotation.cosine, batch), _rows(rotation.sine, batch))
        remembered = _MemoryStruct(
            keys.data_ptr(), memory.values.data_ptr(), window.columns.data_ptr(), keys.shape[2], window.seen,
            _address(mask), *strides, *map(_address, (*turned, asked)),
        )  # fmt: skip
        out = x.clone(memory_format=torch.contiguous_format)
        room = x.new_empty(batch * queries * (6 * width + 3 * self._hidden) + batch * self._heads * window.seen)
        arguments = (batch, queries, out.data_ptr(), room.data_ptr(), _threads(self._weights))
        _functions()["run_layer"](ctypes.byref(self._struct), ctypes.byref(remembered), *arguments)
        if watched is not None and asked is not None:
            watched.queries, watched.keys = asked[:, : watched.heads], keys[:, : watched.heads, : window.seen]
        return out

    def _norm(self, norm: Any) -> _NormStruct:
        kept = [None if tensor is None else tensor.detach().contiguous() for tensor in (norm.weight, getattr(norm, "bias", None))]
        self._kept.append(kept)
        return _NormStruct(*map(_address, kept), norm.eps)


def row_scales(weight: Tensor) -> Tensor:
    """``[O]``: what a step of 8 bits is worth in each row of ``weight [O, I]``."""
    return (weight.detach().abs().amax(dim=1) / 127.0).clamp(min=1e-12)


def _threads(weights: int) -> int:
    return torch.get_num_threads() if weights >= _WORTH_SHARING else 1


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _rows(turning: Tensor, batch: int) -> Tensor:
    """``[B, S, D / 2]`` of cosines or sines ``[B or 1, 1, S, D / 2]``."""
    return turning[:, 0].expand(batch, -1, -1).contiguous()


def _functions() -> dict[str, Any]:
    found = _library()
    if isinstance(found, str):
        raise NotCompiled(found)
    return found


@functools.cache
def _library() -> dict[str, Any] | str:
    """The compiled functions by name, or why there are none: looked for once, and said once."""
    try:
        return _loaded()
    except NotCompiled as error:
        logging.getLogger(__name__).warning("language models decode more slowly, by libraries alone: %s", error)
        return str(error)


def _loaded() -> dict[str, Any]:
    """The functions by name, compiled if they are not yet.

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
    pointer, size, whole = ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int
    arguments: dict[str, list[Any]] = {
        "product": [pointer, size, pointer, pointer, whole],
        "run_layer": [pointer, pointer, size, size, pointer, pointer, whole],
    }
    functions = {name: loaded[name] for name in arguments}
    for name, function in functions.items():
        function.argtypes, function.restype = arguments[name], None
    return functions


def _compile(compiler: list[str], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        objects, shared = Path(folder) / "few_rows.o", Path(folder) / "few_rows.so"
        for command in ([*_FLAGS, "-c", str(_SOURCE), "-o", str(objects)], ["-shared", str(objects), "-lm", "-o", str(shared)]):
            subprocess.run([*compiler, *command], capture_output=True, check=True, timeout=_COMPILER_S)
        shared.replace(path)  # whole or not at all, whoever else compiles at this moment


def _key(version: bytes) -> str:
    """Of everything that the compiled file depends on: homes are shared by machines with different processors."""
    digest = hashlib.sha256(_SOURCE.read_bytes() + version + " ".join(_FLAGS).encode() + platform.machine().encode())
    information = Path("/proc/cpuinfo")
    if information.exists():
        abilities = {line for line in information.read_text().splitlines() if line.startswith(("flags", "Features"))}
        digest.update("".join(sorted(abilities)).encode())
    return digest.hexdigest()[:16]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "harness"
