"""The small size's vocoder: a harmonic and a noise source, shaped by filters that a network reads off the mel frames.

The released vocoder is a BigVGAN (see `systems.vocoder.bigvgan`): adversarial training and convolutions at the sample rate, out of
reach of two CPU cores. This one takes what is known of speech as given (Wang et al. 2019, "Neural source-filter waveform models";
Agrawal et al. 2024, "Ultra-lightweight neural differential DSP vocoder"): the network works at 100 frames a second and tells pitch,
voicing and two spectral envelopes; a pulse train and noise are filtered by them in the short-time Fourier domain. It needs no adversary.

Shape letters: B batch, T frames of 10 ms, N = 160 T samples, F = window / 2 + 1 frequencies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from systems.configuration import Configuration
from systems.layers.convolution import ConvNeXtStack
from systems.vocoder.mel import HOP, NUM_BANDS, SAMPLE_RATE

_MEL_MEAN, _MEL_SCALE = -5.0, 2.5  # brings log-mel frames near zero mean and unit variance: -0.4 and 0.8 on the training data
_NOISE_PERIOD = 1 << 16  # samples after which the noise source repeats: four seconds


@dataclass(frozen=True)
class WaveVocoderConfig(Configuration):
    """Shape of the vocoder."""

    width: int = 256  # channels of the ConvNeXt blocks
    hidden: int = 640  # width inside them
    depth: int = 6  # blocks of the filters' network
    pitch_depth: int = 3  # blocks of the pitch's network
    lookahead: int = 1  # frames that each block sees after its own
    window: int = 4 * HOP  # samples of the filtering transform, four hops
    pitch_bins: int = 128  # classes of pitch, equal steps of log frequency
    lowest_hz: float = 55.0  # pitch of the first class
    highest_hz: float = 520.0  # pitch of the last class

    def __post_init__(self) -> None:
        if self.window != 4 * HOP:
            raise ValueError(f"windows of the filtering transform overlap by three quarters: {4 * HOP} samples, got {self.window}")


class Pitch(NamedTuple):
    """Pitch of every frame."""

    hz: Tensor  # [B, T], continued through unvoiced frames
    voiced: Tensor  # [B, T], 1 or 0


class Progress(NamedTuple):
    """How far the two sources have run before each frame; what lets a piece of an utterance be rendered by itself."""

    turns: Tensor  # [B, T], of the pulse train, in 0 .. 1 since the last whole one
    frames: Tensor  # [B, T], since the start


class Controls(NamedTuple):
    """What the network reads off mel frames."""

    pitch_logits: Tensor  # [B, T, 1 + pitch_bins], class 0 is unvoiced
    harmonic: Tensor  # [B, T, F], log gains of the harmonic source
    noise: Tensor  # [B, T, F], log gains of the noise


class WaveVocoder(nn.Module):
    """Mel frames to audio."""

    taper: Tensor
    noise: Tensor

    TITLE = "source-filter vocoder"

    def __init__(self, config: WaveVocoderConfig) -> None:
        super().__init__()
        self.config = config
        bins = config.window // 2 + 1
        self.enter_pitch = nn.Linear(NUM_BANDS, config.width)
        self.pitch = ConvNeXtStack(config.width, config.hidden, config.pitch_depth, lookahead=config.lookahead)
        self.pitch_head = nn.Linear(config.width, 1 + config.pitch_bins)
        self.enter = nn.Linear(NUM_BANDS, config.width)
        self.filters = ConvNeXtStack(config.width, config.hidden, config.depth, lookahead=config.lookahead)
        self.filter_head = nn.Linear(config.width, 2 * bins)
        nn.init.normal_(self.filter_head.weight, std=0.01)
        nn.init.constant_(self.filter_head.bias, -4.0)
        self.register_buffer("taper", torch.hann_window(config.window), persistent=False)
        noise = torch.randn(_NOISE_PERIOD, generator=torch.Generator().manual_seed(0))
        self.register_buffer("noise", noise, persistent=False)

    def forward(self, mel: Tensor) -> Tensor:
        """Audio ``[B, 160 T]`` of log-mel frames ``[B, T, 80]``; the same for the same frames."""
        if not mel.shape[1]:
            return mel.new_zeros(mel.shape[0], 0)
        controls = self.controls(mel)
        return self.render(controls, self.read_pitch(controls.pitch_logits))

    def controls(self, mel: Tensor) -> Controls:
        """Pitch and filters of ``mel [B, T, 80]``."""
        scaled = (mel - _MEL_MEAN) / _MEL_SCALE
        logits = self.pitch_head(self.pitch(self.enter_pitch(scaled)))
        gains = self.filter_head(self.filters(self.enter(scaled))).float()
        harmonic, noise = gains.chunk(2, dim=-1)
        return Controls(logits, harmonic, noise)

    def read_pitch(self, logits: Tensor) -> Pitch:
        """Pitch from ``logits [B, T, 1 + bins]``: the mean of log frequency around the best class, weighted by probability."""
        inner = logits[..., 1:].float()
        voiced = (inner.logsumexp(dim=-1) > logits[..., 0].float()).to(inner.dtype)
        classes = torch.arange(self.config.pitch_bins, device=logits.device)
        near = (classes - inner.argmax(dim=-1, keepdim=True)).abs() <= 3
        weights = inner.masked_fill(~near, -torch.inf).softmax(dim=-1)
        return Pitch(self._to_hz((weights * classes).sum(dim=-1)), voiced)

    def pitch_targets(self, pitch: Pitch) -> Tensor:
        """Probabilities ``[B, T, 1 + bins]`` that the logits are trained towards: a narrow bell around the true class."""
        classes = torch.arange(self.config.pitch_bins, device=pitch.hz.device)
        bell = torch.exp(-0.5 * (classes - self._to_class(pitch.hz)[..., None]).square())
        bell = bell / bell.sum(dim=-1, keepdim=True).clamp(min=1e-8)
        voiced = pitch.voiced[..., None]
        return torch.cat([1.0 - voiced, voiced * bell], dim=-1)

    def render(self, controls: Controls, pitch: Pitch, progress: Progress | None = None) -> Tensor:
        """Audio ``[B, 160 T]``: both sources through their filters, in full precision; from the start of the sources without ``progress``."""
        with torch.autocast(pitch.hz.device.type, enabled=False):
            progress = progress or progressed(turns_within(pitch))
            samples = progress.frames.long()[..., None] * HOP + torch.arange(HOP, device=pitch.hz.device)
            noise = self.noise[samples.flatten(1) % _NOISE_PERIOD]
            spectrum = self._spectrum(pulses(pitch, progress)) * _minimum_phase(controls.harmonic.float(), self.config.window)
            spectrum = spectrum + self._spectrum(noise) * controls.noise.float().exp()
            return self._synthesis(spectrum)

    def _spectrum(self, audio: Tensor) -> Tensor:
        """Complex ``[B, T, F]``; frame t is centred like mel frame t."""
        side = (self.config.window - HOP) // 2
        frames = functional.pad(audio, (side, side)).unfold(-1, self.config.window, HOP)
        spectrum: Tensor = torch.fft.rfft(frames * self.taper)
        return spectrum

    def _synthesis(self, spectrum: Tensor) -> Tensor:
        """Overlap-add of ``[B, T, F]``; squared Hann windows at a quarter's hop sum to 1.5 but at the very edges."""
        frames = torch.fft.irfft(spectrum, n=self.config.window) * (self.taper / 1.5)
        count, side = frames.shape[1], (self.config.window - HOP) // 2
        total = (count - 1) * HOP + self.config.window
        audio = functional.fold(frames.transpose(1, 2), (1, total), (1, self.config.window), stride=(1, HOP))[:, 0, 0]
        return audio[:, side : side + count * HOP]

    def _to_hz(self, classes: Tensor) -> Tensor:
        config = self.config
        return config.lowest_hz * torch.exp(classes * (math.log(config.highest_hz / config.lowest_hz) / (config.pitch_bins - 1)))

    def _to_class(self, hz: Tensor) -> Tensor:
        config = self.config
        step = math.log(config.highest_hz / config.lowest_hz) / (config.pitch_bins - 1)
        return (torch.log(hz.clamp(min=config.lowest_hz) / config.lowest_hz) / step).clamp(max=config.pitch_bins - 1)


def turns_within(pitch: Pitch) -> Tensor:
    """Turns of the pulse train in each frame ``[B, T]``, of its own pitch and its neighbours'; rounded here, so that pieces and whole agree."""
    hz = _per_sample(pitch.hz.double().log()).exp()
    return hz.reshape(*pitch.hz.shape, HOP).sum(dim=-1).div(SAMPLE_RATE).float()


def progressed(turns: Tensor, before: float = 0.0, frames: int = 0) -> Progress:
    """Of frames with ``turns [B, T]`` in them, behind ``frames`` others with ``before`` turns in all."""
    starts = before + turns.double().cumsum(dim=-1) - turns.double()
    numbers = torch.arange(frames, frames + turns.shape[1], device=turns.device)
    return Progress((starts - starts.floor()).float(), numbers.expand(turns.shape[0], -1))


def pulses(pitch: Pitch, progress: Progress | None = None) -> Tensor:
    """A band-limited pulse train of unit power ``[B, 160 T]``, silent where unvoiced: every harmonic up to half the sample rate.

    The sum of H cosines has the closed form ``(sin((H + 1/2) p) / sin(p / 2) - 1) / 2``.
    """
    progress = progress or progressed(turns_within(pitch))
    hz = _per_sample(pitch.hz.double().log()).exp()
    turns = torch.cumsum((hz / SAMPLE_RATE).reshape(*pitch.hz.shape, HOP), dim=-1) + progress.turns.double()[..., None]
    phase = 2.0 * math.pi * (turns - turns.floor()).flatten(1)
    harmonics = torch.floor(0.5 * SAMPLE_RATE / hz)
    half = torch.sin(0.5 * phase)
    near = half.abs() < 1e-6
    train = torch.where(near, harmonics, 0.5 * (torch.sin((harmonics + 0.5) * phase) / half.masked_fill(near, 1.0) - 1.0))
    return (train * (2.0 / harmonics).sqrt()).float() * _per_sample(pitch.voiced)


def _per_sample(frames: Tensor) -> Tensor:
    """``[B, T]`` values at frame centres drawn out to ``[B, 160 T]`` by straight lines; constant before the first and after the last."""
    drawn: Tensor = functional.interpolate(frames[:, None], scale_factor=float(HOP), mode="linear", align_corners=False)[:, 0]
    return drawn


def _minimum_phase(log_gain: Tensor, window: int) -> Tensor:
    """Complex gains ``[..., F]`` of log magnitudes ``[..., F]``, with the phase of the causal filter (through the folded cepstrum)."""
    cepstrum = torch.fft.irfft(log_gain, n=window)
    half = window // 2
    folded = torch.cat([cepstrum[..., :1], 2.0 * cepstrum[..., 1:half], cepstrum[..., half : half + 1]], dim=-1)
    return torch.exp(torch.fft.rfft(folded, n=window))
