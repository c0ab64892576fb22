"""The speaker-conditioned decoder: a voice from the prompt, codes as a language model draws them, its training and its files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from harness.api import Audio
from systems.lm.backbone import LmBatch
from systems.lm.codes import CodecChoice
from systems.lm.config import LmConfig, delayed, lay
from systems.lm.models import build_lm
from systems.lm.recipe import LmRecipe
from systems.qdac.recipe import QdacRecipe, QdacTraining
from systems.training.recipe import Batch
from systems.tts.chunked import receptive_field
from systems.tts.lm_tts import LmTts
from systems.tts.speaker_decoder import TIMBRE_DIM, SpeakerDecoder, SpeakerDecoderConfig, mel_distance, timbre_of
from systems.tts.speaker_decoder_recipe import SpeakerDecoderRecipe, SpeakerDecoderTraining, code_logits, played
from systems.vocoder.wave import WaveVocoder
from tests.stubs.tiny_synthesizers import BOOKS, HIERARCHICAL, HOP, MULTIHEAD, PROMPTED, QDAC, SIZE, VOCODER

SHAPE = SpeakerDecoderConfig(8, 4, width=16, hidden=16, depth=2, timbre_width=8, num_codebooks=BOOKS)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A tiny codec, its two language models, and a vocoder."""
    folder = tmp_path_factory.mktemp("weights")
    tensors, metadata = QdacRecipe(config=QDAC, training=QdacTraining(semantic=False)).export()
    save_file(tensors, folder / "codec.safetensors", metadata)
    for config in (MULTIHEAD, HIERARCHICAL):
        tensors, metadata = LmRecipe(config.kind, codec=CodecChoice(str(folder / "codec.safetensors")), config=config).export()
        save_file(tensors, folder / f"{config.kind}.safetensors", metadata)
    told = {"family": "mel_vocoder", "size": "small", "config": json.dumps(VOCODER.to_dict())}
    save_file(WaveVocoder(VOCODER).state_dict(), folder / "vocoder.safetensors", told)
    return {path.stem: str(path) for path in folder.iterdir()}


def _recipe(files: dict[str, str], **words: object) -> SpeakerDecoderRecipe:
    given = {"speakers": [files["multihead"], files["hierarchical"]], "config": SHAPE, **words}
    return SpeakerDecoderRecipe(CodecChoice(files["codec"]), **given)


# -- the network


def test_mel_frames_come_in_the_voice_that_is_told() -> None:
    decoder = SpeakerDecoder(SHAPE).eval()
    latent, timbre = torch.randn(2, 9, 8), torch.randn(2, TIMBRE_DIM)
    made = decoder(latent, timbre)
    assert made.shape == (2, 36, 80)
    assert not torch.allclose(made, decoder(latent, timbre.flip(0)), atol=1e-3)
    assert torch.equal(decoder(latent, torch.zeros(2, TIMBRE_DIM)), decoder(latent))
    mixed = decoder(latent, timbre * torch.tensor([[1.0], [0.0]]))
    assert torch.allclose(mixed[0], made[0], atol=1e-5) and torch.allclose(mixed[1], decoder(latent)[1], atol=1e-5)


def test_it_looks_no_further_ahead_than_told() -> None:
    decoder = SpeakerDecoder(replace(SHAPE, lookahead=1)).eval()
    # Two blocks of one frame each, and of two mel frames, which may lie in the next code frame.
    assert receptive_field(decoder, 8).after == 3
    assert receptive_field(SpeakerDecoder(replace(SHAPE, lookahead=0)).eval(), 8).after == 0


def test_a_timbre_is_mean_and_deviation_of_the_louder_half() -> None:
    mel = torch.randn(21, 80, generator=torch.Generator().manual_seed(0)) - 5.0
    level = mel.mean(dim=1)
    loud = mel[torch.argsort(level)[10:]].double().numpy()
    wanted = np.concatenate([(loud.mean(axis=0) + 5.0) / 2.5, loud.std(axis=0) / 2.5])
    assert np.allclose(timbre_of(mel).numpy(), wanted, atol=1e-5)
    assert torch.allclose(timbre_of(torch.cat([mel, mel])), timbre_of(mel), atol=1e-5)
    assert torch.equal(timbre_of(mel[:0]), torch.zeros(TIMBRE_DIM))


def test_a_distance_leaves_padding_out() -> None:
    made, wanted = torch.randn(2, 8, 80), torch.randn(2, 8, 80)
    found = mel_distance(made, wanted, torch.tensor([8, 4]))
    naive = torch.cat([(made[0] - wanted[0]).abs(), (made[1, :4] - wanted[1, :4]).abs()]).mean()
    assert torch.allclose(found, naive)


# -- what it learns from


@pytest.mark.parametrize("factor", [0.85, 1.0, 1.2])
def test_played_slower_a_tone_is_lower_and_as_loud(factor: float) -> None:
    time = torch.arange(16000) / 16000
    made = played(0.5 * torch.sin(2 * torch.pi * 1000 * time)[None], factor)[0]
    assert made.shape[0] == round(16000 * factor)
    peak = int(torch.fft.rfft(made).abs().argmax()) * 16000 / made.shape[0]
    assert peak == pytest.approx(1000 / factor, abs=2) and float(made.abs().max()) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    "config", [MULTIHEAD, replace(MULTIHEAD, pattern=delayed(2)), HIERARCHICAL], ids=["delay 1", "delay 2", "hierarchical"]
)
def test_what_a_model_expects_of_each_code_is_what_it_would_say_there(config: LmConfig) -> None:
    torch.manual_seed(0)
    model = build_lm(config).eval()
    text, codes = torch.randint(1, 50, (2, 5)), torch.randint(0, SIZE, (2, BOOKS, 7))
    batch = LmBatch(text, torch.tensor([5, 3]), codes, torch.tensor([7, 7]))
    with torch.no_grad():
        logits = code_logits(model, batch)
        assert logits.shape == (2, BOOKS, 7, SIZE)
        assert torch.allclose(logits, _stepwise(model, batch), atol=1e-5)


def _stepwise(model: torch.nn.Module, batch: LmBatch) -> torch.Tensor:
    """The same, a step and an utterance at a time, by what generation emits when it is made to say the true codes."""
    config = model.config
    found = torch.zeros(*batch.codes.shape, config.codebook_size)
    for step in range(config.pattern.steps(BOOKS, batch.codes.shape[2])):
        layout = config.pattern.layout(BOOKS, step + 1)[:, step]
        for row in range(batch.codes.shape[0]):
            one = LmBatch(*(part[row : row + 1] for part in (batch.text, batch.text_lengths, batch.codes, batch.frames)))
            tokens = lay(config.pattern, one.codes, one.frames, config.codebook_size).tokens[:, :, : step + 1]
            hidden = model.hidden(one, tokens)[:, step]
            seen: dict[int, torch.Tensor] = {}

            def true(logits: torch.Tensor, first: int, part: int, seen=seen, one=one, layout=layout) -> torch.Tensor:
                for k in range(logits.shape[1]):
                    seen[first + k] = logits[0, k, : config.codebook_size]
                frames = layout[first : first + logits.shape[1]].clamp(0, one.codes.shape[2] - 1)
                return one.codes[:, torch.arange(first, first + logits.shape[1]), frames]

            model.emit(hidden, true)
            for k, frame in enumerate(layout.tolist()):
                if 0 <= frame < batch.codes.shape[2]:
                    found[row, k, frame] = seen[k]
    return found


def _batch(seconds: float = 1.3) -> Batch:
    generator = torch.Generator().manual_seed(0)
    audio = 0.1 * torch.randn(3, round(16000 * seconds), generator=generator)
    lengths = torch.tensor([audio.shape[1], audio.shape[1] // 2, audio.shape[1] // 3])
    audio = audio * (torch.arange(audio.shape[1]) < lengths[:, None])
    return Batch(audio, lengths, ("A red kite.", "We sang.", "Two."), ("en", "en", "en"))


def test_drawn_codes_change_and_follow_the_generator(files: dict[str, str]) -> None:
    recipe = _recipe(files)
    batch = LmBatch(torch.randint(1, 50, (2, 5)), torch.tensor([5, 3]), torch.randint(0, SIZE, (2, BOOKS, 7)), torch.tensor([7, 7]))
    for speaker in recipe.speakers:
        first, again, other = (recipe.drawn(speaker, batch, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
        assert torch.equal(first, again) and not torch.equal(first, other)
        assert first.shape == batch.codes.shape and int(first.min()) >= 0 and int(first.max()) < SIZE


def test_it_learns_and_leaves_the_speakers_alone(files: dict[str, str]) -> None:
    recipe = _recipe(files, training=SpeakerDecoderTraining(learning_rate=1e-2, warp=1.0))
    frozen = [p.clone() for speaker in recipe.speakers for p in speaker.parameters()]
    optimiser = torch.optim.AdamW(recipe.parameters("model"), lr=1e-2)
    generator, found = torch.Generator().manual_seed(0), []
    for step in range(60):
        losses = recipe.losses("model", {"utterances": _batch()}, step, generator)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        found.append(losses.total.item())
    assert np.mean(found[-5:]) < 0.3 * np.mean(found[:5])
    assert all(map(torch.equal, frozen, (p for speaker in recipe.speakers for p in speaker.parameters())))
    assert all(p.grad is None for speaker in recipe.speakers for p in speaker.parameters())
    told = recipe.validate([_batch().audio[0], torch.zeros(HOP - 1)])
    assert told.keys() == {"mel_db", "mel_db_true_codes"} and all(0 < value < 20 for value in told.values())


@pytest.mark.parametrize("true", [{"true_codes": 1.0}, {"true_codes": 0.0, "true_first": BOOKS}], ids=["rows", "codebooks"])
def test_a_loss_is_of_true_codes_and_untold_voices_where_asked(files: dict[str, str], true: dict[str, float]) -> None:
    choices = SpeakerDecoderTraining(voiceless=1.0, warp=1.0, **true)
    recipe = _recipe(files, training=choices)
    batch = _batch()
    found = recipe.losses("model", {"utterances": batch}, 0, torch.Generator().manual_seed(0)).total
    audio = functional.pad(batch.audio, (0, -batch.audio.shape[1] % HOP))
    latent = recipe.source.model.quantizer.decode(recipe.source.model.encode(audio, BOOKS))
    made, frames = recipe.model(latent), batch.lengths // HOP * 4
    wanted = recipe.mel(batch.audio)
    count = min(made.shape[1], wanted.shape[1])
    assert torch.allclose(found, mel_distance(made[:, :count], wanted[:, :count], frames), atol=1e-5)


def test_the_first_codebook_stays_the_recordings_own(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, decoded = _recipe(files, training=SpeakerDecoderTraining(true_codes=0.0, warp=1.0)), []
    decode = recipe.source.model.quantizer.decode
    monkeypatch.setattr(recipe.source.model.quantizer, "decode", lambda codes: (decoded.append(codes), decode(codes))[1])
    batch = _batch()
    recipe.losses("model", {"utterances": batch}, 0, torch.Generator().manual_seed(0))
    true = recipe.source.model.encode(functional.pad(batch.audio, (0, -batch.audio.shape[1] % HOP)), BOOKS)
    assert torch.equal(decoded[0][:, 0], true[:, 0]) and not torch.equal(decoded[0][:, 1:], true[:, 1:])


def test_it_goes_on_from_another(files: dict[str, str], decoder: str, tmp_path: Path) -> None:
    first, second = _recipe(files), _recipe(files, start=decoder, seed=1)
    # A file holds half precision.
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))
    assert not torch.allclose(_recipe(files, seed=1).model.head.weight, second.model.head.weight, atol=1e-3)
    with pytest.raises(ValueError, match="cannot be gone on from"):
        _recipe(files, start=decoder, config=replace(SHAPE, hidden=8))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        _recipe(files, start=str(tmp_path / "nowhere.safetensors"))


def test_recipes_that_cannot_be(files: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the codec has 4 and latents of 8 from 3"):
        _recipe(files, config=replace(SHAPE, ratio=2))
    with pytest.raises(ValueError, match="no lm_tts model"):
        _recipe(files, speakers=[files["codec"]])
    with pytest.raises(ValueError, match="no language model of QTTS"):
        _recipe(files, speakers=["socodec120_tts"])
    with pytest.raises(ValueError, match="no QDAC"):
        SpeakerDecoderRecipe(CodecChoice("socodec120"))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        _recipe(files, speakers=[str(tmp_path / "nowhere.safetensors")])
    other = QdacRecipe(config=QDAC, training=QdacTraining(semantic=False), seed=1).export()
    save_file(other[0], tmp_path / "other.safetensors", other[1])
    with pytest.raises(ValueError, match="says the codes of"):
        SpeakerDecoderRecipe(CodecChoice(str(tmp_path / "other.safetensors")), [files["multihead"]], config=SHAPE)
    with pytest.raises(ValueError, match="3 codebooks, the decoder is to hear 2"):
        SpeakerDecoderRecipe(CodecChoice(files["codec"], 2), [files["multihead"]], config=replace(SHAPE, num_codebooks=2))
    odd = QdacRecipe(config=replace(QDAC, sample_rate=24000, hop=960), training=QdacTraining(semantic=False)).export()
    save_file(odd[0], tmp_path / "odd.safetensors", odd[1])
    with pytest.raises(ValueError, match="960 at 24000 Hz"):
        SpeakerDecoderRecipe(CodecChoice(str(tmp_path / "odd.safetensors")), [files["multihead"]])


# -- speaking


@pytest.fixture(scope="module")
def decoder(files: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("decoder") / "decoder.safetensors"
    tensors, metadata = _recipe(files).export()
    save_file(tensors, path, metadata)
    return str(path)


def _speaker(files: dict[str, str], decoder: str | None = None, vocoder: str | None = None, share: float = 0.0) -> LmTts:
    codec = {"checkpoint": files["codec"], "decoder": decoder, "vocoder": vocoder or (files["vocoder"] if decoder else "mel_vocoder")}
    generation = {"top_k": 50, "top_p": 0.95, "prompt_share": share}
    return LmTts(files["multihead"], codec, generation=generation, run={"max_s": 1.0})


def test_the_same_codes_in_another_voice(files: dict[str, str], decoder: str) -> None:
    plain, voiced = _speaker(files), _speaker(files, decoder)
    first, second = plain.synthesize(PROMPTED, 0), voiced.synthesize(PROMPTED, 0)
    assert first.codes.digest() == second.codes.digest() and first.audio.num_samples == second.audio.num_samples
    assert not np.allclose(first.audio.samples, second.audio.samples, atol=1e-3)
    assert voiced.info.weights_digest != plain.info.weights_digest and "speaker-conditioned decoder" in voiced.info.description
    assert voiced.info.num_parameters > plain.info.num_parameters
    assert voiced.synthesize(replace(PROMPTED, prompt=None), 0).audio.num_samples > 0
    # Without its text a prompt is not continued, but its voice is heard.
    alone, unheard = voiced.synthesize(replace(PROMPTED, prompt_text=""), 0), voiced.synthesize(replace(PROMPTED, prompt=None), 0)
    assert alone.codes.digest() == unheard.codes.digest() and not np.allclose(alone.audio.samples, unheard.audio.samples, atol=1e-3)
    prompt = Audio(PROMPTED.prompt.samples[:, :5000], 16000)
    assert voiced.resynthesize(prompt).num_samples == 5000
    # Drawn to the prompt's frames it says the same; a prompt by itself is not drawn to itself.
    drawn = _speaker(files, decoder, share=1.0)
    quiet = replace(PROMPTED, prompt=Audio(PROMPTED.prompt.samples * 1e-3, 16000))  # next to which an untrained decoder is loud
    told, made = (system.synthesize(quiet, 0) for system in (drawn, voiced))
    assert told.codes.digest() == made.codes.digest() and not np.array_equal(told.audio.samples, made.audio.samples)
    assert np.array_equal(drawn.resynthesize(prompt).samples, voiced.resynthesize(prompt).samples)


def test_decoders_that_do_not_fit_are_refused(files: dict[str, str], decoder: str, tmp_path: Path) -> None:
    tensors, metadata = _recipe(files).export()
    save_file(tensors, tmp_path / "other.safetensors", metadata | {"codec": "0" * 32})
    with pytest.raises(ValueError, match="decodes the codes of other codec weights"):
        _speaker(files, str(tmp_path / "other.safetensors"))
    fewer = json.dumps(replace(SHAPE, num_codebooks=2).to_dict())
    save_file(tensors, tmp_path / "fewer.safetensors", metadata | {"config": fewer})
    with pytest.raises(ValueError, match="from 2 codebooks; the codec has 4 and latents of 8 from 3"):
        _speaker(files, str(tmp_path / "fewer.safetensors"))
    with pytest.raises(ValueError, match="holds no qtts_decoder"):
        _speaker(files, files["vocoder"])
    with pytest.raises(ValueError, match="holds no mel_vocoder"):
        _speaker(files, decoder, vocoder=decoder)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*none"):
        _speaker(files, str(tmp_path / "none.safetensors"))
    absent = {"checkpoint": files["codec"], "decoder": tmp_path / "none.safetensors"}
    assert "none.safetensors" in str(LmTts.missing(files["multihead"], codec=absent))
    with pytest.raises(ValueError, match=r"codec\.decoder is for the codes of QDAC"):
        LmTts("socodec120_tts", {"checkpoint": "socodec120", "decoder": decoder})
    with pytest.raises(ValueError, match=r"codec\.vocoder belongs to mel frames"):
        _speaker(files, vocoder=decoder)
