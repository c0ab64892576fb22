"""Synthesizers out of language model and codec: streams, codes, prompts, ends, and what cannot be asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from harness.api import Audio, Codes, MissingOutput, Utterance
from systems.qdac.adapter import QdacCodec
from systems.socodec.adapter import SocodecCodec
from systems.text.tokens import SymbolFrontEnd
from systems.tts.codecs import mono_at
from systems.tts.lm_tts import LmTts
from systems.tts.settings import Shape
from tests.stubs.tiny_synthesizers import HOP, PROMPTED, QDAC, SOCODEC, sound, tiny

# -- speaking


@pytest.mark.parametrize("kind", ["multihead", "hierarchical", "multi_stream"])
def test_streams_come_in_pieces_and_equal_the_whole(kind: str) -> None:
    synthesizer = tiny(kind, chunk_ms=40, temperature=1.0)
    speeches = [synthesizer.synthesize(PROMPTED, seed) for seed in range(6)]
    longest = max(range(6), key=lambda seed: speeches[seed].audio.num_samples)
    chunks = list(synthesizer.stream(PROMPTED, longest))
    whole = speeches[longest].audio
    assert len(chunks) > 3 and chunks[0].num_samples < whole.num_samples / 2
    assert np.allclose(np.concatenate([c.samples for c in chunks], axis=1), whole.samples, atol=1e-3, rtol=0)
    assert len(list(tiny(kind, chunk_ms=1000, temperature=1.0).stream(PROMPTED, longest))) < len(chunks)


@pytest.mark.parametrize("name", ["multihead", "hierarchical", "multi_stream"])
def test_codes_are_what_is_heard(name: str) -> None:
    """The codec's own adapter makes the same audio of them."""
    synthesizer = tiny(name)
    codec = SocodecCodec(weights="random", shape=SOCODEC) if name == "multi_stream" else QdacCodec(weights="random", shape=QDAC)
    speech = synthesizer.synthesize(PROMPTED, 3)
    assert isinstance(speech.codes, Codes) and speech.codes.spec == codec.spec and speech.codes.num_frames > 0
    assert np.allclose(codec.decode(speech.codes).samples, speech.audio.samples, atol=2e-6)
    assert speech.codes.side.keys() == ({"utterance"} if name == "multi_stream" else set())
    prompt = PROMPTED.prompt
    wanted = codec.decode(codec.encode(prompt)).samples
    assert np.allclose(synthesizer.resynthesize(prompt).samples, wanted, atol=2e-6)
    if name == "multi_stream":
        whole = prompt.samples[:, : prompt.num_samples // 1920 * 1920]
        assert np.allclose(speech.codes.side["utterance"], codec.encode(Audio(whole, 16000)).side["utterance"], atol=1e-5)


def test_a_runaway_is_cut_and_said_to_be_one() -> None:
    for synthesizer, most in ((tiny(max_s=0.2, temperature=1.0), 5), (tiny("multi_stream", max_s=0.6, temperature=1.0), 5)):
        found = [synthesizer.synthesize(PROMPTED, seed) for seed in range(12)]
        assert {s.stop_reason for s in found} == {"end", "length"}
        assert all((s.codes.num_frames == most) if s.stop_reason == "length" else (1 <= s.codes.num_frames <= most) for s in found)


def test_a_prompt_is_continued_after_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    synthesizer, codec = tiny(), QdacCodec(weights="random", shape=QDAC)
    asked = []
    engine = synthesizer._engine
    generate = engine.generate
    monkeypatch.setattr(engine, "generate", lambda requests, config: (asked.extend(requests), generate(requests, config))[1])
    synthesizer.synthesize(PROMPTED, 5)
    synthesizer.synthesize(replace(PROMPTED, prompt_text=" "), 5)
    synthesizer.synthesize(replace(PROMPTED, prompt=sound(0.03)), 5)
    synthesizer.synthesize(replace(PROMPTED, prompt=None), 5)
    followed, *others = asked
    assert followed.text == SymbolFrontEnd().encode("We sang. A red kite.", "en").ids and followed.seed == 5
    whole = Audio(PROMPTED.prompt.samples[:, : PROMPTED.prompt.num_samples // HOP * HOP], 16000)
    assert np.array_equal(followed.prompt.numpy(), codec.encode(whole).indices)
    # What is read already is the prompt's text and the space behind it; the target's own tokens follow.
    assert followed.text[followed.read :] == SymbolFrontEnd().encode("A red kite.", "en").ids[1:]
    # Without a transcript, a whole frame or a prompt at all there is nothing to continue.
    assert all(r.text == SymbolFrontEnd().encode("A red kite.", "en").ids and r.prompt is None and r.read == 0 for r in others)


@pytest.mark.parametrize("kind", ["multihead", "hierarchical", "multi_stream"])
def test_guidance_and_reading_reach_the_generation(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    synthesizer = tiny(kind, guidance_scale=2.5, reading_window=4)
    engine = synthesizer._engine
    generate = engine.generate
    monkeypatch.setattr(engine, "generate", lambda requests, config: (asked.append(config), generate(requests, config))[1])
    synthesizer.synthesize(PROMPTED, 1)
    assert [(config.guidance_scale, config.reading_window) for config in asked] == [(2.5, 4)]
    with pytest.raises(ValueError, match="guidance_scale is 1"):
        tiny(kind, guidance_scale=-1.0)
    with pytest.raises(ValueError, match="reading_window is 0"):
        tiny(kind, reading_window=-1)


def test_socodec_needs_a_voice_and_no_transcript() -> None:
    synthesizer = tiny("multi_stream")
    with pytest.raises(MissingOutput, match="takes its voice from a prompt"):
        synthesizer.synthesize(replace(PROMPTED, prompt=None), 0)
    with pytest.raises(MissingOutput, match="takes its voice from a prompt"):
        next(synthesizer.stream(replace(PROMPTED, prompt=None), 0))
    one, other = synthesizer.synthesize(PROMPTED, 0), synthesizer.synthesize(replace(PROMPTED, prompt_text=""), 0)
    assert one.audio.digest() == other.audio.digest()
    assert synthesizer.synthesize(replace(PROMPTED, prompt=sound(0.7, seed=1)), 0).audio.digest() != one.audio.digest()
    assert synthesizer.synthesize(replace(PROMPTED, prompt=sound(0.0)), 0).audio.num_samples > 0


def test_prompts_come_at_any_rate_and_in_stereo() -> None:
    stereo = sound(0.5, 48000, channels=2)
    assert mono_at(stereo, 16000).shape == (8000,) and mono_at(stereo, 48000).dtype == torch.float32
    assert np.array_equal(mono_at(stereo, 48000).numpy(), stereo.samples.mean(axis=0))
    for synthesizer in (tiny(), tiny("multi_stream")):
        assert synthesizer.synthesize(replace(PROMPTED, prompt=stereo), 0).audio.num_samples > 0
        assert synthesizer.resynthesize(stereo).num_samples == 8000


@pytest.mark.parametrize(("text", "language"), [("bonjour", "fr"), ("...", "en")])
def test_what_it_does_not_speak_is_a_missing_output(text: str, language: str) -> None:
    for synthesizer in (tiny(), tiny("multi_stream")):
        with pytest.raises(MissingOutput):
            synthesizer.synthesize(Utterance(text, language, sound(0.5)), 0)


def test_temperature_0_leaves_nothing_to_the_seed() -> None:
    for greedy in (tiny("hierarchical", temperature=0.0), tiny("multi_stream", temperature=0.0)):
        assert greedy.synthesize(PROMPTED, 0).audio.digest() == greedy.synthesize(PROMPTED, 1).audio.digest()
    assert tiny(temperature=1.0).synthesize(PROMPTED, 0).audio.digest() != tiny(temperature=1.0).synthesize(PROMPTED, 1).audio.digest()


def test_half_precision_is_the_language_models_alone() -> None:
    for synthesizer in (tiny(precision="bfloat16"), tiny("hierarchical", precision="bfloat16"), tiny("multi_stream", precision="bfloat16")):
        assert synthesizer.info.precision == "bfloat16"
        speech = synthesizer.synthesize(PROMPTED, 0)
        assert speech.audio.num_samples > 0 and np.isfinite(speech.audio.samples).all()


@pytest.mark.parametrize(
    ("kind", "words", "message"),
    [
        ("multihead", {"max_s": 0.0}, "max_s is positive"),
        ("multihead", {"precision": "float16"}, "precision is one of float32, bfloat16"),
        ("multihead", {"top_p": 0.0}, "top_p lies in"),
        ("multihead", {"top_q": 0.5}, "Generation has no top_q"),
        ("multihead", {"max_frames": 5}, "run.max_s says how long"),
        ("multihead", {"delay": 2}, "trained with delay=1, asked was delay=2"),
        ("multihead", {"shape": {"codec": replace(QDAC, codebook_size=8)}}, "codec and text have 3 of 8"),
        ("hierarchical", {"delay": 1}, "trained with delay=0, asked was delay=1"),
        ("multi_stream", {"max_s": 16.0}, "at most 15.0 s"),
        ("multi_stream", {"shape": {"size": "huge"}}, '"small" and "paper"'),
    ],
)
def test_impossible_parameters(kind: str, words: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(kind, **words)


def test_impossible_weights_and_kinds() -> None:
    with pytest.raises(ValueError, match='"trained" or "random"'):
        LmTts(weights="new")
    with pytest.raises(ValueError, match='go with weights="random"'):
        LmTts("socodec120_tts", "socodec120", shape=Shape(codec=SOCODEC))
    with pytest.raises(ValueError, match="multi_stream, multihead, hierarchical; got 'parallel'"):
        LmTts(weights="random", shape={"kind": "parallel"})


def test_a_setting_in_the_wrong_place_is_told_the_right_one() -> None:
    for name, place in (
        ("temperature", "generation"),
        ("prompt_share", "generation"),
        ("max_s", "run"),
        ("vocoder", "codec"),
        ("size", "shape"),
    ):
        with pytest.raises(TypeError, match=f"there is no {name}=; it is {place}.{name}="):
            LmTts.missing("socodec120_tts", **{name: 1})
    with pytest.raises(TypeError, match=r"there is no frame_ms=$"):
        LmTts.missing(frame_ms=120)
