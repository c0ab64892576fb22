"""Judges whose weights are one file that the user gives, published, but in no package and under no hub id that could be looked up; and what
is in such files.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import CheckpointError, MissingDependency
from harness.judges.checkpoints import Judge

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch


class FileJudge(Judge):
    """A subclass says further ``files``, the names the file is published under, and ``where`` to get it."""

    files: tuple[str, ...]
    where: str

    @classmethod
    def missing(cls, checkpoint: str = "", *arguments: Any, **settings: Any) -> str | None:
        """As `Judge.missing`; the file too may be missing."""
        if reason := super().missing():
            return reason
        if checkpoint and cls._file(checkpoint) is not None:
            return None
        names = " or ".join(cls.files)
        how = f"get {names} from {cls.where} and give its path as 'checkpoint'"
        return f"no file '{checkpoint}', and no folder of this name with {names}; {how}" if checkpoint else f"needs a 'checkpoint': {how}"

    @classmethod
    def located(cls, checkpoint: str, *arguments: Any) -> Path:
        """The file.

        Raises:
            MissingDependency: a package or the file is not here.
        """
        cls.require(checkpoint, *arguments)
        path = cls._file(checkpoint)
        if path is None:
            raise MissingDependency(f"no file '{checkpoint}'")
        return path

    @classmethod
    def _file(cls, checkpoint: str) -> Path | None:
        path = Path(checkpoint).expanduser()
        return next((p for p in (path, *(path / name for name in cls.files)) if p.is_file()), None)


def read_entry(path: Path, *entries: str) -> Mapping[str, Any]:
    """A file of torch, which holds at least some entries; no code in it is run.

    Raises:
        CheckpointError: the file is not one of torch, or lacks an entry.
    """
    import torch

    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or foreign file raises whatever its first bytes lead to
        raise CheckpointError(f"{path} is not a file of weights: {str(error).splitlines()[0] if str(error) else error!r}") from error
    if not isinstance(loaded, Mapping) or any(entry not in loaded for entry in entries):
        held = ", ".join(map(str, list(loaded)[:5])) if isinstance(loaded, Mapping) else f"a {type(loaded).__name__}"
        raise CheckpointError(f"{path} should hold {', '.join(map(repr, entries)) or 'tensors by name'}, it holds {held}")
    return loaded


def read_state(path: Path, entry: str = "") -> Mapping[str, torch.Tensor]:
    """The tensors of a file of torch by name.

    Args:
        path: of the file.
        entry: that holds them; "" where the file itself does.

    Raises:
        CheckpointError: as `read_entry`, or something else than tensors is there.
    """
    import torch

    state = read_entry(path, entry)[entry] if entry else read_entry(path)
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(f"{path} holds no tensors by name{f' in its entry {entry!r}' if entry else ''}")
    return state


def onnx_weights(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays in an ONNX graph, by their names: weights, and constants of other types.

    onnxruntime, which reads graphs anyway, writes the graph out as its own format, and the reader of that comes with it.
    """
    import numpy as np
    import onnxruntime

    reader = importlib.import_module("onnxruntime.tools.ort_format_model.ort_flatbuffers_py.fbs.InferenceSession").InferenceSession
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.save_model_format", "ORT")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "graph.ort")
        options.optimized_model_filepath = str(copy)
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        graph = reader.GetRootAs(bytearray(copy.read_bytes()), 0).Model().Graph()
    types = {1: np.float32, 6: np.int32, 7: np.int64}  # of TensorProto
    found: dict[str, npt.NDArray[Any]] = {}
    for tensor in map(graph.Initializers, range(graph.InitializersLength())):
        if (kind := types.get(tensor.DataType())) is not None:
            shape = tensor.DimsAsNumpy() if tensor.DimsLength() else ()
            found[tensor.Name().decode()] = np.frombuffer(tensor.RawDataAsNumpy().tobytes(), kind).reshape(shape)
    return found
