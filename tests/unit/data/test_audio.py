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
from harness.data.audio import ChangedAudio, UnreadableAudio, flags, read_audio, read_recording, resample, write_audio
from harness.data.digests import file_digest


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


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        *((kind, "PCM_16") for kind in ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "NIST", "SVX", "SDS", "HTK")),
        *(("WAV", subtype) for subtype in ("PCM_24", "DOUBLE", "ULAW", "IMA_ADPCM", "MS_ADPCM")),
        ("AIFF", "FLOAT"),
        ("W64", "DOUBLE"),
        ("AU", "ULAW"),
        ("CAF", "ALAC_16"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", "MPEG_LAYER_III"),
        ("CAF", "ULAW"),
        ("NIST", "ULAW"),
    ],
)
@pytest.mark.cases(
    "A2", before="half of a cut AIFF, AU, W64, SPHERE or Ogg file read as a whole one", after="refused as truncated, as WAV and FLAC are"
)
def test_a_cut_file_of_any_kind_is_refused(tmp_path, kind, subtype):
    path = tmp_path / "a.bin"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 32000), 16000, format=kind, subtype=subtype)
    whole = read_audio(path).num_samples
    assert 32000 <= whole < 33000  # blocks of ADPCM are filled up
    data = path.read_bytes()
    for share in (0.97, 0.9, 0.5, 0.25):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(UnreadableAudio, match=r"truncated|not audio") as refused:
            read_audio(path)
        assert " object at 0x" not in str(refused.value)  # the same file is refused in the same words


@pytest.mark.parametrize("kind", ["VOC", "PVF", "IRCAM", "PAF", "AVR", "MAT5"])
def test_a_kind_whose_end_nobody_can_tell_is_refused(tmp_path, kind):
    soundfile.write(tmp_path / "a.bin", tone(), 16000, format=kind, subtype="PCM_16")
    with pytest.raises(UnreadableAudio, match=f"format {kind} is whole: convert it"):
        read_audio(tmp_path / "a.bin")


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "MP3", "WAV"])
def test_audio_and_digest_are_of_one_reading(tmp_path, kind):
    path = tmp_path / "a.bin"
    soundfile.write(path, tone(), 16000, format=kind)
    found = read_recording(path)
    expected, rate = soundfile.read(path, dtype="float32")
    assert (found.audio.sample_rate, found.channels, found.digest) == (rate, 1, file_digest(path))
    np.testing.assert_allclose(found.audio.samples[0], expected, rtol=0, atol=2e-7)  # mpg123 rounds as the size of a request has it
    assert read_recording(path, planned=found.digest).audio.digest() == found.audio.digest()


def test_a_file_is_opened_once(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", tone(), 16000)
    opened, real = [], os.open
    monkeypatch.setattr(os, "open", lambda *words, **more: opened.append(words[0]) or real(*words, **more))
    read_recording(tmp_path / "a.wav")
    assert opened == [tmp_path / "a.wav"]


@pytest.mark.cases(
    "A3",
    before="a recording replaced while a run goes on was stored under its old digest",
    after="refused: changed since the run was planned",
)
def test_a_file_that_is_not_what_was_planned_is_refused(tmp_path):
    path = tmp_path / "a.wav"
    missing = file_digest(path)
    soundfile.write(path, tone(), 16000)
    with pytest.raises(
        ChangedAudio, match=r"changed since the run was planned: it was missing and is of content \w{8}; run the same command again"
    ):
        read_recording(path, planned=missing)
    planned = file_digest(path)
    path.write_bytes(b"no audio at all")  # told as changed, whatever it is now
    with pytest.raises(ChangedAudio, match=f"changed since the run was planned: it was of content {planned[:8]} and is of content"):
        read_recording(path, planned=planned)
    path.unlink()
    with pytest.raises(ChangedAudio, match="missing: no such file; changed since the run was planned"):
        read_recording(path, planned=planned)
    with pytest.raises(UnreadableAudio, match="missing") as caught:
        read_recording(path, planned=missing)
    assert not isinstance(caught.value, ChangedAudio)


def test_a_pipe_behind_a_link_never_blocks_and_its_writer_hears_nothing(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "x.wav").symlink_to(tmp_path / "pipe")
    with pytest.raises(UnreadableAudio, match="not a file"):
        read_recording(tmp_path / "x.wav")
    assert file_digest(tmp_path / "x.wav").startswith("unreadable:")


def test_a_pipe_that_takes_a_files_place_while_it_is_opened_never_blocks(tmp_path, monkeypatch):
    path = tmp_path / "x.wav"
    soundfile.write(path, tone(), 16000)
    regular = path.stat()
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr("pathlib.Path.stat", lambda self, **_: regular)
    with pytest.raises(UnreadableAudio, match="not a file"):
        read_recording(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_says_so(tmp_path):
    soundfile.write(tmp_path / "x.wav", tone(), 16000)
    (tmp_path / "x.wav").chmod(0)
    with pytest.raises(UnreadableAudio, match="Permission denied"):
        read_recording(tmp_path / "x.wav")


def test_a_header_without_channels_is_no_audio(tmp_path):
    soundfile.write(tmp_path / "x.wav", tone(), 16000)
    data = bytearray((tmp_path / "x.wav").read_bytes())
    struct.pack_into("<H", data, 22, 0)
    (tmp_path / "x.wav").write_bytes(data)
    with pytest.raises(UnreadableAudio, match="not audio"):
        read_audio(tmp_path / "x.wav")


@pytest.mark.parametrize("value", [np.nan, 1e300])
def test_float64_beyond_float32_is_no_number(tmp_path, value):
    samples = tone().astype(np.float64)
    samples[7] = value
    soundfile.write(tmp_path / "x.wav", samples, 16000, subtype="DOUBLE")
    with pytest.raises(UnreadableAudio, match="1 of 16000 samples are NaN or Inf"):
        read_audio(tmp_path / "x.wav")


@pytest.mark.parametrize(
    ("peak", "said"),
    [
        (12345, "samples reach 12345 where full scale is 1: int16 values in a float file? Divide them by 32768"),
        (32768, "int16 values"),
        (100, "int8 values in a float file? Divide them by 128"),
        (2**31, "int32 values in a float file? Divide them by 2147483648"),
        (1e30, "nothing of audio is so loud"),
    ],
)
@pytest.mark.cases(
    "A13", before="int16 values in a float file: PESQ and SI-SDR ruined, blamed on the codec", after="invalid input, and what to divide by"
)
def test_integers_in_a_float_file_are_named(tmp_path, peak, said):
    samples = np.zeros(8000, np.float32)
    samples[5] = -peak
    soundfile.write(tmp_path / "x.wav", samples, 16000, subtype="FLOAT")
    with pytest.raises(UnreadableAudio) as caught:
        read_recording(tmp_path / "x.wav")
    assert said in caught.value.reason


def _speech(channels, weights):
    rng = np.random.default_rng(0)
    return np.outer(rng.normal(0, 0.05, 16000), weights).astype(np.float32) + 1e-6 * rng.normal(0, 1, (16000, channels)).astype(np.float32)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (
            [0, 0, 0, 0, 1, 0, 0, 0],
            "only channel 5 of 8 holds sound; give it as mono (of a dataset: dataset.channel=5 takes that one, counted from 1)",
        ),
        ([0, 1], "only channel 2 of 2 holds sound"),
        ([1, -1], "the 2 channels cancel in their average"),
        ([1, -0.9], "the 2 channels cancel"),
        ([1, -1, 1, -1], "the 4 channels cancel"),
    ],
)
@pytest.mark.cases(
    "A12",
    before="channels averaged silently: speech on one of eight 18 dB too quiet, anti-phase stereo silent",
    after="invalid input, naming the channel to take",
)
def test_channels_whose_average_is_not_what_they_say_are_refused(tmp_path, weights, said):
    soundfile.write(tmp_path / "x.wav", _speech(len(weights), weights), 16000, subtype="FLOAT")
    with pytest.raises(UnreadableAudio) as caught:
        read_recording(tmp_path / "x.wav")
    assert said in caught.value.reason
    for channel in range(1, len(weights) + 1):
        one = read_recording(tmp_path / "x.wav", channel)
        assert one.channels == len(weights)
        assert np.array_equal(one.audio.samples[0], soundfile.read(tmp_path / "x.wav", dtype="float32")[0][:, channel - 1])


@pytest.mark.parametrize("weights", [[1, 1], [1, 0.2], [1, 0.9, 1.1]])
def test_channels_that_agree_are_averaged_and_said(tmp_path, weights):
    soundfile.write(tmp_path / "x.wav", _speech(len(weights), weights), 16000, subtype="FLOAT")
    assert read_recording(tmp_path / "x.wav").flags == ("channels_averaged",)


def test_uncorrelated_and_silent_stereo_is_averaged(tmp_path):
    soundfile.write(tmp_path / "x.wav", np.random.default_rng(0).normal(0, 0.05, (16000, 2)), 16000)
    assert read_recording(tmp_path / "x.wav").flags == ("channels_averaged",)
    soundfile.write(tmp_path / "x.wav", np.zeros((16000, 2)), 16000)
    assert read_recording(tmp_path / "x.wav").flags == ("silent", "channels_averaged")


def test_a_channel_is_asked_of_files_that_have_several(tmp_path):
    soundfile.write(tmp_path / "mono.wav", tone(), 16000)
    assert read_recording(tmp_path / "mono.wav", 2).audio.digest() == read_recording(tmp_path / "mono.wav").audio.digest()
    soundfile.write(tmp_path / "stereo.wav", _speech(2, [1, 1]), 16000)
    with pytest.raises(UnreadableAudio, match=r"channel 3 is asked for \(dataset.channel\), the file has 2"):
        read_recording(tmp_path / "stereo.wav", 3)


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
    assert flags(Audio(samples, 16000)) == ("channels_averaged",)
    samples[1, 10] = 1.0
    assert flags(Audio(samples, 16000)) == ("clipped", "channels_averaged")


def test_over_full_scale_is_flagged_from_what_16_bits_cannot_hold():
    samples = tone(level=0.3)
    samples[5] = 1.0
    assert flags(Audio.mono(samples, 16000)) == ()
    samples[5] = -1.001
    assert flags(Audio.mono(samples, 16000)) == ("over_full_scale",)


def test_16_bit_full_scale_counts_as_clipped(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.clip(4 * tone(level=0.5), -1, 1), 16000, subtype="PCM_16")
    assert flags(read_audio(tmp_path / "a.wav")) == ("clipped",)


def test_a_chunk_of_negative_length_is_no_way_back(tmp_path):
    """The walk over a CAF file's chunks went before its first byte and ended with struct.error."""
    from harness.data.containers import missing_bytes

    soundfile.write(tmp_path / "a.caf", tone(), 16000, subtype="PCM_16")
    whole = (tmp_path / "a.caf").read_bytes()
    assert whole[8:12] == b"desc" and missing_bytes(whole) == ""
    assert missing_bytes(whole[:12] + struct.pack(">q", -(2**48)) + whole[20:]) == ""
