"""Language models in training: codes as the codec gives them, ends, texts, learning, files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

from harness.api import Audio, Item
from harness.settings.training import build_recipe, known_parameters
from systems.checkpoints import Loaded
from systems.layers.transformer import TransformerConfig
from systems.lm.codes import CodecChoice, QdacCodes, packed, unpacked
from systems.lm.config import PARALLEL, LmConfig, delayed
from systems.lm.generation import Engine
from systems.lm.models import load_lm
from systems.lm.recipe import LmRecipe, LmTraining
from systems.lm.requests import GenerationConfig, Request
from systems.qdac.adapter import QdacCodec
from systems.qdac.config import QdacConfig
from systems.qdac.model import QdacModel
from systems.qdac.recipe import QdacRecipe, QdacTraining
from systems.socodec.config import UtteranceConfig, socodec_config
from systems.socodec.recipe import SocodecRecipe
from systems.speech_encoder.model import SpeechEncoderConfig
from systems.speech_encoder.recipe import SpeechEncoderRecipe, SpeechEncoderTraining
from systems.text.tokens import SYMBOLS
from systems.training.data import DerivedFrames, Split, Stream, load_corpus
from systems.training.processes import join
from systems.training.recipe import BadRecordings, Batch
from systems.training.trainer import Trainer, TrainerConfig

BOOKS, SIZE, HOP = 3, 16, 640
QDAC = QdacConfig(
    hop=HOP, num_codebooks=BOOKS, codebook_size=SIZE, codebook_dim=8, latent_dim=8, window=2 * HOP, width=16, hidden=16,
    encoder_depth=1, decoder_depth=1,
)  # fmt: skip
GPT2, LLAMA = TransformerConfig("gpt2", 2, 32, 2, 64), TransformerConfig("llama", 2, 32, 2, 64)
TEXT = len(SYMBOLS)
GUIDED = LmTraining(batch_size=4, utterance_s=4.0, text_dropout=0.0, depth_fraction=0.5, learning_rate=5e-3)
CHOICES = replace(GUIDED, guide_weight=0.0)


def _write(recipe, path):
    tensors, metadata = recipe.export()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata=metadata)
    return str(path)


@pytest.fixture
def qdac(tmp_path):
    recipe = QdacRecipe(config=QDAC, training=QdacTraining(semantic=False))
    return _write(recipe, tmp_path / "qdac.safetensors")


@pytest.fixture
def socodec(tmp_path):
    """Codec and speech encoder, as files."""
    shape = SpeechEncoderConfig(width=16, hidden=16, depth=1, dim=24)
    encoder = _write(SpeechEncoderRecipe(shape, SpeechEncoderTraining(phones=False, num_units=5)), tmp_path / "encoder.safetensors")
    utterance = UtteranceConfig(channels=8, pooled_channels=12, attention_channels=4, squeeze_channels=4)
    config = replace(socodec_config("small", 120), ssl_dim=24, width=24, groups=2, sizes=(4, 5), codebook_dim=4, utterance=utterance)
    return _write(SocodecRecipe(config=config, ssl=encoder), tmp_path / "socodec.safetensors"), encoder


def _config(kind, **changes):
    depth = replace(LLAMA, width=16) if kind == "hierarchical" else None
    pattern = PARALLEL if kind == "hierarchical" else delayed(1)
    return LmConfig(kind, BOOKS, (SIZE,), TEXT, 0, LLAMA, depth, pattern, table_dim=8, **changes)


def _recipe(kind, qdac, training=CHOICES):
    return LmRecipe(kind, codec=CodecChoice(qdac), config=_config(kind), training=training)


def _corpus(tmp_path, seconds, texts):
    rng, items = np.random.default_rng(0), []
    for i, (length, text) in enumerate(zip(seconds, texts, strict=True)):
        soundfile.write(tmp_path / f"{i}.wav", rng.uniform(-0.5, 0.5, round(length * 16000)), 16000, subtype="PCM_16")
        items.append(Item(id=str(i), dataset="d", path=tmp_path / f"{i}.wav", speaker="s", text=text, language="en"))
    return load_corpus(items, 16000)


def _derived(recipe, corpus, number=0):
    spec = recipe.wants()["utterances"]
    stream = Stream(corpus, "utterances", spec, seed=0)
    frames = DerivedFrames(corpus, spec.derived, round(spec.crop_s * 16000), torch.device("cpu"))
    host = stream.draw(number)
    return host, frames.of(host)


def test_codes_are_those_that_the_codec_gives(tmp_path, qdac):
    recipe = _recipe("multihead", qdac)
    corpus = _corpus(tmp_path, (1.0, 1.31, 0.77, 2.0), ("one", "two", "three", "four"))
    host, derived = _derived(recipe, corpus)
    frames = derived["codes"]
    codec = QdacCodec(qdac, num_codebooks=BOOKS)
    assert sorted(host.indices.tolist()) == [0, 1, 2, 3]
    for row, index in enumerate(host.indices.tolist()):
        samples = corpus.read(index, 0, int(corpus.lengths[index])).astype(np.float32) / 32768.0
        count = samples.size // HOP
        wanted = codec.encode(Audio.mono(samples[: count * HOP], 16000)).indices
        found = unpacked(frames, recipe.source).codes[row, :, :count]
        assert np.array_equal(found.numpy(), wanted) and host.lengths[row] // HOP == count


def test_socodecs_codes_and_embeddings_travel_as_float16(tmp_path, socodec):
    checkpoint, ssl = socodec
    config = LmConfig("multi_stream", 4, (4, 5), TEXT, 24, GPT2, pattern=delayed(1))
    recipe = LmRecipe("multi_stream", codec=CodecChoice(checkpoint, ssl=ssl), config=config, training=GUIDED)
    assert recipe.source.parts == (4, 5) and recipe.family == "lm_tts"
    corpus = _corpus(tmp_path, (1.0, 1.3, 0.8, 2.0), ("one", "two", "three", "four"))
    host, derived = _derived(recipe, corpus)
    found = unpacked(derived["codes"], recipe.source)
    for row, index in enumerate(host.indices.tolist()):
        samples = torch.from_numpy(corpus.read(index, 0, int(corpus.lengths[index])).astype(np.float32) / 32768.0)
        whole = samples[None, : samples.shape[0] // 1920 * 1920]
        code = recipe.source.model.encode(recipe.source.features(whole), recipe.source.mel(whole))
        count = code.indices.shape[2]
        assert torch.equal(found.codes[row, :, :count], code.indices[0])
        assert torch.allclose(found.voice[row], code.embedding[0], atol=2e-3, rtol=2e-3)
    batch = Batch(torch.zeros(4, 1), torch.from_numpy(host.lengths), host.texts, host.languages, derived)
    loss = recipe.losses("model", {"utterances": batch}, 0, torch.Generator())
    assert torch.isfinite(loss.total) and loss.total > 0


def test_the_largest_codes_survive_float16():
    source = QdacCodes(Loaded(QdacModel(QDAC), {}, "d"), 2)
    codes = torch.tensor([[0, 2047, 16383, 1023], [1024, 2048, 2049, 16382]])
    frames = packed(codes, None).half().float()[None]
    assert torch.equal(unpacked(frames, source).codes[0], codes)


def _synthetic(recipe, seed):
    """Speech of a toy language: the text says which code comes and how many frames, the second codebook follows the first."""
    rng = np.random.default_rng(seed)
    texts, rows, lengths = [], [], []
    for _ in range(8):
        letter, count = int(rng.integers(5)), int(rng.integers(2, 5))
        texts.append("abcde"[letter] * count)
        frames = torch.full((1, 5), letter)
        codes = torch.cat([frames, (3 * frames + torch.arange(5)) % SIZE, (frames + 7) % SIZE])
        rows.append(packed(codes, None))
        lengths.append(count * HOP)
    return Batch(torch.zeros(8, 1), torch.tensor(lengths), tuple(texts), ("en",) * 8, {"codes": torch.stack(rows)})


@pytest.mark.parametrize("kind", ["multihead", "hierarchical"])
def test_the_loss_falls_and_the_model_says_its_text(kind, qdac):
    recipe = _recipe(kind, qdac)
    optimiser = torch.optim.AdamW(recipe.parameters("model"), 5e-3)
    generator, losses = torch.Generator().manual_seed(0), []
    for step in range(120):
        loss = recipe.losses("model", {"utterances": _synthetic(recipe, step)}, step, generator)
        losses.append(loss.total.item())
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
    assert sum(losses[-10:]) < 0.2 * sum(losses[:10])
    model = recipe.model.eval()
    greedy = GenerationConfig(temperature=0.0, max_frames=12)
    request = Request(recipe.front_end.encode("ccc", "en").ids)
    with torch.no_grad():
        found = Engine(model).generate([request], greedy)[0]
    assert found.stop_reason == "end" and 2 <= found.codes.shape[1] <= 4
    assert set(found.codes[0].tolist()) == {2} and set(found.codes[2].tolist()) == {9}


def test_a_whole_training_step_by_the_loop(tmp_path, qdac):
    recipe = _recipe("hierarchical", qdac, GUIDED)
    corpus = _corpus(tmp_path, (1.0, 1.31, 0.7, 2.0, 1.2), ("one", "two", "three", "four", "five"))
    split = Split(corpus.subset([0, 1, 2, 3]), corpus.subset([4]))
    trainer = Trainer(recipe, split, TrainerConfig(steps=3, precision="bfloat16"), join("cpu"))
    for _ in range(3):
        trainer.step()
    readings, valid = trainer.readings(), trainer.validate()
    assert readings["skipped"] == 0 and 0 < readings["model/entropy"] < 2 * np.log(SIZE)
    assert readings["model/reading"] > 0 and readings["model/strayed"] > 0
    assert set(valid) == {"valid/entropy", "valid/first"}
    tensors, metadata = trainer.export()
    save_file(tensors, tmp_path / "lm.safetensors", metadata=dict(metadata))
    loaded = load_lm(tmp_path / "lm.safetensors")
    assert loaded.metadata["codec"] == recipe.source.digest and loaded.metadata["front_end"] == recipe.front_end.identity
    assert loaded.model.config == recipe.config


def test_guidance_is_learned_beside_the_model_and_left_behind(tmp_path, qdac):
    recipe, corpus = _recipe("multihead", qdac, GUIDED), _corpus(tmp_path, (1.0, 1.3), ("one two", "three"))
    host, derived = _derived(recipe, corpus)
    batch = Batch(torch.zeros(len(host.texts), 1), torch.from_numpy(host.lengths), host.texts, host.languages, derived)
    loss, generator = recipe.losses("model", {"utterances": batch}, 0, torch.Generator()), torch.Generator()
    own = recipe.model.loss(recipe._batch(derived["codes"], batch.lengths, host.texts, host.languages), generator).total
    assert loss.total.item() == pytest.approx(
        own.item() + loss.parts["reading"].item() + GUIDED.guide_weight * loss.parts["strayed"].item(), abs=1e-4
    )
    loss.total.backward()
    assert all(p.grad is not None for p in recipe.aligner.parameters())
    assert set(recipe.modules()) == {"model", "aligner"} and set(recipe.export()[0]) == set(recipe.model.state_dict())
    wordless = replace(batch, texts=("",) * len(host.texts))
    assert "strayed" not in recipe.losses("model", {"utterances": wordless}, 0, torch.Generator()).parts


def test_withheld_texts_and_what_a_stream_wants(qdac):
    recipe = _recipe("multihead", qdac)
    spec = recipe.wants()["utterances"]
    assert spec.whole and spec.with_text and spec.languages == ("en", "zh") and not spec.derived[0].padded
    batch = _synthetic(recipe, 0)
    generator = torch.Generator().manual_seed(0)
    shown = recipe.losses("model", {"utterances": batch}, 0, generator).total
    recipe.training = replace(recipe.training, text_dropout=1.0)
    withheld = recipe.losses("model", {"utterances": batch}, 0, generator).total
    silent = replace(batch, texts=("",) * 8)
    assert torch.equal(withheld, recipe.losses("model", {"utterances": silent}, 0, generator).total) and not torch.equal(withheld, shown)


def test_tables_begin_with_the_codecs_entries(qdac):
    recipe = _recipe("multihead", qdac)
    entries = recipe.source.entries()
    table = recipe.model.tokens.tables.weight.detach()[:, :SIZE]
    for k in range(BOOKS):
        assert torch.allclose(table[k] / table[k].std(), entries[k] / entries[k].std(), atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "chorus"}, "kind is one of"),
        ({"num_codebooks": 9}, "9 codebooks of a QDAC with 3"),
        ({"num_codebooks": 2}, "made for 3 codebooks"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message, qdac):
    words = {"kind": "multihead", "num_codebooks": BOOKS, **changes}
    with pytest.raises(ValueError, match=message):
        LmRecipe(words["kind"], codec=CodecChoice(qdac, words["num_codebooks"]), config=_config("multihead"))


def test_a_text_that_cannot_be_read_is_named(qdac):
    recipe = _recipe("multihead", qdac)
    batch = replace(_synthetic(recipe, 0), texts=("...",) * 8)
    with pytest.raises(BadRecordings, match=r"'\.\.\.' \(en\)"):
        recipe.losses("model", {"utterances": batch}, 0, torch.Generator())


def test_words_of_the_command_line_reach_codec_model_and_training(qdac):
    words = {"kind": "hierarchical", "num_codebooks": 2, "codec": qdac, "batch_size": 3, "depth_fraction": 0.5}
    recipe = build_recipe(LmRecipe, words, seed=4)
    assert recipe.config.num_codebooks == 2 and recipe.training.batch_size == 3 and recipe.model.depth_fraction == 0.5
    assert {"num_codebooks", "ssl", "delay", "text_dropout", "backbone"} <= set(known_parameters(LmRecipe))


def test_the_paper_size_needs_files_of_its_own():
    with pytest.raises(FileNotFoundError, match="tokenizer=FILE"):
        LmRecipe("multi_stream", "paper")


def test_several_delays_take_turns_and_each_is_validated(tmp_path, qdac):
    shape = replace(_config("multihead"), delays=(1, 0, 2))
    recipe = LmRecipe("multihead", codec=CodecChoice(qdac), config=shape, training=CHOICES)
    followed = []
    for step in range(4):
        recipe.losses("model", {"utterances": _synthetic(recipe, 0)}, step, torch.Generator())
        followed.append(recipe.model.config.pattern.delay)
    assert followed == [1, 0, 2, 1]
    found = recipe.validate([torch.randn(16000)])
    assert found["entropy"] == pytest.approx(sum(found[f"entropy_d{d}"] for d in (0, 1, 2)) / 3)
    assert len({found[f"entropy_d{d}"] for d in (0, 1, 2)}) == 3
    loaded = load_lm(_write(recipe, tmp_path / "lm.safetensors"))
    assert loaded.model.config == shape  # whatever was followed last
    words = {"kind": "multihead", "codec": qdac, "delay": 2, "delays": [0, 2]}
    assert build_recipe(LmRecipe, words, seed=0).config.delays == (0, 2)
    with pytest.raises(ValueError, match="follows one of them"):
        build_recipe(LmRecipe, {**words, "delay": 1}, seed=0)


def test_a_model_is_gone_on_from(tmp_path, qdac):
    first = _recipe("multihead", qdac, GUIDED)
    path = _write(first, tmp_path / "lm.safetensors")
    choices = {"codec": CodecChoice(qdac), "training": replace(GUIDED, start=path), "seed": 5}
    second = LmRecipe("multihead", config=_config("multihead"), **choices)
    for name, tensor in first.model.state_dict().items():
        assert torch.allclose(second.model.state_dict()[name], tensor, atol=1e-3)  # the small size is stored in float16
    with pytest.raises(ValueError, match="cannot be gone on from"):
        LmRecipe("multihead", config=replace(_config("multihead"), pace=0.5), **choices)
    with pytest.raises(FileNotFoundError):
        LmRecipe("multihead", config=_config("multihead"), **choices | {"training": replace(GUIDED, start=str(tmp_path / "none"))})


def test_guidance_may_wait_for_the_aligner(tmp_path, qdac):
    recipe = _recipe("multihead", qdac, replace(GUIDED, guide_after=2))
    host, derived = _derived(recipe, _corpus(tmp_path, (1.0, 1.3), ("one two", "three")))
    batch = Batch(torch.zeros(len(host.texts), 1), torch.from_numpy(host.lengths), host.texts, host.languages, derived)
    before, after = (recipe.losses("model", {"utterances": batch}, step, torch.Generator()) for step in (1, 2))
    assert after.total.item() - before.total.item() == pytest.approx(GUIDED.guide_weight * after.parts["strayed"].item(), abs=1e-4)


def test_a_model_begins_with_what_another_codecs_has_learnt_of_text(tmp_path, qdac):
    path = _write(_recipe("multihead", qdac, GUIDED), tmp_path / "lm.safetensors")
    fewer = {"codec": CodecChoice(qdac, BOOKS - 1), "seed": 5}
    begun = replace(GUIDED, transfer=path)
    shape = replace(_config("multihead"), num_codebooks=BOOKS - 1)
    other, plain = load_lm(path).model.state_dict(), LmRecipe("multihead", config=shape, training=GUIDED, **fewer).model.state_dict()
    found = LmRecipe("multihead", config=shape, training=begun, **fewer).model.state_dict()
    for name, tensor in found.items():
        assert torch.equal(tensor, (other if name.startswith(("text.", "transformer.")) else plain)[name]), name
    with pytest.raises(ValueError, match="another transformer or text"):
        LmRecipe("multihead", config=replace(shape, backbone=replace(LLAMA, layers=1)), training=begun, **fewer)
    with pytest.raises(ValueError, match="two ways to begin"):
        replace(begun, start=path)
