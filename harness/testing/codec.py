"""The laws of a codec, each from a real bug in a public one."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import numpy as np

from harness.api import Audio, BatchedCodec, Bitstream, ChunkedCodec, Codec, CodecSpec, Codes, Encoded
from harness.metrics.waveform import estimate_lag
from harness.testing.laws import ContractReport, Laws, expect, expect_alike, expect_audio, expect_info, expect_kind, silence, speechlike

Factory = Callable[[], Codec]


def check_codec(
    codec: Codec, audios: Sequence[Audio] | None = None, factory: Factory | None = None, tolerance: float = 1e-4
) -> ContractReport:
    """Check every law that applies to a codec.

    Args:
        codec: to check.
        audios: mono inputs at ``codec.spec.sample_rate``, at least two; by default three speech-like ones of 0.9 to 1.5 s.
        factory: makes an equal codec; with it, decoding in a fresh instance is checked.
        tolerance: largest difference between two waveforms that should be equal (chunked, batched, decoded again).

    Raises:
        BrokenLaw: a law is broken; which, and by how much.
    """
    laws = Laws(type(codec).__name__)
    with laws.law("declaration"):
        _declaration(codec)
    spec = codec.spec
    inputs = list(audios) if audios is not None else _inputs(spec)
    if len(inputs) < 2 or any(a.sample_rate != spec.sample_rate or a.num_channels != 1 for a in inputs):
        raise ValueError(f"check_codec needs at least two mono inputs at {spec.sample_rate} Hz")
    with laws.law("input untouched"):
        for audio in inputs:
            before = audio.digest()
            codec.encode(audio)
            expect(audio.digest() == before, f"encode changed its input of {audio.num_samples} samples")
    encoded = [codec.encode(audio) for audio in inputs]
    pairs = list(zip(inputs, encoded, strict=True))
    with laws.law("codes"):
        for audio, code in pairs:
            _codes(code, audio, spec)
    digests = [code.digest() for code in encoded]
    with laws.law("length"):
        for audio, code in pairs:
            expect_audio(codec.decode(code), spec.sample_rate, f"the output of {audio.num_samples} samples", audio.num_samples)
    with laws.law("codes untouched"):
        for code, digest in zip(encoded, digests, strict=True):
            expect(code.digest() == digest, "decode changed the codes it was given")
    with laws.law("determinism"):
        _determinism(codec, inputs, encoded, tolerance)
    with laws.law("decode needs only the encoded"):
        _self_contained(codec, inputs, encoded, factory, tolerance)
    if factory is None:
        laws.skip("decode in a fresh instance", "no factory was given")
    with laws.law("edge lengths"):
        for count in sorted({0, 1, 2, max(1, spec.hop_length - 1), spec.hop_length, spec.hop_length + 1, 3 * spec.hop_length + 7}):
            _edge(codec, Audio(inputs[0].samples[:, :count].copy(), spec.sample_rate))
    with laws.law("silence"):
        _edge(codec, silence(spec.sample_rate // 2 + 3, spec.sample_rate))
    with laws.law("wrong sample rate"):
        _wrong_rate(codec)
    _optional(laws, codec, inputs, encoded, tolerance)
    return laws.report()


def _optional(laws: Laws, codec: Codec, inputs: Sequence[Audio], encoded: Sequence[Encoded], tolerance: float) -> None:
    batched, chunked = isinstance(codec, BatchedCodec), isinstance(codec, ChunkedCodec)
    optional: Sequence[tuple[str, bool, str, Callable[[], None]]] = (
        ("prefix", codec.spec.prefix_decodable, "spec.prefix_decodable is false", lambda: _prefix(codec, encoded[0], tolerance)),
        ("causal", codec.spec.causal, "spec.causal is false", lambda: _causal(codec, inputs[0], tolerance)),
        ("batched", batched, "no encode_batch and decode_batch", lambda: _batched(cast(BatchedCodec, codec), inputs, tolerance)),
        ("chunked", chunked, "no decode_chunks", lambda: _chunked(cast(ChunkedCodec, codec), encoded[0], tolerance)),
    )
    for name, applies, why_not, check in optional:
        if applies:
            with laws.law(name):
                check()
        else:
            laws.skip(name, why_not)
    _delay(laws, codec, inputs[0], encoded[0])


def _inputs(spec: CodecSpec) -> list[Audio]:
    made = []
    for seed, duration_s in enumerate((1.2, 0.9, 1.5)):
        audio = speechlike(duration_s, spec.sample_rate, seed)
        # No whole number of frames: a codec that pads its output to frames is found at once.
        odd = audio.num_samples - (1 if audio.num_samples % spec.hop_length == 0 else 0)
        made.append(Audio(audio.samples[:, :odd], spec.sample_rate))
    return made


def _declaration(codec: Codec) -> None:
    expect(isinstance(codec, Codec), "a codec has info, spec, encode and decode")
    expect_info(codec)
    spec = expect_kind(codec.spec, CodecSpec, "spec")
    expect(codec.spec == spec, "spec should be the same at every look")
    expect(isinstance(spec.hop_length, int) and spec.hop_length > 0, f"hop_length should be a positive integer, got {spec.hop_length!r}")
    expect(spec.sample_rate > 0, f"sample_rate is {spec.sample_rate}")
    expect(all(v >= 2 for v in spec.codebook_sizes), f"a codebook needs two entries or more, got sizes {spec.codebook_sizes}")
    expect(spec.lookahead >= 0 and (spec.causal or spec.lookahead == 0), f"lookahead is {spec.lookahead} with causal {spec.causal}")
    expect(spec.codebook_sizes or not spec.prefix_decodable, "a codec without codebooks has no prefix to decode")


def _codes(encoded: object, audio: Audio, spec: CodecSpec) -> None:
    expect(isinstance(encoded, Codes | Bitstream), f"encode should return Codes or a Bitstream, got {type(encoded).__name__}")
    assert isinstance(encoded, Codes | Bitstream)
    expect(encoded.num_samples == audio.num_samples, f"num_samples is {encoded.num_samples} for an input of {audio.num_samples}")
    if isinstance(encoded, Bitstream):
        expect(not spec.codebook_sizes, f"spec has {len(spec.codebook_sizes)} codebooks but encode returned packets")
        expect(all(isinstance(p, bytes) for p in encoded.packets), "every packet should be bytes")
        return
    expect(encoded.spec == spec, f"the codes carry {encoded.spec}, the codec says {spec}")
    sizes = np.asarray(spec.codebook_sizes)[:, None]
    outside = int(((encoded.indices < 0) | (encoded.indices >= sizes)).sum())
    expect(outside == 0, f"{outside} of {encoded.indices.size} indices are out of range")
    # floor and one beyond ceil: a codec may drop or pad a partial frame, but the bit rate is counted from T.
    fewest, most = audio.num_samples // spec.hop_length, -(-audio.num_samples // spec.hop_length) + 1
    expect(
        fewest <= encoded.num_frames <= most,
        f"{encoded.num_frames} frames for {audio.num_samples} samples at hop_length {spec.hop_length}; expected {fewest} to {most}",
    )


def _determinism(codec: Codec, inputs: Sequence[Audio], encoded: Sequence[Encoded], tolerance: float) -> None:
    # In another order than before, so that a state left over from the previous utterance shows.
    for audio, first in reversed(list(zip(inputs, encoded, strict=True))):
        again = codec.encode(Audio(audio.samples.copy(), audio.sample_rate))
        expect(again.digest() == first.digest(), f"encoding the same {audio.num_samples} samples again gave {_unlike(first, again)}")
    once = [codec.decode(e) for e in encoded]
    for before, code in reversed(list(zip(once, encoded, strict=True))):
        expect_alike(before, codec.decode(code), tolerance, "decoding the same codes again")


def _unlike(first: Encoded, again: Encoded) -> str:
    if isinstance(first, Codes) and isinstance(again, Codes):
        if first.indices.shape != again.indices.shape:
            return f"codes of shape {again.indices.shape} instead of {first.indices.shape}"
        return f"{int((first.indices != again.indices).sum())} other indices of {first.indices.size} (or other side information)"
    if isinstance(first, Bitstream) and isinstance(again, Bitstream):
        if len(first.packets) != len(again.packets):
            return f"{len(again.packets)} packets instead of {len(first.packets)}"
        return f"{sum(a != b for a, b in zip(first.packets, again.packets, strict=True))} other packets of {len(first.packets)}"
    return f"{type(again).__name__} instead of {type(first).__name__}"


def _self_contained(codec: Codec, inputs: Sequence[Audio], encoded: Sequence[Encoded], factory: Factory | None, tolerance: float) -> None:
    for i, code in enumerate(encoded):
        expected = codec.decode(code)
        # Through pickle nothing but the bytes survives; another utterance is encoded first, so that a kept one is the wrong one.
        travelled: Encoded = pickle.loads(pickle.dumps(code))
        codec.encode(inputs[(i + 1) % len(inputs)])
        expect_alike(expected, codec.decode(travelled), tolerance, "what pickled codes give when decoded after another encode")
        if factory is not None:
            expect_alike(expected, factory().decode(travelled), tolerance, "what pickled codes give when decoded in a fresh instance")


def _edge(codec: Codec, audio: Audio) -> None:
    encoded = codec.encode(audio)
    expect(encoded.num_samples == audio.num_samples, f"num_samples is {encoded.num_samples} for an input of {audio.num_samples}")
    expect_audio(codec.decode(encoded), codec.spec.sample_rate, f"the output of {audio.num_samples} samples", audio.num_samples)


def _wrong_rate(codec: Codec) -> None:
    wrong = codec.spec.sample_rate + 8000
    try:
        codec.encode(speechlike(0.5, wrong, seed=9))
    except ValueError:
        return
    expect(False, f"audio at {wrong} Hz was taken without a ValueError by a codec of {codec.spec.sample_rate} Hz")


def _prefix(codec: Codec, encoded: Encoded, tolerance: float) -> None:
    encoded = expect_kind(encoded, Codes, "what a codec that decodes prefixes encodes")
    for b in range(1, encoded.num_codebooks + 1):
        output = expect_audio(codec.decode(encoded.first(b)), codec.spec.sample_rate, f"the output of {b} codebooks", encoded.num_samples)
    expect_alike(codec.decode(encoded), output, tolerance, f"first({encoded.num_codebooks}), which is everything,")


def _causal(codec: Codec, audio: Audio, tolerance: float) -> None:
    spec = codec.spec
    rng = np.random.default_rng(5)
    frames = max(1, audio.num_samples // spec.hop_length // 2)
    end = frames * spec.hop_length
    changed = audio.samples.copy()
    tail = changed[:, end + spec.lookahead :]
    expect(tail.shape[1] > 0, f"lookahead {spec.lookahead} leaves nothing of {audio.num_samples} samples to change; give longer audios")
    tail[:] = rng.normal(0.0, 0.1, tail.shape)
    one, other = codec.encode(audio), codec.encode(Audio(changed, audio.sample_rate))
    if isinstance(one, Codes) and isinstance(other, Codes):
        moved = int((one.indices[:, :frames] != other.indices[:, :frames]).sum())
        expect(
            moved == 0, f"{moved} indices of the first {frames} frames changed with samples after their end plus lookahead {spec.lookahead}"
        )
    heard = np.abs(codec.decode(one).samples[:, :end] - codec.decode(other).samples[:, :end])
    worst = float(heard.max(initial=0.0))
    expect(
        worst <= tolerance,
        f"output before sample {end} changed by {worst:.3g} (first at {int(np.argmax(heard[0] > tolerance))}) when only the input from "
        f"{end + spec.lookahead} on did",
    )


def _batched(codec: BatchedCodec, inputs: Sequence[Audio], tolerance: float) -> None:
    together = codec.encode_batch(inputs)
    expect(len(together) == len(inputs), f"a batch of {len(inputs)} gave {len(together)} results")
    alone = [codec.encode(audio) for audio in inputs]
    for i, (one, many) in enumerate(zip(alone, together, strict=True)):
        expect(one.digest() == many.digest(), f"item {i} of the batch: {_unlike(one, many)} compared with encoding it alone")
    outputs = codec.decode_batch(alone)
    expect(len(outputs) == len(inputs), f"a batch of {len(inputs)} codes gave {len(outputs)} outputs")
    for i, (one, output) in enumerate(zip(alone, outputs, strict=True)):
        expect_alike(codec.decode(one), output, tolerance, f"item {i} decoded in a batch and not alone")


def _chunked(codec: ChunkedCodec, encoded: Encoded, tolerance: float) -> None:
    encoded = expect_kind(encoded, Codes, "what a codec that decodes chunks encodes")
    whole = codec.decode(encoded)
    for size in (1, 3, max(1, encoded.num_frames // 2), encoded.num_frames):
        taken: list[int] = []
        parts, first_after = [], -1
        for part in codec.decode_chunks(_chunks(encoded, size, taken)):
            parts.append(expect_audio(part, codec.spec.sample_rate, "a chunk of output").samples)
            if first_after < 0 and part.num_samples:
                first_after = len(taken)
        joined = Audio(np.concatenate(parts, axis=1), codec.spec.sample_rate)
        expect_audio(joined, codec.spec.sample_rate, f"what chunks of {size} frames give", whole.num_samples)
        expect_alike(whole, joined, tolerance, f"what chunks of {size} frames give")
        total = -(-encoded.num_frames // size)
        if codec.spec.causal and size == 1 and total > 2 + codec.spec.lookahead // codec.spec.hop_length:
            expect(first_after < total, f"the first audio came only after all {total} chunks had been taken")


def _chunks(codes: Codes, size: int, taken: list[int]) -> Iterator[Codes]:
    hop, left = codes.spec.hop_length, codes.num_samples
    for start in range(0, codes.num_frames, size):
        indices = codes.indices[:, start : start + size]
        last = start + size >= codes.num_frames
        count = left if last else min(left, indices.shape[1] * hop)
        left -= count
        taken.append(start)
        yield Codes(indices, codes.spec, count, codes.side)


def _delay(laws: Laws, codec: Codec, audio: Audio, encoded: Encoded) -> None:
    output = codec.decode(encoded)
    found = estimate_lag(audio.samples[0], output.samples[0], codec.spec.sample_rate // 10)
    lag, match = found.lag_samples, found.correlation
    if match < 0.8:
        laws.skip("delay", f"the output's waveform does not follow the input's (best correlation {match:.2f}), so no lag can be read off")
        return
    with laws.law("delay"):
        # Half a millisecond: phase distortion (a high-pass filter, say) moves the peak of waveform correlation without being a delay.
        slack = max(1, codec.spec.sample_rate // 2000)
        expect(
            abs(lag - codec.spec.delay) <= slack,
            f"the output lags by {lag} samples (correlation {match:.2f}), spec.delay says {codec.spec.delay}",
        )
