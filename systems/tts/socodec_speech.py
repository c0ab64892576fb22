"""SoCodec as a language model speaks through it: the voice is an utterance embedding of the prompt.

Shape letters: B batch, K streams, T frames, N samples, D width of the codec.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from harness.api import UNOBSERVED, CodecSpec, Observer
from systems.checkpoints import digest_of
from systems.socodec.config import MEL_PER_FEATURE, SAMPLE_RATE
from systems.socodec.model import SocodecModel
from systems.socodec.parts import Parts
from systems.tts.chunked import CodePieces, Piecewise, Reach, Stage, pushed, reach_of
from systems.tts.codec import Voice, in_frames
from systems.tts.nearest_frames import nearest_stages
from systems.tts.wave_pieces import vocoder_stages
from systems.vocoder.mel import MelFrames


class SocodecSpeech:
    """A SoCodec with its vocoder.

    Args:
        parts: of it, trained or random.
        device: "cpu", "cuda", ...
        prompt_share: of the decoded mel frames, see `systems.tts.nearest_frames`.
    """

    def __init__(self, parts: Parts, device: str, prompt_share: float = 0.0) -> None:
        self._share = prompt_share
        self._model = parts.model.to(device)
        self._features = None if parts.features is None else parts.features.to(device)
        self._vocoder, self._mel, self._device = parts.vocoder.model.to(device), MelFrames().to(device), device
        shape = parts.model.config
        self.parts = shape.sizes if shape.index_order == "first_fastest" else tuple(reversed(shape.sizes))
        self.voice_dim = shape.width
        self.spec = CodecSpec(SAMPLE_RATE, shape.hop, (shape.stream_size,) * shape.num_streams, prefix_decodable=True)
        self.digests = parts.digests
        self.digest = digest_of(parts.digests[:-1])  # the last one is the vocoder's, which codes do not depend on
        self.num_parameters = sum(parts.counts().values())
        self.description = (
            f"SoCodec {shape.num_streams} x {shape.stream_size} every {shape.frame_ms:g} ms and a {parts.vocoder.model.TITLE}"
        )

    def heard(self, samples: Tensor) -> Voice:
        """See `SpeakingCodec.heard`; whole code frames are listened to, as in training, one at least."""
        hop = self.spec.hop_length
        whole = samples[None, : samples.shape[0] // hop * hop] if samples.shape[0] >= hop else in_frames(samples, hop)
        mel = self._mel(whole.to(self._device))
        return Voice(embedding=self._model.embed(mel)[0].float(), frames=mel[0])

    def decode(self, codes: Tensor, voice: Voice, observer: Observer = UNOBSERVED) -> Tensor:
        """See `SpeakingCodec.decode`."""
        with observer.stage("codec"):
            made = self._model.decode(codes[None].to(self._device), _embedding(voice)).mel
            mel = pushed(nearest_stages(voice.frames, self._share), made, last=True)
        with observer.stage("vocoder"):
            audio: Tensor = self._vocoder(mel)
        return audio[0].float()

    def pieces(self, voice: Voice) -> CodePieces:
        """See `SpeakingCodec.pieces`."""
        decoder = Piecewise(_mel_decoder(self._model, _embedding(voice)), *self._codec_reach)
        return CodePieces(
            self._model.quantizer.decode, [decoder, *nearest_stages(voice.frames, self._share), *self._vocoder_stages()], self._device
        )

    def resynthesize(self, samples: Tensor) -> Tensor:
        """See `SpeakingCodec.resynthesize`."""
        whole = in_frames(samples, self.spec.hop_length).to(self._device)
        heard = None if self._features is None else self._features(whole)
        code = self._model.encode(heard, self._mel(whole))
        return self.decode(code.indices[0], Voice(embedding=code.embedding[0]))[: samples.shape[0]]

    @cached_property
    def _codec_reach(self) -> tuple[int, Reach]:
        shape = self._model.config
        plain = torch.ones(1, shape.width, device=self._device)
        return MEL_PER_FEATURE * shape.stride, reach_of(_mel_decoder(self._model, plain), shape.width, self._device)

    @cached_property
    def _vocoder_stages(self) -> Callable[[], list[Stage]]:
        return vocoder_stages(self._vocoder, self._device)


def _embedding(voice: Voice) -> Tensor:
    assert voice.embedding is not None  # `SocodecSpeech.heard` made it
    return voice.embedding[None]


def _mel_decoder(model: SocodecModel, embedding: Tensor) -> Callable[[Tensor], Tensor]:
    """Latent frames ``[B, T, D]`` to mel frames, in one voice; `SocodecModel.decode` behind its quantizer."""

    def decode(latent: Tensor) -> Tensor:
        mel: Tensor = model.decoder_2(model.decoder_1(latent, embedding).hidden, embedding).output
        return mel * model.config.mel_scale + model.config.mel_mean

    return decode
