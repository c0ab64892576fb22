"""Bits and codebooks, counted from the tokens really emitted.

The corpus figures (entropy, use, perplexity) come from histograms over all items, not from a mean over items: a short utterance
cannot use a large codebook. Each item's evidence therefore carries its own tokens, sorted within each codebook and packed.

The entropy of few tokens is not that of their histogram: 1,000 tokens of a uniform codebook of 4,096 cannot show more than 10 bits of its
12. `harness.metrics.entropy.first_order_entropy` estimates what was not seen from what was seen once and twice, and where more than half of what a codebook
emits was never seen (`LEAST_COVERAGE`) there is no figure but "too few tokens". The share of entries used cannot be corrected so: it stands
beside the number of tokens counted.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.api import Better, Codes, Encoded, Evidence, MetricInfo, Need, NotApplicable, NotScorable, Sample, Scalar, Side
from harness.metrics.declaration import Measured, declared
from harness.metrics.entropy import Float64Array, figures_of

LEAST_COVERAGE = 0.5
"""Share of a codebook's emissions that has to fall on entries seen (Good and Turing: one minus the share of tokens seen once)."""

SHIFT_S = 0.001
"""By how much later a codec is given its input once more: less than a frame of any codec here (10 to 240 ms)."""

POOL_CELLS = 1 << 22
"""Resamples x codebook entries held at once while pooling: 32 MiB."""


def _encoded(sample: Sample) -> Encoded:
    if sample.encoded is None:
        raise NotApplicable("the system hands over neither tokens nor packets")
    return sample.encoded


def codes_of(sample: Sample) -> Codes:
    """The tokens of an output.

    Raises:
        NotApplicable: it has none.
    """
    encoded = _encoded(sample)
    if not isinstance(encoded, Codes):
        raise NotApplicable("packets have no codebooks")
    return encoded


def last_codebook(codes: Codes) -> Codes:
    """The last codebook alone: of a prefix ``codes.first(b)`` it is codebook b.

    Raises:
        NotApplicable: there is no codebook.
    """
    if not codes.num_codebooks:
        raise NotApplicable("the codec emits no token codes")
    return replace(codes, indices=codes.indices[-1:], spec=replace(codes.spec, codebook_sizes=codes.spec.codebook_sizes[-1:]))


def packed(values: npt.NDArray[Any], dtype: str) -> str:
    """An array as text for an item's evidence; `unpacked` with the same ``dtype`` gives it back, flat.

    Of letters, digits, - and _ only: a slash may begin what looks like a path, and paths of this machine are taken out of records.
    """
    return base64.urlsafe_b64encode(zlib.compress(values.astype(dtype).tobytes(), 6)).decode("ascii").rstrip("=")


def unpacked(text: str, dtype: str) -> npt.NDArray[Any]:
    """The flat array that `packed` made a text of, one of earlier days (with + and /) too."""
    plain = text.translate(str.maketrans("-_", "+/")).rstrip("=")
    return np.frombuffer(zlib.decompress(base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)), dtype=dtype)


def token_dtype(codebook_size: int) -> str:
    """The little-endian type that holds every index of a codebook."""
    return "<u2" if codebook_size <= 1 << 16 else "<u4"


def _seconds(sample: Sample) -> float:
    """Seconds of audio that the tokens or packets stand for.

    Raises:
        NotScorable: none.
    """
    encoded = _encoded(sample)
    sample_rate = encoded.spec.sample_rate if isinstance(encoded, Codes) else encoded.sample_rate
    if encoded.num_samples <= 0:
        empty_reference = sample.reference is not None and sample.reference.audio.num_samples == 0
        raise NotScorable(Side.REFERENCE if empty_reference else Side.OUTPUT, "no audio behind the codes")
    return encoded.num_samples / sample_rate


def _rate(name: str, need: Need, measure: Callable[[Sample], Evidence]) -> Callable[[], Measured]:
    ratio = {"params": {"ratio": "bits / audio seconds"}, "aggregation": "weighted mean"}
    return partial(Measured, partial(declared, name, need, unit="bit/s", bounds=(0.0, math.inf), **ratio), measure)


def _by_construction(sample: Sample) -> Evidence:
    spec = codes_of(sample).spec
    counts = {"frame_rate_hz": spec.frame_rate_hz, "codebooks": float(spec.num_codebooks)}
    return Evidence(spec.nominal_bps, weight=_seconds(sample), counts=counts)


def _sent(sample: Sample, bits: float) -> Evidence:
    seconds = _seconds(sample)
    return Evidence(bits / seconds, weight=seconds, counts={"bits": bits, "audio_s": seconds})


NominalBps = _rate("nominal_bps", Need.CODES, _by_construction)
"""The bit rate by construction."""
EmittedBps = _rate("emitted_bps", Need.ENCODED, lambda sample: _sent(sample, _encoded(sample).emitted_bits))
"""The bit rate of what was really sent: padded frames, packet headers and all."""
SideBps = _rate("side_bps", Need.ENCODED, lambda sample: _sent(sample, _encoded(sample).side_bits))
"""Side information that travels beside the tokens, such as an utterance embedding."""


@dataclass(frozen=True, eq=False)
class Usage:
    """Figures of R resamples, each ``[R, K]``; NaN where a resample holds no token. Of all items once: ``whole_...``, each ``[K]``."""

    tokens: Float64Array
    use: Float64Array
    entropy_bits: Float64Array
    coverage: Float64Array
    whole_tokens: Float64Array
    whole_coverage: Float64Array


@dataclass(frozen=True, eq=False)
class _Packed:
    """Unpacked evidence of one item: tokens ``[K, T]`` (sorted within each codebook), codebook sizes and frame rate."""

    tokens: npt.NDArray[np.int64]
    sizes: tuple[int, ...]
    frame_rate_hz: float


def pack(codes: Codes) -> dict[str, Scalar]:
    """Tokens as they are kept in an item's evidence, sorted within each codebook: histograms need no order, and it packs smaller."""
    steps = np.diff(np.sort(codes.indices, axis=1), axis=1, prepend=0)
    kind = token_dtype(max(codes.spec.codebook_sizes))
    return {
        "codes": packed(steps, kind),
        "codes_dtype": kind,
        "sizes": ",".join(str(v) for v in codes.spec.codebook_sizes),
        "frame_rate_hz": codes.spec.frame_rate_hz,
    }


def _unpack(evidence: Evidence) -> _Packed:
    detail: dict[str, Any] = dict(evidence.detail)
    try:
        sizes = tuple(int(v) for v in detail["sizes"].split(","))
        steps = unpacked(detail["codes"], detail["codes_dtype"])
    except KeyError as error:
        raise ValueError(f"evidence without packed codes: no {error} among {sorted(detail)}") from error
    return _Packed(np.cumsum(steps.reshape(len(sizes), -1).astype(np.int64), axis=1), sizes, float(detail["frame_rate_hz"]))


def usage(evidence: Sequence[Evidence], resamples: Float64Array) -> tuple[Usage, _Packed]:
    """Use and entropy of every codebook under each resample ``[R, n]``; with it one item, for sizes and frame rate.

    Items with the very same tokens (the seeds of a codec that draws nothing, a recording that is in the corpus twice) are one item that
    counts more often: they bring nothing new about what was not seen.
    """
    from scipy.sparse import csr_array

    if not evidence:
        raise ValueError("codebook figures need at least one item")
    apart: dict[Any, int] = {}
    items: list[_Packed] = []
    member = [apart.setdefault((e.detail.get("codes"), e.detail.get("sizes")), len(apart)) for e in evidence]
    for i, e in zip(member, evidence, strict=True):
        if i == len(items):
            items.append(_unpack(e))
    first = items[0]
    if any((i.sizes, i.frame_rate_hz) != (first.sizes, first.frame_rate_hz) for i in items):
        raise ValueError("items of different codebooks cannot be pooled: " + ", ".join(sorted({str(i.sizes) for i in items})))
    weights = np.asarray(resamples, dtype=np.float64)
    if weights.ndim != 2 or weights.shape[1] != len(member):
        raise ValueError(f"resamples must be [R, {len(member)}], got {weights.shape}")
    if len(items) < len(member):
        weights = weights @ csr_array((np.ones(len(member)), (np.arange(len(member)), member)))
    figures = np.zeros((4, weights.shape[0], len(first.sizes)))
    whole = np.zeros((2, len(first.sizes)))
    lengths = np.array([i.tokens.shape[1] for i in items])
    rows = np.repeat(np.arange(len(items)), lengths)
    for k, size in enumerate(first.sizes):
        entries, columns = np.unique(np.concatenate([i.tokens[k] for i in items]), return_inverse=True)
        counts = csr_array((np.ones(rows.size), (columns, rows)), shape=(entries.size, len(items)))  # duplicates are summed
        once_each = counts.sum(axis=1)
        with np.errstate(invalid="ignore"):
            whole[:, k] = once_each.sum(), 1 - np.count_nonzero(once_each == 1) / once_each.sum()
        step = max(1, POOL_CELLS // max(1, entries.size))
        for at in range(0, weights.shape[0], step):
            figures[:, at : at + step, k] = figures_of(counts, weights[at : at + step].T, size)
    return Usage(*figures, *whole), first


Figure = Callable[[Usage, float], Float64Array]
"""``(usage, frame_rate_hz) -> [R]``, one value a resample."""


@dataclass(frozen=True)
class CodebookMetric:
    """A figure of the codebooks of a corpus, from histograms over all its items."""

    name: str
    figure: Figure  # from the usage of each codebook to one value
    bounds: tuple[float, float]  # with unit and better: see `harness.api.MetricInfo`
    unit: str = ""
    better: Better = Better.NEITHER
    last: bool = False  # about the last codebook alone, which of the first b codebooks is what codebook b adds
    estimated: bool = True  # an estimate of what the codec emits, corrected for few tokens, and not a count of what it emitted here

    @property
    def info(self) -> MetricInfo:
        told: dict[str, Any] = {"aggregation": "pooled histogram", "unit": self.unit, "better": self.better, "bounds": self.bounds}
        if self.estimated:
            told |= {"version": "2", "params": {"entropy": "Chao, Wang and Jost 2013", "least_coverage": LEAST_COVERAGE}}
        return declared(self.name, Need.CODES, **told)

    def measure(self, sample: Sample) -> Evidence:
        """The item's own figure; the corpus's is `pool`."""
        codes = last_codebook(codes_of(sample)) if self.last else codes_of(sample)
        if codes.num_frames == 0:
            _seconds(sample)  # no audio: whose fault it is
            raise NotScorable(Side.OUTPUT, "no tokens")
        detail = sample.output.derive(("packed codes", codes.digest()), lambda: pack(codes))
        alone = Evidence(0.0, detail=detail)
        found, _ = usage([alone], np.ones((1, 1)))
        value = float(self.figure(found, codes.spec.frame_rate_hz)[0])
        counts = {"frames": float(codes.num_frames), "codebooks": float(codes.num_codebooks), "coverage": float(found.coverage.min())}
        return Evidence(value, counts=counts, detail=detail)

    def pool(self, evidence: Sequence[Evidence], resamples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The figure of the whole corpus under each resample ``[R, n]``: ``[R]``, NaN for a resample without tokens.

        Weights of 0 and 1 (leaving a cluster out) are the cheapest and the truest: see `harness.metrics.entropy.figures_of` for others.

        Raises:
            ValueError: too few tokens for an estimate, or evidence that cannot be pooled.
        """
        found, first = usage(evidence, resamples)
        if self.estimated:
            k = int(found.whole_coverage.argmin())
            if found.whole_coverage[k] < LEAST_COVERAGE:
                raise ValueError(
                    f"too few tokens: {found.whole_tokens[k]:,.0f} of a codebook of {first.sizes[k]:,} entries (codebook {k + 1}) "
                    f"cover an estimated {found.whole_coverage[k]:.0%} of what it emits, {LEAST_COVERAGE:.0%} are needed"
                )
        return self.figure(found, first.frame_rate_hz)


EntropyBps = partial(
    CodebookMetric, "entropy_bps", lambda u, frame_rate_hz: u.entropy_bits.sum(axis=1) * frame_rate_hz, (0.0, math.inf), "bit/s"
)
"""The rate that an ideal memoryless coder would need."""
CodebookUse = partial(CodebookMetric, "codebook_use", lambda u, _: u.use.mean(axis=1), (0.0, 1.0), better=Better.HIGHER, estimated=False)
"""A small corpus cannot fill a large codebook: read it beside the token count."""
CodebookPerplexity = partial(CodebookMetric, "codebook_perplexity", lambda u, _: np.exp2(u.entropy_bits).mean(axis=1), (1.0, math.inf))
"""How many entries a codebook uses in effect: 2 to its entropy."""
LastCodebookUse = partial(
    CodebookMetric, "last_codebook_use", lambda u, _: u.use[:, -1], (0.0, 1.0), better=Better.HIGHER, last=True, estimated=False
)
LastCodebookEntropy = partial(
    CodebookMetric, "last_codebook_entropy_bits", lambda u, _: u.entropy_bits[:, -1], (0.0, math.inf), "bits", last=True
)
"""In bits: at most log2 of the codebook's size."""


def _same(sample: Sample, which: str) -> Evidence:
    first, again = codes_of(sample), sample.encoded_again[which]
    frames = min(first.num_frames, again.num_frames)
    if not frames:
        _seconds(sample)  # no audio: whose fault it is
        raise NotScorable(Side.OUTPUT, "no tokens")
    same = (first.indices[:, :frames] == again.indices[:, :frames]).sum(axis=1)
    counts = {"same": float(same.sum()), "tokens": float(frames * same.size), "frames": float(frames)}
    per_codebook = {f"same_codebook_{k:02}": float(n / frames) for k, n in enumerate(same, start=1)}
    return Evidence(float(same.sum() / (frames * same.size)), weight=frames * same.size, counts={**counts, **per_codebook})


def _consistency(name: str, which: str, **params: Scalar) -> Callable[[], Measured]:
    told = {"aggregation": "weighted mean", "params": {"ratio": "same tokens / tokens", **params}}
    declare = partial(declared, name, Need.CODES, Need.ENCODED_AGAIN, better=Better.HIGHER, bounds=(0.0, 1.0), worst=0.0, **told)
    return partial(Measured, declare, partial(_same, which=which))


TokenConsistency = _consistency("token_consistency", "output")
"""Share of tokens that come out the same when the decoded output is encoded again (O'Reilly et al. 2024, Code Drift).

One is an idempotent codec: what a language model reads and what it would read of its own speech agree. All codebooks weigh the same; each
one's own share is in the counts as ``same_codebook_01`` and so on.

Traps: in a residual quantizer a codebook is about what those before it have left, so past the first difference the rest agree by chance;
chance itself is high where few entries are used (read it beside `codebook_use`), and one for a codec that always says the same. Long
frames and small codebooks make it easier. Side information is not compared.
"""
TokenConsistencyShift = _consistency("token_consistency_shift", "shifted", shift_ms=1000 * SHIFT_S)
"""Share of tokens that stay when the input comes 1 ms later, frame against frame (after Liu et al. 2024, who slice and perturb the input).

No listener hears 1 ms; the same speech should have the same tokens wherever frames begin.

Traps: as `TokenConsistency`; and 1 ms is a tenth of a frame of 10 ms, and a fortieth of one of 40 ms.
"""
