"""How SoCodec is trained: what the loop of `systems.training` asks, answered (Guo et al. 2024, section 2.4)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from systems.bundled import located
from systems.checkpoints import exported
from systems.layers.discriminator import discriminator_loss, generator_loss
from systems.socodec.config import FEATURE_HOP, QuantizerName, SocodecConfig, Source, socodec_config
from systems.socodec.model import Reconstruction, SocodecModel, spread
from systems.socodec.utterance import clip_and_shuffle
from systems.training.recipe import Batch, BatchSpec, Derived, Losses, OptimiserSpec
from systems.vocoder.mel import DB_PER_NEPER, LOWEST, SAMPLE_RATE, MelFrames
from systems.vocoder.mel import HOP as MEL_HOP


class MelDiscriminator(nn.Module):
    """One judge per window length, three convolutions over time and frequency each, and a verdict per patch.

    Args:
        channels: of the three layers.
        windows: mel frames that each judge looks at.
    """

    def __init__(self, channels: int, windows: tuple[int, ...] = (32, 64, 128)) -> None:
        super().__init__()
        self.windows = windows
        self.judges = nn.ModuleList(_Judge(channels) for _ in windows)

    def draw(self, batch_size: int, frames: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """First frame of each row's window, int64 ``[B]``, for every window length; the same draw judges the real and the made."""
        return tuple(
            torch.randint(max(1, frames - window + 1), (batch_size,), generator=generator, device=generator.device)
            for window in self.windows
        )

    def forward(self, mel: Tensor, starts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Scores, 1 for real, of the windows of ``mel [B, T, bands]`` at ``starts``; a mel shorter than a window is judged whole."""
        scores = []
        for judge, window, first in zip(self.judges, self.windows, starts, strict=True):
            length = min(window, mel.shape[1])
            places = first.to(mel.device)[:, None] + torch.arange(length, device=mel.device)
            cut = mel.gather(1, places[..., None].expand(-1, -1, mel.shape[2]))
            scores.append(judge(cut[:, None]))
        return tuple(scores)


class _Judge(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(1 if i == 0 else channels, channels, 3, stride=2, padding=1) for i in range(3))
        self.verdict = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 1, T, bands]`` to ``[B, 1, T / 8, bands / 8]``."""
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.2)
        scores: Tensor = self.verdict(x)
        return scores


@dataclass(frozen=True)
class SocodecVariant:
    """What was varied between trainings; see `socodec_config`."""

    frame_ms: int = 120  # 40, 120 or 240
    quantizer: QuantizerName = "opq"
    source: Source = "ssl"
    semantic: bool = True  # decode the features too


@dataclass(frozen=True)
class SocodecTraining:
    """Choices of a training run that leave the codec's shape alone."""

    batch_size: int = 8  # crops a step
    crop_frames: int = 10  # code frames of 240 ms in a crop, so that every frame length divides it
    gain_db: tuple[float, float] = (-10.0, 6.0)  # crops are louder or softer by a number drawn between these
    learning_rate: float = 2e-3  # at the peak
    commitment: float = 1.0  # weight of the quantizer's loss
    ssl: float = 50.0  # weight of the squared error of features
    mel: float = 10.0  # weight of the squared error of mel frames
    adversarial: float = 1.0  # weight of the least-squares loss
    adversarial_from: int = 6000  # first step with the adversaries
    ordered_from: int = 3000  # first step at which an ordered quantizer drops streams


PAPER_TRAINING = SocodecTraining(
    batch_size=32, crop_frames=25, gain_db=(0.0, 0.0), learning_rate=1e-4, ssl=1000.0, adversarial_from=0, ordered_from=0
)
"""The paper's weights of the losses; batch, crop and learning rate are our own choice. The small size's weight of the features was set so
that their loss and the mel frames' are of one size: its features are others than HuBERT's."""


class SocodecRecipe:
    """Trains SoCodec of one variant; the features come from a frozen encoder.

    Args:
        size: "small" or "paper".
        ssl: what computes the features: a bundled name or path of a speech encoder, or for the paper size a HuBERT.
        config, training: other than those of the size.
        seed: of the initial weights.

    Raises:
        FileNotFoundError: no encoder.
        ValueError: impossible parameters.
    """

    family = "socodec"

    def __init__(
        self,
        size: str = "small",
        variant: SocodecVariant | None = None,
        ssl: str | Path | None = None,
        config: SocodecConfig | None = None,
        training: SocodecTraining | None = None,
        seed: int = 0,
    ) -> None:
        self.size = size
        self.variant = variant or SocodecVariant()
        self.config = config or socodec_config(size, **asdict(self.variant))
        self.training = training or (PAPER_TRAINING if size == "paper" else SocodecTraining())
        self.sample_rate = SAMPLE_RATE
        self.players = ("discriminator", "generator")
        self.features = self._features(ssl)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = SocodecModel(self.config)
            spread(self.model)
            self.discriminator = MelDiscriminator(192 if size == "paper" else 32)
        self.mel = MelFrames()
        self._made: tuple[int, Tensor, Tensor | None, Reconstruction, tuple[Tensor, ...]] | None = None

    def modules(self) -> Mapping[str, nn.Module]:
        """The codec, its adversaries, and the mel frames (buffers only)."""
        return {"model": self.model, "discriminator": self.discriminator, "mel": self.mel}

    def parameters(self, player: str) -> list[nn.Parameter]:
        """What a player moves."""
        module = self.discriminator if player == "discriminator" else self.model
        return [p for p in module.parameters() if p.requires_grad]

    def optimiser(self, player: str) -> OptimiserSpec:
        """A cosine over the run."""
        rate = self.training.learning_rate * (0.3 if player == "discriminator" else 1.0)
        # The features' loss has gradients of that weight; clipping only catches what is far outside.
        return OptimiserSpec(rate, warmup_steps=200, schedule="cosine", clip_norm=100.0)

    def averaged(self) -> Sequence[str]:
        """None: codebooks follow the encoder as it is."""
        return ()

    def wants(self) -> Mapping[str, BatchSpec]:
        """Crops of whole frames; the same number and length for every variant, so that all see the same data in the same order."""
        frames: tuple[Derived, ...] = (Derived("mel", MEL_HOP, lambda audio: self.mel(audio[None])[0]),)
        if self.features is not None:
            identity = f"features of {self._ssl_digest}"
            frames += (Derived("ssl", FEATURE_HOP, lambda audio: self._heard(audio[None])[0], identity=identity),)
        return {"crops": BatchSpec(self.training.batch_size, 0.24 * self.training.crop_frames, derived=frames)}

    def losses(self, player: str, batch: Mapping[str, Batch], step: int, generator: torch.Generator) -> Losses:
        """The adversaries' loss, or the codec's four."""
        choices = self.training
        mel, features, made, starts = self._forward(batch["crops"], step, generator)
        plays = step >= choices.adversarial_from
        if player == "discriminator":
            if not plays:
                idle = 0.0 * sum(p.sum() for p in self.discriminator.parameters())
                return Losses(torch.as_tensor(idle), {})
            real, fake = self.discriminator(mel, starts), self.discriminator(made.mel.detach(), starts)
            loss = discriminator_loss(real, fake)
            return Losses(loss, {"discriminator": loss.detach()})
        mel_error = functional.mse_loss(made.mel.float(), mel)
        total = choices.commitment * made.quantized.commitment + choices.mel * mel_error
        parts = {"mel": mel_error, "commitment": made.quantized.commitment}
        if made.ssl is not None and features is not None:
            ssl_error = functional.mse_loss(made.ssl.float(), features)
            total = total + choices.ssl * ssl_error
            parts["ssl"] = ssl_error
        if plays:
            adversarial = generator_loss(self.discriminator(made.mel, starts))
            total = total + choices.adversarial * adversarial
            parts["adversarial"] = adversarial
        self._made = None
        return Losses(total, {name: part.detach() for name, part in parts.items()})

    def validate(self, audios: Sequence[Tensor]) -> Mapping[str, float]:
        """Root-mean-square log-mel difference in dB of whole utterances, with all streams and with the first alone, and the squared error of features."""
        found: dict[str, list[float]] = {"mel_db": [], "mel_db_first": []}
        with torch.no_grad():
            for audio in audios:
                reference = audio[: audio.shape[0] // self.config.hop * self.config.hop][None]
                mel = self.mel(reference)
                features = None if self.features is None else self._heard(reference)
                code = self.model.encode(features, mel)
                for name, streams in (("mel_db", self.config.num_streams), ("mel_db_first", 1)):
                    decoded = self.model.decode(code.indices[:, :streams], code.embedding)
                    found[name].append(DB_PER_NEPER * float((decoded.mel - mel).square().mean().sqrt()))
                    if decoded.ssl is not None and features is not None and streams == self.config.num_streams:
                        found.setdefault("ssl", []).append(float((decoded.ssl - features).square().mean()))
        return {name: sum(values) / len(values) for name, values in found.items()}

    def export(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The codec alone, in float16 for the small size."""
        tensors = exported(self.model, torch.float16 if self.size == "small" else torch.float32)
        metadata = {"family": self.family, "size": self.size, "config": json.dumps(self.config.to_dict()), "ssl": self._ssl_digest}
        return tensors, metadata

    def _features(self, ssl: str | Path | None) -> nn.Module | None:
        """The frozen encoder, None where nothing needs features."""
        self._ssl_digest = ""
        if self.config.source == "mel" and not self.config.semantic:
            return None
        from systems.socodec.ssl import speech_features

        if ssl is None and self.size == "paper":
            raise ValueError("SoCodec of the paper's size hears through HuBERT: give ssl=FOLDER of TencentGameMate/chinese-hubert-large")
        found = speech_features(located(ssl or "speech_encoder"))
        self._ssl_digest = found.digest
        return found

    def _heard(self, audio: Tensor) -> Tensor:
        """Features ``[B, T50, ssl_dim]`` of ``audio [B, N]``."""
        assert self.features is not None
        found: Tensor = self.features.to(audio.device)(audio)
        return found

    def _forward(
        self, batch: Batch, step: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None, Reconstruction, tuple[Tensor, ...]]:
        """One pass of the codec per step, shared by the players: a second would move the codebooks twice."""
        if self._made is None or self._made[0] != step:
            mel, features = batch.derived["mel"], batch.derived.get("ssl")
            low, high = self.training.gain_db
            gain_db = low + (high - low) * torch.rand(mel.shape[0], 1, 1, generator=generator)
            # A louder recording has the same features, and its log-mel frames are higher by as much.
            mel = (mel + (gain_db / DB_PER_NEPER).to(mel.device)).clamp(min=LOWEST)
            starts = self.discriminator.draw(mel.shape[0], mel.shape[1], generator)
            prompt = clip_and_shuffle(mel, generator)
            ordered = step >= self.training.ordered_from
            active = self.model.quantizer.draw_active(mel.shape[0], generator) if ordered else None
            self._made = (step, mel, features, self.model(features, mel, prompt, active, generator), starts)
        return self._made[1:]
