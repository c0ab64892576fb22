"""Codecs as language models speak through them: what they hear in a prompt, and how codes are decoded, whole or as they come.

QDAC keeps the voice in its codes, which a model continues; SoCodec in an utterance embedding, which a model is told; and a speaker-conditioned
decoder of QDAC's codes takes it from the prompt's mel frames, beside the codes.

Shape letters: K codebooks, T frames, N samples, M mel frames, D width.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor, nn

from harness.api import UNOBSERVED, Audio, CodecSpec, Observer
from systems.checkpoints import Loaded
from systems.lm.codes import CodeSource, QdacCodes, SocodecCodes
from systems.socodec.config import MEL_PER_FEATURE
from systems.tts.chunked import (
    ChunkedCodes,
    ChunkedDecoder,
    Network,
    ReceptiveField,
    Stage,
    nearest_stages,
    pushed,
    receptive_field,
    vocoder_stages,
)
from systems.tts.speaker_decoder import SpeakerDecoder, timbre_of
from systems.vocoder.bigvgan import Vocoder
from systems.vocoder.mel import MelFrames


@dataclass(frozen=True, eq=False)
class Voice:
    """What a codec takes from a prompt.

    Args:
        codes: int64 ``[K, T]``, of codecs whose codes hold the voice.
        embedding: ``[D]``, of codecs with an utterance embedding, which their language models are told too.
        timbre: ``[D]``, of a speaker-conditioned decoder.
        frames: log-mel ``[M, 80]``, where what is spoken is drawn to the prompt's own frames, see `systems.tts.chunked.NearestFrames`.
    """

    codes: Tensor | None = None
    embedding: Tensor | None = None
    timbre: Tensor | None = None
    frames: Tensor | None = None


class SpeakingCodec(ABC):
    """A frozen codec on its device.

    Args:
        source: of its codes.
        quantizer: ``codes [1, K, T]`` to latent frames ``[1, T, D]``.
        vocoder: of mel frames; None for a codec that decodes to audio.
        device: "cpu", "cuda", ...
        prompt_share: of the decoded mel frames, see `systems.tts.chunked.NearestFrames`.
    """

    description: str
    digests: tuple[str, ...]
    """Of every weight there is, in order."""
    num_parameters: int
    _rate: int
    """Outputs of the decoder, samples or mel frames, for a code frame."""
    _latent_dim: int
    _any_voice = Voice()
    """Of which the decoder can be made, to be measured."""

    def __init__(self, source: CodeSource, quantizer: Network, vocoder: nn.Module | None, device: str, prompt_share: float = 0.0) -> None:
        self.spec = CodecSpec(source.sample_rate, source.hop, (math.prod(source.parts),) * source.num_codebooks, prefix_decodable=True)
        self.voice_dim = source.voice_dim
        self._quantizer, self._vocoder, self._device, self._share = quantizer, vocoder, device, prompt_share

    @abstractmethod
    def _voice(self, samples: Tensor) -> Voice:
        """Of a prompt's ``samples [N]`` at the codec's rate."""

    @abstractmethod
    def _network(self, voice: Voice) -> Network:
        """Latent frames ``[1, T, D]`` to audio ``[1, T x hop]``; where there is a vocoder, to mel frames."""

    @abstractmethod
    def _coded(self, audio: Tensor) -> tuple[Tensor, Voice]:
        """Codes ``[K, T]`` of ``audio [1, T x hop]``, and the voice to decode them in."""

    def voice_of(self, prompt: Audio | None) -> Voice:
        """What is taken from a prompt, of whatever rate; its last partial frame is left out."""
        if prompt is None:
            return Voice()
        with torch.inference_mode():
            return self._voice(mono_at(prompt, self.spec.sample_rate).to(self._device))

    @torch.inference_mode()
    def decode(self, codes: Tensor, voice: Voice, observer: Observer = UNOBSERVED) -> Tensor:
        """Audio ``[T x hop]`` of ``codes [K, T]``; ``observer`` is told of the stages "codec" and, where there is one, "vocoder"."""
        with observer.stage("codec"):
            made = self._network(voice)(self._quantizer(codes[None].to(self._device)))
            if self._vocoder is None:
                return made[0].float()
            mel = pushed(nearest_stages(voice.frames, self._share), made, last=True)
        with observer.stage("vocoder"):
            audio: Tensor = self._vocoder(mel)
        return audio[0].float()

    def chunked(self, voice: Voice) -> ChunkedCodes:
        """The same as codes come; what is pushed out, joined, equals `decode` up to rounding."""
        stages: list[Stage] = [ChunkedDecoder(self._network(voice), self._rate, self._field)]
        if self._vocoder is not None:
            stages += [*nearest_stages(voice.frames, self._share), *self._vocoder_stages()]
        return ChunkedCodes(self._quantizer, stages, self._device)

    @torch.inference_mode()
    def resynthesize(self, prompt: Audio) -> Tensor:
        """A prompt coded and decoded, ``[N]`` at the codec's rate."""
        samples = mono_at(prompt, self.spec.sample_rate)
        if not samples.shape[0]:
            return samples
        codes, voice = self._coded(in_frames(samples, self.spec.hop_length).to(self._device))
        return self.decode(codes, voice)[: samples.shape[0]]

    @cached_property
    def _field(self) -> ReceptiveField:
        return receptive_field(self._network(self._any_voice), self._latent_dim, self._device)

    @cached_property
    def _vocoder_stages(self) -> Callable[[], list[Stage]]:
        assert self._vocoder is not None
        return vocoder_stages(self._vocoder, self._device)


class QdacSpeech(SpeakingCodec):
    """QDAC with a decoder of its own: codes tell everything, the voice too."""

    def __init__(self, source: QdacCodes, device: str) -> None:
        model = source.model.to(device)
        super().__init__(source, model.quantizer.decode, None, device)
        self.source, self.device, shape = source, device, model.config
        self._rate, self._latent_dim = source.hop, shape.latent_dim
        self.digests = (source.digest,)
        self.num_parameters = _count(model)
        self.description = f"QDAC {source.num_codebooks} x {shape.codebook_size} at {shape.frame_rate_hz:g} Hz"

    def _voice(self, samples: Tensor) -> Voice:
        count = samples.shape[0] // self.source.hop * self.source.hop
        return Voice(codes=self.source.encode(samples[None, :count]).codes[0]) if count else Voice()

    def _network(self, voice: Voice) -> Network:
        return self.source.model.decoder

    def _coded(self, audio: Tensor) -> tuple[Tensor, Voice]:
        return self.source.encode(audio).codes[0], Voice()


class SpeakerDecodedQdac(SpeakingCodec):
    """QDAC through a speaker-conditioned decoder: codes as QDAC's, mel frames in the prompt's voice, and a vocoder.

    Raises:
        ValueError: a decoder for frames of another rate or size.
    """

    def __init__(self, codec: QdacSpeech, decoder: Loaded[SpeakerDecoder], vocoder: Loaded[Vocoder], prompt_share: float = 0.0) -> None:
        decoder.model.config.check(codec.source)
        self._codec, device = codec, codec.device
        self._decoder = decoder.model.to(device)
        super().__init__(codec.source, codec.source.model.quantizer.decode, vocoder.model.to(device), device, prompt_share)
        self._rate, self._latent_dim = self._decoder.config.ratio, self._decoder.config.latent_dim
        self._mel = MelFrames().to(device)
        self.digests = (*codec.digests, decoder.digest, vocoder.digest)
        self.num_parameters = codec.num_parameters + _count(decoder.model, vocoder.model)
        self.description = f"{codec.description}, a speaker-conditioned decoder and a {vocoder.model.TITLE}"

    def _voice(self, samples: Tensor) -> Voice:
        mel = self._mel(samples[None])[0]
        return replace(self._codec._voice(samples), timbre=timbre_of(mel), frames=mel)

    def _network(self, voice: Voice) -> Network:
        return partial(self._decoder, timbre=None if voice.timbre is None else voice.timbre[None])

    def _coded(self, audio: Tensor) -> tuple[Tensor, Voice]:
        voice = self._voice(audio[0])
        assert voice.codes is not None  # of one frame at least
        return voice.codes, replace(voice, frames=None)  # not to be drawn to itself


class SocodecSpeech(SpeakingCodec):
    """SoCodec with its vocoder: the voice is an utterance embedding of the prompt."""

    def __init__(self, source: SocodecCodes, vocoder: Loaded[Vocoder], device: str, prompt_share: float = 0.0) -> None:
        self._source, self._model, shape = source, source.model.to(device), source.model.config
        super().__init__(source, self._model.quantizer.decode, vocoder.model.to(device), device, prompt_share)
        self._rate, self._latent_dim = MEL_PER_FEATURE * shape.stride, shape.width
        self._any_voice = Voice(embedding=torch.ones(shape.width, device=device))
        self._mel = source.mel.to(device)
        self.digests = (*source.digests, vocoder.digest)
        self.num_parameters = _count(source.model, *([] if source.features is None else [source.features]), vocoder.model)
        self.description = f"SoCodec {shape.num_streams} x {shape.stream_size} every {shape.frame_ms:g} ms and a {vocoder.model.TITLE}"

    def _voice(self, samples: Tensor) -> Voice:
        """Whole code frames are listened to, as in training, one at least."""
        hop = self.spec.hop_length
        whole = samples[None, : samples.shape[0] // hop * hop] if samples.shape[0] >= hop else in_frames(samples, hop)
        mel = self._mel(whole)
        return Voice(embedding=self._model.embed(mel)[0].float(), frames=mel[0])

    def _network(self, voice: Voice) -> Network:
        """`SocodecModel.decode` behind its quantizer."""
        assert voice.embedding is not None  # `_voice` made it
        model, embedding = self._model, voice.embedding[None]

        def decode(latent: Tensor) -> Tensor:
            mel: Tensor = model.decoder_2(model.decoder_1(latent, embedding).hidden, embedding).output
            return mel * model.config.mel_scale + model.config.mel_mean

        return decode

    def _coded(self, audio: Tensor) -> tuple[Tensor, Voice]:
        coded = self._source.encode(audio)
        assert coded.voice is not None  # SoCodec has one
        return coded.codes[0], Voice(embedding=coded.voice[0])


def _count(*models: nn.Module) -> int:
    return sum(p.numel() for model in models for p in model.parameters())


def mono_at(audio: Audio, sample_rate: int) -> Tensor:
    """Channels averaged, then resampled: float32 ``[N]``. Prompts come at rates of their own."""
    import soxr

    mono = audio.mixed()
    if audio.sample_rate != sample_rate and mono.size:
        mono = soxr.resample(mono, audio.sample_rate, sample_rate, quality="VHQ")
    return torch.from_numpy(np.array(mono, dtype=np.float32))  # a copy: the caller's samples stay as they are


def in_frames(samples: Tensor, hop: int) -> Tensor:
    """``[1, T x hop]``: ``samples [N]`` with zeros behind, up to a whole frame, one at least."""
    frames = max(1, -(-samples.shape[0] // hop))
    return torch.nn.functional.pad(samples, (0, frames * hop - samples.shape[0]))[None]
