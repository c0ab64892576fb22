"""The small speech encoder: frames where they belong, padding that changes nothing, masked prediction, weights on disk."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from harness.settings.training import planned
from systems.checkpoints import load
from systems.speech_encoder.model import Hidden, SpeechEncoder, SpeechEncoderConfig
from systems.speech_encoder.objective import PHONES, UNKNOWN, AcousticUnits, Cepstra, MaskedPrediction, PhoneAligner, draw_mask, warped
from systems.speech_encoder.recipe import SpeechEncoderRecipe, SpeechEncoderTraining
from systems.training.recipe import Batch, Recipe

TINY = SpeechEncoderConfig(num_bands=20, width=24, hidden=32, kernel=3, depth=2, dim=8)
REACH = TINY.depth * (TINY.kernel // 2) + 1  # frames on each side: the blocks, and one for the spectra's windows
RECORDINGS = Path(__file__).resolve().parents[5] / "shared" / "data" / "train"


def _model(seed=0, config=TINY):
    torch.manual_seed(seed)
    return SpeechEncoder(config).eval().requires_grad_(False)


def _sound(rows, samples, seed=0):
    return 0.1 * torch.randn(rows, samples, generator=torch.Generator().manual_seed(seed))


def _batches(seed=0):
    crops = Batch(_sound(2, 6400, seed), torch.tensor([6400, 5000]), ("", ""), ("", "zh"))
    whole = Batch(_sound(2, 6700, seed + 1), torch.tensor([6700, 5100]), ("one", "two"), ("en", "en"))
    return {"crops": crops, "utterances": whole}


class _Labeller:
    """In the aligner's place: frame t of row b is phone (t + b) % 40, and row 1 of a batch cannot be aligned if ``half``."""

    def __init__(self, half=False):
        self.half = half

    def label(self, audio, lengths, texts):
        frames = torch.arange(audio.shape[1] // 320)
        labels = torch.stack([(frames + row) % len(PHONES) for row in range(audio.shape[0])])
        labels[frames >= (lengths // 320)[:, None]] = UNKNOWN
        if self.half:
            labels[1] = UNKNOWN
        return labels


def _recipe(labeller=None, **choices):
    training = SpeechEncoderTraining(**{"num_units": 6, "batch_size": 2, "utterances": 2, "mask_start": 0.2, "mask_span": 3, **choices})
    recipe = SpeechEncoderRecipe(config=TINY, training=training)
    if training.phones:
        recipe.aligner = labeller or _Labeller()
    return recipe


@pytest.mark.parametrize("samples", [0, 1, 319, 320, 321, 639, 3200, 16001])
def test_as_many_features_as_whole_frames(samples):
    features = _model()(torch.zeros(2, samples))
    assert features.shape == (2, samples // 320, TINY.dim)
    assert bool(torch.isfinite(features).all())


def test_features_are_normalised_and_the_same_each_time():
    model, audio = _model(), _sound(2, 16000)
    features = model(audio)
    torch.testing.assert_close(features.mean(dim=-1), torch.zeros(2, 50), rtol=0, atol=1e-5)
    torch.testing.assert_close(features.var(dim=-1, correction=0), torch.ones(2, 50), rtol=0, atol=0.05)
    assert torch.equal(features, model(audio))


@pytest.mark.parametrize("frame", [0, 7, 25, 49])
def test_a_click_in_frame_t_moves_the_features_around_t_alike(frame):
    model, audio = _model(), torch.zeros(1, 16000)
    audio[0, 320 * frame + 160] = 0.9
    moved = (model(audio) - model(torch.zeros(1, 16000))).abs().amax(dim=-1)[0]
    near = torch.arange(50)[(torch.arange(50) - frame).abs() <= REACH]
    assert int(moved.argmax()) in near
    assert float(moved[frame]) > 1e-3
    far = (torch.arange(50) - frame).abs() > REACH
    assert float(moved[far].max()) < 1e-5


def test_context_reaches_as_far_back_as_ahead():
    model, click = _model(), torch.zeros(1, 320 * 51)
    click[0, 320 * 25 + 159 : 320 * 25 + 161] = 0.5  # two samples about the middle of the middle frame
    spectra = model.spectra(click)
    torch.testing.assert_close(spectra, spectra.flip(1), rtol=0, atol=0.2)  # a periodic Hann window is half a sample off its middle
    moved = (model(click) - model(torch.zeros_like(click))).abs().amax(dim=-1)[0]
    assert moved.nonzero()[:, 0].tolist() == list(range(25 - REACH, 25 + REACH + 1))


def test_batched_equals_single():
    model = _model(config=SpeechEncoderConfig(num_bands=20, width=24, hidden=32, kernel=5, depth=3, dim=8))
    lengths = torch.tensor([16000, 9001, 640, 100])
    audio = _sound(4, 16000)  # noise behind the end too: none of it may be heard
    together = model(audio, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = model(audio[row : row + 1, :length])[0]
        torch.testing.assert_close(together[row, : length // 320], alone, rtol=1e-4, atol=1e-5)
        assert not bool(together[row, length // 320 :].any())


def test_masked_frames_are_not_seen():
    model, audio = _model(), _sound(1, 16000)
    masked = torch.zeros(1, 50, dtype=torch.bool)
    masked[0, 20:30] = True
    hidden = Hidden(masked, torch.full((TINY.width,), 0.3))
    spectra = model.spectra(audio)
    other = spectra.clone()
    other[:, 40:60] += 3.0
    torch.testing.assert_close(model.encode(spectra, None, hidden), model.encode(other, None, hidden))
    assert not torch.allclose(model.encode(spectra), model.encode(other))
    assert not torch.allclose(model.encode(spectra), model.encode(spectra, None, hidden))


def test_masks_are_spans_of_the_wanted_share():
    masked = draw_mask((200, 500), 0.06, 8, torch.Generator().manual_seed(0))
    assert masked.shape == (200, 500) and masked.dtype == torch.bool
    assert float(masked[:, 8:].float().mean()) == pytest.approx(1 - 0.94**8, abs=0.01)
    for row in masked[:20].int().tolist():
        runs = [len(run) for run in "".join(map(str, row)).split("0") if run]
        assert min(runs[:-1]) >= 8  # the last may be cut by the end
    assert torch.equal(masked, draw_mask((200, 500), 0.06, 8, torch.Generator().manual_seed(0)))
    assert not bool(draw_mask((2, 9), 0.0, 8, torch.Generator().manual_seed(0)).any())


def test_warping_interpolates_along_the_bands():
    spectra, factors = _sound(3, 4 * 20).reshape(3, 4, 20), torch.tensor([1.0, 0.9, 1.15])
    made = warped(spectra, factors)
    torch.testing.assert_close(made[0], spectra[0])
    for row, factor in enumerate(factors.tolist()):
        wanted = [np.interp(np.arange(20) * factor, np.arange(20), frame) for frame in spectra[row].numpy()]
        np.testing.assert_allclose(made[row].numpy(), np.array(wanted), atol=1e-5)


def test_statistics_of_the_bands_are_those_of_all_batches():
    model = _model()
    batches = [2.0 * _sound(50, 20, seed) + seed for seed in range(4)]
    for batch in batches:
        model.observe(batch)
    everything = torch.cat(batches)
    torch.testing.assert_close(model.mean, everything.mean(dim=0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.variance, everything.var(dim=0, correction=0), rtol=1e-4, atol=1e-5)


def test_cepstra_against_the_slow_way():
    from scipy.fft import dct

    spectra = _sound(1, 12 * 20).reshape(1, 12, 20)
    still = dct(spectra[0].numpy(), type=2, norm="ortho", axis=1)[:, :13]
    still[:, 0] *= math.sqrt(2.0)  # the transform here leaves coefficient 0 on the scale of the others

    def slope(x):
        padded = np.pad(x, ((2, 2), (0, 0)), mode="edge")
        return np.array([np.polyfit(np.arange(-2, 3), padded[t : t + 5], 1)[0] for t in range(len(x))])

    wanted = np.concatenate([still, slope(still), slope(slope(still))], axis=1).reshape(6, 2, 39).mean(axis=1)
    np.testing.assert_allclose(Cepstra(20, 2)(spectra)[0].numpy(), wanted, atol=1e-5)


def test_units_find_sounds_that_differ():
    units = AcousticUnits(4, 20, 2).train()
    shapes = _sound(4, 20, seed=3) * 30
    which = torch.arange(4).repeat_interleave(25)
    spectra = (shapes[which].repeat_interleave(2, dim=0) + _sound(200, 20))[None]
    valid = torch.ones(1, 100, dtype=torch.bool)
    valid[0, 90:] = False
    spectra[0, 180:] = 1e3  # not to be learnt from
    for _ in range(20):
        units.learn(spectra, valid, torch.Generator().manual_seed(0))
    found = units(spectra)[0, :88]  # the ends of steady stretches have differences of their own
    inside = [found[25 * k + 4 : min(25 * k + 21, 88)] for k in range(4)]
    assert all(len(set(part.tolist())) == 1 for part in inside)
    assert len({int(part[0]) for part in inside}) == 4


def test_losses_and_hits_of_a_known_answer():
    torch.manual_seed(0)
    objective = MaskedPrediction(TINY, 6).requires_grad_(False)
    features = torch.randn(1, 5, TINY.dim)
    masked = torch.tensor([[True, True, False, False, False]])
    phones = torch.tensor([[UNKNOWN, 3, 4, 5, UNKNOWN]])
    said = objective.unit_head(features)[0].softmax(-1)
    units = said.argmax(dim=-1)[None].clone()
    units[0, 1] = (units[0, 1] + 1) % 6
    spoken = objective.phone_head(features)[0].softmax(-1)
    found = objective(features, units, masked, phones)
    assert float(found.units) == pytest.approx(-float(said[[0, 1], units[0, :2]].log().mean()), rel=1e-5)
    assert float(found.unit_accuracy) == 0.5
    assert float(found.phones) == pytest.approx(-float(spoken[[1, 2, 3], [3, 4, 5]].log().mean()), rel=1e-5)
    hits = [int(spoken[t].argmax()) == int(phones[0, t]) for t in (2, 3)]
    assert float(found.phone_accuracy) == sum(hits) / 2
    nothing = objective(features, units, masked & False, torch.full_like(phones, UNKNOWN))
    assert float(nothing.units) == float(nothing.phones) == float(nothing.phone_accuracy) == 0.0


def test_the_recipe_is_one_and_steps_lower_the_loss():
    recipe = _recipe(settling_steps=3)
    assert isinstance(recipe, Recipe)
    assert set(recipe.wants()) == {"crops", "utterances"}
    for module in recipe.modules().values():
        module.train()
    optimiser = torch.optim.AdamW(recipe.parameters("encoder"), lr=5e-3)
    generator, history = torch.Generator().manual_seed(0), []
    for step in range(25):
        losses = recipe.losses("encoder", _batches(), step, generator)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        history.append(float(losses.total.detach()))
        if step == 2:
            settled = recipe.objective.acoustic.codebook.entries.clone(), recipe.model.mean.clone()
    assert history[1] != history[0]
    assert sum(history[-5:]) < 0.95 * sum(history[:5])
    assert set(losses.parts) == {"units", "unit_accuracy", "phones", "phone_accuracy", "unlabelled"}
    assert not any(part.requires_grad for part in losses.parts.values())
    assert torch.equal(settled[0], recipe.objective.acoustic.codebook.entries), "clusters stay after the settling steps"
    assert torch.equal(settled[1], recipe.model.mean)
    assert int(recipe.model.observed) == 6


def test_the_same_seeds_give_the_same_losses():
    def history():
        recipe, generator = _recipe(), torch.Generator().manual_seed(4)
        return [float(recipe.losses("encoder", _batches(step), step, generator).total.detach()) for step in range(3)]

    first = history()
    assert first == history()
    assert len(set(first)) == 3


def test_utterances_without_labels_are_counted_and_cost_nothing():
    generator = torch.Generator().manual_seed(0)
    assert float(_recipe(_Labeller(half=True)).losses("encoder", _batches(), 0, generator).parts["unlabelled"]) == 0.5
    recipe = _recipe(PhoneAligner())
    batch = _batches()
    batch["utterances"] = Batch(batch["utterances"].audio, batch["utterances"].lengths, ("xqzzy", ""), ("en", "en"))
    losses = recipe.losses("encoder", batch, 0, generator)
    assert set(losses.parts) == {"units", "unit_accuracy", "unlabelled"} and float(losses.parts["unlabelled"]) == 1.0
    losses.total.backward()
    assert not bool(recipe.objective.phone_head.weight.grad.any())
    assert bool(torch.isfinite(losses.total))


def test_without_phones_any_recordings_do():
    recipe = _recipe(phones=False)
    assert set(recipe.wants()) == {"crops"} and recipe.aligner is None
    losses = recipe.losses("encoder", {"crops": _batches()["crops"]}, 0, torch.Generator().manual_seed(0))
    assert set(losses.parts) == {"units", "unit_accuracy"}


@torch.no_grad()
def test_validation_is_deterministic_and_outlives_short_recordings():
    recipe = _recipe()
    recipe.losses("encoder", _batches(), 0, torch.Generator().manual_seed(0))
    for module in recipe.modules().values():
        module.eval()
    audios = [_sound(1, 9000)[0], torch.zeros(200), _sound(1, 400, 2)[0]]
    numbers = recipe.validate(audios)
    assert set(numbers) == {"units", "unit_accuracy"} and numbers == recipe.validate(audios)
    assert 0.0 <= numbers["unit_accuracy"] <= 1.0 and numbers["units"] > 0.0
    assert recipe.validate([torch.zeros(200)]) == {}


def test_it_is_trained_under_its_own_name():
    plan = planned(["system=speech_encoder", "data=x", "depth=3", "num_units=50", "phones=false"])
    assert plan.family == "speech_encoder" and plan.recipe_class is SpeechEncoderRecipe
    assert plan.parameters == {"depth": 3, "num_units": 50, "phones": False}


def test_an_exported_encoder_is_read_back_within_half_precision(tmp_path):
    recipe, path = _recipe(), tmp_path / "encoder.safetensors"
    tensors, metadata = recipe.export()
    save_file(tensors, path, metadata)
    model = recipe.model.eval()
    loaded = load(path, "speech_encoder", SpeechEncoder, SpeechEncoderConfig)
    assert loaded.model.config == TINY and not loaded.model.training and len(loaded.digest) == 32
    assert (
        loaded.metadata["family"] == "speech_encoder"
        and loaded.digest == load(path, "speech_encoder", SpeechEncoder, SpeechEncoderConfig).digest
    )
    assert not any(p.requires_grad for p in loaded.model.parameters())
    audio = _sound(1, 16000)
    torch.testing.assert_close(loaded.model(audio), model(audio), rtol=0, atol=0.02)


@pytest.mark.parametrize("wrong", [{"hop": 250}, {"kernel": 4}, {"depth": 0}])
def test_shapes_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=r"multiple|middle|positive"):
        SpeechEncoderConfig(**wrong)
    with pytest.raises(ValueError, match="no multiple"):
        PhoneAligner(200)


def test_alignment_of_a_recording():
    manifest = RECORDINGS / "manifest.csv"
    if not manifest.exists():
        pytest.skip("the shared training recordings are not here")
    import soundfile

    with manifest.open(encoding="utf-8") as file:
        line = next(x for x in csv.DictReader(file) if x["text"] and x["path"].startswith("speechocean762"))
    sound, rate = soundfile.read(RECORDINGS / line["path"], dtype="float32")
    assert rate == 16000
    audio = torch.zeros(2, len(sound) + 5000)
    audio[:, : len(sound)] = torch.from_numpy(sound)
    lengths, aligner = torch.tensor([len(sound)] * 2), PhoneAligner()
    labels = aligner.label(audio, lengths, (line["text"], "xqzzy " + line["text"]))
    assert labels.shape == (2, audio.shape[1] // 320)
    assert bool((labels[1] == UNKNOWN).all()), "a word that is not in the dictionary"
    spoken = labels[0, : len(sound) // 320 - 1]
    assert bool((spoken != UNKNOWN).all()) and bool((labels[0, len(sound) // 320 + 1 :] == UNKNOWN).all())
    assert len(set(spoken.tolist())) > 5
    level = audio[0, : len(spoken) * 320].reshape(-1, 320).square().mean(dim=1).log10()
    assert float(level[spoken != 0].mean()) > float(level[spoken == 0].mean()), "speech is louder than silence"
    assert torch.equal(labels, aligner.label(audio, lengths, (line["text"], "xqzzy " + line["text"]))), "kept"
    assert torch.equal(labels, PhoneAligner().label(audio, lengths, (line["text"], "xqzzy " + line["text"]))), "deterministic"
