"""What the adapters of published neural codecs share: loading with every doubt refused, whole frames, codes in and out.

Random weights are known by three things, any of which is enough: ``weights="random"`` builds the network from its release's shape; a
checkpoint's config.json may say ``"untrained": true``; and parameters that every training moves still have their starting values.
"""

from __future__ import annotations

import abc
import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.api import Audio, CodecSpec, Codes, Encoded, SystemInfo, Weights
from harness.api.libraries import versions
from systems.classical.pcm import compensated, framed, frames_for, mono
from systems.published.release import Found, Release, locate, missing_package, missing_weights

if TYPE_CHECKING:
    import torch

MARK = "untrained"
"""Key of a checkpoint's config.json; true where its weights are random."""


@dataclass(frozen=True)
class Asked:
    """How weights are asked for.

    Args:
        checkpoint: a folder or a hub id; None for the release's own.
        revision: commit of the hub id, None for the cached one.
        weights: "trained" or "random".
        seed: of random weights.
        device: "cpu", "cuda", ...
    """

    checkpoint: str | None = None
    revision: str | None = None
    weights: str = "trained"
    seed: int = 0
    device: str = "cpu"


class NeuralCodec(abc.ABC):
    """A published codec behind the harness's protocol.

    Utterances go through alone: in a batch, DAC, Mimi and X-Codec let the padding of a shorter one be heard in its codes (the contract
    test shows it), and no batches are offered by any.

    Args:
        asked: for which weights.

    Raises:
        ValueError: impossible parameters, or weights that do not fit the network.
        FileNotFoundError: no weights here; see `missing`.
        ImportError: the package is not installed.
    """

    family: ClassVar[str]
    version: ClassVar[str] = "1"
    release: Release
    starts: ClassVar[Mapping[str, float]]
    """Endings of the names of tensors that training moves, with the value all of them start from."""
    whole_frames: ClassVar[bool] = True
    """The codec's own preparation fills the last frame with zeros; otherwise its network takes any length."""

    def __init__(self, asked: Asked) -> None:
        if asked.weights not in ("trained", "random"):
            raise ValueError(f'weights is "trained" or "random", got {asked.weights!r}')
        if absent := missing_package(self.release):
            raise ImportError(absent)
        found = None if asked.weights == "random" else self._located(asked)
        import torch

        with torch.random.fork_rng(devices=[]):  # packages draw starting values also where a file then replaces them
            torch.manual_seed(asked.seed)
            model, config = self._built() if found is None else self._loaded(found)
        _check_finite(model, found.label if found else self.release.title)
        random = found is None or config.get(MARK) is True or self.untouched(model)
        self._model = model.to(asked.device).eval().requires_grad_(False)
        self._device = asked.device
        self.spec = self._spec()
        module, _ = self.release.package
        from systems.checkpoints import digest

        self.info = SystemInfo(
            family=self.family,
            version=self.version,
            description=f"{self._description()}, {found.label if found else 'untrained'}",
            weights=Weights.RANDOM if random else Weights.TRAINED,
            weights_digest=digest(model.state_dict()),
            num_parameters=_size(model),
            training_data="" if random else self.release.training_data,
            device=asked.device,
            tools=(*versions(*dict.fromkeys((module, "torch"))), ("weights", found.label if found else f"random, seed {asked.seed}")),
        )
        self._shortfall = self._measured_shortfall()

    @classmethod
    def missing(cls, *, checkpoint: str | None = None, revision: str | None = None, weights: str = "trained", **_: Any) -> str | None:
        """Why this variant cannot be built here, or None."""
        return cls.missing_for(cls.release, Asked(checkpoint, revision, weights))

    @classmethod
    def missing_for(cls, release: Release, asked: Asked) -> str | None:
        """Why weights cannot be had here, or None."""
        if reason := missing_package(release):
            return reason
        return None if asked.weights == "random" else missing_weights(release, asked.checkpoint, asked.revision)

    @classmethod
    def untouched(cls, model: torch.nn.Module) -> bool:
        """Whether every tensor that training moves still has its starting value."""
        watched = [(t, start) for name, t in model.state_dict().items() for end, start in cls.starts.items() if name.endswith(end)]
        return bool(watched) and all(bool((tensor == start).all()) for tensor, start in watched)

    def encode(self, audio: Audio) -> Codes:
        """Codes of one utterance.

        Raises:
            ValueError: another sample rate, or more than one channel.
        """
        import torch

        spec = self.spec
        samples = mono(audio, spec.sample_rate)
        frames = frames_for(samples.size, self._shortfall, spec.hop_length)
        if not frames:
            return Codes(np.zeros((spec.num_codebooks, 0), dtype=np.int64), spec, 0)
        if self.whole_frames:
            samples = framed(samples, frames * spec.hop_length, 1)[0]
        with torch.inference_mode():
            indices = self._indices(torch.from_numpy(np.array(samples, np.float32))[None, None].to(self._device)).cpu().numpy()
        if indices.shape != (spec.num_codebooks, frames):
            raise RuntimeError(f"{self.release.title} gave codes of shape {indices.shape}, expected {(spec.num_codebooks, frames)}")
        return Codes(indices, spec, audio.num_samples)

    def decode(self, encoded: Encoded) -> Audio:
        """The waveform of codes, or of the first b codebooks of them.

        Raises:
            ValueError: codes of another codec.
        """
        import torch

        if not isinstance(encoded, Codes):
            raise ValueError(f"{self.release.title} decodes Codes, got {type(encoded).__name__}")
        if replace(encoded.spec, codebook_sizes=()) != replace(self.spec, codebook_sizes=()) or encoded.num_codebooks < 1:
            raise ValueError(f"these codes were made with {encoded.spec}, this codec is {self.spec}")
        if not encoded.num_frames:
            return Audio.mono(np.zeros(encoded.num_samples, dtype=np.float32), self.spec.sample_rate)
        with torch.inference_mode():
            samples = self._samples(torch.tensor(encoded.indices)[None].to(self._device))
        return compensated(samples.float().cpu().numpy(), 0, encoded.num_samples, self.spec.sample_rate)

    @abc.abstractmethod
    def _indices(self, samples: torch.Tensor) -> torch.Tensor:
        """``[K, T]`` of ``samples [1, 1, N]``."""

    @abc.abstractmethod
    def _samples(self, indices: torch.Tensor) -> torch.Tensor:
        """``[M]`` of ``indices [1, K, T]``."""

    @abc.abstractmethod
    def _spec(self) -> CodecSpec:
        """Read from the network."""

    @abc.abstractmethod
    def _description(self) -> str:
        """One line without the weights' name."""

    @abc.abstractmethod
    def _built(self) -> tuple[Any, Mapping[str, Any]]:
        """The network in its release's shape with random weights, and its configuration."""

    @abc.abstractmethod
    def _loaded(self, found: Found) -> tuple[Any, Mapping[str, Any]]:
        """The network with its weights, and its configuration."""

    def _located(self, asked: Asked) -> Found:
        found = locate(self.release, asked.checkpoint, asked.revision)
        if found is None:
            raise FileNotFoundError(missing_weights(self.release, asked.checkpoint, asked.revision))
        return found

    def _measured_shortfall(self) -> int:
        """Samples that decoding lacks of its frames: DAC's transposed convolutions of odd stride lose some."""
        import torch

        frames = 4
        with torch.inference_mode():
            heard = self._samples(torch.zeros(1, self.spec.num_codebooks, frames, dtype=torch.long, device=self._device)).numel()
        return max(0, frames * self.spec.hop_length - heard)


class TransformersCodec(NeuralCodec):
    """A codec that transformers carries."""

    model_class: ClassVar[str]
    config_class: ClassVar[str]

    @classmethod
    def broken(cls) -> str | None:
        """Why the installed package cannot be used, or None. Imports it."""
        if importlib.util.find_spec("transformers") is None:
            return None
        try:
            from_transformers(cls.model_class)
        except Exception as error:  # a half-installed package fails in any way: it is reported, with the reason
            return f"transformers is installed but {cls.model_class} cannot be imported: {str(error).strip().splitlines()[0]}"
        return None

    def _shape(self) -> dict[str, Any]:
        """Arguments of the configuration that give the release's shape, where its defaults do not."""
        return {}

    def _built(self) -> tuple[Any, Mapping[str, Any]]:
        model = from_transformers(self.model_class)(from_transformers(self.config_class)(**self._shape()))
        scatter_codebooks(model)
        return model, {}

    def _loaded(self, found: Found) -> tuple[Any, Mapping[str, Any]]:
        import torch

        safe = not (found.folder / "pytorch_model.bin").is_file() or (found.folder / "model.safetensors").is_file()
        config = json.loads((found.folder / "config.json").read_text(encoding="utf-8"))
        kind = config.get("model_type")
        expected = from_transformers(self.config_class).model_type
        if kind != expected:
            raise ValueError(f"{found.label} holds a model of type {kind!r}, {self.release.title} is {expected!r}")
        with _quiet():
            # A pickled file is read by transformers with weights_only=True, so that no code in it runs.
            model, told = from_transformers(self.model_class).from_pretrained(
                found.folder, dtype=torch.float32, use_safetensors=safe, local_files_only=True, output_loading_info=True,
                ignore_mismatched_sizes=True,
            )  # fmt: skip
        _check_loading(told, found.label)
        return model, config


def scatter_codebooks(model: torch.nn.Module, scale: float = 1e-3) -> None:
    """Fills codebooks that start as zeros with normal numbers: all codes would be 0 otherwise, and nothing of a rate be exercised.

    Args:
        model: an untrained network.
        scale: of the numbers; small, as are the latents of an untrained encoder.
    """
    import torch

    for name, buffer in model.named_buffers():
        if name.rpartition(".")[2] in ("embed", "embed_sum") and not bool(buffer.any()):
            buffer.copy_(torch.randn(buffer.shape) * scale)


def from_transformers(name: str) -> Any:
    """A class of transformers by name, imported now."""
    return getattr(importlib.import_module("transformers"), name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own progress bars, which would run into the harness's."""
    bars: Any = importlib.import_module("transformers.utils.logging")
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


def _check_loading(told: Mapping[str, Any], label: str) -> None:
    """Refuses weights of which anything is missing, unexpected or misshapen: transformers would go on with random numbers."""
    kinds = {"missing_keys": "missing", "unexpected_keys": "unexpected", "mismatched_keys": "misshapen", "error_msgs": "errors"}
    faults = [f"{word}: {_some(sorted(map(str, told[kind])))}" for kind, word in kinds.items() if told.get(kind)]
    if faults:
        raise ValueError(f"the weights of {label} do not fit their configuration; {'; '.join(faults)}")


def _check_finite(model: torch.nn.Module, label: str) -> None:
    rotten = [n for n, t in model.state_dict().items() if t.is_floating_point() and not bool(t.isfinite().all())]
    if rotten:
        raise ValueError(f"the weights of {label} hold NaN or Inf in {_some(rotten)}")


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _size(model: torch.nn.Module) -> int:
    """Numbers in the network, codebooks included where they are buffers."""
    books = sum(b.numel() for name, b in model.named_buffers() if name.rpartition(".")[2] in ("embed", "embed_sum"))
    return sum(p.numel() for p in model.parameters()) + books
