"""How the small vocoder is trained: spectra at several scales for the filters, WORLD's pitch for the pitch classes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from systems.checkpoints import exported
from systems.layers.spectrum import Analysis, energy
from systems.training.recipe import Batch, BatchSpec, Losses, OptimiserSpec
from systems.vocoder.mel import HOP, SAMPLE_RATE, MelFrames
from systems.vocoder.wave import Pitch, WaveVocoder, WaveVocoderConfig


@dataclass(frozen=True)
class VocoderTraining:
    """Choices of a training run that leave the vocoder's shape alone."""

    batch_size: int = 8  # crops a step
    crop_frames: int = 100  # of mel
    gain_db: tuple[float, float] = (-12.0, 6.0)  # crops are louder or softer by a number drawn between these
    learning_rate: float = 1e-3  # at the peak
    pitch_weight: float = 0.2  # of the cross-entropy of pitch classes
    windows: tuple[int, ...] = (256, 512, 1024, 2048)  # samples of the spectra compared
    blur: float = 0.25  # share of the crops whose mel frames are smoothed over time and frequency, as a codec's decoder smooths them


class WaveVocoderRecipe:
    """Trains the small vocoder."""

    family = "mel_vocoder"
    players = ("generator",)

    def __init__(self, config: WaveVocoderConfig | None = None, training: VocoderTraining | None = None, seed: int = 0) -> None:
        self.config = config or WaveVocoderConfig()
        self.training = training or VocoderTraining()
        self.sample_rate = SAMPLE_RATE
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = WaveVocoder(self.config)
        self.mel = MelFrames()
        self.spectra = nn.ModuleList(Analysis(window, window // 4) for window in self.training.windows)

    def modules(self) -> Mapping[str, nn.Module]:
        """The vocoder and the spectra (buffers only)."""
        return {"model": self.model, "mel": self.mel, "spectra": self.spectra}

    def parameters(self, player: str) -> list[nn.Parameter]:
        """Of the vocoder."""
        return list(self.model.parameters())

    def optimiser(self, player: str) -> OptimiserSpec:
        """A cosine over the run."""
        return OptimiserSpec(self.training.learning_rate, warmup_steps=200, schedule="cosine", clip_norm=10.0)

    def averaged(self) -> Sequence[str]:
        """None."""
        return ()

    def wants(self) -> Mapping[str, BatchSpec]:
        """Crops of whole frames."""
        return {"crops": BatchSpec(self.training.batch_size, self.training.crop_frames * HOP / SAMPLE_RATE)}

    def losses(self, player: str, batch: Mapping[str, Batch], step: int, generator: torch.Generator) -> Losses:
        """Spectral distance with the true pitch, and the cross-entropy of the pitch."""
        reference, output, entropy = self._forward(batch["crops"].audio, generator)
        spectral = self.distance(output, reference)
        parts = {"spectral": spectral.detach(), "pitch": entropy.detach()}
        return Losses(spectral + self.training.pitch_weight * entropy, parts)

    def distance(self, output: Tensor, reference: Tensor) -> Tensor:
        """L1 of log10 magnitudes plus L1 of magnitudes to the power 0.5, mean over the windows; ``[B, N]`` each."""
        total = output.new_zeros(())
        with torch.autocast(output.device.type, enabled=False):
            for spectrum in self.spectra:
                assert isinstance(spectrum, Analysis)
                length = output.shape[1] // spectrum.hop * spectrum.hop
                made, wanted = (energy(spectrum(x[:, :length].float())) for x in (output, reference))
                # Magnitudes are floored at 1e-3 (our choice), so that near-silence does not rule the mean.
                log = 0.5 * ((made + 1e-6).log10() - (wanted + 1e-6).log10()).abs().mean()
                root = ((made + 1e-8).pow(0.25) - (wanted + 1e-8).pow(0.25)).abs().mean()
                total = total + log + root
        return total / len(self.spectra)

    def validate(self, audios: Sequence[Tensor]) -> Mapping[str, float]:
        """The spectral distance on whole utterances with the vocoder's own pitch, and how often its pitch is right (within a semitone)."""
        distances, right, frames = [], 0.0, 0.0
        with torch.no_grad():
            for audio in audios:
                reference = audio[: audio.shape[0] // HOP * HOP][None]
                controls = self.model.controls(self.mel(reference))
                found, truth = self.model.read_pitch(controls.pitch_logits), pitch_of(reference)
                distances.append(float(self.distance(self.model.render(controls, found), reference)))
                close = (torch.log2(found.hz / truth.hz).abs() < 1 / 12).float() * found.voiced
                right, frames = right + float((close * truth.voiced).sum()), frames + float(truth.voiced.sum())
        return {"spectral": sum(distances) / len(distances), "pitch_right": right / max(frames, 1.0)}

    def export(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The vocoder in float16."""
        return exported(self.model, torch.float16), {"family": self.family, "size": "small", "config": json.dumps(self.config.to_dict())}

    def _forward(self, audio: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """What is to be said, what is said in its place, and the cross-entropy of the pitch."""
        low, high = self.training.gain_db
        gain = 10.0 ** ((low + (high - low) * torch.rand(audio.shape[0], 1, generator=generator)) / 20.0)
        room = 0.98 / audio.abs().amax(dim=-1, keepdim=True).clamp(min=1e-6)
        reference = audio * torch.minimum(gain.to(audio.device), room)
        with torch.no_grad():
            mel = self._blurred(self.mel(reference), generator)
        controls = self.model.controls(mel)
        pitch = pitch_of(reference)
        entropy = functional.cross_entropy(controls.pitch_logits.float().transpose(1, 2), self.model.pitch_targets(pitch).transpose(1, 2))
        return reference, self.model.render(controls, pitch), entropy

    def _blurred(self, mel: Tensor, generator: torch.Generator) -> Tensor:
        """Some of the rows ``[B, T, 80]`` averaged over three frames and three bands."""
        chosen = (torch.rand(mel.shape[0], generator=generator) < self.training.blur).to(mel.device)[:, None, None]
        smooth = functional.avg_pool2d(mel[:, None], 3, stride=1, padding=1, count_include_pad=False)[:, 0]
        return torch.where(chosen, smooth, mel)


def pitch_of(audio: Tensor) -> Pitch:
    """WORLD's pitch (dio, stonemask) at the centre of each mel frame of ``audio [B, N]``; gaps continue the last pitch."""
    rows = [_pitch(row) for row in audio.detach().cpu().double().numpy()]
    hz = torch.from_numpy(np.stack([r[0] for r in rows])).float()
    voiced = torch.from_numpy(np.stack([r[1] for r in rows])).float()
    return Pitch(hz.to(audio.device), voiced.to(audio.device))


def _pitch(audio: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    import pyworld

    count = audio.size // HOP
    hz, times = pyworld.dio(audio, SAMPLE_RATE, f0_floor=60.0, f0_ceil=500.0, frame_period=5.0)
    hz = pyworld.stonemask(audio, hz, times, SAMPLE_RATE)[1::2][:count]
    hz = np.concatenate([hz, np.zeros(count - hz.size)])
    voiced = (hz > 0).astype(np.float64)
    filled = np.maximum.accumulate(np.where(hz > 0, np.arange(count), -1))
    first = hz[hz > 0][0] if voiced.any() else 120.0
    return np.where(filled >= 0, hz[np.maximum(filled, 0)], first), voiced
