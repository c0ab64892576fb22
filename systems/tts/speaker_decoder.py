"""A speaker-conditioned decoder for the codes that a small language model says: told the prompt's voice, and used to the model's mistakes.

A small model draws the later codebooks little better than by chance, so that a voice which the codec keeps in them is lost on the way, even
where the prompt's codes are there to be continued. This decoder takes the voice from the prompt itself, as SoCodec's does, and learns on codes
which the language model drew (`systems.tts.speaker_decoder_recipe`): frames to mel frames, for a vocoder. The codec's encoder and codebooks stay as they are.

Shape letters: B batch, T code frames, D latent, M mel frames, R mel frames per code frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from systems.configuration import Configuration
from systems.layers.convolution import ConvNeXtStack
from systems.vocoder.mel import HOP, NUM_BANDS, SAMPLE_RATE

if TYPE_CHECKING:
    from systems.lm.codes import QdacCodes

FAMILY = "qtts_decoder"
_MEAN, _SCALE = -5.0, 2.5  # of log-mel values, about
TIMBRE_DIM = 2 * NUM_BANDS


@dataclass(frozen=True)
class SpeakerDecoderConfig(Configuration):
    """Everything that fixes the decoder's tensors.

    Args:
        latent_dim: D, of the codec's quantized frames.
        ratio: R.
        width: channels.
        hidden: width inside the blocks.
        depth: blocks at the rate of the codes, and as many at that of the mel frames.
        kernel: frames of their convolutions.
        lookahead: frames after its own that each block sees.
        timbre_width: of the network that reads the voice.
        num_codebooks: whose entries add up to a frame; with fewer or more it was not trained.
    """

    latent_dim: int = 64
    ratio: int = 4
    width: int = 256
    hidden: int = 640
    depth: int = 3
    kernel: int = 7
    lookahead: int = 1
    timbre_width: int = 128
    num_codebooks: int = 8

    @classmethod
    def fitting(cls, codec: QdacCodes) -> SpeakerDecoderConfig:
        """The usual shape for the codes of ``codec``.

        Raises:
            ValueError: its frames are no whole number of mel frames at 16 kHz.
        """
        if codec.sample_rate != SAMPLE_RATE or codec.hop % HOP:
            raise ValueError(
                f"a speaker-conditioned decoder makes a mel frame per {HOP} samples at {SAMPLE_RATE} Hz; this codec has {codec.hop} at "
                f"{codec.sample_rate} Hz"
            )
        return cls(codec.model.config.latent_dim, codec.hop // HOP, num_codebooks=codec.num_codebooks)

    def check(self, codec: QdacCodes) -> None:
        """That it was made for the codes of ``codec``.

        Raises:
            ValueError: it was not.
        """
        fit = self.fitting(codec)
        if (self.latent_dim, self.ratio, self.num_codebooks) != (fit.latent_dim, fit.ratio, fit.num_codebooks):
            raise ValueError(
                f"the speaker-conditioned decoder makes {self.ratio} mel frames of latents of {self.latent_dim} from {self.num_codebooks} "
                f"codebooks; the codec has {fit.ratio} and latents of {fit.latent_dim} from {fit.num_codebooks}"
            )


class SpeakerDecoder(nn.Module):
    """ConvNeXt blocks at the rate of the codes, then at that of the mel frames, the voice added before both."""

    def __init__(self, config: SpeakerDecoderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.enter = nn.Linear(config.latent_dim, width)
        self.voice = nn.Sequential(nn.Linear(TIMBRE_DIM, config.timbre_width), nn.GELU(), nn.Linear(config.timbre_width, 2 * width))
        self.slow, self.fast = (
            ConvNeXtStack(width, config.hidden, config.depth, config.kernel, scale=0.3, lookahead=config.lookahead) for _ in range(2)
        )
        self.widen = nn.Linear(width, config.ratio * width)
        self.head = nn.Linear(width, NUM_BANDS)

    def forward(self, latent: Tensor, timbre: Tensor | None = None) -> Tensor:
        """Log-mel ``[B, T x R, 80]`` of ``latent [B, T, D]`` in the voices ``timbre [B, 160]`` of `timbre_of`.

        Without one, and where a row of it is zero throughout, the voice is left to the codes.
        """
        slow, fast = self._voices(timbre, latent)
        x = self.widen(self.slow(self.enter(latent) + slow)).unflatten(2, (self.config.ratio, -1)).flatten(1, 2)
        made: Tensor = self.head(self.fast(x + fast)).float()
        return made * _SCALE + _MEAN

    def _voices(self, timbre: Tensor | None, latent: Tensor) -> tuple[Tensor, Tensor]:
        if timbre is None:
            nothing = latent.new_zeros(1, 1, self.config.width)
            return nothing, nothing
        voice = self.voice(timbre) * timbre.any(dim=1, keepdim=True)
        first, second = voice[:, None].chunk(2, dim=2)
        return first, second


def timbre_of(mel: Tensor) -> Tensor:
    """What a recording's voice sounds like, ``[160]``: mean and deviation of each band of ``mel [M, 80]`` over its louder half.

    Pauses would tell how long they are. A recording without a mel frame gives zeros, which stand for no voice.
    """
    if not mel.shape[0]:
        return mel.new_zeros(TIMBRE_DIM)
    level = mel.mean(dim=1)
    loud = (mel[level >= level.median()] - _MEAN) / _SCALE
    return torch.cat([loud.mean(dim=0), loud.std(dim=0, correction=0)])


def mel_distance(made: Tensor, wanted: Tensor, frames: Tensor) -> Tensor:
    """Mean absolute difference in nepers of ``made`` and ``wanted [B, M, 80]`` over the first ``frames [B]`` of each."""
    counted = torch.arange(made.shape[1], device=made.device) < frames[:, None]
    return functional.l1_loss(made, wanted, reduction="none").mean(dim=2)[counted].mean()
