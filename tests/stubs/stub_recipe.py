"""A recipe small enough to train in milliseconds: a linear autoencoder over frames, a linear critic, a buffer that follows the data."""

import time

import torch
from torch import nn

from systems.training.recipe import BatchSpec, Losses, OptimiserSpec

FRAME = 64


class Autoencoder(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.down, self.up = nn.Linear(FRAME, width), nn.Linear(width, FRAME)
        self.register_buffer("level", torch.zeros(()))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, frames):
        if self.training:
            self.level.lerp_(frames.detach().abs().mean().to(self.level.dtype), 0.1)
            self.seen += frames.shape[0]
        return self.up(self.down(frames))


class FramesRecipe:
    family = "stub_frames"
    sample_rate = 16000
    players = ("critic", "codec")

    def __init__(self, size="small", width=8, batch_size=4, crop_s=0.1, nan_steps=(), whole=False, learning_rate=1e-2, pause_s=0.0):
        if size not in ("small", "paper"):
            raise ValueError(f"size={size}: there are small and paper")
        self.codec, self.critic = Autoencoder(width), nn.Linear(FRAME, 1)
        self.batch_size, self.crop_s, self.nan_steps, self.whole = batch_size, crop_s, tuple(nan_steps), whole
        self.learning_rate, self.pause_s = learning_rate, pause_s
        self.calls = []
        self.first_rows = []

    def modules(self):
        return {"codec": self.codec, "critic": self.critic}

    def parameters(self, player):
        return list((self.codec if player == "codec" else self.critic).parameters())

    def optimiser(self, player):
        return OptimiserSpec(learning_rate=self.learning_rate, warmup_steps=2, clip_norm=1.0)

    def averaged(self):
        return ["codec"]

    def wants(self):
        specs = {"crops": BatchSpec(self.batch_size, self.crop_s)}
        if self.whole:
            specs["utterances"] = BatchSpec(2, 2.0, whole=True, with_text=True)
        return specs

    def losses(self, player, batch, step, generator):
        time.sleep(self.pause_s)
        self.calls.append((player, step))
        audio = batch["crops"].audio
        if player == self.players[0]:
            self.first_rows.append(audio[0, :8].clone())
        frames = audio[:, : audio.shape[1] // FRAME * FRAME].reshape(-1, FRAME)
        # One generator of each kind, so that a resumed run must restore them all.
        noisy = frames + 0.01 * torch.randn(frames.shape, generator=generator) + 0.01 * torch.randn_like(frames)
        if player == "critic":
            self.made = self.codec(noisy)  # the graph is used again by the codec's turn
            total = self.critic(self.made.detach()).square().mean() + (self.critic(frames) - 1).square().mean()
            return Losses(total, {"score": self.critic(frames).detach().mean()})
        reconstruction = (self.made - frames).square().mean()
        fooling = (self.critic(self.made) - 1).square().mean()
        total = reconstruction + 1e-3 * fooling
        if step in self.nan_steps:
            total = total * float("nan")
        return Losses(total, {"l2": reconstruction.detach()})

    def validate(self, audios):
        torch.rand(3)  # must not disturb the training
        errors = []
        for audio in audios:
            frames = audio[: len(audio) // FRAME * FRAME].reshape(-1, FRAME)
            errors.append(float((self.codec(frames) - frames).square().mean()))
        return {"l2": sum(errors) / len(errors)}

    def export(self):
        return dict(self.codec.state_dict()), {"shape": str(FRAME)}
