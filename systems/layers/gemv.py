"""`gemv.c`, compiled for this processor where the machine has a C compiler: decoding at the speed of memory.

A step of a language model multiplies a row or two with every matrix once. In large models reading the matrices is what takes the time, and
of the libraries the fastest, oneDNN, read at 54 to 77 % of what the memory gave where this did at 76 to 98 %; in small ones it is the calls,
dozens a layer. Environment: ``CC`` names another compiler, ``XDG_CACHE_HOME`` another place than ``~/.cache`` for what was compiled.

Shape letters: I inputs, O outputs, B batch, S queries an item, H heads, D numbers a head, W width.
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
from typing import Any

import torch
from torch import Tensor, nn

from systems.layers.transformer import Block, GatedFeedForward, LayerMemory, Rotation, Watched

_SOURCE = Path(__file__).with_suffix(".c")
_FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fPIC", "-fopenmp", "-Wno-psabi")
_BLOCK, _TOGETHER, _EPSILON = 64, 4, 1e-5
_COMPILER_S = 120
_FEW = 8
"""Rows up to which ours is the faster product, as measured with two threads on a processor with AVX-512."""
_WORTH_SHARING = 1 << 20
"""Weights from which on a call is shared among threads; our choice. Threads wait for one another eight times a block, which costs much
where another process holds a core and gains little where a block's weights lie in a processor's own cache."""


def cannot_take(weight: Tensor) -> str | None:
    """Why ``weight [O, I]`` cannot be that of a `GemvLinear`, or None."""
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return f"gemv.c is given float32 on the CPU, not {weight.dtype} on {weight.device}"
    outputs, inputs = weight.shape
    if inputs % _BLOCK or outputs % _TOGETHER:
        return f"gemv.c takes multiples of {_BLOCK} inputs and {_TOGETHER} outputs, not {inputs} and {outputs}"
    found = _library()
    return found if isinstance(found, str) else None


class GemvLinear(nn.Module):
    """A linear layer for a few rows, and another one for more: both layouts of the weights are kept.

    Args:
        weight: float32 ``[O, I]``, one that `cannot_take` has nothing against.
        bias: float32 ``[O]`` or None.
        many: the same layer for many rows.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, many: nn.Module) -> None:
        super().__init__()
        self.outputs, self.inputs = weight.shape
        self._kept = (weight.detach().contiguous(), None if bias is None else bias.detach().contiguous())
        self._many = many
        self.words = (*map(_address, self._kept), self.outputs, self.inputs)
        self._matrix = _struct(*self.words)

    def forward(self, x: Tensor) -> Tensor:
        """``x [..., I]``, float32, to ``[..., O]``, like ``torch.nn.functional.linear``."""
        rows = x.numel() // self.inputs
        if rows > _FEW or torch.compiler.is_compiling():
            many: Tensor = self._many(x)
            return many
        x = x.contiguous()
        out = x.new_empty(*x.shape[:-1], self.outputs)
        _call("product", self._matrix, rows, x.data_ptr(), out.data_ptr(), _threads(self.inputs * self.outputs))
        return out


class GemvBlock(nn.Module):
    """A block of a transformer over a cache in one call for a few rows, and the block itself for more.

    Args:
        block: one that `takes_block` says yes to.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block, self._linears = block, _linears(block)
        norms = [getattr(norm, name, None) for norm in (block.attention_norm, block.feed_forward_norm) for name in ("weight", "bias")]
        self._norms = [None if tensor is None else tensor.detach().contiguous() for tensor in norms]
        self._heads, self._hidden = block.attention.heads, self._linears[3].inputs
        self._weights = sum(linear.inputs * linear.outputs for linear in self._linears)
        words = [word for linear in self._linears for word in linear.words]
        gated = isinstance(block.feed_forward, GatedFeedForward)
        self._layer = _struct(*map(_address, self._norms), *words, self._heads, gated)

    def forward(self, x: Tensor, rotation: Rotation | None, memory: LayerMemory | None, watched: Watched | None) -> Tensor:
        """``[B, S, W]``, float32, to the same; see `Block.forward`."""
        batch, queries, width = x.shape
        if memory is None or batch * queries > _FEW or torch.compiler.is_compiling():
            many: Tensor = self.block(x, rotation, memory, watched)
            return many
        window, keys = memory.window, memory.keys
        mask = window.mask if watched is None or watched.mask is None else watched.mask
        mask = None if mask is None else mask.contiguous()
        strides = (0, 0, 0) if mask is None else mask.expand(batch, self._heads, queries, window.seen).stride()[:3]
        asked = None if watched is None else x.new_empty(batch, self._heads, queries, width // self._heads)
        turned = (None, None) if rotation is None else (_rows(rotation.cosine, batch), _rows(rotation.sine, batch))
        remembered = _struct(
            keys.data_ptr(), memory.values.data_ptr(), window.columns.data_ptr(), keys.shape[2], window.seen,
            _address(mask), *strides, *map(_address, (*turned, asked)),
        )  # fmt: skip
        out = x.clone(memory_format=torch.contiguous_format)
        room = x.new_empty(batch * queries * (6 * width + 3 * self._hidden) + batch * self._heads * window.seen)
        arguments = (batch, queries, out.data_ptr(), room.data_ptr(), _threads(self._weights))
        _call("run_layer", self._layer, remembered, *arguments)
        if watched is not None and asked is not None:
            watched.queries, watched.keys = asked[:, : watched.heads], keys[:, : watched.heads, : window.seen]
        return out


def takes_block(block: Block) -> bool:
    """Whether a block can be a `GemvBlock`."""
    norms = (block.attention_norm, block.feed_forward_norm)
    return all(isinstance(linear, GemvLinear) for linear in _linears(block)) and all(norm.eps == _EPSILON for norm in norms)


def _linears(block: Block) -> list[Any]:
    attention, forward = block.attention, block.feed_forward
    return [attention.enter, attention.leave, forward.enter, forward.leave]


def _threads(weights: int) -> int:
    return torch.get_num_threads() if weights >= _WORTH_SHARING else 1


def _struct(*words: int | None) -> ctypes.Array[ctypes.c_ssize_t]:
    """A structure of `gemv.c`: addresses and numbers in a row; None is NULL."""
    return (ctypes.c_ssize_t * len(words))(*(word or 0 for word in words))


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _rows(turning: Tensor, batch: int) -> Tensor:
    """``[B, S, D / 2]`` of cosines or sines ``[B or 1, 1, S, D / 2]``."""
    return turning[:, 0].expand(batch, -1, -1).contiguous()


def _call(name: str, *arguments: Any) -> None:
    functions = _library()
    assert not isinstance(functions, str)  # who asks has asked `cannot_take` before
    functions[name](*arguments)


@functools.cache
def _library() -> dict[str, Any] | str:
    """The compiled functions by name, or why there are none: looked for once, and said once."""
    compiler = shlex.split(os.environ.get("CC", "")) or [shutil.which("cc") or shutil.which("gcc") or ""]
    reason = "this machine has no C compiler"
    try:
        if compiler[0]:
            return _loaded(compiler)
    except subprocess.CalledProcessError as error:
        reason = f"{shlex.join(compiler)} failed: {error.stderr.decode(errors='replace').strip()[-500:]}"
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = f"{type(error).__name__}: {error}"
    logging.getLogger(__name__).warning("language models decode more slowly, by libraries alone: %s", reason)
    return reason


def _loaded(compiler: list[str]) -> dict[str, Any]:
    """The functions by name, compiled if they are not yet."""
    version = subprocess.run([*compiler, "--version"], capture_output=True, check=True, timeout=_COMPILER_S).stdout
    path = _cache() / f"gemv-{_key(version)}.so"
    if not path.exists():
        _compile(compiler, path)
    # OpenMP is not linked: its functions are found in the runtime that torch has loaded, so that there is one pool of threads.
    loaded = ctypes.CDLL(str(path))
    pointer, size, whole = ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int
    loaded.product.argtypes = [pointer, size, pointer, pointer, whole]
    loaded.run_layer.argtypes = [pointer, pointer, size, size, pointer, pointer, whole]
    loaded.product.restype = loaded.run_layer.restype = None
    return {"product": loaded.product, "run_layer": loaded.run_layer}


def _compile(compiler: list[str], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        objects, shared = Path(folder) / "gemv.o", Path(folder) / "gemv.so"
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
