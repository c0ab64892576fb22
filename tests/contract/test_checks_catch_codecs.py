"""The check of codecs itself: a sound one passes, and for every law there is a broken one that it catches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.api import Audio, Bitstream, CodecSpec, Codes, SystemInfo
from harness.testing import BrokenLaw, check_codec, speechlike


def overwritten(found: Any, field: str, where: Any, value: float) -> Any:
    """``found`` with an array that holds what its own checks would refuse: nobody else can write into it."""
    array = getattr(found, field).copy()
    array[where] = value
    object.__setattr__(found, field, array)
    return found


SPEC = CodecSpec(sample_rate=16000, hop_length=4, codebook_sizes=(16, 16, 16), causal=True, prefix_decodable=True)


class SoundCodec:
    """Means of four samples through a three-stage residual scalar quantizer; keeps every law."""

    info = SystemInfo(family="sound", version="1")
    spec = SPEC

    def encode(self, audio: Audio) -> Codes:
        if audio.sample_rate != self.spec.sample_rate:
            raise ValueError("wrong rate")
        frames = -(-audio.num_samples // 4)
        padded = np.zeros(frames * 4)
        padded[: audio.num_samples] = audio.samples[0]
        rest, rows = np.clip(padded.reshape(-1, 4).mean(axis=1), -1, 1), []
        for stage in range(3):
            step = 2.0 / 15 / 16**stage
            index = np.clip(np.round(rest / step) + 8, 0, 15)
            rest = rest - (index - 8) * step
            rows.append(index)
        return Codes(np.array(rows).reshape(3, -1), self.spec, audio.num_samples)

    def decode(self, encoded: Any) -> Audio:
        steps = 2.0 / 15 / 16.0 ** np.arange(encoded.num_codebooks)
        values = ((encoded.indices - 8) * steps[:, None]).sum(axis=0)
        return Audio.mono(np.repeat(values, 4)[: encoded.num_samples], self.spec.sample_rate)

    def encode_batch(self, audios: Sequence[Audio]) -> Sequence[Codes]:
        return [self.encode(a) for a in audios]

    def decode_batch(self, encoded: Sequence[Codes]) -> Sequence[Audio]:
        return [self.decode(e) for e in encoded]

    def decode_chunks(self, chunks: Iterable[Codes]) -> Iterator[Audio]:
        return map(self.decode, chunks)


class NoFamily(SoundCodec):
    info = SystemInfo(family="", version="1")


class LookaheadWithoutCausal(SoundCodec):
    spec = replace(SPEC, causal=False, lookahead=8)


class FractionalHop(SoundCodec):
    spec = replace(SPEC, hop_length=4.5)  # type: ignore[arg-type]


class NormalisesInPlace(SoundCodec):
    def encode(self, audio: Audio) -> Codes:
        audio.samples /= max(1e-9, float(np.abs(audio.samples).max(initial=0.0)))  # type: ignore[misc]
        return super().encode(audio)


class OtherSpec(SoundCodec):
    def encode(self, audio: Audio) -> Codes:
        return replace(super().encode(audio), spec=replace(SPEC, codebook_sizes=(16, 16, 32)))


class OutOfRange(SoundCodec):
    def encode(self, audio: Audio) -> Codes:
        return overwritten(super().encode(audio), "indices", np.s_[0, :1], 16)  # type: ignore[no-any-return]


class TooManyFrames(SoundCodec):
    def encode(self, audio: Audio) -> Codes:
        codes = super().encode(audio)
        return replace(codes, indices=np.pad(codes.indices, ((0, 0), (0, 9))))


class ForgetsLength(SoundCodec):
    def encode(self, audio: Audio) -> Codes:
        codes = super().encode(audio)
        return replace(codes, num_samples=codes.num_frames * 4 + 4)


class PacketsDespiteCodebooks(SoundCodec):
    def encode(self, audio: Audio) -> Any:
        return Bitstream((super().encode(audio).indices.tobytes(),), audio.num_samples, audio.sample_rate)


class WholeFramesOnly(SoundCodec):
    """Output padded to whole frames, the commonest of all."""

    def decode(self, encoded: Any) -> Audio:
        return super().decode(replace(encoded, num_samples=encoded.num_frames * 4 + 1))


class NotANumber(SoundCodec):
    def decode(self, encoded: Any) -> Audio:
        return overwritten(super().decode(encoded), "samples", np.s_[0, :1], np.nan)  # type: ignore[no-any-return]


class WrongOutputRate(SoundCodec):
    def decode(self, encoded: Any) -> Audio:
        return replace(super().decode(encoded), sample_rate=24000)


class RandomCodes(SoundCodec):
    rng = np.random.default_rng(0)

    def encode(self, audio: Audio) -> Codes:
        codes = super().encode(audio)
        return replace(codes, indices=np.clip(codes.indices + self.rng.integers(0, 2, codes.indices.shape), 0, 15))


class CarriesState(SoundCodec):
    """The last index of one utterance leaks into the next."""

    def __init__(self) -> None:
        self.last = 0

    def encode(self, audio: Audio) -> Codes:
        codes = super().encode(audio)
        if codes.num_frames:
            overwritten(codes, "indices", (2, 0), (codes.indices[2, 0] + self.last) % 16)
            self.last = int(codes.indices[2, -1])
        return codes


class NoisyDecoder(SoundCodec):
    rng = np.random.default_rng(0)

    def decode(self, encoded: Any) -> Audio:
        audio = super().decode(encoded)
        return Audio((audio.samples + self.rng.normal(0, 0.01, audio.samples.shape)).astype(np.float32), audio.sample_rate)


class KeepsTheGain(SoundCodec):
    """The level of the last encoded utterance stays in the object instead of in the codes."""

    gain = 1.0

    def encode(self, audio: Audio) -> Codes:
        self.gain = float(np.abs(audio.samples).max(initial=0.0)) or 1.0
        return super().encode(Audio(audio.samples / np.float32(self.gain), audio.sample_rate))

    def decode(self, encoded: Any) -> Audio:
        return Audio(super().decode(encoded).samples * np.float32(self.gain), self.spec.sample_rate)


class KeepsTheGainByContent(SoundCodec):
    """As before, but remembered per utterance: only a fresh instance shows it."""

    def __init__(self) -> None:
        self.gains: dict[str, float] = {}

    def encode(self, audio: Audio) -> Codes:
        gain = float(np.abs(audio.samples).max(initial=0.0)) or 1.0
        codes = super().encode(Audio(audio.samples / np.float32(gain), audio.sample_rate))
        self.gains[codes.digest()] = gain
        return codes

    def decode(self, encoded: Any) -> Audio:
        return Audio(super().decode(encoded).samples * np.float32(self.gains.get(encoded.digest(), 1.0)), self.spec.sample_rate)


class ChangesTheCodes(SoundCodec):
    def decode(self, encoded: Any) -> Audio:
        audio = super().decode(encoded)
        overwritten(encoded, "indices", np.s_[:, :1], 0)
        return audio


class RefusesEmpty(SoundCodec):
    def encode(self, audio: Audio) -> Codes:
        if audio.num_samples < 4:
            raise RuntimeError("Kernel size can't be greater than actual input size")
        return super().encode(audio)


class DividesByLevel(SoundCodec):
    def decode(self, encoded: Any) -> Audio:
        audio = super().decode(encoded)
        if not audio.samples.any() and audio.num_samples > 100:
            overwritten(audio, "samples", np.s_[:], np.nan)
        return audio


class TakesAnyRate(SoundCodec):
    def encode(self, audio: Audio) -> Codes:
        return super().encode(Audio(audio.samples, 16000))


class IgnoresPrefix(SoundCodec):
    def decode(self, encoded: Any) -> Audio:
        if encoded.num_codebooks < 3:
            raise IndexError("codebook 2")
        return super().decode(encoded)


class LooksAhead(SoundCodec):
    def encode(self, audio: Audio) -> Codes:
        return super().encode(Audio(audio.samples - audio.samples.mean() if audio.num_samples else audio.samples, audio.sample_rate))


class PadsTheBatch(SoundCodec):
    def encode_batch(self, audios: Sequence[Audio]) -> Sequence[Codes]:
        longest = max(a.num_samples for a in audios)
        return [self.encode(Audio(np.pad(a.samples, ((0, 0), (0, longest - a.num_samples))), a.sample_rate)) for a in audios]


class BatchLeaks(SoundCodec):
    def decode_batch(self, encoded: Sequence[Codes]) -> Sequence[Audio]:
        outputs = [self.decode(e) for e in encoded]
        return [outputs[0], *(Audio(o.samples * np.float32(1.01), o.sample_rate) for o in outputs[1:])]


class ChunksClick(SoundCodec):
    def decode_chunks(self, chunks: Iterable[Codes]) -> Iterator[Audio]:
        for chunk in chunks:
            samples = self.decode(chunk).samples.copy()
            samples[0, :1] = 0.0
            yield Audio(samples, 16000)


class ChunksWait(SoundCodec):
    def decode_chunks(self, chunks: Iterable[Codes]) -> Iterator[Audio]:
        yield from [self.decode(c) for c in list(chunks)]


class LateBy312(SoundCodec):
    spec = replace(SPEC, causal=True)

    def decode(self, encoded: Any) -> Audio:
        samples = super().decode(encoded).samples
        return Audio(np.pad(samples, ((0, 0), (312, 0)))[:, : samples.shape[1]], 16000)

    def decode_chunks(self, chunks: Iterable[Codes]) -> Iterator[Audio]:
        """The same delay, across chunks."""
        held = np.zeros((1, 312), dtype=np.float32)
        for chunk in chunks:
            held = np.concatenate([held, SoundCodec.decode(self, chunk).samples], axis=1)
            yield Audio(held[:, : chunk.num_samples], 16000)
            held = held[:, chunk.num_samples :]


def test_a_sound_codec_passes_every_law() -> None:
    report = check_codec(SoundCodec(), factory=SoundCodec)
    assert report.skipped == ()
    assert {"prefix", "causal", "batched", "chunked", "delay"} <= set(report.checked)


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (NoFamily, "declaration"),
        (LookaheadWithoutCausal, "declaration"),
        (FractionalHop, "declaration"),
        (NormalisesInPlace, "input untouched"),
        (OtherSpec, "codes"),
        (OutOfRange, "codes"),
        (TooManyFrames, "codes"),
        (ForgetsLength, "codes"),
        (PacketsDespiteCodebooks, "codes"),
        (WholeFramesOnly, "length"),
        (NotANumber, "length"),
        (WrongOutputRate, "length"),
        (RandomCodes, "determinism"),
        (CarriesState, "determinism"),
        (NoisyDecoder, "determinism"),
        (KeepsTheGain, "decode needs only the encoded"),
        (KeepsTheGainByContent, "decode needs only the encoded"),
        (ChangesTheCodes, "codes untouched"),
        (RefusesEmpty, "edge lengths"),
        (DividesByLevel, "silence"),
        (TakesAnyRate, "wrong sample rate"),
        (IgnoresPrefix, "prefix"),
        (LooksAhead, "causal"),
        (PadsTheBatch, "batched"),
        (BatchLeaks, "batched"),
        (ChunksClick, "chunked"),
        (ChunksWait, "chunked"),
        (LateBy312, "delay"),
    ],
)
def test_a_broken_codec_is_caught(broken: Callable[[], SoundCodec], law: str) -> None:
    with pytest.raises(BrokenLaw) as caught:
        check_codec(broken(), factory=broken)
    assert caught.value.law == law, str(caught.value)


def test_the_sentence_has_figures() -> None:
    with pytest.raises(AssertionError, match=r"WholeFramesOnly breaks the law 'length': \d+ samples went in, \d+ came out"):
        check_codec(WholeFramesOnly(), [speechlike(0.5, seed=1), Audio.mono(np.zeros(8001), 16000)])


def test_a_codec_check_says_what_it_skipped() -> None:
    class Plain:
        info, spec = SoundCodec.info, replace(SPEC, causal=False, prefix_decodable=False)

        def encode(self, audio: Audio) -> Codes:
            return replace(SoundCodec().encode(audio), spec=self.spec)

        decode = SoundCodec.decode

    skipped = dict(check_codec(Plain()).skipped)
    assert set(skipped) == {"prefix", "causal", "batched", "chunked", "decode in a fresh instance"}
    with pytest.raises(ValueError, match="16000 Hz"):
        check_codec(Plain(), [speechlike(0.5, 8000)])
