"""Weights as safetensors: what is stored, and how it is read back without trusting it.

A file of ours holds the tensors of one module and, in its metadata, the registry family and the configuration as JSON. Buffers that only
learning needs are not in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from systems.quantizers.codebook import Codebook

_SCALE = ":scale"  # behind the name of a tensor of int8 rows


@dataclass(frozen=True, eq=False)
class Stored:
    """What a file holds.

    Args:
        tensors: by name, as stored (int8 rows widened to float32).
        metadata: of the file.
        source: its path, for messages.
    """

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    source: str


def stored_tensors(module: nn.Module, dtype: torch.dtype, left_out: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The module's tensors in ``dtype`` on the CPU, without those whose name ends in one of ``left_out``."""
    return {
        name: tensor.detach().to("cpu", dtype).contiguous().clone()
        for name, tensor in module.state_dict().items()
        if not name.endswith(left_out)
    }


def narrowed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Half of float16's size: matrices as int8 with a scale per row (first axis), everything else as float16; `read` undoes it.

    Args:
        tensors: finite; those of two axes or more are rounded to 1/127 of the largest number of each row.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.ndim < 2:
            found[name] = tensor.to(torch.float16)
            continue
        rows = tensor.float().flatten(1)
        scale = (rows.abs().amax(dim=1).clamp(min=1e-6) / 127.0).to(torch.float16)
        found[name] = (rows / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8).reshape(tensor.shape)
        found[name + _SCALE] = scale
    return found


def _widened(tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """int8 rows times their scales, float32; other tensors as they are."""
    found = {name: tensor for name, tensor in tensors.items() if not name.endswith(_SCALE)}
    for name, tensor in found.items():
        if tensor.dtype == torch.int8:
            scale = tensors.get(name + _SCALE)
            if scale is None or scale.shape != tensor.shape[:1]:
                raise ValueError(f"{source} holds {name} as int8 {tuple(tensor.shape)} without a scale for each of its rows")
            found[name] = tensor.float() * scale.float().reshape(-1, *[1] * (tensor.ndim - 1))
    return found


def read(path: str | Path, what: str) -> Stored:
    """Everything in a safetensors file; what `narrowed` made small is float32 again.

    Args:
        path: of the file.
        what: it should be, for messages: "QDAC checkpoint".

    Raises:
        FileNotFoundError: there is none.
        ValueError: no safetensors file, or int8 rows without scales.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no {what} at {path}")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise ValueError(f"{path} is no readable safetensors file: {error}") from error
    return Stored(_widened(tensors, str(path)), metadata, str(path))


def read_family(path: str | Path, family: str, title: str) -> Stored:
    """A file of ours; its configuration is ``json.loads(stored.metadata["config"])``.

    Args:
        path: of the file.
        family: that its metadata must name.
        title: of the family, for messages.

    Raises:
        FileNotFoundError: there is none.
        ValueError: no safetensors file, or not of this family.
    """
    stored = read(path, f"{title} checkpoint")
    if stored.metadata.get("family") != family or "config" not in stored.metadata:
        raise ValueError(f"{path} holds no {title} model: its metadata says family={stored.metadata.get('family')!r}")
    return stored


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Content hash (32 hex digits) of names, shapes, types and bytes."""
    h = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        h.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        # Contiguity does not fix the strides of a single row, which a view as bytes needs: flat they are.
        h.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return h.hexdigest()


def digest_of(digests: Sequence[str]) -> str:
    """One hash (32 hex digits) of several, in their order."""
    return hashlib.blake2b(" ".join(digests).encode(), digest_size=16).hexdigest()


def fill(module: nn.Module, stored: Stored, left_out: tuple[str, ...] = (), named: Callable[[str], str] = str) -> None:
    """Puts a file's tensors into ``module``, as float32; its codebooks count as started.

    Args:
        module: to be filled.
        stored: every tensor of the module, and no other.
        left_out: endings of the module's names that a file does not hold.
        named: what the file calls a tensor of the module; the same by default.

    Raises:
        ValueError: tensors missing, too many or of another shape, or not finite.
    """
    tensors = stored.tensors
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    places = {named(name): name for name in shapes if not name.endswith(left_out)}
    wanted = {name: shapes[place] for name, place in places.items()}
    missing, extra = sorted(set(wanted) - set(tensors)), sorted(set(tensors) - set(wanted))
    shaped = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(shape)}"
        for name, shape in wanted.items()
        if name in tensors and tensors[name].shape != shape
    ]
    faults = [f"{what}: {_some(names)}" for what, names in (("missing", missing), ("unexpected", extra), ("misshapen", shaped)) if names]
    if faults:
        raise ValueError(f"{stored.source} does not fit its configuration; {'; '.join(faults)}")
    broken = sorted(name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all()))
    if broken:
        raise ValueError(f"{stored.source} holds numbers that are not finite in {_some(broken)}")
    module.load_state_dict({place: tensors[name].float() for name, place in places.items()}, strict=False)
    for part in module.modules():
        if isinstance(part, Codebook):
            part.started.fill_(True)


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
