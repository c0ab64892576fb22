"""Where weights lie on this machine, what they contain, and whether they fit. Nothing is ever downloaded here."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.api import JudgeInfo
from harness.api.libraries import version_of
from harness.data.digests import file_digest
from harness.errors import CheckpointError, MissingDependency
from harness.hub import FileChoices, HubFiles, holds, on_modelscope_only

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Checkpoint:
    """A folder of weights that is here.

    Args:
        folder: absolute.
        label: what to call it in a signature: the folder's name, or the hub id with its revision.
    """

    folder: Path
    label: str


def installed(*modules: str) -> bool:
    """Whether top-level modules can be found, without importing them."""
    return all(importlib.util.find_spec(name) is not None for name in modules)


def package(*names: str) -> str:
    """Names and versions of the distributions that make a judge's numbers, as ``name==version``, the library that runs it first."""
    return " ".join(f"{name}=={version_of(name)}" for name in names)


def locate(checkpoint: str, required: FileChoices, hub_ids: Sequence[str] = ()) -> Checkpoint | None:
    """A checkpoint on this machine: a folder, else the hub id in the local Hugging Face or ModelScope cache.

    Args:
        checkpoint: path of a folder, or a hub id such as "openai/whisper-large-v3".
        required: files that make the folder complete.
        hub_ids: further ids under which the same weights are published.
    """
    folder = Path(checkpoint).expanduser()
    if folder.is_dir():
        return Checkpoint(folder.resolve(), folder.resolve().name) if holds(folder, required) else None
    there = HubFiles(checkpoint, required, others=hub_ids).located()
    return Checkpoint(there[0].resolve(), there[1]) if there is not None else None


def absence(checkpoint: str, required: FileChoices, how: str, hub_ids: Sequence[str] = ()) -> str | None:
    """None when `locate` finds the checkpoint, else one sentence: what was looked for, and how to get it.

    Args:
        how: where the model comes from, as an instruction.
    """
    if locate(checkpoint, required, hub_ids) is not None:
        return None
    files = ", ".join(" or ".join(choice) for choice in required)
    if Path(checkpoint).expanduser().is_dir():
        return f"the folder {checkpoint} lacks some of {files}; {how}"
    return f"no checkpoint '{checkpoint}' here: neither a folder (with {files}) nor in the local hub caches; {how}"


class Judge:
    """What the judges of this package share: whether one can be built is told without building it.

    A subclass says what it stands on: ``needs``, the modules it imports, and ``lacking``, what is said where one is not installed.
    """

    needs: tuple[str, ...]
    lacking: str
    info: JudgeInfo

    @classmethod
    def missing(cls, *arguments: Any, **settings: Any) -> str | None:
        """None if it can be built with these arguments, else one sentence: what is missing and how to get it. Imports nothing heavy."""
        return None if installed(*cls.needs) else cls.lacking

    @classmethod
    def downloads(cls, *arguments: Any, **settings: Any) -> tuple[Any, ...]:
        """What `harness fetch` gets for one with these arguments, each `HubFiles` or `harness.judges.weights.Weights`; here or not."""
        return ()

    @classmethod
    def require(cls, *arguments: Any, **settings: Any) -> None:
        """Raises MissingDependency with what `missing` says."""
        if reason := cls.missing(*arguments, **settings):
            raise MissingDependency(reason)


class FolderJudge(Judge):
    """A judge whose weights are a folder, or a hub id that is looked up in the local caches and never downloaded.

    A subclass says further ``files``, what the folder holds, ``also``, patterns of what loading reads beside them, ``published``, the
    checkpoint by default, and ``how`` to get one.
    """

    files: FileChoices
    also: Sequence[str] = HubFiles.also
    published: str
    how = "get it with 'hf download {id}' or give a folder as 'checkpoint'"
    aliases: ClassVar[Mapping[str, Sequence[str]]] = {}
    """Hub ids of what is called by a shorter name."""

    @classmethod
    def missing(cls, checkpoint: str | None = None, *arguments: Any, **settings: Any) -> str | None:
        """As `Judge.missing`; the checkpoint too may be missing."""
        return super().missing() or absence(*cls._wanted(cls.published if checkpoint is None else checkpoint))

    @classmethod
    def downloads(cls, checkpoint: str | None = None, *arguments: Any, **settings: Any) -> tuple[Any, ...]:
        """As `Judge.downloads`: the hub id, in that of its names that is on Hugging Face; nothing where a folder is given."""
        name, files, _, hub_ids = cls._wanted(cls.published if checkpoint is None else checkpoint)
        if Path(name).expanduser().is_dir():
            return ()
        first, *others = sorted(hub_ids, key=on_modelscope_only)
        return (HubFiles(first, files, also=cls.also, others=tuple(others)),)

    @classmethod
    def located(cls, checkpoint: str) -> Checkpoint:
        """The folder.

        Raises:
            MissingDependency: a package or the checkpoint is not here.
        """
        cls.require(checkpoint)
        checkpoint, files, _, hub_ids = cls._wanted(checkpoint)
        found = locate(checkpoint, files, hub_ids)
        assert found is not None
        return found

    @classmethod
    def _wanted(cls, checkpoint: str) -> tuple[str, FileChoices, str, Sequence[str]]:
        hub_ids = cls.aliases.get(checkpoint, (checkpoint,))
        return checkpoint, cls.files, cls.how.format(id=hub_ids[0]), hub_ids


def pretrained(kind: Any, folder: Path, device: str, safetensors: bool = True) -> Any:
    """A transformers model in float32, ready to be used.

    Args:
        kind: its class.
        folder: of the checkpoint.
        device: "cpu", "cuda:0", ...
        safetensors: False reads a pickle with weights_only=True, so that no code in it runs.

    Raises:
        CheckpointError: weights missing, unexpected or mis-shaped.
    """
    import torch

    model, info = kind.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=safetensors, local_files_only=True, output_loading_info=True
    )
    check_loading(info, folder)
    return model.to(device).eval()


def onnx_session(path: Path, **options: int) -> Any:
    """An ONNX model on one thread of the CPU; ``options`` are attributes of `onnxruntime.SessionOptions`."""
    import onnxruntime

    chosen = onnxruntime.SessionOptions()
    for name, value in {"intra_op_num_threads": 1, "inter_op_num_threads": 1, **options}.items():
        setattr(chosen, name, value)
    return onnxruntime.InferenceSession(str(path), chosen, providers=["CPUExecutionProvider"])


def packaged(module: str, name: str) -> Path:
    """A file that lies beside an installed package, without importing it."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).with_name(name)


class Loading:
    """The files that a model is made of, hashed before it is loaded from them, so that its digest is of what was loaded.

    Args:
        paths: of the files.
        extra: whatever else shapes it.
    """

    def __init__(self, paths: Iterable[Path], extra: str = "") -> None:
        self._paths, self._extra = list(paths), extra
        self._digest = content_digest(self._paths, extra)

    def digest(self) -> str:
        """The files' `content_digest`, once the model is loaded.

        Raises:
            CheckpointError: one of them was replaced meanwhile.
        """
        if content_digest(self._paths, self._extra) != self._digest:
            raise CheckpointError(f"the files in {self._paths[0].parent} were replaced while they were loaded; run the same command again")
        return self._digest


def content_digest(paths: Iterable[Path], extra: str = "") -> str:
    """Hash (32 hex digits) of file names and contents, in the order of their names, and of ``extra``."""
    h = hashlib.blake2b(extra.encode(), digest_size=16)
    for path in sorted(paths, key=lambda p: p.name):
        h.update(f"{path.name}:{file_digest(path)};".encode())
    return h.hexdigest()


def check_weights(
    expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor], path: Path, allow_unexpected: bool = False
) -> None:
    """Refuses weights that a library's lenient loader would let pass.

    Args:
        expected: the model's own state.
        found: what the file holds.
        path: of the file, for the message.
        allow_unexpected: the file may hold more than the model has (a training loss's parameters, say).

    Raises:
        CheckpointError: keys missing, unexpected, of another shape, or holding NaN or Inf.
    """
    faults = []
    if absent := sorted(set(expected) - set(found)):
        faults.append(f"missing keys {_some(absent)}")
    if not allow_unexpected and (unknown := sorted(set(found) - set(expected))):
        faults.append(f"unexpected keys {_some(unknown)}")
    common = sorted(set(expected) & set(found))
    if shapes := [f"{k}: {tuple(found[k].shape)} for {tuple(expected[k].shape)}" for k in common if found[k].shape != expected[k].shape]:
        faults.append(f"other shapes {_some(shapes)}")
    if rotten := [k for k in common if found[k].is_floating_point() and not bool(found[k].isfinite().all())]:
        faults.append(f"NaN or Inf in {_some(rotten)}")
    if faults:
        raise CheckpointError(f"{path} does not fit its model: {'; '.join(faults)}")


def check_loading(info: Mapping[str, object], folder: Path) -> None:
    """Refuses a transformers model whose ``output_loading_info`` names anything missing, unexpected or mis-shaped."""
    faults = []
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        names = info.get(kind)
        if isinstance(names, (list, set, tuple)) and names:
            faults.append(f"{kind.replace('_', ' ')} {_some(sorted(map(str, names)))}")
    if faults:
        raise CheckpointError(f"{folder} does not fit its model: {'; '.join(faults)}")


def _some(names: Sequence[str], limit: int = 5) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
