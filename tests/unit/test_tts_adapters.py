"""Synthesizers out of language model and codec: pieces, prompts, ends, files and what is said where they do not fit, training from YAML."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from harness.api import Audio, Codes, MissingOutput, Utterance
from harness.errors import ConfigError
from harness.recipes import build_recipe
from harness.registry import CONF_DIR, resolve
from harness.training_plan import planned, trainers
from systems.layers.transformer import TransformerConfig
from systems.lm.config import LmConfig
from systems.lm.patterns import PARALLEL, delayed
from systems.lm.recipe import LmRecipe
from systems.qdac.adapter import QdacCodec
from systems.qdac.config import QdacConfig
from systems.qdac.decoder import build_decoder
from systems.qdac.recipe import QdacRecipe, QdacTraining
from systems.socodec.adapter import SocodecCodec
from systems.socodec.bigvgan import BigVgan, BigVganConfig
from systems.socodec.config import UtteranceConfig, socodec_config
from systems.socodec.parts import Parts, random_parts
from systems.socodec.recipe import SocodecRecipe
from systems.socodec.variant import Files, SocodecVariant
from systems.socodec.vocoder import Vocoder
from systems.socodec.wave_vocoder import WaveVocoder, WaveVocoderConfig
from systems.speech_encoder.config import SpeechEncoderConfig
from systems.speech_encoder.recipe import SpeechEncoderRecipe, SpeechEncoderTraining
from systems.tts import variant
from systems.tts.codec import Voice, mono_at
from systems.tts.pieces import Piecewise, Reach, pushed, reach_of
from systems.tts.qdac_speech import random_qdac
from systems.tts.qtts import Qtts
from systems.tts.socodec_speech import SocodecSpeech
from systems.tts.socodec_tts import SocodecTts
from systems.tts.text import SYMBOLS, SymbolFrontEnd
from systems.tts.variant import LmVariant
from systems.tts.wave_pieces import wave_stages

GPT2, LLAMA = TransformerConfig("gpt2", 2, 16, 2, 24), TransformerConfig("llama", 2, 16, 2, 24)
HOP, BOOKS, SIZE, TEXT = 640, 3, 16, len(SYMBOLS)
QDAC = QdacConfig(
    hop=HOP, num_codebooks=BOOKS, codebook_size=SIZE, codebook_dim=8, latent_dim=8, window=2 * HOP, width=16, hidden=16, encoder_depth=1,
    decoder_depth=2,
)  # fmt: skip
WAVEFORM = replace(QDAC, front="waveform", strides=(4, 4, 5, 8), encoder_width=2, decoder_width=32)
SOCODEC = replace(
    socodec_config("small", 120), ssl_dim=8, width=12, groups=3, sizes=(4, 5), codebook_dim=2,
    utterance=UtteranceConfig(channels=8, pooled_channels=12, attention_channels=4, squeeze_channels=4),
)  # fmt: skip
MULTI = LmConfig("multi_stream", 4, (4, 5), TEXT, 12, GPT2, pattern=delayed(1), max_text=256, max_steps=128)
MULTIHEAD = LmConfig("multihead", BOOKS, (SIZE,), TEXT, 0, LLAMA, pattern=delayed(1), table_dim=8)
HIERARCHICAL = LmConfig("hierarchical", BOOKS, (SIZE,), TEXT, 0, LLAMA, replace(LLAMA, width=12), PARALLEL, table_dim=8)
VOCODER = WaveVocoderConfig(width=8, hidden=8, depth=2, pitch_depth=1)


def _sound(seconds: float, rate: int = 16000, seed: int = 0, channels: int = 1) -> Audio:
    return Audio(np.random.default_rng(seed).uniform(-0.5, 0.5, (channels, round(seconds * rate))), rate)


PROMPTED = Utterance("A red kite.", "en", _sound(0.7), "We sang.")


def _qtts(kind: str = "multihead", **words: object) -> Qtts:
    config = HIERARCHICAL if kind == "hierarchical" else MULTIHEAD
    return Qtts(kind, weights="random", **{"config": config, "codec_config": QDAC, "max_s": 2.0, **words})


def _socodec(**words: object) -> SocodecTts:
    return SocodecTts(weights="random", **{"config": MULTI, "codec_config": SOCODEC, "max_s": 2.0, **words})


# -- decoders in pieces


def _conv(before: int, after: int):
    weight = torch.ones(1, 1, before + after + 1)
    return lambda x: torch.conv1d(torch.nn.functional.pad(x[..., 0], (before, after))[:, None], weight)[:, 0]


@pytest.mark.parametrize("reach", [Reach(4, 0), Reach(0, 3), Reach(5, 40), Reach(0, 0)])
def test_reach_is_that_of_the_convolution(reach: Reach) -> None:
    assert reach_of(_conv(reach.before, reach.after), 1) == reach


def test_what_adds_up_reaches_back_to_the_start() -> None:
    assert reach_of(lambda x: x.cumsum(dim=1) + x.roll(-2, dims=1) * (torch.arange(x.shape[1]) < x.shape[1] - 2)[:, None], 2).before is None
    with pytest.raises(ValueError, match="cannot be run piece by piece"):
        reach_of(lambda x: x.flip(1).cumsum(dim=1).flip(1), 1)


def _decoders():
    """Networks, their output rate, and the numbers of a frame."""
    torch.manual_seed(0)
    yield "lapped", build_decoder(QDAC), HOP, 8
    yield "waveform", build_decoder(WAVEFORM), HOP, 8
    yield "bigvgan", BigVgan(BigVganConfig(channels=32)).fold(), 160, 80


@pytest.mark.parametrize(("name", "network", "rate", "dim"), _decoders(), ids=lambda v: v if isinstance(v, str) else "")
def test_pieces_joined_are_the_whole_and_as_early_as_can_be(name: str, network: torch.nn.Module, rate: int, dim: int) -> None:
    network = network.eval().requires_grad_(False)
    frames = torch.randn(1, 70, dim, generator=torch.Generator().manual_seed(1))
    whole, reach = network(frames), reach_of(network, dim)
    assert reach.before is not None and 0 < reach.before < 25 and 0 < reach.after < 25
    for sizes in ([1] * 70, [3, 0, 30, 1, 1, 35, 0], [70]):
        stream, given, found = Piecewise(network, rate, reach), 0, []
        for number, size in enumerate(sizes):
            piece = stream.push(frames[:, given : given + size] if size else None, number == len(sizes) - 1)
            given += size
            found += [] if piece is None else [piece]
            heard = sum(p.shape[1] for p in found) // rate
            assert heard == (70 if number == len(sizes) - 1 else max(0, given - reach.after))
        assert torch.allclose(torch.cat(found, dim=1), whole, atol=2e-6)


def test_a_reach_too_short_would_be_heard() -> None:
    """The measured reach is needed: with a frame less on either side the pieces differ."""
    torch.manual_seed(0)
    network = build_decoder(WAVEFORM).eval().requires_grad_(False)
    frames, reach = torch.randn(1, 40, 8), reach_of(network, 8)
    for wrong in (replace(reach, after=reach.after - 2), replace(reach, before=reach.before - 2)):
        stream = Piecewise(network, HOP, wrong)
        found = [stream.push(frames[:, i : i + 1], i == 39) for i in range(40)]
        assert not torch.allclose(torch.cat([f for f in found if f is not None], dim=1), network(frames), atol=1e-9, rtol=0)


def _vocoders():
    torch.manual_seed(0)
    shapes = (WaveVocoder(VOCODER), BigVgan(BigVganConfig(channels=32)).fold())
    return [Vocoder(model.eval().requires_grad_(False), type(model).__name__, "d") for model in shapes]


@pytest.mark.parametrize("vocoder", _vocoders(), ids=lambda v: v.name)
def test_socodec_in_pieces(vocoder: Vocoder) -> None:
    parts = random_parts(SocodecVariant(), Files(), SOCODEC, 0)
    codec = SocodecSpeech(Parts(parts.model, parts.features, vocoder, {}, parts.digests), "cpu")
    codes, voice = torch.randint(20, (4, 25)), Voice(embedding=torch.randn(12))
    with torch.inference_mode():
        pieces, found = codec.pieces(voice), []
        for frame in range(25):
            piece = pieces.push(codes[:, frame : frame + 1], False)
            found += [] if piece is None else [piece]
        assert len(found) > 15 and 0 < found[0].shape[0] < 3 * 1920
        found.append(pieces.push(codes[:, :0], True))
        # Roundings of a pitch add up in the phase of its pulses.
        difference = (torch.cat(found) - codec.decode(codes, voice)).abs().max()
        assert difference < (2e-4 if vocoder.name == "WaveVocoder" else 2e-6)


def test_pieces_of_the_small_vocoder_cost_the_same_however_late_they_come() -> None:
    """Only the frames around a piece are kept, and its pulses and noise go on where those before ended."""
    torch.manual_seed(0)
    vocoder, mel = WaveVocoder(VOCODER).eval().requires_grad_(False), torch.randn(1, 300, 80) - 5.0
    whole, stages, kept, found = vocoder(mel), wave_stages(vocoder, "cpu")(), [], []
    for first in range(0, 300, 12):
        piece = pushed(stages, mel[:, first : first + 12], first == 288)
        found += [] if piece is None else [piece]
        kept.append(max(stage.num_kept for stage in stages if isinstance(stage, Piecewise)))
    assert whole.abs().max() > 0.01
    assert torch.allclose(torch.cat(found, dim=1), whole, atol=2e-5)
    assert max(kept) == max(kept[:8]) < 100


def test_qdac_in_pieces_without_a_frame_gives_nothing() -> None:
    codec = random_qdac(QDAC, 2, 0, "cpu")
    assert codec.spec.num_codebooks == 2 and codec.pieces(Voice()).push(torch.zeros(2, 0, dtype=torch.int64), True) is None


# -- speaking


@pytest.mark.parametrize("build", [_qtts, lambda **w: _qtts("hierarchical", **w), _socodec], ids=["multihead", "hierarchical", "socodec"])
def test_streams_come_in_pieces_and_equal_the_whole(build) -> None:
    synthesizer = build(chunk_ms=40, temperature=1.0)
    speeches = [synthesizer.synthesize(PROMPTED, seed) for seed in range(6)]
    longest = max(range(6), key=lambda seed: speeches[seed].audio.num_samples)
    chunks = list(synthesizer.stream(PROMPTED, longest))
    whole = speeches[longest].audio
    assert len(chunks) > 3 and chunks[0].num_samples < whole.num_samples / 2
    assert np.allclose(np.concatenate([c.samples for c in chunks], axis=1), whole.samples, atol=1e-3, rtol=0)
    assert len(list(build(chunk_ms=1000, temperature=1.0).stream(PROMPTED, longest))) < len(chunks)


@pytest.mark.parametrize("name", ["multihead", "hierarchical", "socodec"])
def test_codes_are_what_is_heard(name: str) -> None:
    """The codec's own adapter makes the same audio of them."""
    synthesizer = _socodec() if name == "socodec" else _qtts(name)
    codec = (
        SocodecCodec(weights="random", config=SOCODEC)
        if name == "socodec"
        else QdacCodec("small", BOOKS, 25, weights="random", config=QDAC)
    )
    speech = synthesizer.synthesize(PROMPTED, 3)
    assert isinstance(speech.codes, Codes) and speech.codes.spec == codec.spec and speech.codes.num_frames > 0
    assert np.allclose(codec.decode(speech.codes).samples, speech.audio.samples, atol=2e-6)
    assert speech.codes.side.keys() == ({"utterance"} if name == "socodec" else set())
    prompt = PROMPTED.prompt
    wanted = codec.decode(codec.encode(prompt)).samples
    assert np.allclose(synthesizer.resynthesize(prompt).samples, wanted, atol=2e-6)
    if name == "socodec":
        whole = prompt.samples[:, : prompt.num_samples // 1920 * 1920]
        assert np.allclose(speech.codes.side["utterance"], codec.encode(Audio(whole, 16000)).side["utterance"], atol=1e-5)


def test_a_runaway_is_cut_and_said_to_be_one() -> None:
    for synthesizer, most in ((_qtts(max_s=0.2, temperature=1.0), 5), (_socodec(max_s=0.6, temperature=1.0), 5)):
        found = [synthesizer.synthesize(PROMPTED, seed) for seed in range(12)]
        assert {s.stop_reason for s in found} == {"end", "length"}
        assert all((s.codes.num_frames == most) if s.stop_reason == "length" else (1 <= s.codes.num_frames <= most) for s in found)


def test_a_prompt_is_continued_after_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    synthesizer, codec = _qtts(), QdacCodec("small", BOOKS, 25, weights="random", config=QDAC)
    asked = []
    engine = synthesizer._synthesizer._engine
    generate = engine.generate
    monkeypatch.setattr(engine, "generate", lambda requests, config: (asked.extend(requests), generate(requests, config))[1])
    synthesizer.synthesize(PROMPTED, 5)
    synthesizer.synthesize(replace(PROMPTED, prompt_text=" "), 5)
    synthesizer.synthesize(replace(PROMPTED, prompt=_sound(0.03)), 5)
    synthesizer.synthesize(replace(PROMPTED, prompt=None), 5)
    followed, *others = asked
    assert followed.text == SymbolFrontEnd().encode("We sang. A red kite.", "en").ids and followed.seed == 5
    whole = Audio(PROMPTED.prompt.samples[:, : PROMPTED.prompt.num_samples // HOP * HOP], 16000)
    assert np.array_equal(followed.prompt.numpy(), codec.encode(whole).indices)
    # Without a transcript, a whole frame or a prompt at all there is nothing to continue.
    assert all(r.text == SymbolFrontEnd().encode("A red kite.", "en").ids and r.prompt is None for r in others)


def test_socodec_needs_a_voice_and_no_transcript() -> None:
    synthesizer = _socodec()
    with pytest.raises(MissingOutput, match="takes its voice from a prompt"):
        synthesizer.synthesize(replace(PROMPTED, prompt=None), 0)
    with pytest.raises(MissingOutput, match="takes its voice from a prompt"):
        next(synthesizer.stream(replace(PROMPTED, prompt=None), 0))
    one, other = synthesizer.synthesize(PROMPTED, 0), synthesizer.synthesize(replace(PROMPTED, prompt_text=""), 0)
    assert one.audio.digest() == other.audio.digest()
    assert synthesizer.synthesize(replace(PROMPTED, prompt=_sound(0.7, seed=1)), 0).audio.digest() != one.audio.digest()
    assert synthesizer.synthesize(replace(PROMPTED, prompt=_sound(0.0)), 0).audio.num_samples > 0


def test_prompts_come_at_any_rate_and_in_stereo() -> None:
    stereo = _sound(0.5, 48000, channels=2)
    assert mono_at(stereo, 16000).shape == (8000,) and mono_at(stereo, 48000).dtype == torch.float32
    assert np.array_equal(mono_at(stereo, 48000).numpy(), stereo.samples.mean(axis=0))
    for synthesizer in (_qtts(), _socodec()):
        assert synthesizer.synthesize(replace(PROMPTED, prompt=stereo), 0).audio.num_samples > 0
        assert synthesizer.resynthesize(stereo).num_samples == 8000


@pytest.mark.parametrize(("text", "language"), [("bonjour", "fr"), ("...", "en")])
def test_what_it_does_not_speak_is_a_missing_output(text: str, language: str) -> None:
    for synthesizer in (_qtts(), _socodec()):
        with pytest.raises(MissingOutput):
            synthesizer.synthesize(Utterance(text, language, _sound(0.5)), 0)


def test_temperature_0_leaves_nothing_to_the_seed() -> None:
    for greedy in (_qtts("hierarchical", temperature=0.0), _socodec(temperature=0.0)):
        assert greedy.synthesize(PROMPTED, 0).audio.digest() == greedy.synthesize(PROMPTED, 1).audio.digest()
    assert _qtts(temperature=1.0).synthesize(PROMPTED, 0).audio.digest() != _qtts(temperature=1.0).synthesize(PROMPTED, 1).audio.digest()


def test_half_precision_is_the_language_models_alone() -> None:
    for synthesizer in (_qtts(precision="bfloat16"), _qtts("hierarchical", precision="bfloat16"), _socodec(precision="bfloat16")):
        assert synthesizer.info.precision == "bfloat16"
        speech = synthesizer.synthesize(PROMPTED, 0)
        assert speech.audio.num_samples > 0 and np.isfinite(speech.audio.samples).all()


@pytest.mark.parametrize(
    ("build", "words", "message"),
    [
        (_qtts, {"max_s": 0.0}, "max_s is positive"),
        (_qtts, {"precision": "float16"}, "precision is one of float32, bfloat16"),
        (_qtts, {"top_p": 0.0}, "top_p lies in"),
        (_qtts, {"delay": 4}, "0, 1, 2 or 3"),
        (_qtts, {"delay": 2}, "asked was 'multihead' with Pattern"),
        (_qtts, {"checkpoint": "x"}, "checkpoint exclude each other"),
        (_qtts, {"codec_config": replace(QDAC, codebook_size=8)}, "codec and text have 3 of 8"),
        (lambda **w: _qtts("hierarchical", **w), {"delay": 0}, "has no delay"),
        (lambda **w: _qtts("parallel", **w), {}, "hierarchical or multihead"),
        (_socodec, {"max_s": 16.0}, "at most 15.0 s"),
        (_socodec, {"codec_checkpoint": "x"}, "codec_checkpoint exclude each other"),
        (lambda **w: SocodecTts(config=MULTI), {}, 'go with weights="random"'),
        (lambda **w: Qtts(weights="new"), {}, '"trained" or "random"'),
        (lambda **w: Qtts(size="huge"), {}, '"small" and "paper"'),
    ],
)
def test_impossible_parameters(build, words: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**words)


# -- files


def _write(recipe, path: Path, **changes: str) -> Path:
    tensors, metadata = recipe.export()
    told = {name: value for name, value in {**metadata, "num_items": "7", "data_hours": "1.5", **changes}.items() if value}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata=told)
    return path


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the bundled weights; the codecs in it are named in every call."""
    monkeypatch.setattr(variant, "BUNDLED", tmp_path)
    _write(QdacRecipe(config=QDAC, training=QdacTraining(semantic=False)), tmp_path / "qdac.safetensors", semantic="")
    return tmp_path


def _trained_qtts(folder: Path, kind: str, **words: object) -> Qtts:
    return Qtts(kind, **{"num_codebooks": BOOKS, "codec_checkpoint": folder / "qdac.safetensors", "max_s": 1.0, **words})


def _recipe(folder: Path, config: LmConfig) -> LmRecipe:
    return LmRecipe(config.kind, num_codebooks=BOOKS, codec_checkpoint=str(folder / "qdac.safetensors"), config=config)


@pytest.mark.parametrize("config", [MULTIHEAD, HIERARCHICAL], ids=lambda c: c.kind)
def test_qtts_from_its_files(bundled: Path, config: LmConfig) -> None:
    path = _write(_recipe(bundled, config), bundled / "lm.safetensors")
    synthesizer = _trained_qtts(bundled, config.kind, checkpoint=path)
    info = synthesizer.info
    assert (info.weights, info.size, info.training_data, info.family) == ("trained", "small", "7 recordings, 1.50 h", "qtts")
    assert synthesizer.synthesize(PROMPTED, 0).audio.num_samples > 0
    other = _write(_recipe(bundled, replace(config, table_dim=6)), bundled / "other.safetensors")
    assert _trained_qtts(bundled, config.kind, checkpoint=other).info.weights_digest != info.weights_digest


@pytest.mark.parametrize(
    ("changes", "words", "message"),
    [
        ({"codec": "0" * 32}, {}, "says the codes of other codec weights"),
        ({"codec": ""}, {}, "says the codes of other codec weights"),
        ({"front_end": "symbols-0"}, {}, "reads text as 'symbols-0'"),
        ({"front_end": ""}, {}, "names no text front end"),
        ({"size": "paper"}, {}, "of size 'paper', asked was 'small'"),
        ({"family": "socodec_tts"}, {}, "family='socodec_tts'"),
        ({}, {"kind": "hierarchical"}, "of kind 'multihead', asked was 'hierarchical'"),
        ({}, {"delay": 2}, "trained with delay=1, asked was delay=2"),
        ({}, {"num_codebooks": 2}, "made for 3 codebooks of 16"),
        ({}, {"frame_rate": 50}, "25 frames a second, asked were 50"),
    ],
)
def test_files_that_do_not_fit_are_refused(bundled: Path, changes: dict[str, str], words: dict[str, object], message: str) -> None:
    path = _write(_recipe(bundled, MULTIHEAD), bundled / "lm.safetensors", **changes)
    with pytest.raises(ValueError, match=message):
        _trained_qtts(bundled, **{"kind": "multihead", "checkpoint": path, **words})


def test_socodec_tts_from_its_files(bundled: Path) -> None:
    shape = SpeechEncoderConfig(width=16, hidden=16, depth=1, dim=8)
    encoder = _write(SpeechEncoderRecipe(shape, SpeechEncoderTraining(phones=False, num_units=5)), bundled / "encoder.safetensors")
    codec = _write(SocodecRecipe(config=SOCODEC, ssl=str(encoder)), bundled / "codec.safetensors")
    metadata = {"family": "mel_vocoder", "size": "small", "config": json.dumps(VOCODER.to_dict())}
    save_file(WaveVocoder(VOCODER).state_dict(), bundled / "vocoder.safetensors", metadata)
    recipe = LmRecipe("multi_stream", delay=2, codec_checkpoint=str(codec), ssl=str(encoder), config=replace(MULTI, pattern=delayed(2)))
    _write(recipe, bundled / "socodec120_tts_d2_seed1_small.safetensors")
    files = {"codec_checkpoint": codec, "ssl": encoder, "vocoder": bundled / "vocoder.safetensors"}
    assert SocodecTts.missing(delay=2, training_seed=1, **files) is None
    synthesizer = SocodecTts(delay=2, training_seed=1, max_s=1.0, **files)
    assert synthesizer.info.family == "socodec_tts" and "delay 2" in synthesizer.info.description
    assert synthesizer.synthesize(PROMPTED, 0).codes.num_codebooks == 4
    told = SocodecTts.missing(delay=2, **files)
    assert "socodec120_tts_d2_small.safetensors" in told and "harness train system=socodec120_tts data=MANIFEST delay=2" in told
    with pytest.raises(FileNotFoundError, match="no language model at"):
        SocodecTts(delay=2, **files)


# -- variants


def _parameters(name: str) -> dict[str, object]:
    loaded: dict[str, object] = yaml.safe_load((Path(CONF_DIR) / "systems" / f"{name}.yaml").read_text(encoding="utf-8"))
    return loaded


SMALL = (
    "qtts_hierarchical", "qtts_multihead", "socodec40_tts", "socodec120_tts",
    "socodec120_tts_d0", "socodec120_tts_d2", "socodec120_tts_d3", "socodec240_tts",
)  # fmt: skip
PAPER = ("qtts_hierarchical_paper", "qtts_multihead_paper", "socodec40_tts_paper", "socodec120_tts_paper", "socodec240_tts_paper")


@pytest.mark.parametrize("name", SMALL)
def test_small_variants_look_for_weights_of_their_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = _parameters(name)
    kind = resolve("systems", words.pop("family"))
    monkeypatch.setattr(variant, "BUNDLED", tmp_path)
    assert str(tmp_path / f"{name}_small.safetensors") in kind.missing(**words)


@pytest.mark.parametrize("name", PAPER)
def test_paper_variants_say_what_they_need(name: str) -> None:
    words = _parameters(name)
    kind = resolve("systems", words.pop("family"))
    told = kind.missing(**words)
    if "transformers" not in told:
        assert all(f"{word}=" in told for word, value in words.items() if value is None) and "weights=random" in told
    with pytest.raises(ValueError, match="no bundled weights"):
        kind(**words)


def test_other_codecs_have_no_bundled_model() -> None:
    assert LmVariant("qtts_multihead", bundled=False).path(None) is None
    assert "give checkpoint= " in Qtts.missing("multihead", num_codebooks=16, frame_rate=50)
    assert SocodecTts.missing(quantizer="rq").split("socodec120_rq_tts_small")[1:]


def test_asking_loads_no_torch() -> None:
    code = (
        "import sys; from harness.registry import resolve\n"
        "for family in ('qtts', 'socodec_tts'): resolve('systems', family).missing()\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(CONF_DIR).parents[1]).returncode == 0


@pytest.mark.parametrize("name", SMALL + PAPER)
def test_every_variant_can_be_trained_from_its_yaml(name: str) -> None:
    plan = planned([f"system={name}", "data=x", "precision=bfloat16", "batch_size=4"])
    words = _parameters(name)
    assert plan.family == words["family"] and plan.recipe_class is LmRecipe and trainers()[plan.family] == "systems.lm.recipe:LmRecipe"
    assert {"size", "batch_size"} <= set(plan.parameters) and not {"temperature", "max_s", "checkpoint"} & set(plan.parameters)
    assert plan.parameters.get("delay") == words.get("delay")


def test_a_variant_trains_what_it_will_ask_for() -> None:
    if reason := QdacCodec.missing("small", 8, 25):
        pytest.skip(reason)
    plan = planned(["system=qtts_multihead", "delay=2", "data=x"])
    recipe = build_recipe(plan.recipe_class, plan.parameters, seed=0)
    told = recipe.export()[1]
    assert (told["family"], told["kind"]) == ("qtts", "multihead") and recipe.config.pattern == delayed(2)
    assert told["codec"] == QdacCodec("small", 8, 25).info.weights_digest
    with pytest.raises(ConfigError, match="hop_ms"):
        planned(["system=qtts_multihead", "data=x", "hop_ms=2"])
