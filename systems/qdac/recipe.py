"""How QDAC is trained: what the loop of `systems.training` asks, answered."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from systems.checkpoints import exported
from systems.layers.discriminator import (
    SMALL_DISCRIMINATOR,
    Discriminator,
    DiscriminatorConfig,
    discriminator_loss,
    feature_matching_loss,
    generator_loss,
)
from systems.layers.spectrum import LogMel, compress
from systems.qdac.config import QdacConfig, qdac_config
from systems.qdac.model import QdacModel, Reconstruction, start
from systems.qdac.semantic import SemanticConfig, SemanticSupervisor, pad_tokens
from systems.training.recipe import Batch, BatchSpec, Losses, OptimiserSpec


@dataclass(frozen=True)
class ObjectiveConfig:
    """Weights of the losses and the scales of the spectra."""

    mel: float = 1.0  # weight of the L1 distance of log-mel spectra, summed over scales
    # (window in samples, bands) of each.
    mel_scales: tuple[tuple[int, int], ...] = ((128, 12), (256, 24), (512, 40), (1024, 80), (2048, 160))
    complex: float = 2.0  # weight of the L1 distance of complex spectra with magnitudes to the power 0.5, summed over complex_windows
    complex_windows: tuple[int, ...] = (512, 1024)  # some of the windows of mel_scales
    waveform: float = 0.05  # weight of the negative signal-to-noise ratio, per dB
    commitment: float = 0.25
    codebook: float = 1.0  # weight, for codebooks trained by gradient
    adversarial: float = 0.02  # weight of the least-squares adversarial loss
    feature_matching: float = 0.04  # weight of the L1 distance of the discriminators' features
    semantic: float = 0.05  # weight of the recogniser's token cross-entropy


# DAC's published weights. Its waveform terms are the mel distance alone.
PAPER_OBJECTIVE = ObjectiveConfig(
    mel=15.0,
    mel_scales=((32, 5), (64, 10), (128, 20), (256, 40), (512, 80), (1024, 160), (2048, 320)),
    complex=0.0,
    complex_windows=(),
    waveform=0.0,
    commitment=0.25,
    codebook=1.0,
    adversarial=1.0,
    feature_matching=2.0,
    semantic=1.0,
)


class ReconstructionLoss(NamedTuple):
    """Distances of an output to its reference, scalars."""

    mel: Tensor  # summed over scales
    complex: Tensor  # summed over windows; zero where there are none
    waveform: Tensor  # mean negative signal-to-noise ratio in dB


class ReconstructionObjective(nn.Module):
    """Distances of waveforms, each spectrum computed once."""

    def __init__(self, sample_rate: int, config: ObjectiveConfig) -> None:
        super().__init__()
        self.config = config
        missing = set(config.complex_windows) - {window for window, _ in config.mel_scales}
        if missing:
            raise ValueError(f"complex_windows {sorted(missing)} are none of the windows of mel_scales")
        self.mels = nn.ModuleList(LogMel(sample_rate, window, bands) for window, bands in config.mel_scales)

    def forward(self, output: Tensor, reference: Tensor) -> ReconstructionLoss:
        """Distances of ``output [B, N]`` to ``reference [B, N]``, in full precision whatever surrounds the call."""
        with torch.autocast(output.device.type, enabled=False):
            return self._distances(output, reference)

    def _distances(self, output: Tensor, reference: Tensor) -> ReconstructionLoss:
        mel = complex_distance = output.new_zeros(())
        for scale in self.mels:
            assert isinstance(scale, LogMel)
            length = output.shape[1] // scale.analysis.hop * scale.analysis.hop
            made, wanted = scale.analysis(output[:, :length]), scale.analysis(reference[:, :length])
            mel = mel + (scale.of(made) - scale.of(wanted)).abs().mean()
            if scale.analysis.window in self.config.complex_windows:
                complex_distance = complex_distance + (compress(made, 0.5) - compress(wanted, 0.5)).abs().mean()
        return ReconstructionLoss(mel, complex_distance, -snr_db(output, reference).mean())


def snr_db(output: Tensor, reference: Tensor, floor: float = 1e-6) -> Tensor:
    """Signal-to-noise ratio ``[B]`` in dB of ``output [B, N]``, both powers raised by ``floor`` (-60 dB of full scale), so that
    silence neither dominates nor divides by zero.
    """
    noise = (output - reference).square().mean(dim=-1) + floor
    return 10.0 * torch.log10((reference.square().mean(dim=-1) + floor) / noise)


@dataclass(frozen=True)
class QdacTraining:
    """Choices of a training run that leave the codec's shape alone."""

    semantic: bool = True  # supervise codebook 1 with the recogniser
    semantic_every: int = 6  # steps between two of its updates
    # Train against the discriminators; on two cores that more than doubles the price of a step, so the small size leaves it off.
    adversarial: bool = False
    adversarial_from: int = 0  # first step that does
    batch_size: int = 12  # crops a step
    crop_frames: int = 32  # of the codec
    utterances: int = 4  # transcribed utterances in a recogniser's batch
    utterance_s: float = 8.0  # longest of them, in seconds
    gain_db: tuple[float, float] = (-10.0, 6.0)  # crops are louder or softer by a number drawn between these
    learning_rate: float = 1e-3  # at the peak


PAPER_TRAINING = QdacTraining(
    semantic_every=1,
    adversarial=True,
    batch_size=72,
    crop_frames=19,
    utterances=16,
    utterance_s=15.0,
    gain_db=(0.0, 0.0),
    learning_rate=1e-4,
)


class QdacRecipe:
    """Trains QDAC of one size.

    Args:
        size: "small" or "paper".
        frame_rate: in Hz.
        config, training, objective: other than those of the size.
        seed: of the initial weights.
    """

    family = "qdac"

    def __init__(
        self,
        size: str = "small",
        num_codebooks: int = 16,
        frame_rate: int = 50,
        config: QdacConfig | None = None,
        training: QdacTraining | None = None,
        objective: ObjectiveConfig | None = None,
        seed: int = 0,
    ) -> None:
        self.size = size
        self.config = config or qdac_config(size, num_codebooks, frame_rate)
        paper = size == "paper"
        self.training = training or (PAPER_TRAINING if paper else QdacTraining())
        self.weights = objective or (PAPER_OBJECTIVE if paper else ObjectiveConfig())
        self.sample_rate = self.config.sample_rate
        self.players = ("discriminator", "generator") if self.training.adversarial else ("generator",)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = QdacModel(self.config)
            self.objective = ReconstructionObjective(self.sample_rate, self.weights)
            wide = SemanticConfig(width=512, heads=8, encoder_depth=6, decoder_depth=6) if paper else SemanticConfig()
            self.semantic = SemanticSupervisor(replace(wide, input_dim=self.config.codebook_dim)) if self.training.semantic else None
            shape = DiscriminatorConfig() if paper else SMALL_DISCRIMINATOR
            self.discriminator = Discriminator(shape) if self.training.adversarial else None
        self._made: tuple[int, Tensor, Reconstruction] | None = None

    def modules(self) -> Mapping[str, nn.Module]:
        """The codec, the spectra of the objective (buffers only), and, where used, recogniser and discriminator."""
        found: dict[str, nn.Module] = {"model": self.model, "objective": self.objective}
        if self.semantic is not None:
            found["semantic"] = self.semantic
        if self.discriminator is not None:
            found["discriminator"] = self.discriminator
        return found

    def parameters(self, player: str) -> list[nn.Parameter]:
        """What a player moves; entries under a moving average are not among them."""
        if player == "discriminator":
            return list(self._need_discriminator().parameters())
        own = [self.model] + ([self.semantic] if self.semantic is not None else [])
        return [p for module in own for p in module.parameters() if p.requires_grad]

    def optimiser(self, player: str) -> OptimiserSpec:
        """DAC's exponential schedule for the paper size, a cosine over the run for the small one."""
        if self.size == "paper":
            return OptimiserSpec(self.training.learning_rate, warmup_steps=0, schedule="exponential", clip_norm=10.0)
        rate = self.training.learning_rate * (0.3 if player == "discriminator" else 1.0)
        return OptimiserSpec(rate, warmup_steps=200, schedule="cosine", clip_norm=10.0)

    def averaged(self) -> Sequence[str]:
        """None: averaged encoders and codebooks that moved apart do not fit each other, and the cosine ends near zero anyway."""
        return ()

    def wants(self) -> Mapping[str, BatchSpec]:
        """Crops for reconstruction; whole English utterances with text for the recogniser."""
        choices = self.training
        found = {"crops": BatchSpec(choices.batch_size, choices.crop_frames * self.config.hop / self.sample_rate)}
        if self.semantic is not None:
            found["utterances"] = BatchSpec(choices.utterances, choices.utterance_s, whole=True, with_text=True, languages=("en",))
        return found

    def losses(self, player: str, batch: Mapping[str, Batch], step: int, generator: torch.Generator) -> Losses:
        """The discriminator's loss, or everything the codec and the recogniser minimise."""
        reference, made = self._forward(batch["crops"].audio, step, generator)
        if player == "discriminator":
            return self._discriminator_losses(reference, made, step)
        weights, quantized = self.weights, made.quantized
        distance = self.objective(made.audio.float(), reference)
        total = (
            weights.mel * distance.mel
            + weights.complex * distance.complex
            + weights.waveform * distance.waveform
            + weights.commitment * quantized.commitment
            + weights.codebook * quantized.codebook
        )
        parts = {"mel": distance.mel, "complex": distance.complex, "snr_db": -distance.waveform, "commitment": quantized.commitment}
        if self._adversary_plays(step):
            fake, real = self._need_discriminator()(made.audio), self._need_discriminator()(reference)
            adversarial = generator_loss([judgement.score for judgement in fake])
            matching = feature_matching_loss([j.features for j in real], [j.features for j in fake])
            total = total + weights.adversarial * adversarial + weights.feature_matching * matching
            parts |= {"adversarial": adversarial, "feature_matching": matching}
        if self.semantic is not None and step % self.training.semantic_every == 0:
            entropy = self.semantic_loss(batch["utterances"])
            total = total + weights.semantic * entropy
            parts["semantic"] = entropy
        self._made = None
        return Losses(total, {name: part.detach() for name, part in parts.items()})

    def semantic_loss(self, batch: Batch) -> Tensor:
        """The recogniser's cross-entropy in nats per token, its gradient in codebook 1, the encoder and the recogniser."""
        if self.semantic is None:
            raise ValueError("this recipe was built without the recogniser (semantic=False)")
        hop = self.config.hop
        audio = functional.pad(batch.audio, (0, -batch.audio.shape[1] % hop))
        latent = self.model.encoder(audio).float()
        with torch.autocast(latent.device.type, enabled=False):
            first = self.model.quantizer.first(latent)
        entropy: Tensor = self.semantic(first, -(-batch.lengths // hop), pad_tokens(batch.texts).to(audio.device))
        return entropy

    def validate(self, audios: Sequence[Tensor]) -> Mapping[str, float]:
        """Mel distance and signal-to-noise ratio of whole utterances with all codebooks."""
        mel, snr = [], []
        with torch.no_grad():
            for audio in audios:
                reference = audio[: audio.shape[0] // self.config.hop * self.config.hop][None]
                output = self.model.decode(self.model.encode(reference))
                mel.append(float(self.objective(output, reference).mel))
                snr.append(float(snr_db(output, reference)))
        return {"mel": sum(mel) / len(mel), "snr_db": sum(snr) / len(snr)}

    def export(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The codec alone, in float16 for the small size."""
        tensors = exported(self.model, torch.float16 if self.size == "small" else torch.float32)
        metadata = {
            "family": self.family,
            "size": self.size,
            "config": json.dumps(self.config.to_dict()),
            "semantic": json.dumps(self.semantic is not None),
            "adversarial": json.dumps(self.discriminator is not None),
        }
        return tensors, metadata

    def _forward(self, audio: Tensor, step: int, generator: torch.Generator) -> tuple[Tensor, Reconstruction]:
        """One pass of the codec per step, shared by the players: a second would move the codebooks twice."""
        if self._made is None or self._made[0] != step:
            low, high = self.training.gain_db
            gain = 10.0 ** ((low + (high - low) * torch.rand(audio.shape[0], 1, generator=generator)) / 20.0)
            # A louder copy must not clip; 0.98 leaves room for the decoder to overshoot.
            room = 0.98 / audio.abs().amax(dim=-1, keepdim=True).clamp(min=1e-6)
            reference = audio * torch.minimum(gain.to(audio.device), room)
            active = self.model.quantizer.draw_active(audio.shape[0], generator)
            start(self.model, reference)
            self._made = (step, reference, self.model(reference, active, generator))
        return self._made[1], self._made[2]

    def _discriminator_losses(self, reference: Tensor, made: Reconstruction, step: int) -> Losses:
        judge = self._need_discriminator()
        fake, real = judge(made.audio.detach()), judge(reference)
        loss = discriminator_loss([judgement.score for judgement in real], [judgement.score for judgement in fake])
        if not self._adversary_plays(step):
            loss = 0.0 * loss
        return Losses(loss, {"discriminator": loss.detach()})

    def _adversary_plays(self, step: int) -> bool:
        return self.discriminator is not None and step >= self.training.adversarial_from

    def _need_discriminator(self) -> Discriminator:
        if self.discriminator is None:
            raise ValueError("this recipe was built without a discriminator (adversarial=False)")
        return self.discriminator
