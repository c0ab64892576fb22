"""SoCodec as the harness sees a codec."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from harness.api import Audio, CodecSpec, Codes, Encoded, SystemInfo, Weights
from harness.api.libraries import versions
from systems.socodec.config import SAMPLE_RATE, QuantizerName, SocodecConfig, Source
from systems.socodec.variant import Files, SocodecVariant

_SIDE = "utterance"


class SocodecCodec:
    """SoCodec, from audio at 16 kHz to streams of codes with one utterance embedding beside them, and back.

    The embedding is side information: D float32 numbers an utterance (6,144 bits of the small size, 32,768 of the paper's), apart from
    the bit rate of the codes, as in the paper.

    Args:
        size: "small" (bundled) or "paper" (needs ``checkpoint``, ``vocoder`` and ``ssl``, or ``weights="random"`` for timing).
        frame_ms: 40 (1 stream), 120 (4 streams) or 240 (8 streams).
        quantizer: "opq", "pq", "rq" or "orq", see `systems.socodec.config`.
        source: "ssl" or "mel": what the encoder sees.
        semantic: trained to tell the features, too.
        checkpoint: of the codec: a safetensors file of `harness train` or in the released layout.
        vocoder: a safetensors file of the small vocoder or of a BigVGAN in the released layout.
        ssl: a HuBERT folder of transformers or state of torchaudio (paper), or a safetensors file of the speech encoder (small).
        weights: "trained" or "random".
        config: shapes other than those of the size, for random weights.
        device: "cpu", "cuda", ...
        seed: of random weights.
        training_seed: which of several trainings of the same variant, for bundled weights.

    Raises:
        ValueError: impossible parameters, or files that do not fit them.
        FileNotFoundError: no such file.
        RuntimeError: HuBERT is asked for and transformers is not installed.
    """

    def __init__(
        self,
        size: str = "small",
        frame_ms: int = 120,
        quantizer: QuantizerName = "opq",
        source: Source = "ssl",
        semantic: bool = True,
        checkpoint: str | Path | None = None,
        vocoder: str | Path | None = None,
        ssl: str | Path | None = None,
        weights: str = "trained",
        config: SocodecConfig | None = None,
        device: str = "cpu",
        seed: int = 0,
        training_seed: int = 0,
    ) -> None:
        variant = SocodecVariant(size, frame_ms, quantizer, source, semantic, training_seed)
        files = Files.at(checkpoint, vocoder, ssl)
        if weights not in ("trained", "random"):
            raise ValueError(f'weights is "trained" or "random", got {weights!r}')
        if weights == "random" and checkpoint is not None:
            raise ValueError('weights="random" and a checkpoint exclude each other')
        if config is not None and weights == "trained":
            raise ValueError('a config of one\'s own goes with weights="random"; trained weights bring theirs')
        if reason := variant.unnamed(files, weights):
            raise ValueError(reason)
        if reason := variant.absent(files, weights):
            raise FileNotFoundError(reason)

        from systems.checkpoints import digest_of
        from systems.socodec.parts import random_parts, trained_parts
        from systems.vocoder.mel import MelFrames

        if weights == "trained":
            parts = trained_parts(variant, variant.completed(files))
        else:
            parts = random_parts(variant, files, config or variant.config, seed)
        self._model = parts.model.to(device)
        self._features = None if parts.features is None else parts.features.to(device)
        self._vocoder, self._mel = parts.vocoder.model.to(device), MelFrames().to(device)
        self._device = device
        shape = parts.model.config
        self.spec = CodecSpec(
            sample_rate=SAMPLE_RATE,
            hop_length=shape.hop,
            codebook_sizes=(shape.stream_size,) * shape.num_streams,
            prefix_decodable=True,
        )
        counts = parts.counts()
        told = ", ".join(f"{name} {count / 1e6:.1f} M" for name, count in counts.items())
        self.info = SystemInfo(
            family="socodec",
            version="1",
            description=f"SoCodec {size}, {shape.num_streams} x {shape.stream_size} every {shape.frame_ms:g} ms, {_kind(shape)}; {told}",
            size=size,
            weights=Weights.TRAINED if weights == "trained" else Weights.RANDOM,
            weights_digest=digest_of(parts.digests),
            num_parameters=sum(counts.values()),
            training_data=_learnt_from(dict(parts.metadata)),
            device=device,
            tools=versions("torch"),
        )

    @classmethod
    def missing(
        cls,
        size: str = "small",
        frame_ms: int = 120,
        quantizer: QuantizerName = "opq",
        source: Source = "ssl",
        semantic: bool = True,
        checkpoint: str | Path | None = None,
        vocoder: str | Path | None = None,
        ssl: str | Path | None = None,
        weights: str = "trained",
        training_seed: int = 0,
        **rest: object,
    ) -> str | None:
        """Why this variant cannot be built here, or None."""
        variant = SocodecVariant(size, frame_ms, quantizer, source, semantic, training_seed)
        return variant.missing(Files.at(checkpoint, vocoder, ssl), weights)

    def encode(self, audio: Audio) -> Codes:
        """Codes of one utterance; a last partial frame is filled with zeros.

        Raises:
            ValueError: another sample rate, or more than one channel.
        """
        import torch

        spec = self.spec
        if audio.sample_rate != spec.sample_rate:
            raise ValueError(f"SoCodec takes {spec.sample_rate} Hz, got audio at {audio.sample_rate} Hz")
        if audio.num_channels != 1:
            raise ValueError(f"SoCodec takes one channel, got {audio.num_channels}")
        frames = -(-audio.num_samples // spec.hop_length)
        if not frames:
            silent = np.zeros(self._model.config.width, dtype=np.float32)
            return Codes(np.zeros((spec.num_codebooks, 0), dtype=np.int64), spec, 0, {_SIDE: silent})
        padded = np.zeros((1, frames * spec.hop_length), dtype=np.float32)
        padded[:, : audio.num_samples] = audio.samples
        with torch.inference_mode():
            samples = torch.from_numpy(padded).to(self._device)
            heard = None if self._features is None else self._features(samples)
            code = self._model.encode(heard, self._mel(samples))
        embedding = code.embedding[0].float().cpu().numpy()
        return Codes(code.indices[0].cpu().numpy(), spec, audio.num_samples, {_SIDE: embedding})

    def decode(self, encoded: Encoded) -> Audio:
        """The waveform of codes, or of the first b streams of them, in the voice of their utterance embedding.

        Raises:
            ValueError: codes of another codec, or without an embedding.
        """
        import torch

        if not isinstance(encoded, Codes):
            raise ValueError(f"SoCodec decodes Codes, got {type(encoded).__name__}")
        fits = replace(encoded.spec, codebook_sizes=()) == replace(self.spec, codebook_sizes=())
        if not fits or encoded.spec.codebook_sizes != self.spec.codebook_sizes[: encoded.num_codebooks] or not encoded.num_codebooks:
            raise ValueError(f"these codes were made with {encoded.spec}, this codec is {self.spec}")
        embedding = encoded.side.get(_SIDE)
        if embedding is None or embedding.shape != (self._model.config.width,):
            found = "none" if embedding is None else f"shape {embedding.shape}"
            raise ValueError(f"SoCodec needs side[{_SIDE!r}], an embedding of {self._model.config.width} numbers; got {found}")
        if not encoded.num_frames:
            return Audio.mono(np.zeros(encoded.num_samples, dtype=np.float32), self.spec.sample_rate)
        with torch.inference_mode():
            voice = torch.from_numpy(np.array(embedding, dtype=np.float32))[None].to(self._device)
            decoded = self._model.decode(torch.tensor(encoded.indices)[None].to(self._device), voice)
            audio = self._vocoder(decoded.mel)
        return Audio.mono(audio[0, : encoded.num_samples].float().cpu().numpy(), self.spec.sample_rate)


def _kind(shape: SocodecConfig) -> str:
    """In words, what a variant is."""
    quantizer = {"opq": "ordered product", "pq": "product", "rq": "residual", "orq": "ordered residual"}[shape.quantizer]
    source = "" if shape.source == "ssl" else " of mel frames"
    return f"{quantizer} quantization{source}{'' if shape.semantic else ', not semantic'}"


def _learnt_from(metadata: dict[str, str]) -> str:
    if "num_items" in metadata and "data_hours" in metadata:  # as the training loop writes them
        return f"{metadata['num_items']} recordings, {float(metadata['data_hours']):.2f} h"
    return metadata.get("training_data", "")
