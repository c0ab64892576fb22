"""Synthesizers from their files: weights, what is said where they do not fit, variants by name, training from YAML."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import save_file

from harness.errors import ConfigError
from harness.settings.registry import CONF_DIR
from harness.settings.systems import system_section
from harness.settings.training import build_recipe, planned, trainers
from systems.bundled import located
from systems.checkpoints import load
from systems.lm.codes import CodecChoice
from systems.lm.config import LmConfig, delayed
from systems.lm.recipe import LmRecipe
from systems.qdac.config import QdacConfig
from systems.qdac.model import QdacModel
from systems.qdac.recipe import QdacRecipe, QdacTraining
from systems.socodec.recipe import SocodecRecipe
from systems.speech_encoder.model import SpeechEncoderConfig
from systems.speech_encoder.recipe import SpeechEncoderRecipe, SpeechEncoderTraining
from systems.tts.lm_tts import LmTts
from systems.vocoder.wave import WaveVocoder
from tests.stubs.tiny_synthesizers import HIERARCHICAL, MULTI, MULTIHEAD, PROMPTED, QDAC, SOCODEC, VOCODER

# -- files


def _write(recipe, path: Path, **changes: str) -> Path:
    tensors, metadata = recipe.export()
    told = {name: value for name, value in {**metadata, "num_items": "7", "data_hours": "1.5", **changes}.items() if value}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata=told)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a QDAC in it."""
    _write(QdacRecipe(config=QDAC, training=QdacTraining(semantic=False)), tmp_path / "qdac.safetensors", semantic="")
    return tmp_path


def _qtts(folder: Path, checkpoint: Path, **words: object) -> LmTts:
    return LmTts(checkpoint, folder / "qdac.safetensors", run={"max_s": 1.0}, **words)


def _recipe(folder: Path, config: LmConfig) -> LmRecipe:
    return LmRecipe(config.kind, codec=CodecChoice(str(folder / "qdac.safetensors"), config.num_codebooks), config=config)


@pytest.mark.parametrize("config", [MULTIHEAD, HIERARCHICAL], ids=lambda c: c.kind)
def test_qtts_from_its_files(folder: Path, config: LmConfig) -> None:
    path = _write(_recipe(folder, config), folder / "lm.safetensors")
    synthesizer = _qtts(folder, path)
    info = synthesizer.info
    assert (info.weights, info.size, info.training_data, info.family) == ("trained", "small", "7 recordings, 1.50 h", "lm_tts")
    assert f"QTTS {config.kind}" in info.description and synthesizer.synthesize(PROMPTED, 0).audio.num_samples > 0
    other = _write(_recipe(folder, replace(config, table_dim=6)), folder / "other.safetensors")
    assert _qtts(folder, other).info.weights_digest != info.weights_digest
    fewer = _write(_recipe(folder, replace(config, num_codebooks=2)), folder / "fewer.safetensors")
    assert _qtts(folder, fewer).synthesize(PROMPTED, 0).codes.num_codebooks == 2  # as the file says


@pytest.mark.parametrize(
    ("changes", "words", "message"),
    [
        ({"codec": "0" * 32}, {}, "says the codes of other codec weights"),
        ({"codec": ""}, {}, "says the codes of other codec weights"),
        ({"front_end": "symbols-0"}, {}, "reads text as 'symbols-0'"),
        ({"front_end": ""}, {}, "names no text front end"),
        ({"family": "qdac"}, {}, "family='qdac'"),
        ({}, {"delay": 2}, "trained with delay=1, asked was delay=2"),
    ],
)
def test_files_that_do_not_fit_are_refused(folder: Path, changes: dict[str, str], words: dict[str, object], message: str) -> None:
    path = _write(_recipe(folder, MULTIHEAD), folder / "lm.safetensors", **changes)
    with pytest.raises(ValueError, match=message):
        _qtts(folder, path, **words)


def test_a_codec_of_fewer_codebooks_and_a_file_that_is_none_are_refused(folder: Path) -> None:
    path = _write(_recipe(folder, MULTIHEAD), folder / "lm.safetensors")
    fewer = QdacRecipe(config=replace(QDAC, num_codebooks=2), training=QdacTraining(semantic=False))
    with pytest.raises(ValueError, match="asked for 3 codebooks of a QDAC with 2"):
        LmTts(path, _write(fewer, folder / "fewer.safetensors", semantic=""))
    with pytest.raises(ValueError, match="family='lm_tts'"):
        LmTts(path, path)


def test_socodec_tts_from_its_files(folder: Path) -> None:
    shape = SpeechEncoderConfig(width=16, hidden=16, depth=1, dim=8)
    encoder = _write(SpeechEncoderRecipe(shape, SpeechEncoderTraining(phones=False, num_units=5)), folder / "encoder.safetensors")
    codec = _write(SocodecRecipe(config=SOCODEC, ssl=str(encoder)), folder / "codec.safetensors")
    metadata = {"family": "mel_vocoder", "size": "small", "config": json.dumps(VOCODER.to_dict())}
    save_file(WaveVocoder(VOCODER).state_dict(), folder / "vocoder.safetensors", metadata)
    choice, config = CodecChoice(str(codec), ssl=str(encoder)), replace(MULTI, pattern=delayed(2))
    path = _write(LmRecipe("multi_stream", codec=choice, config=config), folder / "lm.safetensors")
    files = {"checkpoint": codec, "ssl": encoder, "vocoder": folder / "vocoder.safetensors"}
    assert LmTts.missing(path, codec=files) is None
    synthesizer = LmTts(path, files, run={"max_s": 1.0})
    assert synthesizer.info.family == "lm_tts" and "delay 2" in synthesizer.info.description
    assert synthesizer.synthesize(PROMPTED, 0).codes.num_codebooks == 4
    with pytest.raises(ValueError, match=r"features of other weights|192 numbers"):  # the bundled encoder is another
        LmTts(path, codec)
    assert "harness train system=socodec480_tts data=MANIFEST" in str(LmTts.missing("socodec480_tts", codec=files))
    for role in ("vocoder", "ssl", "checkpoint"):
        absent = {**files, role: folder / "none.safetensors"}
        with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*none.safetensors"):
            LmTts(path, absent)
        assert "none.safetensors" in str(LmTts.missing(path, codec=absent))


def test_a_file_that_knows_several_delays_serves_them_all(folder: Path) -> None:
    path = _write(_recipe(folder, replace(MULTIHEAD, delays=(1, 2, 0))), folder / "lm.safetensors")
    said = [_qtts(folder, path, delay=delay).synthesize(PROMPTED, 0).codes for delay in (0, 1, 2)]
    assert len({codes.digest() for codes in said}) == 3
    with pytest.raises(ValueError, match="the delays 1, 2, 0, asked was delay=3"):
        _qtts(folder, path, delay=3)


def test_random_weights_have_the_shapes_of_the_files_that_are_there() -> None:
    random, trained = (
        LmTts("qtts_multihead", "qdac8_25hz", weights=weights, shape={"kind": "multihead"}) for weights in ("random", "trained")
    )
    assert random.info.num_parameters == trained.info.num_parameters and random.info.weights_digest != trained.info.weights_digest
    again = LmTts("qtts_multihead", "qdac8_25hz", weights="random", shape={"kind": "multihead"})
    assert again.info.weights_digest == random.info.weights_digest
    assert "no checkpoint 'socodec480'" in str(LmTts.missing(codec="socodec480", weights="random"))
    assert LmTts.missing(codec="socodec480", weights="random", shape={"codec": {"frame_ms": 240}}) is None


# -- variants


def _parameters(name: str) -> dict[str, object]:
    section = system_section(name)
    assert section.pop("family") == "lm_tts"
    return section


BUNDLED = (
    "qtts_hierarchical", "qtts_multihead", "socodec40_tts", "socodec120_tts", "socodec120_tts_d0", "socodec120_tts_d2", "socodec120_tts_d3",
    "socodec120_tts_plain",
)  # fmt: skip
OTHERS = ("socodec240_tts", "socodec120_pq_tts", "socodec120_rq_tts_plain", "socodec240_rq_tts", "socodec120_codec2_tts")
PAPER = ("qtts_hierarchical_paper", "qtts_multihead_paper", "socodec40_tts_paper", "socodec120_tts_paper", "socodec240_tts_paper")


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_variants_lack_nothing(name: str) -> None:
    assert LmTts.missing(**_parameters(name)) is None


@pytest.mark.parametrize("name", OTHERS)
def test_variants_without_weights_say_how_they_come_by_them(name: str) -> None:
    trained = name.removesuffix("_plain")
    assert f"harness train system={trained} data=MANIFEST" in str(LmTts.missing(**_parameters(name)))
    with pytest.raises(FileNotFoundError, match=f"no checkpoint '{trained}' comes with the package"):
        LmTts(**_parameters(name))


@pytest.mark.parametrize("name", PAPER)
def test_paper_variants_say_what_they_need(name: str) -> None:
    words = _parameters(name)
    needed = ["checkpoint=", "codec.checkpoint=", "run.tokenizer="]
    if len(words["codec"]) > 1:
        needed += ["codec.vocoder=", "codec.ssl="]
    reason = LmTts.missing(**words)
    assert all(word in reason for word in needed) and "weights=random" in reason
    with pytest.raises(FileNotFoundError, match="no weights of it are bundled"):
        LmTts(**words)


def test_asking_loads_no_torch() -> None:
    code = (
        "import sys; from harness.settings.registry import resolve\n"
        "resolve('systems', 'lm_tts').missing(checkpoint='socodec120_tts', codec='socodec120')\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(CONF_DIR).parents[1]).returncode == 0


@pytest.mark.parametrize("name", BUNDLED + OTHERS + PAPER)
def test_every_variant_can_be_trained_from_its_yaml(name: str) -> None:
    plan = planned([f"system={name}", "data=x", "precision=bfloat16", "batch_size=4"])
    words = _parameters(name)
    assert (plan.family, plan.recipe_class, trainers()["lm_tts"]) == ("lm_tts", LmRecipe, "systems.lm.recipe:LmRecipe")
    assert "batch_size" in plan.parameters and not {"temperature", "max_s", "checkpoint", "generation"} & set(plan.parameters)
    assert plan.parameters.get("delay") == words.get("delay") and plan.parameters.get("size", "small") == (
        "paper" if name in PAPER else "small"
    )
    assert name.startswith("socodec") or plan.parameters["kind"] == name.removesuffix("_paper").removeprefix("qtts_")


def test_a_variant_trains_what_it_will_ask_for() -> None:
    plan = planned(["system=qtts_multihead", "delay=2", "data=x"])
    recipe = build_recipe(plan.recipe_class, plan.parameters, seed=0)
    metadata = recipe.export()[1]
    assert (metadata["family"], metadata["kind"]) == ("lm_tts", "multihead") and recipe.config.pattern == delayed(2)
    assert metadata["codec"] == load(located("qdac8_25hz"), "qdac", QdacModel, QdacConfig).digest
    with pytest.raises(ConfigError, match="hop_ms"):
        planned(["system=qtts_multihead", "data=x", "hop_ms=2"])
