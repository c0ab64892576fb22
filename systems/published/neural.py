"""What the adapters of published neural codecs share: loading with every doubt refused, whole frames, codes in and out.

Random weights are known by three things, any of which is enough: ``weights="random"`` builds the network from its release's shape; a
checkpoint's config.json may say ``"untrained": true``; and parameters that every training moves still have their starting values.
"""

from __future__ import annotations

import abc
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.api import Audio, CodecSpec, Codes, Encoded, HubFiles, SystemInfo, Weights
from harness.api.libraries import versions
from systems.pcm import compensated, framed, frames_for, mono
from systems.published.release import Found, Release, locate, missing_package, missing_weights, wanted

if TYPE_CHECKING:
    import torch

MARK = "untrained"
"""Key of a checkpoint's config.json; true where its weights are random."""


@dataclass(frozen=True)
class Asked:
    """How weights are asked for; the constructors of all published codecs take these beside their own parameters.

    Args:
        checkpoint: a folder, or a hub id in the local cache; None for the release's own.
        revision: commit of the hub id, None for the cached one.
        weights: "trained", or "random" for speed only.
        device: "cpu", "cuda", ...
        seed: of random weights.
    """

    checkpoint: str | None = None
    revision: str | None = None
    weights: str = "trained"
    device: str = "cpu"
    seed: int = 0


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
    num_codebooks: int | None = None
    """Asked for; None for what the network has, or its bandwidth gives."""
    setting: str = ""
    """What of the variant is told beside its codebooks: " at 6 kbps"."""
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
        self.spec = spec = self._spec()
        shape = f"{spec.num_codebooks} x {spec.codebook_sizes[0]} at {spec.frame_rate_hz:.4g} Hz"
        module, _ = self.release.package
        from systems.checkpoints import digest

        self.info = SystemInfo(
            family=self.family,
            version=self.version,
            description=f"{self.release.title}{self.setting}, {shape}, {found.label if found else 'untrained'}",
            weights=Weights.RANDOM if random else Weights.TRAINED,
            weights_digest=digest(model.state_dict()),
            num_parameters=_size(model),
            training_data="" if random else self.release.training_data,
            device=asked.device,
            tools=(*versions(*dict.fromkeys((module, "torch"))), ("weights", found.label if found else f"random, seed {asked.seed}")),
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

    def _books(self, available: int) -> int:
        """How many codebooks are used: as many as were asked for, all where nothing was said.

        Raises:
            ValueError: the network has not so many.
        """
        books = available if self.num_codebooks is None else self.num_codebooks
        if not 1 <= books <= available:
            raise ValueError(f"this {self.release.title} has 1 to {available} codebooks, asked were {books}")
        return books

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


def _check_finite(model: torch.nn.Module, label: str) -> None:
    rotten = [n for n, t in model.state_dict().items() if t.is_floating_point() and not bool(t.isfinite().all())]
    if rotten:
        raise ValueError(f"the weights of {label} hold NaN or Inf in {some(rotten)}")


def some(names: Sequence[str], most: int = 5) -> str:
    """The first of many names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _size(model: torch.nn.Module) -> int:
    """Numbers in the network, codebooks included where they are buffers."""
    books = sum(b.numel() for name, b in model.named_buffers() if name.rpartition(".")[2] in ("embed", "embed_sum"))
    return sum(p.numel() for p in model.parameters()) + books
