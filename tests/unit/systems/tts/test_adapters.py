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
from systems.tts.codec import mono_at
from systems.tts.qtts import Qtts
from systems.tts.socodec_tts import SocodecTts
from tests.stubs.tiny_synthesizers import BOOKS, HIERARCHICAL, HOP, MULTI, MULTIHEAD, PROMPTED, QDAC, SOCODEC, sound


def _qtts(kind: str = "multihead", **words: object) -> Qtts:
    config = HIERARCHICAL if kind == "hierarchical" else MULTIHEAD
    return Qtts(kind, weights="random", **{"config": config, "codec_config": QDAC, "max_s": 2.0, **words})


def _socodec(**words: object) -> SocodecTts:
    return SocodecTts(weights="random", **{"config": MULTI, "codec_config": SOCODEC, "max_s": 2.0, **words})


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


@pytest.mark.parametrize("build", [_qtts, lambda **w: _qtts("hierarchical", **w), _socodec], ids=["multihead", "hierarchical", "socodec"])
def test_guidance_and_reading_reach_the_generation(build, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    synthesizer = build(guidance_scale=2.5, reading_window=4)
    engine = synthesizer._synthesizer._engine
    generate = engine.generate
    monkeypatch.setattr(engine, "generate", lambda requests, config: (asked.append(config), generate(requests, config))[1])
    synthesizer.synthesize(PROMPTED, 1)
    assert [(config.guidance_scale, config.reading_window) for config in asked] == [(2.5, 4)]
    with pytest.raises(ValueError, match="guidance_scale is 1"):
        build(guidance_scale=-1.0)
    with pytest.raises(ValueError, match="reading_window is 0"):
        build(reading_window=-1)


def test_socodec_needs_a_voice_and_no_transcript() -> None:
    synthesizer = _socodec()
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
    for synthesizer in (_qtts(), _socodec()):
        assert synthesizer.synthesize(replace(PROMPTED, prompt=stereo), 0).audio.num_samples > 0
        assert synthesizer.resynthesize(stereo).num_samples == 8000


@pytest.mark.parametrize(("text", "language"), [("bonjour", "fr"), ("...", "en")])
def test_what_it_does_not_speak_is_a_missing_output(text: str, language: str) -> None:
    for synthesizer in (_qtts(), _socodec()):
        with pytest.raises(MissingOutput):
            synthesizer.synthesize(Utterance(text, language, sound(0.5)), 0)


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
