"""The baselines one by one: exact lengths and delays, counted bits, refusals, and what their YAML says."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.api import Audio, MissingOutput
from harness.data.audio import read_audio
from harness.metrics.waveform import estimate_lag
from harness.settings.config import compose
from harness.settings.registry import config_choices, resolve
from harness.testing import speechlike
from systems.classical.bounds import Noise, Passthrough, Resampled
from systems.classical.ffmpeg import FFmpegCodec
from systems.classical.narrowband import Codec2, Gsm
from systems.classical.recorded import RecordedFolder

needs_codec2 = pytest.mark.skipif(shutil.which("c2enc") is None, reason="Debian's codec2 is not installed")


def _middle_band(samples: Any, sample_rate: int) -> Any:
    from scipy.signal import butter, sosfiltfilt

    return sosfiltfilt(butter(4, [800, 2500], "bandpass", fs=sample_rate, output="sos"), samples)


FFMPEG = [
    ("opus", 6000), ("opus", 9000), ("opus", 16000), ("opus", 32000), ("opus", 64000), ("mp3", 24000), ("mp3", 32000), ("aac", 24000),
    ("amrnb", 4750), ("amrnb", 12200), ("g722", None), ("g723_1", None), ("g711", None),
]  # fmt: skip


@pytest.mark.parametrize(("codec", "bitrate_bps"), FFMPEG)
def test_the_delay_is_compensated_to_the_sample(codec: str, bitrate_bps: int | None) -> None:
    system = FFmpegCodec(codec, bitrate_bps)
    audio = speechlike(2.0, system.spec.sample_rate, seed=4)
    output = system.decode(system.encode(audio))
    pair = [_middle_band(a.samples[0], audio.sample_rate) for a in (audio, output)]
    found = estimate_lag(pair[0], pair[1], 2000)
    lag, match = found.lag_samples, found.correlation
    assert match > 0.5
    assert lag == system.spec.delay == 0


@pytest.mark.parametrize(("codec", "bitrate_bps"), FFMPEG)
def test_the_bit_rate_is_what_was_asked(codec: str, bitrate_bps: int | None) -> None:
    system = FFmpegCodec(codec, bitrate_bps, vbr=False)
    asked = bitrate_bps or {"g722": 64000, "g723_1": 6300, "g711": 64000}[codec]
    audio = speechlike(5.0, system.spec.sample_rate, seed=4)
    emitted_bps = system.encode(audio).emitted_bits / audio.duration_s
    assert emitted_bps == pytest.approx(asked, rel=0.04)  # whole bytes, and the frames that flush the delay


def test_variable_rate_follows_the_content() -> None:
    """Pauses are cheap: the same speech half silenced takes clearly fewer bits."""
    system, audio = FFmpegCodec("opus", 32000), speechlike(4.0, seed=4)
    pauses = Audio(audio.samples * (np.arange(audio.num_samples) // 8000 % 2), 16000)
    assert system.encode(pauses).emitted_bits < 0.85 * system.encode(audio).emitted_bits


def test_amr_sends_speech_bits_without_the_mode_byte() -> None:
    packets = FFmpegCodec("amrnb", 12200).encode(speechlike(1.0, 8000)).packets
    assert {len(p) for p in packets} == {31}  # 244 bits in whole bytes; the file format has 32
    with pytest.raises(ValueError, match="4750"):
        FFmpegCodec("amrnb", 12000)


def test_opus_settings_reach_the_encoder() -> None:
    audio = speechlike(2.0, seed=4)
    steady = {len(p) for p in FFmpegCodec("opus", 16000, vbr=False).encode(audio).packets}
    varying = {len(p) for p in FFmpegCodec("opus", 16000).encode(audio).packets}
    assert steady == {40}  # 16 kbps x 20 ms
    assert len(varying) > 3
    assert FFmpegCodec("opus", 16000, application="audio").encode(audio).digest() != FFmpegCodec("opus", 16000).encode(audio).digest()


def test_more_bits_mean_less_error() -> None:
    audio = speechlike(2.0, seed=4)

    def snr_db(bitrate_bps: int) -> float:
        system = FFmpegCodec("opus", bitrate_bps, application="audio")
        error = system.decode(system.encode(audio)).samples - audio.samples
        return float(10 * np.log10(np.sum(audio.samples**2) / np.sum(error**2)))

    assert snr_db(64000) > snr_db(24000) + 1 > snr_db(9000) + 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"codec": "speex"},
        {"codec": "opus", "bitrate_bps": 100},
        {"codec": "opus", "application": "music"},
        {"codec": "opus", "complexity": 11},
    ],
)
def test_ffmpeg_refuses_what_it_has_not(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"opus|Opus|speex"):
        FFmpegCodec(**wrong)


@pytest.mark.parametrize(
    "system", [Passthrough(), Noise(), Resampled(), FFmpegCodec("opus"), FFmpegCodec("g711"), Gsm()], ids=lambda s: s.info.family
)
def test_another_rate_or_two_channels_are_refused(system: Any) -> None:
    rate = system.spec.sample_rate
    with pytest.raises(ValueError, match="Hz"):
        system.encode(Audio.mono(np.zeros(100), rate + 1))
    with pytest.raises(ValueError, match="channel"):
        system.encode(Audio(np.zeros((2, 100), dtype=np.float32), rate))


def test_lost_packets_are_an_error_not_a_shorter_output() -> None:
    system = FFmpegCodec("g711")
    encoded = system.encode(speechlike(1.0, 8000))
    with pytest.raises(ValueError, match="were encoded"):
        system.decode(type(encoded)(encoded.packets[:-2], encoded.num_samples, encoded.sample_rate))


def test_passthrough_is_exact_even_for_nan() -> None:
    samples = np.array([0.1, np.nan, 3.0, -np.inf, 1e-30], dtype=np.float32)
    system = Passthrough()
    assert np.array_equal(system.decode(system.encode(Audio.mono(samples, 16000))).samples[0], samples, equal_nan=True)


def test_noise_keeps_the_level_and_nothing_else() -> None:
    system, audio = Noise(), speechlike(2.0, seed=4)
    encoded = system.encode(audio)
    output = system.decode(encoded).samples[0]
    assert sum(map(len, encoded.packets)) == 12
    assert np.sqrt(np.mean(output**2)) == pytest.approx(float(np.sqrt(np.mean(audio.samples**2))), rel=1e-4)
    assert abs(np.corrcoef(output, audio.samples[0])[0, 1]) < 0.03
    power = np.abs(np.fft.rfft(output)) ** 2
    assert power[: power.size // 2].mean() == pytest.approx(power[power.size // 2 :].mean(), rel=0.05)  # white
    assert Noise(seed=1).encode(audio).digest() != encoded.digest()
    assert not system.decode(system.encode(Audio.mono(np.zeros(50), 16000))).samples.any()


def test_resampling_removes_the_upper_half_only() -> None:
    system, seconds = Resampled(band_hz=8000), np.arange(16000) / 16000
    low, high = np.sin(2 * np.pi * 1000 * seconds) * 0.4, np.sin(2 * np.pi * 6000 * seconds) * 0.4
    output = system.decode(system.encode(Audio.mono(low + high, 16000))).samples[0]
    assert np.abs(output - low)[500:-500].max() < 1e-3
    with pytest.raises(ValueError, match="band_hz"):
        Resampled(band_hz=16000)


def test_gsm_packets() -> None:
    encoded = Gsm().encode(speechlike(1.0, 8000))
    assert [len(p) for p in encoded.packets] == [33] * 50
    assert all(p[0] >> 4 == 0xD for p in encoded.packets)  # the signature nibble


@needs_codec2
@pytest.mark.parametrize(
    ("mode", "bps"), [("3200", 3200), ("2400", 2400), ("1600", 1600), ("1400", 1400), ("1300", 1300), ("1200", 1200), ("700C", 700)]
)
def test_codec2_sends_its_own_bit_rate(mode: str, bps: int) -> None:
    system = Codec2(mode)
    audio = speechlike(8.0, 8000)
    assert system.encode(audio).emitted_bits / audio.duration_s == pytest.approx(bps, rel=0.011)  # the frame that flushes the delay


@needs_codec2
@pytest.mark.parametrize("mode", ["3200", "1300", "700C"])
def test_codec2_comes_in_time(mode: str) -> None:
    """The phases are made up, so that only levels can be compared: speech stands and falls where it did, within 5 ms."""
    audio = speechlike(6.0, 8000, seed=4)
    system = Codec2(mode)
    output = system.decode(system.encode(audio))
    level = [np.log10(np.convolve(a.samples[0].astype(np.float64) ** 2, np.hanning(160), "same") + 1e-4) for a in (audio, output)]
    found = estimate_lag(level[0], level[1], 400)
    lag, match = found.lag_samples, found.correlation
    assert match > 0.8
    assert abs(lag) <= 40


def test_codec2_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert "apt-get install codec2" in str(Codec2.missing())
    with pytest.raises(RuntimeError, match="apt-get"):
        Codec2()
    with pytest.raises(ValueError, match="700C"):
        Codec2("9000")


# --- recorded outputs ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    import soundfile

    root = tmp_path / "outputs"
    for place, rate in (("a.wav", 16000), ("en/b.flac", 24000), ("en/deep/c.wav", 8000), ("a[1].wav", 16000), ("x1.wav", 16000)):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / place, np.full(rate // 10, 0.25), rate)
    soundfile.write(tmp_path / "secret.wav", np.zeros(100), 16000)
    (root / "link.wav").symlink_to(tmp_path / "secret.wav")
    return root


def test_recorded_patterns(outputs: Path) -> None:
    assert read_audio(RecordedFolder(outputs).locate("a")).sample_rate == 16000
    assert read_audio(RecordedFolder(outputs, "en/{id}.flac").locate("b")).sample_rate == 24000
    assert read_audio(RecordedFolder(outputs, "**/{id}.*").locate("b")).sample_rate == 24000
    assert read_audio(RecordedFolder(outputs, "**/{id}.wav").locate("c")).sample_rate == 8000
    assert read_audio(RecordedFolder(outputs, "**/{id}.wav").locate("a")).sample_rate == 16000
    assert read_audio(RecordedFolder(outputs, "*/*/{id}.wav").locate("c")).sample_rate == 8000
    assert read_audio(RecordedFolder(outputs, "{id}1.*").locate("x")).sample_rate == 16000
    assert RecordedFolder(outputs).locate("a[1]").name == "a[1].wav"


@pytest.mark.parametrize("item", ["b", "c", "link", "../secret", "*", "?", "a[1", "en/b", "", "..", "a\x00", "{id}"])
def test_recorded_never_leaves_its_folder(outputs: Path, item: str) -> None:
    with pytest.raises(MissingOutput):
        RecordedFolder(outputs).locate(item)


def test_recorded_refuses_to_guess(outputs: Path) -> None:
    import soundfile

    soundfile.write(outputs / "en/a.wav", np.zeros(100), 16000)
    with pytest.raises(ValueError, match="2 outputs fit"):
        RecordedFolder(outputs, "**/{id}.wav").locate("a")
    for pattern in ("out.wav", "../{id}.wav", "/tmp/{id}.wav"):
        with pytest.raises(ValueError, match="pattern"):
            RecordedFolder(outputs, pattern)
    assert "systems.recorded.root" in str(RecordedFolder.missing())
    assert "does not exist" in str(RecordedFolder.missing(outputs / "nowhere"))


# --- configuration ------------------------------------------------------------------------------------------------------------------------


def test_every_variant_composes_into_its_constructor() -> None:
    names = list(config_choices("systems"))
    chosen = compose([f"systems=[{','.join(names)}]"])["systems"]
    mine = {
        name: config
        for name, config in chosen.items()
        if config["family"] in {"passthrough", "noise", "resampled", "ffmpeg", "gsm", "codec2", "recorded"}
    }
    assert {
        "passthrough",
        "noise",
        "resample8k",
        "opus6",
        "opus16",
        "mp3_32",
        "aac_24",
        "amrnb_12k2",
        "g722",
        "gsm",
        "codec2_700c",
        "recorded",
    } <= set(mine)
    for name, config in mine.items():
        assert "_target_" not in config
        parameters = {key: value for key, value in config.items() if key != "family"}
        kind = resolve("systems", config["family"])
        inspect.signature(kind).bind(**parameters)
        reason = kind.missing(**parameters)
        assert reason is None or isinstance(reason, str), name
    assert "systems.recorded.root" in resolve("systems", "recorded").missing(**{k: v for k, v in mine["recorded"].items() if k != "family"})
    assert all(config_choices("systems").values()), "every variant has a one-line description"
