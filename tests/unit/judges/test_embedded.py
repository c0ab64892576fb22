"""The judges whose weights come with their wheels: PocketSphinx, the closed vocabulary, Resemblyzer, DNSMOS."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

import harness
from harness.api import FloatArray, MosPredictor, Recogniser, SpeakerEncoder
from harness.errors import ConfigError, MissingDependency, UnknownName
from harness.judges import FAMILIES, NoSpeechError, build, missing
from harness.judges.opinions.dnsmos import DnsMos
from harness.judges.pocketsphinx import ClosedVocabulary, PocketSphinx
from harness.judges.presets import Unit
from harness.judges.speakers import Resemblyzer
from harness.metrics.text import ClosedRecogniser, align

EMBEDDED = Path(harness.__file__).parent / "data" / "embedded"
VERSA = Path(__file__).resolve().parents[3] / "../shared/data/metric_vectors/versa/test2_gen.wav"
SENTENCES = (
    "the old lighthouse keeper climbed the stairs before the storm arrived",
    "please close the window because the wind is getting cold",
    "the engineer measured the width of the river with a long rope",
)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Mapping[tuple[str, int], FloatArray]:
    """Sentences by (voice, index), mono at 16 kHz."""
    if shutil.which("flite") is None:
        pytest.skip("needs Debian's flite for test speech")
    folder = tmp_path_factory.mktemp("flite")
    clips = {}
    for voice in ("slt", "rms"):
        for index, text in enumerate(SENTENCES):
            path = folder / f"{voice}{index}.wav"
            subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(path)], check=True)
            samples, rate = soundfile.read(path, dtype="float32")
            assert rate == 16000
            clips[voice, index] = samples
    return clips


@pytest.fixture(scope="module")
def sphinx() -> PocketSphinx:
    return PocketSphinx()


@pytest.fixture(scope="module")
def closed() -> ClosedVocabulary:
    return ClosedVocabulary([*SENTENCES, "zau the makan is not in any dictionary"])


def with_noise(samples: FloatArray, snr_db: float) -> FloatArray:
    noise = np.random.default_rng(0).standard_normal(len(samples)) * np.sqrt(np.mean(samples**2) / 10 ** (snr_db / 10))
    return (samples + noise).astype(np.float32)


def rate(text: str, heard: str) -> float:
    return align(text, heard, Unit.WORD, "en").rate


def test_sphinx_hears_clean_speech(sphinx: PocketSphinx, speech: Mapping[tuple[str, int], FloatArray]) -> None:
    assert isinstance(sphinx, Recogniser)
    rates = [rate(SENTENCES[index], sphinx.transcribe(samples, "en")) for (_, index), samples in speech.items()]
    assert np.mean(rates) < 0.25
    assert rate(SENTENCES[0], sphinx.transcribe(with_noise(speech["slt", 0], 0), "en")) > 0.5


def test_sphinx_transcripts_do_not_depend_on_order(sphinx: PocketSphinx, speech: Mapping[tuple[str, int], FloatArray]) -> None:
    """Of speech in noise, where a little decides what is heard: after a clean recording and after other noise."""
    clip = with_noise(speech["rms", 1], 10)
    heard = set()
    for before in (speech["slt", 0], with_noise(speech["slt", 2], 10)):
        sphinx.transcribe(before, "en")
        heard.add(sphinx.transcribe(clip, "en"))
    assert len(heard) == 1


def test_sphinx_edge_cases(sphinx: PocketSphinx) -> None:
    for samples in (np.zeros(0), np.zeros(16000), np.full(1, 1e-9)):
        assert sphinx.transcribe(samples.astype(np.float32), "en") == ""
    assert isinstance(sphinx.transcribe(np.full(50, 2.0, np.float32), "en"), str)
    with pytest.raises(ValueError, match="English"):
        sphinx.transcribe(np.zeros(10, np.float32), "zh")
    with pytest.raises(ValueError, match="finite"):
        sphinx.transcribe(np.full(16000, np.nan, np.float32), "en")


def test_sphinx_settings_are_part_of_its_identity(sphinx: PocketSphinx) -> None:
    other = PocketSphinx(max_active_hmms=500)
    assert other.info.model != sphinx.info.model
    assert other.info.digest == sphinx.info.digest
    assert len(sphinx.info.digest) == 32


def test_closed_vocabulary_hears_its_own_sentences(closed: ClosedVocabulary, speech: Mapping[tuple[str, int], FloatArray]) -> None:
    assert isinstance(closed, ClosedRecogniser)
    for (_, index), samples in speech.items():
        assert rate(SENTENCES[index], closed.transcribe(samples, "en")) < 0.1
    clean = closed.transcribe(speech["slt", 0], "en")
    assert rate(SENTENCES[0], closed.transcribe(with_noise(speech["slt", 0], 0), "en")) > rate(SENTENCES[0], clean)


def test_closed_vocabulary_leaves_out_what_it_cannot_pronounce(closed: ClosedVocabulary) -> None:
    assert closed.left_out == 1
    assert "of 3 texts (1 left out)" in closed.info.model
    assert closed.out_of_vocabulary("Zau, the MAKAN 50!") == ("zau", "makan", "50")
    assert closed.out_of_vocabulary(SENTENCES[0].title() + ".") == ()
    with pytest.raises(MissingDependency, match="of 1 distinct texts there is none"):
        ClosedVocabulary(["zau makan"])
    with pytest.raises(MissingDependency, match="of 0 distinct texts"):
        ClosedVocabulary([])


def test_closed_vocabulary_digest_covers_the_texts_not_their_order(closed: ClosedVocabulary) -> None:
    texts = [SENTENCES[1], "zau the makan is not in any dictionary", SENTENCES[2].upper() + "!", SENTENCES[0], SENTENCES[0]]
    assert ClosedVocabulary(texts).info == closed.info
    assert ClosedVocabulary(SENTENCES[:2]).info.digest != closed.info.digest


def test_resemblyzer_tells_voices_apart(speech: Mapping[tuple[str, int], FloatArray]) -> None:
    encoder = Resemblyzer()
    assert isinstance(encoder, SpeakerEncoder)
    vectors = {key: encoder.embed(samples) for key, samples in speech.items()}
    assert all(v.shape == (256,) and np.linalg.norm(v) == pytest.approx(1) for v in vectors.values())
    same = [vectors[voice, 0] @ vectors[voice, i] for voice in ("slt", "rms") for i in (1, 2)]
    different = [vectors["slt", i] @ vectors["rms", j] for i in range(3) for j in range(3)]
    assert min(same) > max(different)
    assert np.array_equal(encoder.embed(speech["slt", 0]), vectors["slt", 0])
    with pytest.raises(NoSpeechError):
        encoder.embed(np.zeros(16000, np.float32))


def test_resemblyzer_does_not_change_its_input(speech: Mapping[tuple[str, int], FloatArray]) -> None:
    samples = speech["slt", 0] * 0.01  # quiet enough for its level normalisation to act
    before = samples.copy()
    Resemblyzer().embed(samples)
    assert np.array_equal(samples, before)


@pytest.mark.skipif(not VERSA.is_file(), reason="measured data (shared/data) is not beside the checkout")
def test_dnsmos_agrees_with_versa() -> None:
    samples, sample_rate = soundfile.read(VERSA, dtype="float32")
    assert sample_rate == 16000
    scores = DnsMos(keep_offset=True).predict(samples)  # the recording has a mean of .5
    assert scores["overall"] == pytest.approx(1.4526055142443377, abs=1e-4)
    assert scores["p808"] == pytest.approx(2.09430193901062, abs=1e-4)


def test_dnsmos(speech: Mapping[tuple[str, int], FloatArray]) -> None:
    predictor = DnsMos()
    assert isinstance(predictor, MosPredictor)
    clean = speech["slt", 0]
    scores = predictor.predict(clean)
    assert tuple(scores) == DnsMos.scores
    assert predictor.predict(clean) == scores
    assert scores["overall"] > predictor.predict(np.clip(with_noise(clean, 5), -1, 1))["overall"] + 0.3
    for bad in (clean * 100, np.zeros(0, np.float32), np.full(16000, np.nan, np.float32)):
        with pytest.raises(ValueError, match=r"within \+-1"):
            predictor.predict(bad)


def test_dnsmos_says_what_the_package_says_and_computes_what_is_asked_for() -> None:
    from speechmos.dnsmos import DNSMOS

    from harness.judges.checkpoints import packaged

    published = DNSMOS(*(str(packaged("speechmos", "dnsmos_models") / name) for name in ("sig_bak_ovr.onnx", "model_v8.onnx")))
    predictor = DnsMos(keep_offset=True)
    names = {"overall": "ovrl_mos", "signal": "sig_mos", "background": "bak_mos", "p808": "p808_mos"}
    clips = [soundfile.read(EMBEDDED / voice / "01.flac", dtype="float32")[0] for voice in ("flite-slt", "espeak-en-us")]
    # Several windows, also of what is shorter than a frame, and one.
    for samples in (*clips, clips[0][:100], np.tile(clips[1], 5)[:144_160]):
        expected = published(samples, 16000, False)
        assert dict(predictor.predict(samples)) == pytest.approx({ours: float(expected[name]) for ours, name in names.items()}, abs=5e-6)

    def refused(samples: FloatArray) -> float:
        raise AssertionError("nobody asked for P.808")

    predictor.p808 = refused  # type: ignore[method-assign]
    scores = predictor.predict(clips[0])
    assert scores["overall"] > 1 and "p808" in scores and "loudness" not in scores
    with pytest.raises(AssertionError, match="nobody asked"):
        scores["p808"]


def test_dnsmos_takes_the_windows_that_the_package_takes() -> None:
    """Of long audio it passes over some, which the rounding of a product leaves a sample short."""
    from speechmos.dnsmos import DNSMOS

    class Recorder:
        def run(self, _: None, feeds: Mapping[str, FloatArray]) -> list[FloatArray]:
            begun.append(round(float(feeds["input_1"].flat[0]) * 2**22))
            return [np.zeros((1, 3), np.float32)]

    begun: list[int] = []
    package = DNSMOS.__new__(DNSMOS)
    package.onnx_sess = Recorder()
    package.p808_onnx_sess = SimpleNamespace(run=lambda *_: [np.zeros((1, 1))])
    package.audio_melspec = lambda audio: np.zeros((1, 1))
    predictor, passed_over = DnsMos(), 0
    for seconds in (0.7, 3.0, 9.005, 9.01, 10.0, 10.01, 11.0, 11.01, 30.0, 100.02):
        numbered = np.arange(round(seconds * 16000), dtype=np.float32) / 2**22  # so that the first says which it is
        begun.clear()
        package(numbered, 16000, False)
        samples, windows = predictor.windows(numbered)
        assert [round(float(samples[at * 16000]) * 2**22) for at in windows] == begun, seconds
        passed_over += windows[-1] + 1 - len(windows)
    assert passed_over > 0


def test_windows_taken_together_are_those_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.judges.opinions import p835

    monkeypatch.setattr(p835, "GROUP", 4)
    predictor = DnsMos()
    samples, _ = predictor.windows(np.random.default_rng(0).standard_normal(15 * 16000).astype(np.float32) * np.float32(0.05))
    windows = [0, 1, 2, 4, 5]  # as where one was passed over
    together = predictor._p835(samples, windows)
    assert together.shape == (5, 3)
    for found, at in zip(together, windows, strict=True):
        assert found == pytest.approx(predictor._p835(samples, [at])[0], abs=3e-6)


def test_an_offset_that_nobody_hears_changes_nothing() -> None:
    samples = soundfile.read(EMBEDDED / "flite-slt" / "01.flac", dtype="float32")[0] * np.float32(0.9)
    shifted = samples + np.float32(0.02)
    assert DnsMos().predict(shifted) == pytest.approx(DnsMos().predict(samples), abs=1e-3)
    encoder = Resemblyzer()
    assert encoder.embed(shifted) @ encoder.embed(samples) == pytest.approx(1, abs=1e-6)
    assert DnsMos(keep_offset=True).info.model == "P.835 sig_bak_ovr, P.808 model_v8" != DnsMos().info.model


def test_every_family_resolves_and_says_what_it_lacks() -> None:
    for kind, families in FAMILIES.items():
        for family in families:
            reason = missing(kind, {"family": family})
            assert reason is None or len(reason) > 20
    for kind, family in (("asr", "pocketsphinx"), ("speaker", "resemblyzer"), ("mos", "dnsmos")):
        assert missing(kind, {"family": family}) is None


def test_factory_refuses_what_does_not_exist() -> None:
    with pytest.raises(UnknownName, match="Did you mean resemblyzer"):
        build("speaker", {"family": "resemblizer"})
    with pytest.raises(UnknownName, match="mos, speaker"):
        build("vad", {"family": "silero"})
    with pytest.raises(ConfigError, match="got \\['threads'\\]"):
        build("mos", {"family": "dnsmos", "threads": 3})
    with pytest.raises(MissingDependency, match="faster-whisper"):
        build("asr", {"family": "faster_whisper"})
