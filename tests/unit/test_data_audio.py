"""Reading, writing, resampling and flagging of audio."""

from __future__ import annotations

import os
import pickle
import struct
import time

import numpy as np
import pytest
import soundfile

from harness.api import Audio
from harness.data.audio import UnreadableAudio, flags, read_audio, resample, write_audio


def tone(hz=440.0, seconds=1.0, rate=16000, level=0.5):
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [
        (".wav", "PCM_16", 2**-15),
        (".wav", "PCM_24", 2**-23),
        (".wav", "PCM_32", 2**-24),
        (".wav", "FLOAT", 0.0),
        (".wav", "DOUBLE", 0.0),
        (".flac", "PCM_16", 2**-15),
        (".flac", "PCM_24", 2**-23),
        (".aiff", "PCM_24", 2**-23),
    ],
)
@pytest.mark.parametrize("rate", [8000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_format_keeps_rate_channels_and_samples(tmp_path, suffix, subtype, tolerance, rate, channels):
    samples = np.stack([tone(200.0 * (c + 1), 0.1, rate) for c in range(channels)])
    soundfile.write(tmp_path / f"a{suffix}", samples.T, rate, subtype=subtype)
    audio = read_audio(tmp_path / f"a{suffix}")
    assert audio.sample_rate == rate
    assert audio.samples.dtype == np.float32
    assert audio.samples.shape == samples.shape
    np.testing.assert_allclose(audio.samples, samples, rtol=0, atol=tolerance)


def _cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def _text(path):
    path.write_text("this is no sound at all\n" * 50)


def _noise(path):
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def _truncated_wav(path):
    soundfile.write(path, tone(seconds=5), 16000)
    _cut(path, 0.5)


def _truncated_flac(path):
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 80000), 16000, format="FLAC")
    _cut(path, 0.5)


def _corrupt_flac(path):
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 80000), 16000, format="FLAC")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 20000] = bytes(20000)
    path.write_bytes(data)


def _nan(path):
    samples = tone()
    samples[100] = np.nan
    soundfile.write(path, samples, 16000, subtype="FLOAT")


def _inf(path):
    samples = tone()
    samples[100:103] = np.inf
    soundfile.write(path, samples, 16000, subtype="FLOAT")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda p: None, "no such file"),
        (lambda p: p.mkdir(), "folder"),
        (os.mkfifo, "not a file"),
        (lambda p: p.write_bytes(b""), "0 bytes"),
        (_text, "not audio"),
        (_noise, "not audio"),
        (lambda p: soundfile.write(p, np.zeros(0), 16000), "0 samples"),
        (_truncated_wav, "truncated: the header declares 160000 bytes of samples, the file holds 79978"),
        (_truncated_flac, "truncated"),
        (_corrupt_flac, "corrupt|truncated"),
        (_nan, "1 of 16000 samples are NaN or Inf"),
        (_inf, "3 of 16000 samples are NaN or Inf"),
    ],
)
def test_unreadable_files_say_why(tmp_path, make, reason):
    path = tmp_path / "x.wav"
    make(path)
    with pytest.raises(UnreadableAudio, match=reason) as caught:
        read_audio(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.path == path


def test_a_name_that_soundfile_reads_as_headerless_is_refused(tmp_path):
    (tmp_path / "x.raw").write_bytes(b"abc" * 100)
    with pytest.raises(UnreadableAudio, match="not audio"):
        read_audio(tmp_path / "x.raw")


def test_a_name_of_one_dash_is_a_file_and_not_standard_input(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", tone(), 16000)
    (tmp_path / "a.wav").rename(tmp_path / "-")
    monkeypatch.chdir(tmp_path)
    assert read_audio("-").num_samples == 16000


def test_unreadable_audio_crosses_a_process_boundary():
    error = pickle.loads(pickle.dumps(UnreadableAudio("a.wav", "empty")))
    assert (str(error), error.reason) == ("a.wav: empty", "empty")


def test_wav_cut_by_less_than_one_frame_is_whole(tmp_path):
    """A missing half frame cannot have been a sample: only whole frames count."""
    soundfile.write(tmp_path / "a.wav", tone(), 16000)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    struct.pack_into("<I", data, 40, len(data) - 44 + 1)
    (tmp_path / "a.wav").write_bytes(data)
    assert read_audio(tmp_path / "a.wav").num_samples == 16000


@pytest.mark.parametrize("size", [0x7FFFF000, 0xFFFFFFFF])
def test_wav_from_a_pipe_promises_no_length(tmp_path, size):
    soundfile.write(tmp_path / "a.wav", tone(), 16000)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    struct.pack_into("<I", data, 40, size)
    (tmp_path / "a.wav").write_bytes(data)
    assert read_audio(tmp_path / "a.wav").num_samples == 16000


def test_rf64_truncation_is_seen(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(seconds=2), 16000, format="RF64", subtype="FLOAT")
    assert read_audio(tmp_path / "a.wav").num_samples == 32000
    _cut(tmp_path / "a.wav", 0.5)
    with pytest.raises(UnreadableAudio, match="truncated"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("shape", [(1, 1), (1, 4001), (2, 800), (1, 0)])
def test_written_audio_is_the_same_when_read(tmp_path, shape):
    audio = Audio(np.random.default_rng(0).normal(0, 2, shape).astype(np.float32), 22050)
    write_audio(tmp_path / "a.wav", audio)
    samples, rate = soundfile.read(tmp_path / "a.wav", dtype="float32", always_2d=True)
    assert rate == 22050
    assert np.array_equal(samples.T, audio.samples)
    if shape[1]:
        assert read_audio(tmp_path / "a.wav").digest() == audio.digest()
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]


def test_equal_audio_gives_equal_bytes_at_any_time_of_day(tmp_path):
    audio = Audio.mono(tone(), 16000)
    write_audio(tmp_path / "a.wav", audio)
    time.sleep(1.05)  # libsndfile's time stamps have a resolution of a second
    write_audio(tmp_path / "b.wav", audio)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write_audio(tmp_path / "a.wav", Audio.mono(tone(), 16000))
    before = (tmp_path / "a.wav").read_bytes()
    monkeypatch.setattr("pathlib.Path.replace", lambda self, target: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_audio(tmp_path / "a.wav", Audio.mono(np.zeros(5), 16000))
    assert (tmp_path / "a.wav").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]


RATES = [(16000, 24000), (24000, 16000), (44100, 16000), (16000, 44100), (22050, 16000), (48000, 8000), (16000, 8000), (8000, 48000)]


@pytest.mark.parametrize(("source", "target"), RATES)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 441, 12345, 16001])
def test_resampled_length_is_rounded_exactly(source, target, count):
    out = resample(np.ones(count, np.float32), source, target)
    assert out.shape == (round(count * target / source),)
    assert out.dtype == np.float32


@pytest.mark.parametrize(("source", "target"), RATES)
def test_resampling_keeps_a_sine_in_level_frequency_and_phase(source, target):
    out = resample(tone(997.0, 1.0, source), source, target)
    wanted = tone(997.0, 1.0, target)
    inner = slice(target // 10, -target // 10)  # the ends see the silence outside
    np.testing.assert_allclose(out[inner], wanted[inner], rtol=0, atol=1e-5)


def test_what_is_above_the_new_band_disappears():
    out = resample(tone(10000.0, 1.0, 48000), 48000, 16000)
    assert np.abs(out[1600:-1600]).max() < 1e-5


def test_resampling_there_and_back_is_nearly_the_identity():
    speech_band = sum(tone(f, 1.0, 16000, 0.1) for f in (150, 700, 1900, 3300, 6000))
    back = resample(resample(speech_band, 16000, 24000), 24000, 16000)
    np.testing.assert_allclose(back[1600:-1600], speech_band[1600:-1600], rtol=0, atol=1e-5)


def test_equal_rates_return_the_very_samples():
    samples = tone()
    assert resample(samples, 16000, 16000) is samples


def test_leading_axes_are_independent_signals():
    batch = np.random.default_rng(0).normal(0, 0.1, (2, 3, 4410)).astype(np.float32)
    out = resample(batch, 44100, 16000)
    assert out.shape == (2, 3, 1600)
    for i in range(2):
        for j in range(3):
            assert np.array_equal(out[i, j], resample(batch[i, j], 44100, 16000))


@pytest.mark.parametrize("rates", [(0, 16000), (16000, -1)])
def test_impossible_rates_are_refused(rates):
    with pytest.raises(ValueError, match="positive"):
        resample(tone(), *rates)


def test_flags_name_what_is_odd():
    speech = tone(level=0.3)
    clipped = np.clip(4 * speech, -1, 1)
    assert flags(Audio.mono(speech, 16000)) == ()
    assert flags(Audio.mono(speech + 0.02, 16000)) == ("dc",)
    assert flags(Audio.mono(clipped, 16000)) == ("clipped",)
    assert flags(Audio.mono(np.zeros(800), 16000)) == ("silent",)
    assert flags(Audio.mono(np.full(800, 0.5), 16000)) == ("dc", "silent")
    assert flags(Audio.mono(np.zeros(0), 16000)) == ("silent",)


def test_flags_need_more_than_a_hundredth_at_full_scale_and_look_at_each_channel():
    samples = np.zeros((2, 1000), np.float32)
    samples[:, ::2], samples[:, 1::2] = 0.1, -0.1
    samples[1, :5], samples[1, 5:10] = 1.0, -1.0
    assert flags(Audio(samples, 16000)) == ()
    samples[1, 10] = 1.0
    assert flags(Audio(samples, 16000)) == ("clipped",)


def test_16_bit_full_scale_counts_as_clipped(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.clip(4 * tone(level=0.5), -1, 1), 16000, subtype="PCM_16")
    assert flags(read_audio(tmp_path / "a.wav")) == ("clipped",)
