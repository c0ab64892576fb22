"""SoCodec in training: what moves what, nested dropout, the adversaries' windows, learning."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from systems.socodec.config import socodec_config
from systems.socodec.recipe import MelDiscriminator, SocodecRecipe, SocodecTraining
from systems.speech_encoder.model import SpeechEncoderConfig
from systems.speech_encoder.recipe import SpeechEncoderRecipe, SpeechEncoderTraining
from systems.training.recipe import Batch

CHOICES = SocodecTraining(batch_size=2, crop_frames=2, adversarial_from=0, ordered_from=0)


@pytest.fixture
def encoder(tmp_path):
    shape = SpeechEncoderConfig(width=16, hidden=16, depth=1, dim=24)
    recipe = SpeechEncoderRecipe(shape, SpeechEncoderTraining(phones=False, num_units=5))
    tensors, metadata = recipe.export()
    save_file({k: v.contiguous() for k, v in tensors.items()}, tmp_path / "encoder.safetensors", metadata=metadata)
    return tmp_path / "encoder.safetensors"


def _config(**changes):
    small = socodec_config("small", 120, changes.pop("quantizer", "opq"), changes.pop("source", "ssl"), changes.pop("semantic", True))
    return replace(small, ssl_dim=24, width=24, groups=2, sizes=(4, 4), codebook_dim=4, **changes)


def _batch(recipe):
    generator = torch.Generator().manual_seed(0)
    audio = 0.1 * torch.randn(2, 2 * 3840, generator=generator)
    derived = {d.name: torch.stack([d.compute(row) for row in audio]) for d in recipe.wants()["crops"].derived}
    return {"crops": Batch(audio, torch.full((2,), audio.shape[1]), ("", ""), ("", ""), derived)}


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({}, {"mel", "commitment", "ssl", "adversarial"}),
        ({"quantizer": "rq"}, {"mel", "commitment", "ssl", "adversarial"}),
        ({"quantizer": "pq"}, {"mel", "commitment", "ssl", "adversarial"}),
        ({"source": "mel", "semantic": False}, {"mel", "commitment", "adversarial"}),
        ({"semantic": False}, {"mel", "commitment", "adversarial"}),
    ],
)
def test_the_losses_of_every_variant(encoder, changes, parts):
    recipe = SocodecRecipe(config=_config(**changes), training=CHOICES, ssl=encoder)
    assert (recipe.features is None) == ("source" in changes)
    batch, generator = _batch(recipe), torch.Generator().manual_seed(1)
    judged = recipe.losses("discriminator", batch, 0, generator)
    judged.total.backward()
    assert all(p.grad is None for p in recipe.parameters("generator"))  # the codec's output was cut off
    before = [p.grad.clone() for p in recipe.parameters("discriminator")]
    assert any(float(g.abs().sum()) > 0 for g in before)
    for p in recipe.parameters("discriminator"):
        p.requires_grad_(False)  # as the loop does
    losses = recipe.losses("generator", batch, 0, generator)
    losses.total.backward()
    assert set(losses.parts) == parts
    stuck = [n for n, p in recipe.model.named_parameters() if p.requires_grad and (p.grad is None or not float(p.grad.abs().sum()))]
    assert stuck == [], stuck


def test_the_adversaries_wait():
    recipe = SocodecRecipe(config=_config(source="mel", semantic=False), training=replace(CHOICES, adversarial_from=3))
    batch, generator = _batch(recipe), torch.Generator().manual_seed(1)
    recipe.losses("discriminator", batch, 2, generator).total.backward()
    assert all(float(p.grad.abs().sum()) == 0.0 for p in recipe.parameters("discriminator"))
    assert "adversarial" not in recipe.losses("generator", batch, 2, generator).parts
    recipe.losses("discriminator", batch, 3, generator)
    assert "adversarial" in recipe.losses("generator", batch, 3, generator).parts


def test_a_step_moves_the_codebooks_once():
    recipe = SocodecRecipe(config=_config(source="mel", semantic=False), training=CHOICES)
    batch, generator = _batch(recipe), torch.Generator().manual_seed(1)
    for player in recipe.players:
        recipe.losses(player, batch, 0, generator)
    calls = {int(m.calls) for m in recipe.model.modules() if hasattr(m, "calls")}
    assert calls == {1}


def test_louder_crops_have_higher_frames_and_the_same_features(encoder):
    recipe = SocodecRecipe(config=_config(), training=replace(CHOICES, gain_db=(6.0, 6.0)), ssl=encoder)
    batch = _batch(recipe)
    mel, features, *_ = recipe._forward(batch["crops"], 0, torch.Generator().manual_seed(0))
    louder = recipe.mel(batch["crops"].audio * 10 ** (6 / 20))
    assert torch.allclose(mel, louder, atol=1e-3)
    assert features is batch["crops"].derived["ssl"]


def test_training_lowers_the_loss():
    recipe = SocodecRecipe(config=_config(source="mel", semantic=False), training=replace(CHOICES, adversarial_from=20))
    batch, generator = _batch(recipe), torch.Generator().manual_seed(1)
    optimisers = {player: torch.optim.Adam(recipe.parameters(player), lr=3e-3) for player in recipe.players}
    seen = []
    for step in range(30):
        for player in recipe.players:
            losses = recipe.losses(player, batch, step, generator)
            optimisers[player].zero_grad()
            losses.total.backward()
            optimisers[player].step()
        seen.append(float(losses.parts["mel"]))
    assert sum(seen[-3:]) < 0.5 * sum(seen[:3])
    recipe.model.eval()
    assert set(recipe.validate([batch["crops"].audio[0]])) == {"mel_db", "mel_db_first"}


def test_adversaries_judge_the_same_windows_of_both():
    generator = torch.Generator().manual_seed(0)
    judge = MelDiscriminator(channels=4, windows=(8, 32))
    mel = torch.randn(3, 20, 8, generator=generator)
    starts = judge.draw(3, 20, generator)
    assert int(starts[0].max()) <= 12 and int(starts[1].max()) == 0  # a mel shorter than a window is judged whole
    moved = mel.clone()
    for row, first in enumerate(starts[0].tolist()):
        moved[row, :first] += 1.0
        moved[row, first + 8 :] += 1.0
    assert torch.equal(judge(mel, starts)[0], judge(moved, starts)[0])
    assert not torch.equal(judge(mel, starts)[1], judge(moved, starts)[1])


def test_ordered_streams_are_dropped_from_their_step_on(monkeypatch):
    recipe = SocodecRecipe(config=_config(source="mel", semantic=False), training=replace(CHOICES, ordered_from=2))
    kept, forward = [], recipe.model.forward
    monkeypatch.setattr(
        recipe.model,
        "forward",
        lambda features, mel, prompt, active, generator: (kept.append(active), forward(features, mel, prompt, active, generator))[1],
    )
    for step in range(4):
        recipe.losses("generator", _batch(recipe), step, torch.Generator().manual_seed(step))
    assert kept[:2] == [None, None]
    assert all(active is not None and active.shape == (2,) for active in kept[2:])
