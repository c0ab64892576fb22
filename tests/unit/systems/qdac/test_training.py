"""QDAC's training: whom each loss reaches, what a step does, how checkpoints are written and read."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from systems.checkpoints import load
from systems.layers.discriminator import Discriminator, DiscriminatorConfig
from systems.qdac.adapter import QdacCodec
from systems.qdac.config import QdacConfig, qdac_config
from systems.qdac.model import QdacModel, start
from systems.qdac.recipe import ObjectiveConfig, QdacRecipe, QdacTraining, ReconstructionObjective, snr_db
from systems.qdac.semantic import ALPHABET, END, SemanticConfig, SemanticSupervisor, pad_tokens, to_tokens
from systems.training.recipe import Batch, Recipe

TINY = QdacConfig(num_codebooks=3, codebook_size=16, codebook_dim=8, latent_dim=8, width=16, hidden=32, encoder_depth=1, decoder_depth=1)
FACTORISED = replace(TINY, codebook_dim=4)
GRADIENT = replace(TINY, update="gradient")
WAVEFORM = replace(TINY, front="waveform", strides=(2, 4, 5, 8), encoder_width=2, decoder_width=16, update="gradient")


def _batches(seed=0):
    generator = torch.Generator().manual_seed(seed)
    crops = 0.1 * torch.randn(2, 32 * 320, generator=generator)
    whole = 0.1 * torch.randn(2, 9001, generator=generator)
    return {
        "crops": Batch(crops, torch.tensor([32 * 320] * 2), ("", ""), ("", "")),
        "utterances": Batch(whole, torch.tensor([9001, 7000]), ("Hello there", "it's well"), ("en", "en")),
    }


def _recipe(config=TINY, **choices):
    return QdacRecipe(
        config=config, training=QdacTraining(**{"batch_size": 2, "utterances": 2, "semantic_every": 3, "adversarial": True, **choices})
    )


def _reached(parameters):
    return any(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in parameters)


@pytest.mark.parametrize("config", [TINY, FACTORISED, GRADIENT, WAVEFORM], ids=["ema", "factorised", "gradient", "waveform"])
def test_the_recogniser_reaches_codebook_one_and_the_encoder_and_nothing_else(config):
    recipe = _recipe(config)
    model = recipe.model.train()
    recipe.losses("generator", _batches(), 0, torch.Generator().manual_seed(0))  # starts the codebooks
    recipe.semantic_loss(_batches()["utterances"]).backward()
    quantizer = model.quantizer
    assert _reached(model.encoder.parameters()), "the encoder"
    assert _reached(quantizer.codebooks[0].parameters()), "codebook 1"
    assert _reached(recipe.semantic.parameters()), "the recogniser itself"
    own = {id(p) for p in model.encoder.parameters()} | {id(quantizer.codebooks[0].entries)}
    if hasattr(quantizer, "project_in"):
        own |= {id(p) for p in quantizer.project_in[0].parameters()}  # the way into codebook 1 is part of it
    for name, parameter in model.named_parameters():
        if id(parameter) not in own:
            assert parameter.grad is None or not bool(parameter.grad.any()), f"{name} is reached by the recogniser's loss"


def test_without_semantic_or_adversary_nothing_of_them_exists():
    recipe = _recipe(semantic=False, adversarial=False)
    assert recipe.players == ("generator",)
    assert set(recipe.modules()) == {"model", "objective"} and set(recipe.wants()) == {"crops"}
    with pytest.raises(ValueError, match="semantic=False"):
        recipe.semantic_loss(_batches()["utterances"])
    with pytest.raises(ValueError, match="adversarial=False"):
        recipe.parameters("discriminator")


def test_the_recipe_is_one_and_a_step_moves_the_codebooks_once():
    recipe = _recipe()
    assert isinstance(recipe, Recipe)
    for module in recipe.modules().values():
        module.train()
    generator, batches = torch.Generator().manual_seed(0), _batches()
    recipe.losses("discriminator", batches, 0, generator)
    after_first = recipe.model.quantizer.codebooks[0].usage.clone()
    losses = recipe.losses("generator", batches, 0, generator)
    assert torch.equal(after_first, recipe.model.quantizer.codebooks[0].usage)
    assert {"mel", "complex", "snr_db", "commitment", "adversarial", "feature_matching", "semantic"} == set(losses.parts)
    assert not any(part.requires_grad for part in losses.parts.values())
    recipe.losses("discriminator", batches, 1, generator)
    assert not torch.equal(after_first, recipe.model.quantizer.codebooks[0].usage)


def test_players_own_disjoint_parameters_and_their_losses_stay_at_home():
    recipe = _recipe()
    own = {player: {id(p) for p in recipe.parameters(player)} for player in recipe.players}
    assert not own["generator"] & own["discriminator"]
    generator, batches = torch.Generator().manual_seed(0), _batches()
    recipe.losses("discriminator", batches, 0, generator).total.backward()
    assert not _reached(recipe.parameters("generator"))
    assert _reached(recipe.parameters("discriminator"))


def test_the_adversary_waits_for_its_step():
    recipe = _recipe(adversarial_from=5, semantic_every=2)
    generator, batches = torch.Generator().manual_seed(0), _batches()
    assert float(recipe.losses("discriminator", batches, 1, generator).total.detach()) == 0.0
    assert not {"adversarial", "semantic"} & set(recipe.losses("generator", batches, 1, generator).parts)
    assert float(recipe.losses("discriminator", batches, 5, generator).total.detach()) > 0.0
    assert "adversarial" in recipe.losses("generator", batches, 5, generator).parts


def test_thirty_steps_lower_the_loss():
    torch.manual_seed(0)
    recipe = _recipe(adversarial=False, semantic=False, gain_db=(0.0, 0.0))
    recipe.model.train()
    recipe.model.encoder.started.fill_(True)  # from random weights: a tone is coded well by its principal components alone
    seconds = torch.arange(32 * 320) / 16000
    tone = 0.1 * torch.stack([torch.sin(2 * math.pi * hz * seconds) for hz in (200.0, 330.0)])
    batches = {"crops": Batch(tone, torch.tensor([32 * 320] * 2), ("", ""), ("", ""))}
    optimiser = torch.optim.AdamW(recipe.parameters("generator"), lr=3e-3)
    generator, history = torch.Generator().manual_seed(0), []
    for step in range(30):
        losses = recipe.losses("generator", batches, step, generator)
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        history.append(float(losses.parts["mel"]))
    assert sum(history[-5:]) < 0.7 * sum(history[:5])
    numbers = recipe.validate([tone[0], tone[1, :5000]])
    assert set(numbers) == {"mel", "snr_db"} and all(math.isfinite(value) for value in numbers.values())
    assert recipe.model.training, "validation must leave the mode as it was"


def test_the_objective_is_zero_for_equal_signals_and_sees_level():
    torch.manual_seed(0)
    objective = ReconstructionObjective(16000, ObjectiveConfig())
    audio = 0.1 * torch.randn(2, 10240)
    same = objective(audio, audio)
    assert float(same.mel) == float(same.complex) == 0.0
    half = objective(0.5 * audio, audio)
    # Half the amplitude is log10(2) less in every band of all five scales.
    assert float(half.mel) == pytest.approx(5 * math.log10(2), rel=1e-3)
    assert float(snr_db(0.5 * audio, audio)[0]) == pytest.approx(20 * math.log10(2), abs=0.01)
    assert float(snr_db(torch.zeros(1, 100), torch.zeros(1, 100))) == 0.0
    with pytest.raises(ValueError, match="4096"):
        ReconstructionObjective(16000, ObjectiveConfig(complex_windows=(4096,)))


def test_discriminators_judge_any_length_and_ignore_level():
    torch.manual_seed(0)
    judge = Discriminator(DiscriminatorConfig(periods=(2, 3), period_channels=(2, 4), windows=(64,), channels=2))
    audio = torch.randn(2, 997)
    first, louder = judge(audio), judge(3.0 * audio + 0.5)
    assert len(first) == 3 and all(judgement.score.shape[0] == 2 and judgement.features for judgement in first)
    for a, b in zip(first, louder, strict=True):
        torch.testing.assert_close(a.score, b.score, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="judges nothing"):
        Discriminator(DiscriminatorConfig(periods=(), windows=()))


def test_tokens_of_text():
    assert to_tokens("It's  a well-known\tTHING, no 7!") == to_tokens("it's a well known thing no")
    assert [ALPHABET[token - 3] for token in to_tokens("it's")[:-1]] == list("it's")
    assert to_tokens("")[-1] == END
    assert pad_tokens(["ab", ""]).shape == (2, 3)


def test_the_recogniser_hears_neither_padding_nor_the_future():
    torch.manual_seed(0)
    supervisor = SemanticSupervisor(SemanticConfig(input_dim=8, width=16, heads=2, encoder_depth=1, decoder_depth=1)).eval()
    first, tokens = torch.randn(1, 20, 8), pad_tokens(["hello"])
    frames = torch.tensor([13])
    other = first.clone()
    other[:, 13:] = 9.0
    torch.testing.assert_close(supervisor(first, frames, tokens), supervisor(other, frames, tokens))
    memory, hidden = supervisor._hear(first, frames)
    changed = tokens.clone()
    changed[0, 3] = 20
    said, again = supervisor._say(memory, hidden, tokens), supervisor._say(memory, hidden, changed)
    torch.testing.assert_close(said[:, :4], again[:, :4])  # token 3 is an input from step 4 on
    assert not torch.allclose(said[:, 4:], again[:, 4:])


def _written(tmp_path, **told):
    from safetensors.torch import save_file

    recipe, path = _recipe(), tmp_path / "model.safetensors"
    tensors, metadata = recipe.export()
    save_file(tensors, path, metadata | told)
    return recipe, path


def test_an_exported_model_is_read_back_within_half_precision(tmp_path):
    recipe, path = _written(tmp_path, num_items="12", data_hours="0.5")
    loaded = load(path, "qdac", QdacModel, QdacConfig)
    assert loaded.model.config == TINY and not loaded.model.training
    for name, tensor in recipe.model.state_dict().items():
        if not name.endswith((".usage", ".started", ".calls")):
            torch.testing.assert_close(loaded.model.state_dict()[name], tensor, rtol=1e-3, atol=1e-6)
    codec = QdacCodec(checkpoint=path, num_codebooks=2)
    assert codec.info.training_data == "12 recordings, 0.50 h" and codec.info.weights == "trained" and codec.spec.num_codebooks == 2
    assert codec.info.num_parameters < QdacCodec(checkpoint=path, num_codebooks=3).info.num_parameters


def test_a_checkpoint_of_another_kind_is_refused(tmp_path):
    _, path = _written(tmp_path)
    for parameters, message in (
        ({"num_codebooks": 16}, "has 3 codebooks"),
        ({"num_codebooks": 0}, "has 3 codebooks, asked were 0"),
        ({"search_width": 0}, "at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            QdacCodec(path, **parameters)
    with pytest.raises(ValueError, match="holds no qdac model"):
        QdacCodec("socodec120")


def test_missing_says_what_to_do(tmp_path):
    paper = {"checkpoint": None, "shape": {"size": "paper"}}
    assert "checkpoint=" in str(QdacCodec.missing(**paper))
    assert QdacCodec.missing(**paper, weights="random") is None and QdacCodec.missing(weights="random") is None
    assert "absent" in str(QdacCodec.missing(tmp_path / "absent"))
    assert "harness train system=qdac17 data=MANIFEST" in str(QdacCodec.missing("qdac17"))
    with pytest.raises(FileNotFoundError, match="checkpoint="):
        QdacCodec(**paper)
    with pytest.raises(FileNotFoundError, match="checkpoint="):
        QdacCodec(None, weights="random")
    with pytest.raises(ValueError, match="trained"):
        QdacCodec(weights="lucky")


def test_random_weights_have_the_shape_of_the_checkpoint_or_the_one_given():
    trained, random, other = QdacCodec("qdac8_25hz"), QdacCodec("qdac8_25hz", weights="random"), QdacCodec(weights="random", seed=1)
    assert random.spec == trained.spec and random.info.size == "small"
    assert len({codec.info.weights_digest for codec in (trained, random, other)}) == 3
    given = QdacCodec(weights="random", shape={"num_codebooks": 2, "frame_rate": 25})
    assert given.spec.num_codebooks == 2 and given.spec.frame_rate_hz == 25 and given.info.weights == "random"


@pytest.mark.parametrize("frame_rate", [25, 50])
@pytest.mark.parametrize("size", ["paper", "small"])
@pytest.mark.parametrize("num_codebooks", [1, 16])
def test_sizes_have_the_bit_rates_of_the_paper(size, frame_rate, num_codebooks):
    config = qdac_config(size, num_codebooks, frame_rate)
    assert config.frame_rate_hz == frame_rate and config.codebook_size == 2048
    if size == "paper":
        assert (config.sample_rate, config.latent_dim, config.codebook_dim) == (24000, 1024, 1024)
    assert QdacConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("wrong", [{"frame_rate": 75}, {"num_codebooks": 17}, {"num_codebooks": 0}, {"size": "large"}])
def test_other_sizes_are_refused(wrong):
    with pytest.raises(ValueError, match="QDAC"):
        qdac_config(**wrong)
    with pytest.raises(ValueError, match="strides"):
        QdacConfig(front="waveform", strides=(2, 2))


def test_a_small_model_starts_as_a_transform_codec():
    dim = 16
    torch.manual_seed(0)
    # As many components as the spectrum has numbers, and blocks switched off: the linear start alone must give the waveform back.
    shape = QdacConfig(hop=16, window=32, width=dim, hidden=16, latent_dim=dim, codebook_dim=dim, codebook_size=4, num_codebooks=1)
    model, audio = QdacModel(shape), 0.1 * torch.randn(4, 64 * 16)
    with torch.no_grad():
        for block in [*model.encoder.stack, *model.decoder.stack]:
            block.gain.zero_()
        start(model, audio)
        latent = model.encoder(audio)
        assert float(snr_db(model.decoder(latent), audio).min()) > 35.0
        torch.testing.assert_close(latent.flatten(0, 1).mean(dim=0), torch.zeros(dim), rtol=0, atol=1e-3)
        covariance = latent.flatten(0, 1).T.cov()
        assert float((covariance - covariance.diag().diag()).abs().max()) < 1e-3
        assert float(covariance.diag().mean()) == pytest.approx(1.0, rel=0.02)
        # Of fewer components the first are the strongest: keeping half costs little more than its share.
        assert covariance.diag().tolist() == sorted(covariance.diag().tolist(), reverse=True)
        before = model.encoder.enter.weight.clone()
        start(model, 0.5 * audio)
        assert torch.equal(before, model.encoder.enter.weight), "a model starts once"


def test_a_waveform_model_is_left_alone_by_the_start():
    model = QdacModel(WAVEFORM)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    start(model, torch.randn(1, 3200))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
