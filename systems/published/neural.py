"""What the adapters of published neural codecs share: where weights lie, loading with every doubt refused, codes in and out.

Nothing is downloaded here. Licences, training data and pinned commits of releases are as told in public sources, not checked against the
hub: read the model card before use.

Random weights are known by three things, any of which is enough: ``weights="random"`` builds the network from its release's shape; a
checkpoint's config.json may say ``"untrained": true``; and parameters that every training moves still have their starting values.
"""

from __future__ import annotations

import abc
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.api import CodecSpec, HubFiles, SystemInfo, Weights
from harness.api.libraries import versions
from systems.bundled import some
from systems.pcm import FrameCodec

if TYPE_CHECKING:
    import torch

MARK = "untrained"
"""Key of a checkpoint's config.json; true where its weights are random."""


TRANSFORMERS = ("transformers", "pip install 'speech-systems-harness[hf]'")


@dataclass(frozen=True)
class Release:
    """Somebody's published weights."""

    title: str  # of the codec
    hub_id: str
    licence: str  # of the weights
    training_data: str  # as their authors say
    package: tuple[str, str] = TRANSFORMERS  # module that loads them, and the line that installs it
    # That make a folder complete, of every inner sequence at least one.
    files: Sequence[Sequence[str]] = (("config.json",), ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"))
    subfolder: str = ""  # of the hub repository


@dataclass(frozen=True)
class Found:
    """A complete folder of weights."""

    folder: Path  # absolute
    label: str  # the folder's name, or the hub id with its revision


def missing_package(release: Release) -> str | None:
    """Why the release's package cannot be found, with the line that installs it; None where it is installed."""
    module, line = release.package
    return None if importlib.util.find_spec(module) is not None else f"{release.title} needs the package {module}: {line}"


def wanted(release: Release, checkpoint: str | None, revision: str | None) -> HubFiles | None:
    """What of a hub is asked for; None where a folder is.

    Args:
        checkpoint: a folder, or another hub id with them; None for the release's own.
        revision: commit of the hub id; None for what its main branch has.
    """
    name = checkpoint or release.hub_id
    if Path(name).expanduser().is_dir():
        return None
    licence = release.licence if name == release.hub_id else ""
    return HubFiles(name, release.files, revision or "", licence, subfolder=release.subfolder)


def locate(release: Release, checkpoint: str | None, revision: str | None) -> Found | None:
    """The weights on this machine, or None.

    Args:
        release, checkpoint: see `wanted`; a hub id is looked up in the local Hugging Face cache.
        revision: as there; None for the one its main branch had when it was fetched. Says nothing about a folder.
    """
    hub = wanted(release, checkpoint, revision)
    if hub is not None:
        there = hub.located()
        return Found(*there) if there is not None else None
    folder = Path(checkpoint or release.hub_id).expanduser().resolve()
    complete = HubFiles("", release.files, subfolder=release.subfolder).complete(folder)
    return Found(complete, folder.name) if complete is not None else None


def missing_weights(release: Release, checkpoint: str | None, revision: str | None) -> str | None:
    """None when `locate` finds them, else one sentence: what was looked for, how to get it, and under which licence."""
    if locate(release, checkpoint, revision) is not None:
        return None
    hub = wanted(release, checkpoint, revision)
    files = ", ".join(" or ".join(choice) for choice in release.files)
    if hub is None:
        return f"the folder {checkpoint or release.hub_id} lacks some of {files}"
    fetch = f"hf download {hub.hub_id if hub.hub_id.count('/') == 1 else release.hub_id}" + (f" --revision {revision}" if revision else "")
    return (
        f"no weights '{hub.hub_id}'{f' of revision {revision[:12]}' if revision else ''} in the local Hugging Face cache, and no folder of "
        f"that name: `harness fetch` with the system's name, or {fetch} (licence: {release.licence}), or checkpoint=FOLDER (with {files}), "
        "or weights=random for speed only"
    )


@dataclass(eq=False, repr=False, kw_only=True)
class NeuralCodec(FrameCodec):
    """A published codec behind the harness's protocol; a subclass adds the fields of its own variants.

    Utterances go through alone: in a batch, DAC, Mimi and X-Codec let the padding of a shorter one be heard in its codes (the contract
    test shows it), and no batches are offered by any.

    Args:
        checkpoint: a folder, or a hub id in the local cache; None for the release's own.
        revision: commit of the hub id, None for the cached one.
        weights: "trained", or "random" for speed only.
        seed: of random weights.

    Raises:
        ValueError: impossible parameters, or weights that do not fit the network.
        FileNotFoundError: no weights here; see `missing`.
        ImportError: the package is not installed.
    """

    family: ClassVar[str]
    version: ClassVar[str] = "1"
    release: ClassVar[Release]
    starts: ClassVar[Mapping[str, float]]
    """Endings of the names of tensors that training moves, with the value all of them start from."""

    checkpoint: str | None = None
    revision: str | None = None
    weights: str = "trained"
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.weights not in ("trained", "random"):
            raise ValueError(f'weights is "trained" or "random", got {self.weights!r}')
        release = self.release_for(**asdict(self))
        if absent := missing_package(release):
            raise ImportError(absent)
        found = None
        if self.weights == "trained" and (found := locate(release, self.checkpoint, self.revision)) is None:
            raise FileNotFoundError(missing_weights(release, self.checkpoint, self.revision))
        import torch

        with torch.random.fork_rng(devices=[]):  # packages draw starting values also where a file then replaces them
            torch.manual_seed(self.seed)
            model, config = self._built() if found is None else self._loaded(found)
        _check_finite(model, found.label if found else release.title)
        random = found is None or config.get(MARK) is True or self.untouched(model)
        self._model = model.to(self.device).eval().requires_grad_(False)
        self.spec = spec = self._spec()
        shape = f"{spec.num_codebooks} x {spec.codebook_sizes[0]} at {spec.frame_rate_hz:.4g} Hz"
        module, _ = release.package
        from systems.checkpoints import digest

        self.info = SystemInfo(
            family=self.family,
            version=self.version,
            description=f"{release.title}{self._setting()}, {shape}, {found.label if found else 'untrained'}",
            weights=Weights.RANDOM if random else Weights.TRAINED,
            weights_digest=digest(model.state_dict()),
            num_parameters=_size(model),
            training_data="" if random else release.training_data,
            device=self.device,
            tools=(*versions(*dict.fromkeys((module, "torch"))), ("weights", found.label if found else f"random, seed {self.seed}")),
        )
        self._shortfall = self._measured_shortfall()

    @classmethod
    def missing(cls, *, checkpoint: str | None = None, revision: str | None = None, weights: str = "trained", **others: Any) -> str | None:
        """Why this variant cannot be built here, or None."""
        release = cls.release_for(**others)
        if reason := missing_package(release):
            return reason
        return None if weights == "random" else missing_weights(release, checkpoint, revision)

    @classmethod
    def downloads(
        cls, *, checkpoint: str | None = None, revision: str | None = None, weights: str = "trained", **others: Any
    ) -> tuple[HubFiles, ...]:
        """What `harness fetch` gets for this variant; nothing where a folder is given or weights are drawn."""
        found = None if weights == "random" else wanted(cls.release_for(**others), checkpoint, revision)
        return () if found is None else (found,)

    @classmethod
    def broken(cls) -> str | None:
        """Why the installed package cannot be used, or None. Imports it."""
        package, _ = cls.release.package
        if importlib.util.find_spec(package) is None:
            return None
        try:
            cls.network()
        except Exception as error:  # a half-installed package fails in any way: it is reported, with the reason
            return f"{package} is installed but {cls.__name__}'s model cannot be imported: {str(error).strip().splitlines()[0]}"
        return None

    @classmethod
    def release_for(cls, **others: Any) -> Release:
        """The release that the variant's own parameters ask for."""
        return cls.release

    @classmethod
    def untouched(cls, model: torch.nn.Module) -> bool:
        """Whether every tensor that training moves still has its starting value."""
        watched = [(t, start) for name, t in model.state_dict().items() for end, start in cls.starts.items() if name.endswith(end)]
        return bool(watched) and all(bool((tensor == start).all()) for tensor, start in watched)

    def _coded(self, samples: torch.Tensor) -> tuple[torch.Tensor, Mapping[str, Any]]:
        return self._indices(samples[:, None]), {}

    def _decoded(self, indices: torch.Tensor, side: Mapping[str, Any]) -> torch.Tensor:
        return self._samples(indices)

    @abc.abstractmethod
    def _indices(self, samples: torch.Tensor) -> torch.Tensor:
        """``[K, T]`` of ``samples [1, 1, N]``."""

    @abc.abstractmethod
    def _samples(self, indices: torch.Tensor) -> torch.Tensor:
        """``[M]`` of ``indices [1, K, T]``."""

    @classmethod
    @abc.abstractmethod
    def network(cls) -> Any:
        """The package's class, imported now."""

    @abc.abstractmethod
    def _spec(self) -> CodecSpec:
        """Read from the network."""

    @abc.abstractmethod
    def _built(self) -> tuple[Any, Mapping[str, Any]]:
        """The network in its release's shape with random weights, and its configuration."""

    @abc.abstractmethod
    def _loaded(self, found: Found) -> tuple[Any, Mapping[str, Any]]:
        """The network with its weights, and its configuration."""

    def _setting(self) -> str:
        """What of the variant is told beside its codebooks: " at 6 kbps"."""
        return ""

    def _books(self, asked: int | None, available: int) -> int:
        """How many codebooks are used: as many as were asked for, all where nothing was said.

        Raises:
            ValueError: the network has not so many.
        """
        books = available if asked is None else asked
        if not 1 <= books <= available:
            raise ValueError(f"this {self.release.title} has 1 to {available} codebooks, asked were {books}")
        return books

    def _measured_shortfall(self) -> int:
        """Samples that decoding lacks of its frames: DAC's transposed convolutions of odd stride lose some."""
        import torch

        frames = 4
        with torch.inference_mode():
            heard = self._samples(torch.zeros(1, self.spec.num_codebooks, frames, dtype=torch.long, device=self.device)).numel()
        return max(0, frames * self.spec.hop_length - heard)


def scatter_codebooks(model: torch.nn.Module, scale: float = 1e-3) -> None:
    """Fills codebooks that start as zeros with normal numbers: all codes would be 0 otherwise, and nothing of a rate be exercised.

    Args:
        scale: of the numbers; small, as are the latents of an untrained encoder.
    """
    import torch

    for name, buffer in model.named_buffers():
        if name.rpartition(".")[2] in ("embed", "embed_sum") and not bool(buffer.any()):
            buffer.copy_(torch.randn(buffer.shape) * scale)


def _check_finite(model: torch.nn.Module, label: str) -> None:
    rotten = [n for n, t in model.state_dict().items() if t.is_floating_point() and not bool(t.isfinite().all())]
    if rotten:
        raise ValueError(f"the weights of {label} hold NaN or Inf in {some(rotten)}")


def _size(model: torch.nn.Module) -> int:
    """Numbers in the network, codebooks included where they are buffers."""
    books = sum(b.numel() for name, b in model.named_buffers() if name.rpartition(".")[2] in ("embed", "embed_sum"))
    return sum(p.numel() for p in model.parameters()) + books
