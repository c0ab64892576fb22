"""PESQ, STOI and ViSQOL: the libraries' numbers, behind guards against the inputs on which those libraries answer nonsense."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.api import Better, Evidence, FloatArray, NotScorable, Sample, Scalar, Side, Signal
from harness.api.libraries import library
from harness.metrics.alignment import LENGTH_POLICY, POLICY, SILENT_PEAK, aligned_pair, unaligned_pair
from harness.metrics.declaration import on_arrays

SAMPLE_RATE_HZ = 16000

PESQ_SHORTEST_S = 0.25
PESQ_LONGEST_S = 20.0
"""P.862 was validated on 8 to 20 s; the package gives up above 50 utterances and crashes on several minutes."""

PESQ_NARROW_HZ = 8000
BAND_FLOOR_DB = 60.0
"""A recording of a higher rate whose 5 to 7 kHz lie further than this below its speech was made at 8 kHz and upsampled: resamplers and
16 bits leave what lies 68 to 95 dB below, speech recorded at 16 kHz has 13 to 52 there."""

PESQ_NOMINAL_PIECE_S = 18.0
PESQ_CUT_SEARCH_S = 1.0

STOI_RATE_HZ = 10000
STOI_FRAME = 256
STOI_HOP = 128
STOI_SEGMENT_FRAMES = 30
STOI_RANGE_DB = 40.0

VISQOL_AUDIO_HZ = 48000
VISQOL_SHORTEST_S = 1.0
"""The audio mode's first patch begins at .3 s and needs .6 s more; there are no fewer than two only from 1.6 s on."""


def pesq_cuts(reference: FloatArray, sample_rate: int = SAMPLE_RATE_HZ) -> list[int]:
    """Where a recording ``[N]`` is cut for PESQ: sample indices, first 0, last N.

    Up to `PESQ_LONGEST_S` it is left whole. Longer ones become ``ceil(duration / 18 s)`` pieces; each inner border is moved from its
    place on the equal grid to the middle of the quietest 40 ms of the *reference* within +-1 s (the first of equals), so no piece
    exceeds 20 s and the pieces of an item are the same for every system.
    """
    n = reference.size
    if n <= PESQ_LONGEST_S * sample_rate:
        return [0, n]
    pieces = int(np.ceil(n / (PESQ_NOMINAL_PIECE_S * sample_rate)))
    window = round(0.04 * sample_rate)
    search = round(PESQ_CUT_SEARCH_S * sample_rate)
    cuts = [0]
    for i in range(1, pieces):
        start = round(i * n / pieces) - search
        energy = np.cumsum(np.square(reference[start : start + 2 * search].astype(np.float64)))
        cuts.append(start + int(np.argmin(energy[window:] - energy[:-window])) + window // 2)
    return [*cuts, n]


def _pesq(sample: Sample, mode: str, sample_rate: int) -> Evidence:
    """PESQ of either band.

    P.862 finds the delay of every utterance by itself, so up to 20 s the two sides are handed over whole, whatever their lengths: in the
    ITU's own conformance pairs they differ. What is missing of an output costs nearly everything (half a sentence: 1.1). Longer recordings
    are measured in pieces, for which the sides have to run in step: there the length policy of the other measures holds.
    """
    pair = unaligned_pair(sample, sample_rate, PESQ_SHORTEST_S)
    whole = max(pair.reference.size, pair.output.size) <= PESQ_LONGEST_S * sample_rate
    if not whole:
        pair = aligned_pair(sample, sample_rate, PESQ_SHORTEST_S)
    cuts = pesq_cuts(pair.reference, sample_rate)
    seconds: list[float] = []
    scores: list[float] = []
    for start, stop in pairwise(cuts):
        output = pair.output if whole else pair.output[start:stop]
        score = _pesq_piece(pair.reference[start:stop], output, sample_rate, mode)
        if score is not None:
            scores.append(score)
            seconds.append((stop - start) / sample_rate)
    if not scores:
        raise NotScorable(Side.REFERENCE, "PESQ detects no utterance")
    value = scores[0] if len(scores) == 1 else float(np.dot(scores, seconds) / np.sum(seconds))
    counts = pair.counts(pieces=len(scores), pieces_without_speech=len(cuts) - 1 - len(scores), rate_hz=sample_rate)
    return Evidence(value, counts=counts)


def _pesq_piece(reference: FloatArray, output: FloatArray, sample_rate: int, mode: str) -> float | None:
    """MOS-LQO of one piece, or None where the reference has no utterance in it.

    Raises:
        NotScorable: the output has nothing where the reference speaks.
    """
    import pesq

    if np.ptp(reference) / 2 < SILENT_PEAK:
        return None  # the package would scale it up and return a number
    if np.ptp(output) / 2 < SILENT_PEAK:
        raise NotScorable(Side.OUTPUT, f"silent for {output.size / sample_rate:.1f} s where the reference is not")
    try:
        return float(pesq.pesq(sample_rate, reference, output, mode))
    except pesq.NoUtterancesError as error:
        try:
            pesq.pesq(sample_rate, reference, reference, mode)
        except pesq.NoUtterancesError:
            return None
        raise NotScorable(Side.OUTPUT, "PESQ detects no utterance in the output") from error


def is_narrow(reference: Signal) -> bool:
    """Whether a recording holds what 8 kHz can hold and no more: by its own rate, or by its mean spectrum."""

    def compute() -> bool:
        samples = reference.at(SAMPLE_RATE_HZ)
        if samples.size < 512:
            return False
        frames = np.lib.stride_tricks.sliding_window_view(samples, 512)[::256]
        power = np.square(np.abs(np.fft.rfft(frames * np.hanning(512).astype(np.float32)))).mean(axis=0)
        low, high = (
            power[lowest * 512 // SAMPLE_RATE_HZ : highest * 512 // SAMPLE_RATE_HZ].max() for lowest, highest in ((300, 3400), (5000, 7000))
        )
        return bool(high < low * 10 ** (-BAND_FLOOR_DB / 10))

    return reference.audio.sample_rate <= PESQ_NARROW_HZ or reference.derive(("narrow band",), compute)


def _pesq_params() -> dict[str, Scalar]:
    return {
        "backend": library("pesq"),
        "pieces": "above 20 s, cut at the quietest 40 ms, mean by duration",
        "length": f"any up to 20 s, above {LENGTH_POLICY}",
    }


_PESQ: dict[str, Any] = {"version": "2", "unit": "MOS", "better": Better.HIGHER, "sample_rate": SAMPLE_RATE_HZ, "worst": 1.0}


@on_arrays(_pesq_params, bounds=(0.999, 4.644), **_PESQ)
def pesq_wb(sample: Sample) -> Evidence:
    """Wide-band PESQ (ITU-T P.862.2) as MOS-LQO, 1.0 to 4.64, higher is better; at 16 kHz.

    PESQ finds delays by itself, so up to 20 s lengths may differ; longer recordings are measured in pieces (`pesq_cuts`).

    Raises:
        NotScorable: a side is empty, silent, not finite or shorter than .25 s, or without an utterance.

    >>> from harness.testing.laws import noisy, speechlike
    >>> clean = speechlike(1.0)
    >>> pesq_wb(clean.samples, clean.samples, 16000) > 4.6 > pesq_wb(clean.samples, noisy(clean, 20).samples, 16000)
    True
    """
    found = _pesq(sample, "wb", SAMPLE_RATE_HZ)
    narrow = {"reference_hz": float(PESQ_NARROW_HZ)} if is_narrow(sample.require_reference()) else {}
    return replace(found, counts={**found.counts, **narrow})


@on_arrays(
    lambda: {"narrow": "at 8 kHz where the reference holds no more than that: by its rate, or 5 to 7 kHz 60 dB down", **_pesq_params()},
    bounds=(0.999, 4.549),
    **_PESQ,
)
def pesq_nb(sample: Sample) -> Evidence:
    """Narrow-band PESQ (ITU-T P.862.1 mapping) as MOS-LQO, 1.0 to 4.55, higher is better.

    Of a recording whose own rate is 8 kHz or less, or whose material is (`is_narrow`), at 8 kHz, the rate that P.862.1 was made for, of
    others at 16 kHz. The two are not one scale: 8-kHz material brought to 16 kHz scores up to .44 away from its own. Which it was stands
    in the counts as ``rate_hz``, and the tables say so where a figure pools both.

    Raises:
        NotScorable: as `pesq_wb`.

    >>> from harness.testing.laws import noisy, speechlike
    >>> clean = speechlike(1.0, sample_rate=8000)
    >>> pesq_nb(clean.samples, clean.samples, 8000) > 4.5 > pesq_nb(clean.samples, noisy(clean, 20).samples, 8000)
    True
    """
    return _pesq(sample, "nb", PESQ_NARROW_HZ if is_narrow(sample.require_reference()) else SAMPLE_RATE_HZ)


def _stoi_input(sample: Sample) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], dict[str, float]]:
    """Both sides float64 ``[N]`` at 10 kHz with enough speech in them, and the evidence kept of that."""
    pair = aligned_pair(sample, SAMPLE_RATE_HZ)
    n = pair.reference.size
    reference = _at_10k(sample.require_reference(), n)
    active = active_frames(reference)
    # The library makes one spectrogram frame fewer than it keeps; it wants 30 of those and returns 1e-5 otherwise.
    if active - 1 < STOI_SEGMENT_FRAMES:
        raise NotScorable(Side.REFERENCE, f"{max(0, active - 1)} active frames, STOI needs {STOI_SEGMENT_FRAMES} ({pair.duration_s:.2f} s)")
    return reference, _at_10k(sample.output, n), pair.counts(active_frames=active)


def _at_10k(signal: Signal, num_samples: int) -> npt.NDArray[np.float64]:
    """The first ``num_samples`` at 16 kHz brought to STOI's own 10 kHz by the filter that is part of the measure's reference code."""

    def compute() -> npt.NDArray[np.float64]:
        from pystoi.utils import resample_oct

        samples: npt.NDArray[np.float64] = resample_oct(
            signal.at(SAMPLE_RATE_HZ)[:num_samples].astype(np.float64), STOI_RATE_HZ, SAMPLE_RATE_HZ
        )
        return samples

    return signal.derive(("pystoi 10 kHz", num_samples), compute)


def active_frames(reference: npt.NDArray[np.float64]) -> int:
    """Frames of ``reference [N]`` at 10 kHz within 40 dB of its loudest: 256 samples, Hann, half overlapped."""
    if reference.size <= STOI_FRAME:
        return 0
    # The library's own frame grid leaves out a frame that would end exactly at the last sample.
    frames = np.lib.stride_tricks.sliding_window_view(reference[:-1], STOI_FRAME)[::STOI_HOP]
    energy = np.square(frames * np.hanning(STOI_FRAME + 2)[1:-1]).sum(axis=1)
    return int(np.count_nonzero(energy > energy.max() * 10 ** (-STOI_RANGE_DB / 10)))


_STOI: dict[str, Any] = {
    "better": Better.HIGHER, "sample_rate": SAMPLE_RATE_HZ, "bounds": (-1.0, 1.0), "params": lambda: {"backend": library("pystoi"), **POLICY},
    "worst": 0.0,  # what noise gets; less takes an output that runs against the speech
}  # fmt: skip


@on_arrays(**_STOI)
def stoi(sample: Sample) -> Evidence:
    """Short-time objective intelligibility (Taal et al. 2011), -1 to 1, higher is better; noise gets about 0. A delay of 10 ms costs .10.

    Raises:
        NotScorable: a side is empty, silent or not finite, lengths differ beyond the policy, or less than .4 s is active.

    >>> from harness.testing.laws import noisy, speechlike
    >>> clean = speechlike(1.0)
    >>> round(stoi(clean.samples, clean.samples, 16000), 3), stoi(clean.samples, noisy(clean, 0).samples, 16000) < 0.9
    (1.0, True)
    """
    from pystoi import stoi as library_stoi

    reference, output, counts = _stoi_input(sample)
    value = float(library_stoi(reference, output, STOI_RATE_HZ, extended=False))
    return Evidence(min(1.0, max(-1.0, value)), counts=counts)


@on_arrays(**_STOI)
def estoi(sample: Sample) -> Evidence:
    """Extended STOI (Jensen and Taal 2016), -1 to 1, higher is better.

    The library adds noise from numpy's global generator before it normalises, which decides the result wherever a band of the output is
    empty: the same pair then scores differently twice. Here the same frames are normalised without noise and an empty row or column
    contributes nothing; elsewhere both agree to 1e-6.

    Raises:
        NotScorable: as `stoi`.

    >>> from harness.testing.laws import noisy, speechlike
    >>> clean = speechlike(1.0)
    >>> round(estoi(clean.samples, clean.samples, 16000), 3), estoi(clean.samples, noisy(clean, 0).samples, 16000) < 0.9
    (1.0, True)
    """
    reference, output, counts = _stoi_input(sample)
    return Evidence(min(1.0, max(-1.0, extended_stoi(reference, output))), counts=counts)


def extended_stoi(reference: npt.NDArray[np.float64], output: npt.NDArray[np.float64]) -> float:
    """ESTOI of ``[N]`` pairs at 10 kHz with at least 31 active frames (Jensen and Taal 2016, eq. 5-9)."""
    from pystoi import utils
    from pystoi.stoi import OBM

    x, y = utils.remove_silent_frames(reference, output, STOI_RANGE_DB, STOI_FRAME, STOI_HOP)
    bands = [np.sqrt(OBM @ np.square(np.abs(utils.stft(z, STOI_FRAME, 2 * STOI_FRAME, overlap=2).T))) for z in (x, y)]
    segments = [np.lib.stride_tricks.sliding_window_view(b, STOI_SEGMENT_FRAMES, axis=1).transpose(1, 0, 2) for b in bands]  # [M, 15, 30]
    normalised = [_unit(_unit(s, axis=2), axis=1) for s in segments]
    return float((normalised[0] * normalised[1]).sum() / (STOI_SEGMENT_FRAMES * segments[0].shape[0]))


def _unit(segments: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
    """Zero mean and unit norm along ``axis``; what has no variance becomes zero."""
    centred = segments - segments.mean(axis=axis, keepdims=True)
    norm = np.linalg.norm(centred, axis=axis, keepdims=True)
    empty = norm < 1e-12
    return np.where(empty, 0.0, centred / np.where(empty, 1.0, norm))


@cache
def _visqol_api(mode: str, lattice: bool) -> Any:
    from visqol import VisqolApi

    api = VisqolApi()
    api.create(mode=mode, use_lattice_model=lattice)
    return api


def _visqol(sample: Sample, mode: str, sample_rate: int, lattice: bool = False) -> Evidence:
    from numba import get_num_threads, set_num_threads

    pair = aligned_pair(sample, sample_rate, VISQOL_SHORTEST_S)
    threads = get_num_threads()
    set_num_threads(1)  # its kernels share frames out among all cores of the machine
    try:
        found = _visqol_api(mode, lattice).measure_from_arrays(pair.reference, pair.output, sample_rate)
    except ValueError as error:  # after its own alignment nothing is left of the output that a patch of the reference could be found in
        raise NotScorable(Side.OUTPUT, f"ViSQOL: {error}") from error
    finally:
        set_num_threads(threads)
    # Its sums differ in the last bits from call to call (5e-15 were seen), and the same output is to have the same number.
    value, similarity = (round(float(v), 9) for v in (found.moslqo, found.vnsim))
    return Evidence(min(5.0, max(1.0, value)), counts=pair.counts(patches=len(found.patch_sims), similarity=similarity))


def _visqol_declared(mode: str, mapping: str, sample_rate: int, *packages: str) -> dict[str, Any]:
    return {
        "params": lambda: {"backend": library("visqol-python", *packages), "mode": mode, "mapping": mapping, **POLICY},
        "unit": "MOS", "better": Better.HIGHER, "sample_rate": sample_rate, "bounds": (1.0, 5.0), "worst": 1.0,
    }  # fmt: skip


@on_arrays(**_visqol_declared("speech", "exponential, scaled to 5", SAMPLE_RATE_HZ))
def visqol_speech(sample: Sample) -> Evidence:
    """ViSQOL v3 in speech mode (Chinen et al. 2020) as MOS-LQO by the exponential mapping, 1 to 5, higher is better; at 16 kHz.

    Similarity of gammatone spectrograms, patch by patch of .4 s, each patch where it fits best. The mapping is the one that needs no
    network (``--use_lattice_model=false``); `visqol_speech_lattice` is the one that Google's program uses by default. The two are not one
    scale: identity is 5.0 here and 4.5 there.

    Traps: it hears no level (both sides are brought to one) and no delay up to half the recording; only frames above -16 dB of the peak
    choose patches, so that one click leaves little to judge (``patches`` in the counts); the rate is what the caller gives it, and the
    published CA01 pair is 3.376 at the 48 kHz it comes in and 3.381 at 16 kHz.

    Raises:
        NotScorable: a side is empty, silent, not finite or shorter than 1 s, lengths differ beyond the policy, or nothing of the output
            matches.

    >>> from harness.testing.laws import noisy, speechlike
    >>> clean = speechlike(1.5)
    >>> visqol_speech(clean.samples, clean.samples, 16000) > 4.9 > visqol_speech(clean.samples, noisy(clean, 20).samples, 16000)
    True
    """
    return _visqol(sample, "speech", SAMPLE_RATE_HZ)


@on_arrays(package="ai-edge-litert", **_visqol_declared("speech", "lattice network, tau .5", SAMPLE_RATE_HZ, "ai-edge-litert"))
def visqol_speech_lattice(sample: Sample) -> Evidence:
    """ViSQOL v3 in speech mode as MOS-LQO by the lattice network, as Google's program does by default; 1 to 5, higher is better.

    All else is as in `visqol_speech`. Needs the package ai-edge-litert (59 MB), which runs the network.

    Raises:
        NotScorable: as `visqol_speech`.
        MissingDependency: ai-edge-litert is not installed.

    >>> from harness.testing.laws import noisy, speechlike
    >>> clean = speechlike(1.5)
    >>> visqol_speech_lattice(clean.samples, clean.samples, 16000) > visqol_speech_lattice(clean.samples, noisy(clean, 20).samples, 16000)
    True
    """
    return _visqol(sample, "speech", SAMPLE_RATE_HZ, lattice=True)


@on_arrays(**_visqol_declared("audio", "support vector regression", VISQOL_AUDIO_HZ, "libsvm-official"))
def visqol_audio(sample: Sample) -> Evidence:
    """ViSQOL v3 in audio mode (Chinen et al. 2020) as MOS-LQO, 1 to 4.73, higher is better; at 48 kHz.

    What codec papers print as "ViSQOL", for speech too. Patches of .6 s all along the recording, 32 bands up to 15 kHz.

    Traps: the regression cannot give more than 4.73, its value for identity. A recording at 16 kHz is empty above 8 kHz on both sides,
    and what is equally empty is similar: the published CA01 pair is 1.77 as it is and 2.07 through 16 kHz, so figures at different
    rates of the recordings do not compare (``reference_hz`` in the counts). It hears neither level nor delay; a recording below 1.6 s is
    judged by one patch. Speech at 16 kHz it does not order above 12 kbit/s of Opus (4.50, 4.48 at 16, 4.44 at 24, 4.58 at 64).

    Raises:
        NotScorable: as `visqol_speech`.

    >>> from harness.testing.laws import noisy, speechlike
    >>> clean = speechlike(1.5)
    >>> visqol_audio(clean.samples, clean.samples, 16000) > 4.7 > visqol_audio(clean.samples, noisy(clean, 20).samples, 16000)
    True
    """
    return _visqol(sample, "audio", VISQOL_AUDIO_HZ)
