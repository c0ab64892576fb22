"""What the language models learn from: the codes of a frozen codec, computed once per recording.

Codes travel beside the audio as `Derived` frames, which are float16: an index goes as two numbers below 1024, and the utterance embedding,
where the codec has one, as further columns of every frame.

Shape letters: B batch, N samples, K codebooks, T frames, D columns of a derived frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from systems.qdac.model import QdacModel
from systems.quantizers.codebook import Codebook
from systems.socodec.config import SocodecConfig
from systems.socodec.model import SocodecModel
from systems.socodec.ssl import SpeechFeatures, speech_features
from systems.socodec.variant import Files, SocodecVariant
from systems.vocoder.mel import MelFrames

_DIGIT = 1024  # float16 counts to 2048
_BUNDLED = Path(__file__).resolve().parents[1] / "weights"


@dataclass(frozen=True)
class CodecChoice:
    """Which codec's codes; the first two are QTTS's, the others SoCodec's.

    Args:
        num_codebooks: the first so many of QDAC's.
        frame_rate: of QDAC, 25 or 50 Hz.
        frame_ms: of SoCodec, 40, 120 or 240.
        quantizer: of SoCodec.
        source: what SoCodec's encoder hears, "ssl" or "mel".
        semantic: SoCodec decodes the features too.
        checkpoint: a safetensors file of the codec; the bundled one by default.
        ssl: what computes SoCodec's features, see `SocodecCodec`.
    """

    num_codebooks: int = 8
    frame_rate: int = 25
    frame_ms: int = 120
    quantizer: str = "opq"
    source: str = "ssl"
    semantic: bool = True
    checkpoint: str | None = None
    ssl: str | None = None


@dataclass(frozen=True, eq=False)
class Unpacked:
    """Codes out of derived frames.

    Args:
        codes: int64 ``[B, K, T]``.
        voice: ``[B, voice_dim]``, or None where the codec has no utterance embedding.
    """

    codes: Tensor
    voice: Tensor | None


class CodeSource(Protocol):
    """A frozen codec, seen as a function from recordings to codes."""

    sample_rate: int
    hop: int
    num_codebooks: int
    parts: tuple[int, ...]
    """Sizes of the parts of an index, first part fastest, see `LmConfig.parts`."""
    voice_dim: int
    digest: str
    """Of every weight that the codes depend on."""

    def frames(self, audio: Tensor) -> Tensor:
        """Derived frames ``[N // hop, D]`` of ``audio [N]``."""
        ...

    def entries(self) -> Tensor | None:
        """Entries ``[K, V, E]`` that decode the codes and add up, to begin the model's tables with; None where there are none such."""
        ...


class QdacCodes:
    """Codes of QDAC.

    Args:
        model: in evaluation mode.
        num_codebooks: the first so many.
        digest: of its weights.
    """

    voice_dim = 0

    def __init__(self, model: QdacModel, num_codebooks: int, digest: str) -> None:
        if not 1 <= num_codebooks <= model.config.num_codebooks:
            raise ValueError(f"asked for {num_codebooks} codebooks of a QDAC with {model.config.num_codebooks}")
        self.model, self.num_codebooks, self.digest = model.eval().requires_grad_(False), num_codebooks, digest
        self.sample_rate, self.hop = model.config.sample_rate, model.config.hop
        self.parts: tuple[int, ...] = (model.config.codebook_size,)

    def frames(self, audio: Tensor) -> Tensor:
        """See `CodeSource.frames`."""
        count = audio.shape[0] // self.hop
        if not count:
            return audio.new_zeros(0, 2 * self.num_codebooks)
        codes = self.model.to(audio.device).encode(audio[None, : count * self.hop], self.num_codebooks)
        return packed(codes[0], None)

    def entries(self) -> Tensor | None:
        """See `CodeSource.entries`."""
        books = [book for book in self.model.quantizer.codebooks if isinstance(book, Codebook)]
        return torch.stack([book.entries.detach() for book in books[: self.num_codebooks]])


class SocodecCodes:
    """Codes and utterance embeddings of SoCodec.

    Args:
        model: in evaluation mode.
        features: what its encoder hears, None where that is mel frames.
        digest: of the weights of both.
    """

    def __init__(self, model: SocodecModel, features: SpeechFeatures | None, digest: str) -> None:
        config = model.config
        self.model, self.features, self.digest = model.eval().requires_grad_(False), features, digest
        self.mel = MelFrames()
        self.sample_rate, self.hop, self.num_codebooks = 16000, config.hop, config.num_streams
        # Tokens are taken apart with the first part fastest.
        self.parts = config.sizes if config.index_order == "first_fastest" else tuple(reversed(config.sizes))
        self.voice_dim = config.width

    def frames(self, audio: Tensor) -> Tensor:
        """See `CodeSource.frames`."""
        count = audio.shape[0] // self.hop
        if not count:
            return audio.new_zeros(0, 2 * self.num_codebooks + self.voice_dim)
        whole, device = audio[None, : count * self.hop], audio.device
        heard = None if self.features is None else self.features.to(device)(whole)
        code = self.model.to(device).encode(heard, self.mel.to(device)(whole))
        return packed(code.indices[0], code.embedding[0].float())

    def entries(self) -> Tensor | None:
        """None: the entries of streams stand side by side and do not add up."""
        return None


def packed(codes: Tensor, voice: Tensor | None) -> Tensor:
    """Derived frames ``[T, D]`` of ``codes [K, T]`` and ``voice [voice_dim]``."""
    digits = torch.cat([codes % _DIGIT, codes // _DIGIT]).T.float()
    return digits if voice is None else torch.cat([digits, voice.expand(digits.shape[0], -1)], dim=1)


def unpacked(frames: Tensor, source: CodeSource) -> Unpacked:
    """The inverse of `packed`, of a batch ``[B, T, D]`` with at least one frame."""
    books = source.num_codebooks
    low, high, voice = frames[..., :books], frames[..., books : 2 * books], frames[..., 2 * books :]
    codes = (low.round().long() + _DIGIT * high.round().long()).transpose(1, 2)
    # A frame behind the end is zero, the first one is not.
    return Unpacked(codes, voice[:, 0] if source.voice_dim else None)


def _told(config: SocodecConfig) -> str:
    heard = f"{config.source} heard, {'' if config.semantic else 'no '}semantic loss"
    return f"{config.quantizer} with {config.num_streams} streams of {config.frame_ms:g} ms, {heard}"


def code_source(family: str, size: str, choice: CodecChoice) -> CodeSource:
    """The codec of a choice, from its file.

    Args:
        family: "qdac" or "socodec".
        size: "small", of which some are bundled, or "paper".
        choice: which.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that does not fit, or a paper-size codec without one.
    """
    if size == "paper" and choice.checkpoint is None:
        raise ValueError(f"the paper-size {family} has no bundled weights: give checkpoint=FILE.safetensors of the codec")
    if family == "qdac":
        from systems.checkpoints import load
        from systems.qdac.config import QdacConfig
        from systems.qdac.model import QdacModel

        bundled = _BUNDLED / ("qdac8_25hz_small.safetensors" if choice.frame_rate == 25 else "qdac16_small.safetensors")
        qdac = load(choice.checkpoint or bundled, "qdac", QdacModel, QdacConfig)
        if not math.isclose(qdac.model.config.frame_rate_hz, choice.frame_rate):
            raise ValueError(f"this QDAC has {qdac.model.config.frame_rate_hz:g} frames a second, asked were {choice.frame_rate}")
        return QdacCodes(qdac.model, choice.num_codebooks, qdac.digest)
    from systems.checkpoints import digest_of
    from systems.socodec.released import load_socodec

    variant = SocodecVariant(size, choice.frame_ms, choice.quantizer, choice.source, choice.semantic)  # type: ignore[arg-type]
    files = variant.completed(Files.at(choice.checkpoint, None, choice.ssl))
    assert files.checkpoint is not None
    socodec = load_socodec(files.checkpoint, released=variant.config if size == "paper" else None)
    found, asked = socodec.model.config, variant.config
    if _told(found) != _told(asked):
        raise ValueError(f"{files.checkpoint} is {_told(found)}; asked was {_told(asked)}")
    features = speech_features(size, files.ssl) if found.source == "ssl" else None
    digests = [socodec.digest] + ([features.digest] if features is not None else [])
    return SocodecCodes(socodec.model, features, digest_of(digests))
