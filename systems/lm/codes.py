"""A frozen codec, seen as a function from recordings to the codes that a language model learns and says.

In training codes are computed once per recording and travel beside the audio as `Derived` frames, which are float16: an index goes as two
numbers below 1024, and the utterance embedding, where the codec has one, as further columns of every frame.

Shape letters: B batch, N samples, K codebooks, T frames, D columns of a derived frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from systems.bundled import located, metadata_of
from systems.checkpoints import Loaded, digest_of, load
from systems.lm.config import LmInputs
from systems.qdac.config import QdacConfig
from systems.qdac.model import QdacModel
from systems.quantizers.codebook import Codebook
from systems.socodec.config import SAMPLE_RATE
from systems.socodec.model import SocodecModel, load_socodec
from systems.socodec.ssl import SpeechFeatures, speech_features
from systems.vocoder.mel import MelFrames

_DIGIT = 1024  # float16 counts to 2048


@dataclass(frozen=True)
class CodecChoice:
    """Which codec's codes a model learns.

    Args:
        codec: bundled name or path of its safetensors file; by default socodec120 or qdac8_25hz, as the kind of model asks.
        num_codebooks: the first so many of QDAC's; None for all.
        ssl: what computes SoCodec's features, bundled name or path; see `SocodecCodec`.
    """

    codec: str | None = None
    num_codebooks: int | None = None
    ssl: str | None = None


@dataclass(frozen=True, eq=False)
class Coded:
    """What a codec makes of recordings: codes int64 ``[B, K, T]``, and utterance embeddings ``[B, voice_dim]`` where it has some."""

    codes: Tensor
    voice: Tensor | None


class QdacCodes:
    """Codes of QDAC, whose voice lies in them: a frozen codec as a model's training and its synthesizer ask it.

    It has ``sample_rate``, ``hop``, ``num_codebooks``, ``parts`` (sizes of the parts of an index, first part fastest, see `LmConfig`),
    ``voice_dim`` and ``digest`` (of every weight that the codes depend on).

    Args:
        loaded: the codec.
        num_codebooks: the first so many; None for all.

    Raises:
        ValueError: fewer codebooks than asked for.
    """

    voice_dim = 0

    def __init__(self, loaded: Loaded[QdacModel], num_codebooks: int | None = None) -> None:
        config = loaded.model.config
        self.num_codebooks = config.num_codebooks if num_codebooks is None else num_codebooks
        if not 1 <= self.num_codebooks <= config.num_codebooks:
            raise ValueError(f"asked for {num_codebooks} codebooks of a QDAC with {config.num_codebooks}")
        self.model, self.digest = loaded.model, loaded.digest
        self.sample_rate, self.hop = config.sample_rate, config.hop
        self.parts: tuple[int, ...] = (config.codebook_size,)

    def encode(self, audio: Tensor) -> Coded:
        """Codes of ``audio [B, T x hop]``, one frame at least."""
        return Coded(self.model.to(audio.device).encode(audio, self.num_codebooks), None)

    def entries(self) -> Tensor | None:
        """Entries ``[K, V, E]`` that decode the codes and add up, to begin the model's tables with."""
        books = [book for book in self.model.quantizer.codebooks if isinstance(book, Codebook)]
        return torch.stack([book.entries.detach() for book in books[: self.num_codebooks]])


class SocodecCodes:
    """Codes and utterance embeddings of SoCodec; has and does what `QdacCodes` has and does.

    Args:
        loaded: the codec.
        features: what its encoder hears, None where that is mel frames.

    Raises:
        ValueError: features of another size than the codec's, or other ones than it was trained on.
    """

    sample_rate = SAMPLE_RATE

    def __init__(self, loaded: Loaded[SocodecModel], features: SpeechFeatures | None) -> None:
        config = loaded.model.config
        if features is not None:
            features.check_fit(config.ssl_dim, loaded.metadata.get("ssl", ""))
        self.model, self.features, self.mel = loaded.model, features, MelFrames()
        self.digests = (loaded.digest, *([] if features is None else [features.digest]))
        self.digest = digest_of(self.digests)
        self.hop, self.num_codebooks, self.voice_dim = config.hop, config.num_streams, config.width
        # Tokens are taken apart with the first part fastest.
        self.parts = config.sizes if config.index_order == "first_fastest" else tuple(reversed(config.sizes))

    def encode(self, audio: Tensor) -> Coded:
        """Codes of ``audio [B, T x hop]``, one frame at least."""
        features = None if self.features is None else self.features.to(audio.device)(audio)
        code = self.model.to(audio.device).encode(features, self.mel.to(audio.device)(audio))
        return Coded(code.indices, code.embedding.float())

    def entries(self) -> Tensor | None:
        """None: the entries of streams stand side by side and do not add up."""
        return None


CodeSource = QdacCodes | SocodecCodes


def code_source(choice: CodecChoice) -> CodeSource:
    """The codec of a choice, from its file, which says what it is.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no codec, or parts that do not fit one another.
    """
    assert choice.codec is not None  # whoever asks knows which
    path = located(choice.codec)
    if metadata_of(path).get("family") == "qdac":
        return QdacCodes(load(path, "qdac", QdacModel, QdacConfig), choice.num_codebooks)
    loaded = load_socodec(path)
    heard = loaded.model.config.source == "ssl"
    return SocodecCodes(loaded, speech_features(located(choice.ssl or "speech_encoder")) if heard else None)


def lm_inputs(source: CodeSource, text_size: int) -> LmInputs:
    """What a codec and a text front end of so many tokens decide about a model."""
    return LmInputs(source.num_codebooks, source.parts, text_size, source.voice_dim, source.sample_rate / source.hop)


def derived_frames(source: CodeSource, audio: Tensor) -> Tensor:
    """Derived frames ``[N // hop, D]`` of ``audio [N]``, as training keeps them."""
    count = audio.shape[0] // source.hop
    if not count:
        return audio.new_zeros(0, 2 * source.num_codebooks + source.voice_dim)
    coded = source.encode(audio[None, : count * source.hop])
    return packed(coded.codes[0], None if coded.voice is None else coded.voice[0])


def packed(codes: Tensor, voice: Tensor | None) -> Tensor:
    """Derived frames ``[T, D]`` of ``codes [K, T]`` and ``voice [voice_dim]``."""
    digits = torch.cat([codes % _DIGIT, codes // _DIGIT]).T.float()
    return digits if voice is None else torch.cat([digits, voice.expand(digits.shape[0], -1)], dim=1)


def unpacked(frames: Tensor, source: CodeSource) -> Coded:
    """The inverse of `packed`, of a batch ``[B, T, D]`` with at least one frame."""
    books = source.num_codebooks
    low, high, voice = frames[..., :books], frames[..., books : 2 * books], frames[..., 2 * books :]
    codes = (low.round().long() + _DIGIT * high.round().long()).transpose(1, 2)
    # A frame behind the end is zero, the first one is not.
    return Coded(codes, voice[:, 0] if source.voice_dim else None)
