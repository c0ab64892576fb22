"""QDAC as the harness sees a codec."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.api import Audio, CodecSpec, Codes, Encoded, SystemInfo, Weights
from harness.api.libraries import versions
from systems.qdac.config import QdacConfig, qdac_config

if TYPE_CHECKING:
    from systems.qdac.model import QdacModel

_BUNDLED = Path(__file__).resolve().parents[1] / "weights"


class QdacCodec:
    """QDAC with the first ``num_codebooks`` of its residual codebooks.

    The bundled small weights hold 16 codebooks at 50 Hz and 8 at 25 Hz; fewer are the same weights cut short.

    Args:
        size: "small" (bundled) or "paper" (needs ``checkpoint``, or ``weights="random"`` for timing).
        num_codebooks: 1..16.
        frame_rate: 25 or 50 Hz.
        checkpoint: a safetensors file of `harness train`; the bundled one by default.
        semantic: weights whose codebook 1 was supervised by the recogniser, or, for the ablation, those without.
        weights: "trained" or "random".
        config: shapes other than those of the size, for random weights.
        device: "cpu", "cuda", ...
        seed: of random weights.
        search_width: paths that the encoder's search keeps from codebook to codebook; 1 is the plain residual quantizer.

    Raises:
        ValueError: impossible parameters, or a checkpoint that does not fit them.
        FileNotFoundError: no checkpoint.
    """

    def __init__(
        self,
        size: str = "small",
        num_codebooks: int = 16,
        frame_rate: int = 50,
        checkpoint: str | Path | None = None,
        semantic: bool = True,
        weights: str = "trained",
        config: QdacConfig | None = None,
        device: str = "cpu",
        seed: int = 0,
        search_width: int = 1,
    ) -> None:
        asked = config or qdac_config(size, num_codebooks, frame_rate)
        if weights not in ("trained", "random"):
            raise ValueError(f'weights is "trained" or "random", got {weights!r}')
        if weights == "random":
            if checkpoint is not None:
                raise ValueError('weights="random" and a checkpoint exclude each other')
            model, metadata, digest = _random(asked, seed)
        else:
            path = _path(size, frame_rate, checkpoint, semantic)
            if path is None:
                raise ValueError(str(_advice(size)))
            from systems.checkpoints import load
            from systems.qdac.model import QdacModel

            loaded = load(path, "qdac", QdacModel, QdacConfig)
            model, metadata, digest = loaded.model, dict(loaded.metadata), loaded.digest
            _check(model.config, asked, metadata, size, semantic, str(path))
        self._model = model.to(device)
        self._device, self._search_width = device, search_width
        if search_width < 1:
            raise ValueError(f"search_width is at least 1, got {search_width}")
        kept, full = asked.num_codebooks, model.config
        self.spec = CodecSpec(
            sample_rate=full.sample_rate, hop_length=full.hop, codebook_sizes=(full.codebook_size,) * kept, prefix_decodable=True
        )
        told = ", recogniser on codebook 1" if metadata.get("semantic", "true") == "true" else ", no recogniser"
        self.info = SystemInfo(
            family="qdac",
            version="1",
            description=f"QDAC {size}, {kept} x {full.codebook_size} at {full.frame_rate_hz:g} Hz"
            + (told if weights == "trained" else "")
            + (f", {search_width} search paths" if search_width > 1 else ""),
            size=size,
            weights=Weights.TRAINED if weights == "trained" else Weights.RANDOM,
            weights_digest=digest,
            num_parameters=_size_of(model, kept),
            training_data=_learnt_from(metadata),
            device=device,
            tools=versions("torch"),
        )

    @classmethod
    def missing(
        cls,
        size: str = "small",
        num_codebooks: int = 16,
        frame_rate: int = 50,
        checkpoint: str | Path | None = None,
        semantic: bool = True,
        weights: str = "trained",
        **rest: object,
    ) -> str | None:
        """Why this variant cannot be built here, or None."""
        if weights == "random":
            return None
        path = _path(size, frame_rate, checkpoint, semantic)
        if path is None:
            return _advice(size)
        return None if path.is_file() else f"no QDAC checkpoint at {path}; train one with: harness train system=qdac16 data=MANIFEST"

    def encode(self, audio: Audio) -> Codes:
        """Codes of one utterance; a last partial frame is filled with zeros.

        Raises:
            ValueError: another sample rate, or more than one channel.
        """
        import torch

        spec = self.spec
        if audio.sample_rate != spec.sample_rate:
            raise ValueError(f"QDAC takes {spec.sample_rate} Hz here, got audio at {audio.sample_rate} Hz")
        if audio.num_channels != 1:
            raise ValueError(f"QDAC takes one channel, got {audio.num_channels}")
        frames = -(-audio.num_samples // spec.hop_length)
        if not frames:
            return Codes(np.zeros((spec.num_codebooks, 0), dtype=np.int64), spec, 0)
        padded = np.zeros((1, frames * spec.hop_length), dtype=np.float32)
        padded[:, : audio.num_samples] = audio.samples
        with torch.inference_mode():
            indices = self._model.encode(torch.from_numpy(padded).to(self._device), spec.num_codebooks, self._search_width)
        return Codes(indices[0].cpu().numpy(), spec, audio.num_samples)

    def decode(self, encoded: Encoded) -> Audio:
        """The waveform of codes, or of the first b codebooks of them.

        Raises:
            ValueError: codes of another codec.
        """
        import torch

        if not isinstance(encoded, Codes):
            raise ValueError(f"QDAC decodes Codes, got {type(encoded).__name__}")
        if replace(encoded.spec, codebook_sizes=()) != replace(self.spec, codebook_sizes=()) or not (
            1 <= encoded.num_codebooks <= self._model.config.num_codebooks
        ):
            raise ValueError(f"these codes were made with {encoded.spec}, this codec is {self.spec}")
        if not encoded.num_frames:
            return Audio.mono(np.zeros(encoded.num_samples, dtype=np.float32), self.spec.sample_rate)
        with torch.inference_mode():
            audio = self._model.decode(torch.tensor(encoded.indices)[None].to(self._device))
        return Audio.mono(audio[0, : encoded.num_samples].float().cpu().numpy(), self.spec.sample_rate)


def _path(size: str, frame_rate: int, checkpoint: str | Path | None, semantic: bool) -> Path | None:
    if checkpoint is not None:
        return Path(checkpoint)
    if size != "small":
        return None
    name = "qdac16" if frame_rate == 50 else "qdac8_25hz"
    return _BUNDLED / f"{name}{'' if semantic else '_noasr'}_small.safetensors"


def _advice(size: str) -> str:
    return (
        f"QDAC of size {size!r} has no bundled weights: give checkpoint=FILE.safetensors (from harness train), "
        "or weights=random to measure speed only"
    )


def _random(config: QdacConfig, seed: int) -> tuple[QdacModel, dict[str, str], str]:
    from systems.checkpoints import untrained
    from systems.qdac.model import QdacModel

    loaded = untrained(lambda: QdacModel(config), seed)
    return loaded.model, {}, loaded.digest


def _check(found: QdacConfig, asked: QdacConfig, metadata: dict[str, str], size: str, semantic: bool, source: str) -> None:
    if metadata.get("size", size) != size:
        raise ValueError(f"{source} is of size {metadata['size']!r}, asked was {size!r}")
    if (found.sample_rate, found.hop) != (asked.sample_rate, asked.hop):
        raise ValueError(
            f"{source} runs at {found.sample_rate} Hz with {found.frame_rate_hz:g} frames a second, "
            f"asked was {asked.sample_rate} Hz with {asked.frame_rate_hz:g}"
        )
    if found.num_codebooks < asked.num_codebooks:
        raise ValueError(f"{source} has {found.num_codebooks} codebooks, asked were {asked.num_codebooks}")
    if metadata.get("semantic") not in (None, "true" if semantic else "false"):
        raise ValueError(f"{source} says semantic={metadata['semantic']}, asked was semantic={str(semantic).lower()}")


def _learnt_from(metadata: dict[str, str]) -> str:
    if "num_items" in metadata and "data_hours" in metadata:  # as the training loop writes them
        return f"{metadata['num_items']} recordings, {float(metadata['data_hours']):.2f} h"
    return metadata.get("training_data", "")


def _size_of(model: QdacModel, kept: int) -> int:
    """Numbers in encoder, decoder and the codebooks that are used."""
    networks = sum(p.numel() for part in (model.encoder, model.decoder) for p in part.parameters())
    quantizer = model.quantizer
    lists = [list(quantizer.codebooks)]
    lists += [list(getattr(quantizer, name)) for name in ("project_in", "project_out") if hasattr(quantizer, name)]
    return networks + sum(p.numel() for modules in lists for module in modules[:kept] for p in module.parameters())
