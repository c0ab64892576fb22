"""Models as safetensors: a file holds the tensors of one module and, in its metadata, the registry family and the configuration as JSON.

```python
from systems.checkpoints import load
from systems.qdac.config import QdacConfig
from systems.qdac.model import QdacModel

loaded = load("model.safetensors", "qdac", QdacModel, QdacConfig)
loaded.model.config.num_codebooks, loaded.digest, loaded.training_data
```

Loading is given the model's class, so that this module knows no model and every model may know it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from systems.bundled import some
from systems.configuration import Configuration
from systems.quantizers.codebook import Codebook

M = TypeVar("M", bound=nn.Module)
C = TypeVar("C", bound=Configuration)
_SCALE = ":scale"  # behind the name of a tensor of int8 rows


@dataclass(frozen=True, eq=False)
class Loaded(Generic[M]):
    """A model ready for use."""

    model: M  # in evaluation mode, float32, without gradients
    metadata: Mapping[str, str]  # of its file; empty for an untrained one
    digest: str  # content hash of its tensors

    @property
    def training_data(self) -> str:
        """What it was trained on, in words; empty where the file does not say."""
        told = self.metadata
        if "num_items" in told and "data_hours" in told:  # as the training loop writes them
            return f"{told['num_items']} recordings, {float(told['data_hours']):.2f} h"
        return told.get("training_data", "")


@dataclass(frozen=True, eq=False)
class Stored:
    """What a file holds."""

    tensors: Mapping[str, Tensor]  # by name, as stored (int8 rows widened to float32)
    metadata: Mapping[str, str]
    source: str  # its path, for messages


def load(path: str | Path, family: str, build: Callable[[C], M], config_class: type[C]) -> Loaded[M]:
    """Reads a model that `harness train` wrote.

    Args:
        family: that its metadata must name.

    Raises:
        FileNotFoundError: there is none.
        ValueError: no safetensors file, not of this family, tensors missing, too many or of another shape, or not finite.
    """
    return loaded(read(path, family), family, build, config_class)


def loaded(stored: Stored, family: str, build: Callable[[C], M], config_class: type[C]) -> Loaded[M]:
    """The model of what was read from a file; see `load`."""
    told = stored.metadata
    if told.get("family") != family or "config" not in told:
        raise ValueError(f"{stored.source} holds no {family} model: its metadata says family={told.get('family')!r}")
    model = build(config_class.from_dict(json.loads(told["config"])))
    fill(model, stored)
    return Loaded(model.eval().requires_grad_(False), told, digest(stored.tensors))


def untrained(build: Callable[[], M], seed: int) -> Loaded[M]:
    """A model with random weights, for timing; torch's own generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build().eval().requires_grad_(False)
    return Loaded(model, {}, digest(exported(model)))


def exported(model: nn.Module, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """The tensors that using ``model`` needs, in ``dtype`` on the CPU, without the `LEARNING_STATE` that its parts name."""
    left_out = _learning_state(model)
    return {
        name: tensor.detach().to("cpu", dtype).contiguous().clone() for name, tensor in model.state_dict().items() if name not in left_out
    }


def _learning_state(model: nn.Module) -> set[str]:
    """Names of the buffers that only learning needs, by the class attribute of every part that has some."""
    found = ((prefix, name) for prefix, part in model.named_modules() for name in getattr(part, "LEARNING_STATE", ()))
    return {f"{prefix}.{name}" if prefix else name for prefix, name in found}


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
        what: it should hold, for messages: "qdac".

    Raises:
        FileNotFoundError: there is none.
        ValueError: no safetensors file, or int8 rows without scales.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no {what} checkpoint at {path}")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise ValueError(f"{path} is no readable safetensors file: {error}") from error
    return Stored(_widened(tensors, str(path)), metadata, str(path))


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


def fill(module: nn.Module, stored: Stored, named: Callable[[str], str] = str) -> None:
    """Puts a file's tensors into ``module``, as float32; its codebooks count as started.

    Args:
        stored: every tensor that `exported` gives of the module, and no other.
        named: what the file calls a tensor of the module; the same by default.

    Raises:
        ValueError: tensors missing, too many or of another shape, or not finite.
    """
    tensors = stored.tensors
    shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    places = {named(name): name for name in sorted(shapes.keys() - _learning_state(module))}
    wanted = {name: shapes[place] for name, place in places.items()}
    missing, extra = sorted(set(wanted) - set(tensors)), sorted(set(tensors) - set(wanted))
    shaped = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(shape)}"
        for name, shape in wanted.items()
        if name in tensors and tensors[name].shape != shape
    ]
    faults = [f"{what}: {some(names)}" for what, names in (("missing", missing), ("unexpected", extra), ("misshapen", shaped)) if names]
    if faults:
        raise ValueError(f"{stored.source} does not fit its configuration; {'; '.join(faults)}")
    broken = sorted(name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all()))
    if broken:
        raise ValueError(f"{stored.source} holds numbers that are not finite in {some(broken)}")
    module.load_state_dict({place: tensors[name].float() for name, place in places.items()}, strict=False)
    for part in module.modules():
        if isinstance(part, Codebook):
            part.started.fill_(True)
