"""QDAC as the harness sees a codec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api import CodecSpec, SystemInfo, Weights
from harness.api.libraries import versions
from systems.bundled import lacking, located
from systems.pcm import FrameCodec
from systems.qdac.config import QdacConfig, qdac_config

if TYPE_CHECKING:
    from torch import Tensor

    from systems.checkpoints import Loaded
    from systems.qdac.model import QdacModel


class QdacCodec(FrameCodec):
    """QDAC, or the first so many of its codebooks.

    ```python
    codec = QdacCodec("qdac16", num_codebooks=8)
    audio = codec.decode(codec.encode(harness.api.Audio.mono(samples, 16000)))
    ```

    Args:
        checkpoint: a bundled name, or the path of a safetensors file of `harness train`; the file says everything about the model.
        num_codebooks: the first so many that it holds; all by default.
        search_width: paths that the encoder's search keeps from codebook to codebook; 1 is the plain residual quantizer.
        weights: "trained", or "random" to measure speed only: numbers drawn anew in the shape of the checkpoint or of ``shape``.
        shape: of random weights: arguments of `systems.qdac.config.qdac_config`, such as ``{"size": "paper"}``, or a configuration.
        seed: of random weights.

    Raises:
        ValueError: impossible parameters, or a file that holds no QDAC.
        FileNotFoundError: no checkpoint, see `missing`.
    """

    def __init__(
        self,
        checkpoint: str | Path | None = "qdac16",
        num_codebooks: int | None = None,
        search_width: int = 1,
        weights: str = "trained",
        shape: Mapping[str, Any] | QdacConfig | None = None,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        if search_width < 1:
            raise ValueError(f"search_width is at least 1, got {search_width}")
        if reason := self.missing(checkpoint, weights, shape):
            raise FileNotFoundError(reason)
        loaded = _loaded(checkpoint, weights, shape, seed)
        full, told = loaded.model.config, loaded.metadata
        kept = full.num_codebooks if num_codebooks is None else num_codebooks
        if not 1 <= kept <= full.num_codebooks:
            raise ValueError(f"{checkpoint} has {full.num_codebooks} codebooks, asked were {kept}")
        self._model = loaded.model.to(device)
        self.device, self._search_width = device, search_width
        self.spec = CodecSpec(
            sample_rate=full.sample_rate, hop_length=full.hop, codebook_sizes=(full.codebook_size,) * kept, prefix_decodable=True
        )
        supervised = ", recogniser on codebook 1" if told.get("semantic", "true") == "true" else ", no recogniser"
        self.info = SystemInfo(
            family="qdac",
            version="1",
            description=f"QDAC {told['size']}, {kept} x {full.codebook_size} at {full.frame_rate_hz:g} Hz"
            + (supervised if weights == "trained" else "")
            + (f", {search_width} search paths" if search_width > 1 else ""),
            size=told["size"],
            weights=Weights(weights),
            weights_digest=loaded.digest,
            num_parameters=_size_of(loaded.model, kept),
            training_data=loaded.training_data,
            device=device,
            tools=versions("torch"),
        )

    @classmethod
    def missing(
        cls, checkpoint: str | Path | None = "qdac16", weights: str = "trained", shape: object = None, **others: object
    ) -> str | None:
        """Why it cannot be built here, or None."""
        return lacking({"checkpoint": checkpoint}, weights, shape)

    def _decodable(self) -> CodecSpec:
        return replace(self.spec, codebook_sizes=self.spec.codebook_sizes[:1] * self._model.config.num_codebooks)

    def _coded(self, samples: Tensor) -> tuple[Tensor, Mapping[str, Any]]:
        return self._model.encode(samples, self.spec.num_codebooks, self._search_width)[0], {}

    def _decoded(self, indices: Tensor, side: Mapping[str, Any]) -> Tensor:
        return self._model.decode(indices)[0]


def _loaded(checkpoint: str | Path | None, weights: str, shape: Mapping[str, Any] | QdacConfig | None, seed: int) -> Loaded[QdacModel]:
    """The model with its metadata, ``size`` among them."""
    from systems.checkpoints import load, untrained
    from systems.qdac.model import QdacModel

    if weights == "random" and shape is not None:
        config = shape if isinstance(shape, QdacConfig) else qdac_config(**shape)
        size = "paper" if config.front == "waveform" else "small"
    else:
        assert checkpoint is not None  # `missing` has said so
        found = load(located(checkpoint), "qdac", QdacModel, QdacConfig)
        config, size = found.model.config, found.metadata.get("size", "small")
        if weights == "trained":
            return replace(found, metadata={**found.metadata, "size": size})
    return replace(untrained(lambda: QdacModel(config), seed), metadata={"size": size})


def _size_of(model: QdacModel, kept: int) -> int:
    """Numbers in encoder, decoder and the codebooks that are used."""
    networks = sum(p.numel() for part in (model.encoder, model.decoder) for p in part.parameters())
    quantizer = model.quantizer
    lists = [list(quantizer.codebooks)]
    lists += [list(getattr(quantizer, name)) for name in ("project_in", "project_out") if hasattr(quantizer, name)]
    return networks + sum(p.numel() for modules in lists for module in modules[:kept] for p in module.parameters())
