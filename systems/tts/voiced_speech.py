"""QDAC spoken through a voiced decoder: codes as QDAC's, mel frames in the prompt's voice, and a vocoder.

Shape letters: K codebooks, T frames, N samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

from torch import Tensor

from harness.api import UNOBSERVED, Observer
from systems.checkpoints import Loaded, load, untrained
from systems.tts.chunked import CodePieces, Piecewise, Reach, Stage, pushed, reach_of
from systems.tts.codec import Voice, in_frames
from systems.tts.nearest_frames import nearest_stages
from systems.tts.qdac_speech import QdacSpeech
from systems.tts.speaker_decoder import FAMILY, VoicedDecoder, VoicedDecoderConfig, timbre_of
from systems.tts.wave_pieces import vocoder_stages
from systems.vocoder.loading import Vocoder, load_vocoder, random_vocoder
from systems.vocoder.mel import HOP, SAMPLE_RATE, MelFrames


class VoicedQdacSpeech:
    """See `SpeakingCodec`.

    Args:
        codec: what the language model says the codes of.
        decoder: for them.
        vocoder: for its mel frames.
        device: "cpu", "cuda", ...
        prompt_share: of the mel frames, see `systems.tts.nearest_frames`.

    Raises:
        ValueError: a decoder for frames of another rate or size.
    """

    voice_dim = 0

    def __init__(
        self, codec: QdacSpeech, decoder: Loaded[VoicedDecoder], vocoder: Loaded[Vocoder], device: str, prompt_share: float = 0.0
    ) -> None:
        shape, wanted = decoder.model.config, _fitting(codec)
        if codec.spec.sample_rate != SAMPLE_RATE or (shape.latent_dim, shape.ratio, shape.num_codebooks) != wanted:
            raise ValueError(
                f"the voiced decoder makes {shape.ratio} mel frames at {SAMPLE_RATE} Hz of latents of {shape.latent_dim} from {shape.num_codebooks} "
                f"codebooks; the codec has {wanted[1]} at {codec.spec.sample_rate} Hz and latents of {wanted[0]} from {wanted[2]}"
            )
        self._codec, self._device, self._share = codec, device, prompt_share
        self._decoder, self._vocoder = decoder.model.to(device), vocoder.model.to(device)
        self._mel = MelFrames().to(device)
        self.spec, self.parts, self.digest = codec.spec, codec.parts, codec.digest
        self.digests = (*codec.digests, decoder.digest, vocoder.digest)
        added = (self._decoder, self._vocoder)
        self.num_parameters = codec.num_parameters + sum(p.numel() for module in added for p in module.parameters())
        self.description = f"{codec.description}, a voiced decoder and a {vocoder.model.TITLE}"

    def heard(self, samples: Tensor) -> Voice:
        """See `SpeakingCodec.heard`."""
        mel = self._mel(samples[None].to(self._device))[0]
        return Voice(codes=self._codec.heard(samples).codes, timbre=timbre_of(mel), frames=mel)

    def decode(self, codes: Tensor, voice: Voice, observer: Observer = UNOBSERVED) -> Tensor:
        """See `SpeakingCodec.decode`."""
        with observer.stage("codec"):
            made = self._mels(voice)(self._codec.model.quantizer.decode(codes[None].to(self._device)))
            mel = pushed(nearest_stages(voice.frames, self._share), made, last=True)
        with observer.stage("vocoder"):
            audio: Tensor = self._vocoder(mel)
        return audio[0].float()

    def pieces(self, voice: Voice) -> CodePieces:
        """See `SpeakingCodec.pieces`."""
        decoder = Piecewise(self._mels(voice), self._decoder.config.ratio, self._reach)
        stages = [decoder, *nearest_stages(voice.frames, self._share), *self._vocoder_stages()]
        return CodePieces(self._codec.model.quantizer.decode, stages, self._device)

    def resynthesize(self, samples: Tensor) -> Tensor:
        """See `SpeakingCodec.resynthesize`."""
        voice = self.heard(in_frames(samples, self.spec.hop_length)[0])
        assert voice.codes is not None  # of one frame at least
        return self.decode(voice.codes, replace(voice, frames=None))[: samples.shape[0]]  # not to be drawn to itself

    def _mels(self, voice: Voice) -> Callable[[Tensor], Tensor]:
        return partial(self._decoder, timbre=None if voice.timbre is None else voice.timbre[None])

    @cached_property
    def _reach(self) -> Reach:
        return reach_of(self._decoder, self._decoder.config.latent_dim, self._device)

    @cached_property
    def _vocoder_stages(self) -> Callable[[], list[Stage]]:
        return vocoder_stages(self._vocoder, self._device)


def trained_voiced(codec: QdacSpeech, decoder: Path, vocoder: Path, device: str, prompt_share: float = 0.0) -> VoicedQdacSpeech:
    """From the files of decoder and vocoder.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no decoder, no vocoder, or one for another codec.
    """
    loaded = load(decoder, FAMILY, VoicedDecoder, VoicedDecoderConfig)
    if (known := loaded.metadata.get("codec")) != codec.digest:
        raise ValueError(
            f"{decoder} decodes the codes of other codec weights ({known}) than those it is to hear ({codec.digest}, "
            f"{codec.description}): train it with harness train system=qtts_decoder codec_checkpoint=, or say decoder=codec"
        )
    return VoicedQdacSpeech(codec, loaded, load_vocoder(vocoder), device, prompt_share)


def random_voiced(codec: QdacSpeech, seed: int, device: str, prompt_share: float = 0.0) -> VoicedQdacSpeech:
    """Untrained, for timing."""
    latent, ratio, books = _fitting(codec)
    shape = VoicedDecoderConfig(latent, ratio, num_codebooks=books)
    return VoicedQdacSpeech(codec, untrained(lambda: VoicedDecoder(shape), seed), random_vocoder("small", seed), device, prompt_share)


def _fitting(codec: QdacSpeech) -> tuple[int, int, int]:
    """Latent, mel frames per frame and codebooks that a decoder of its codes must have."""
    return codec.model.config.latent_dim, codec.spec.hop_length // HOP, codec.spec.num_codebooks
