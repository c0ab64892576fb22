"""SoCodec as the harness sees a codec."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.api import CodecSpec, SystemInfo, Weights
from harness.api.libraries import versions
from systems.bundled import lacking, located
from systems.pcm import FrameCodec
from systems.socodec.config import SAMPLE_RATE, SocodecConfig, socodec_config

if TYPE_CHECKING:
    from torch import Tensor

    from systems.checkpoints import Loaded
    from systems.socodec.model import SocodecModel
    from systems.socodec.ssl import SpeechFeatures
    from systems.vocoder.bigvgan import Vocoder

File = str | Path | None
_SIDE = "utterance"
_RELEASE = (
    "harness train, or of the paper's size: checkpoint and vocoder are the released safetensors files at "
    "https://huggingface.co/hhguo/SoCodec, ssl a folder of TencentGameMate/chinese-hubert-large"
)


class SocodecCodec(FrameCodec):
    """SoCodec, from audio at 16 kHz to streams of codes with one utterance embedding beside them, and back.

    The embedding is side information: D float32 numbers an utterance (6,144 bits of the small size, 32,768 of the paper's), apart from
    the bit rate of the codes, as in the paper.

    ```python
    codec = SocodecCodec("socodec40")
    audio = codec.decode(codec.encode(harness.api.Audio.mono(samples, 16000)))
    ```

    Args:
        checkpoint: of the codec, a bundled name or the path of a safetensors file of `harness train` or in the released layout; the file
            says everything about the model.
        vocoder: a bundled name or path: the small vocoder, or a BigVGAN in the released layout.
        ssl: what computes the features: a bundled name or path of a speech encoder, or a HuBERT (transformers' folder or torchaudio's
            state). A codec that hears mel frames needs none.
        weights: "trained", or "random" to measure speed only: numbers drawn anew in the shape of the checkpoint or of ``shape``.
        shape: of random weights: arguments of `systems.socodec.config.socodec_config`, such as ``{"size": "paper"}``, or a configuration.
        seed: of random weights.

    Raises:
        ValueError: impossible parameters, or files that do not fit one another.
        FileNotFoundError: no such file, see `missing`.
        RuntimeError: HuBERT is asked for and transformers is not installed.
    """

    def __init__(
        self,
        checkpoint: File = "socodec120",
        vocoder: File = "mel_vocoder",
        ssl: File = "speech_encoder",
        weights: str = "trained",
        shape: Mapping[str, Any] | SocodecConfig | None = None,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        if reason := self.missing(checkpoint, vocoder, ssl, weights, shape):
            raise FileNotFoundError(reason)
        from systems.checkpoints import digest_of
        from systems.vocoder.mel import MelFrames

        loaded, features, voice = _parts((checkpoint, vocoder, ssl), shape, None if weights == "trained" else seed)
        self._model = loaded.model.to(device)
        self._features = None if features is None else features.to(device)
        self._vocoder, self._mel = voice.model.to(device), MelFrames().to(device)
        self.device = device
        config, size = loaded.model.config, loaded.metadata.get("size", "paper")
        self.spec = CodecSpec(
            sample_rate=SAMPLE_RATE,
            hop_length=config.hop,
            codebook_sizes=(config.stream_size,) * config.num_streams,
            prefix_decodable=True,
        )
        self._empty_side = {_SIDE: np.zeros(config.width, dtype=np.float32)}
        parts = {"codec": self._model, **({} if features is None else {"features": features}), "vocoder": self._vocoder}
        counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
        told = ", ".join(f"{name} {count / 1e6:.1f} M" for name, count in counts.items())
        self.info = SystemInfo(
            family="socodec",
            version="1",
            description=f"SoCodec {size}, {config.num_streams} x {config.stream_size} every {config.frame_ms:g} ms, {_kind(config)}; {told}",
            size=size,
            weights=Weights(weights),
            weights_digest=digest_of([loaded.digest, *([] if features is None else [features.digest]), voice.digest]),
            num_parameters=sum(counts.values()),
            training_data=loaded.training_data,
            device=device,
            tools=versions("torch"),
        )

    @classmethod
    def missing(
        cls,
        checkpoint: File = "socodec120",
        vocoder: File = "mel_vocoder",
        ssl: File = "speech_encoder",
        weights: str = "trained",
        shape: object = None,
        **others: object,
    ) -> str | None:
        """Why it cannot be built here, or None."""
        files = {"checkpoint": checkpoint, "vocoder": vocoder, "ssl": ssl} if weights == "trained" else {"checkpoint": checkpoint}
        reason = lacking(files, weights, shape, _RELEASE)
        if not reason and weights == "trained" and Path(ssl or "").is_dir() and not importlib.util.find_spec("transformers"):
            return "HuBERT needs the package transformers: pip install 'speech-systems-harness[hf]'"
        return reason

    def _coded(self, samples: Tensor) -> tuple[Tensor, Mapping[str, Any]]:
        heard = None if self._features is None else self._features(samples)
        code = self._model.encode(heard, self._mel(samples))
        return code.indices[0], {_SIDE: code.embedding[0].float().cpu().numpy()}

    def _decoded(self, indices: Tensor, side: Mapping[str, Any]) -> Tensor:
        """In the voice of the utterance embedding."""
        import torch

        embedding, width = side.get(_SIDE), self._model.config.width
        if embedding is None or embedding.shape != (width,):
            found = "none" if embedding is None else f"shape {embedding.shape}"
            raise ValueError(f"SoCodec needs side[{_SIDE!r}], an embedding of {width} numbers; got {found}")
        voice = torch.from_numpy(np.array(embedding, dtype=np.float32))[None].to(self.device)
        audio: Tensor = self._vocoder(self._model.decode(indices, voice).mel)
        return audio[0]


def _parts(
    files: tuple[File, File, File], shape: Mapping[str, Any] | SocodecConfig | None, seed: int | None
) -> tuple[Loaded[SocodecModel], SpeechFeatures | None, Loaded[Vocoder]]:
    """Codec, features and vocoder of these files in this order, or of random weights where there is a seed."""
    from systems.checkpoints import untrained
    from systems.socodec.model import SocodecModel, load_socodec
    from systems.socodec.ssl import random_features, speech_features
    from systems.vocoder.bigvgan import load_vocoder, random_vocoder

    checkpoint, vocoder, ssl = (file or "" for file in files)  # `missing` has said what is not there
    if seed is None:
        loaded = load_socodec(located(checkpoint))
        features = speech_features(located(ssl)) if loaded.model.config.source == "ssl" else None
        if features is not None:
            features.check_fit(loaded.model.config.ssl_dim, loaded.metadata.get("ssl", ""))
        return loaded, features, load_vocoder(located(vocoder))
    size = "small"
    if shape is None:
        found = load_socodec(located(checkpoint))
        config, size = found.model.config, found.metadata.get("size", "paper")
    elif isinstance(shape, SocodecConfig):
        config = shape
    else:
        config, size = socodec_config(**shape), shape.get("size", size)
    features = random_features(size, config.ssl_dim, seed) if config.source == "ssl" else None
    loaded = replace(untrained(lambda: SocodecModel(config), seed), metadata={"size": size})
    return loaded, features, random_vocoder(size, seed)


def _kind(shape: SocodecConfig) -> str:
    """In words, what a variant is."""
    quantizer = {"opq": "ordered product", "pq": "product", "rq": "residual", "orq": "ordered residual"}[shape.quantizer]
    source = "" if shape.source == "ssl" else " of mel frames"
    return f"{quantizer} quantization{source}{'' if shape.semantic else ', not semantic'}"
