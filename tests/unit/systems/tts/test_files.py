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
from harness.settings.registry import CONF_DIR, resolve
from harness.settings.systems import system_section
from harness.settings.training import build_recipe, planned, trainers
from systems.lm.config import LmConfig
from systems.lm.patterns import delayed
from systems.lm.recipe import LmRecipe
from systems.qdac.adapter import QdacCodec
from systems.qdac.recipe import QdacRecipe, QdacTraining
from systems.socodec.recipe import SocodecRecipe
from systems.speech_encoder.config import SpeechEncoderConfig
from systems.speech_encoder.recipe import SpeechEncoderRecipe, SpeechEncoderTraining
from systems.tts import variant
from systems.tts.qtts import Qtts
from systems.tts.socodec_tts import SocodecTts
from systems.tts.variant import LmVariant
from systems.vocoder.wave import WaveVocoder
from tests.stubs.tiny_synthesizers import BOOKS, HIERARCHICAL, MULTI, MULTIHEAD, PROMPTED, QDAC, SOCODEC, VOCODER

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


def test_a_file_that_knows_several_delays_serves_them_all(bundled: Path) -> None:
    path = _write(_recipe(bundled, replace(MULTIHEAD, delays=(1, 2, 0))), bundled / "qtts_multihead_small.safetensors")
    said = [_trained_qtts(bundled, "multihead", delay=delay, checkpoint=path).synthesize(PROMPTED, 0).codes for delay in (0, 1, 2)]
    assert len({codes.digest() for codes in said}) == 3
    with pytest.raises(ValueError, match="the delays 1, 2, 0, asked was delay=3"):
        _trained_qtts(bundled, "multihead", delay=3, checkpoint=path)


def test_a_delay_is_looked_for_in_its_own_file_and_then_in_the_systems(bundled: Path) -> None:
    def found(delay: int) -> str:
        path = LmVariant("qtts_multihead", delay=delay).path(None)
        assert path is not None and path.parent == bundled
        return path.name.removesuffix("_small.safetensors")

    shared = _write(_recipe(bundled, replace(MULTIHEAD, delays=(1, 2, 0))), bundled / "qtts_multihead_small.safetensors")
    assert [found(delay) for delay in range(4)] == ["qtts_multihead", "qtts_multihead", "qtts_multihead", "qtts_multihead_d3"]
    _write(_recipe(bundled, replace(MULTIHEAD, pattern=delayed(2))), bundled / "qtts_multihead_d2_small.safetensors")
    assert found(2) == "qtts_multihead_d2"
    for damaged in (b"no tensors", b""):
        shared.write_bytes(damaged)
        assert found(0) == "qtts_multihead_d0"
    shared.unlink()
    assert found(0) == "qtts_multihead_d0"


# -- variants


def _parameters(name: str) -> dict[str, object]:
    return system_section(name)


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
        "import sys; from harness.settings.registry import resolve\n"
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
