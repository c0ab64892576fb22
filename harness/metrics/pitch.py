"""Fundamental frequency and periodicity: how far off, how often wrongly voiced, how well followed. Frame against frame.

F0 and voicing are WORLD's, every 5 ms, from the one analysis that all metrics share. Papers of vocoders and codecs since CARGAN (Morrison et
al. 2022) print two figures by the tracker CREPE beside them, which is a network of 22 million parameters: they are here under its name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.api import Better, Evidence, FloatArray, NotScorable, Sample, Scalar, Side, Signal
from harness.api.libraries import library
from harness.metrics import world
from harness.metrics.alignment import POLICY, aligned_pair
from harness.metrics.declaration import on_arrays
from harness.torchaudio import ensure_torchaudio

SAMPLE_RATE_HZ = 16000
FEWEST_FRAMES = 10
"""50 ms of common voice; a correlation over less is chance."""

GROSS = 0.2
"""A frame whose F0 is further off than this share of the reference's is a gross error (Rabiner et al. 1976; Chu and Alwan 2009)."""

CREPE_WINDOW = 1024
CREPE_HOP = 160
CREPE_BAND_HZ = (50.0, 550.0)
CREPE_VOICED = 0.21
CREPE_SILENT_DB = -60.0
"""As Vocos' evaluation has them: A-weighted mean level of a silent frame, and the periodicity from which one is voiced."""
CREPE_BATCH = 256


@dataclass(frozen=True, eq=False)
class _Contours:
    """F0 of both sides over their common frames."""

    reference: world.Float64Array  # float64 ``[T]`` in Hz, 0 where unvoiced
    output: world.Float64Array  # likewise
    counts: dict[str, float]  # evidence kept

    def common_cents(self) -> tuple[world.Float64Array, world.Float64Array]:
        """Both contours in cents re 1 Hz over the frames voiced on both sides.

        Raises:
            NotScorable: there are fewer than ten.
        """
        if np.count_nonzero(self.reference) < FEWEST_FRAMES:
            raise NotScorable(Side.REFERENCE, f"{np.count_nonzero(self.reference)} voiced frames, needs {FEWEST_FRAMES}")
        both = (self.reference > 0) & (self.output > 0)
        if np.count_nonzero(both) < FEWEST_FRAMES:
            raise NotScorable(Side.OUTPUT, f"{np.count_nonzero(both)} frames voiced on both sides, needs {FEWEST_FRAMES}")
        return 1200 * np.log2(self.reference[both]), 1200 * np.log2(self.output[both])


def _contours(sample: Sample) -> _Contours:
    pair = aligned_pair(sample, SAMPLE_RATE_HZ, world.SHORTEST_S)
    reference, output = world.f0_hz(sample.require_reference()), world.f0_hz(sample.output)
    frames = min(reference.size, output.size)
    reference, output = reference[:frames], output[:frames]
    counts = pair.counts(
        frames=frames,
        voiced_reference=int(np.count_nonzero(reference)),
        voiced_output=int(np.count_nonzero(output)),
        voiced_both=int(np.count_nonzero((reference > 0) & (output > 0))),
    )
    return _Contours(reference, output, counts)


def _params(**more: Scalar) -> dict[str, Scalar]:
    return {**world.analysis_params(), **more, **POLICY}


@on_arrays(
    lambda: _params(fewest_frames=FEWEST_FRAMES), unit="cents", better=Better.LOWER, sample_rate=SAMPLE_RATE_HZ, bounds=(0.0, math.inf)
)
def f0_rmse_cents(sample: Sample) -> Evidence:
    """Root-mean-square error of F0 in cents (100 are a semitone) over the frames voiced on both sides; Hz would weigh high voices more.

    Raises:
        NotScorable: a side is empty, silent, not finite or shorter than .1 s, lengths differ beyond the policy, or fewer than ten frames
            of 5 ms are voiced on both sides.

    >>> from harness.testing.laws import speechlike
    >>> speech = speechlike(1.0).samples
    >>> f0_rmse_cents(speech, speech, 16000)
    0.0
    """
    contours = _contours(sample)
    reference, output = contours.common_cents()
    return Evidence(float(np.sqrt(np.square(output - reference).mean())), counts=contours.counts)


@on_arrays(_params, better=Better.LOWER, sample_rate=SAMPLE_RATE_HZ, bounds=(0.0, 1.0))
def voicing_error(sample: Sample) -> Evidence:
    """Share of all frames of 5 ms that are voiced on one side only, 0 to 1, lower is better.

    Raises:
        NotScorable: a side is empty, silent, not finite or shorter than .1 s, or lengths differ beyond the policy.

    >>> from harness.testing.laws import noisy, speechlike
    >>> clean = speechlike(1.0)
    >>> 0 < voicing_error(clean.samples, noisy(clean, 0).samples, 16000) < 1
    True
    """
    contours = _contours(sample)
    return Evidence(float(np.mean((contours.reference > 0) != (contours.output > 0))), counts=contours.counts)


@on_arrays(_params, better=Better.HIGHER, sample_rate=SAMPLE_RATE_HZ, bounds=(0.0, 1.0), worst=0.0)
def vuv_f1(sample: Sample) -> Evidence:
    """F1 of the decision voiced or unvoiced, 0 to 1, higher is better: frames voiced in the recording are what is to be found.

    Unlike `voicing_error` it does not grow with the pauses: frames that are unvoiced on both sides count nowhere.

    Trap: the papers' V/UV F1 is CREPE's (`vuv_f1_crepe`), by another tracker with another idea of what is voiced; the two do not compare.

    Raises:
        NotScorable: a side is empty, silent, not finite or shorter than .1 s, lengths differ beyond the policy, or fewer than ten frames
            of 5 ms of the reference are voiced.

    >>> from harness.testing.laws import noisy, speechlike
    >>> clean = speechlike(1.0)
    >>> vuv_f1(clean.samples, clean.samples, 16000), vuv_f1(clean.samples, noisy(clean, 0).samples, 16000) < 1
    (1.0, True)
    """
    contours = _contours(sample)
    value = _f1(contours.reference > 0, contours.output > 0)
    return Evidence(value, counts=contours.counts)


def _f1(reference: npt.NDArray[np.bool_], output: npt.NDArray[np.bool_]) -> float:
    if np.count_nonzero(reference) < FEWEST_FRAMES:
        raise NotScorable(Side.REFERENCE, f"{np.count_nonzero(reference)} voiced frames, needs {FEWEST_FRAMES}")
    return float(2 * np.count_nonzero(reference & output) / (np.count_nonzero(reference) + np.count_nonzero(output)))


@on_arrays(lambda: _params(gross=GROSS, fewest_frames=FEWEST_FRAMES), better=Better.LOWER, sample_rate=SAMPLE_RATE_HZ, bounds=(0.0, 1.0))
def gross_pitch_error(sample: Sample) -> Evidence:
    """Share of the frames voiced on both sides whose F0 is more than 20 % off (GPE), 0 to 1, lower is better: mostly octave errors.

    Traps: what became unvoiced is not counted (read it beside `vuv_f1`), and the tracker's own octave errors are.

    Raises:
        NotScorable: as `f0_rmse_cents`.

    >>> from harness.testing.laws import speechlike
    >>> speech = speechlike(1.0).samples
    >>> gross_pitch_error(speech, speech, 16000)
    0.0
    """
    contours = _contours(sample)
    reference, output = contours.common_cents()
    off = np.abs(np.exp2((output - reference) / 1200) - 1) > GROSS
    return Evidence(float(off.mean()), counts={**contours.counts, "gross": float(np.count_nonzero(off))})


@on_arrays(lambda: _params(scale="log", fewest_frames=FEWEST_FRAMES), better=Better.HIGHER, sample_rate=SAMPLE_RATE_HZ, bounds=(-1.0, 1.0))
def f0_correlation(sample: Sample) -> Evidence:
    """Pearson correlation of log F0 over the frames voiced on both sides, -1 to 1: whether the melody is kept, whatever the register.

    Raises:
        NotScorable: as `f0_rmse_cents`, or F0 is constant.

    >>> from harness.testing.laws import speechlike
    >>> speech = speechlike(1.0).samples
    >>> round(f0_correlation(speech, speech, 16000), 6)
    1.0
    """
    contours = _contours(sample)
    reference, output = (c - c.mean() for c in contours.common_cents())
    spread = [float(np.sqrt(np.square(c).sum())) for c in (reference, output)]
    for side, s in zip((Side.REFERENCE, Side.OUTPUT), spread, strict=True):
        if s < 1e-6:
            raise NotScorable(side, "F0 is constant over the frames voiced on both sides")
    return Evidence(float(np.clip((reference @ output) / (spread[0] * spread[1]), -1, 1)), counts=contours.counts)


def _crepe_params(**more: Scalar) -> dict[str, Scalar]:
    return {
        "backend": library("torchcrepe", "torch", "librosa"), "model": "full, viterbi", "band_hz": str(CREPE_BAND_HZ), "hop": CREPE_HOP,
        "silent": f"periodicity 0 where A-weighted below {CREPE_SILENT_DB:g} dB", **more, **POLICY,
    }  # fmt: skip


_CREPE: dict[str, Any] = {"package": "torchcrepe", "sample_rate": SAMPLE_RATE_HZ, "bounds": (0.0, 1.0)}


@on_arrays(_crepe_params, better=Better.LOWER, **_CREPE)
def periodicity_rmse_crepe(sample: Sample) -> Evidence:
    """Root-mean-square difference of CREPE's periodicity over all frames of 10 ms, 0 to 1, lower is better: "Periodicity" in papers.

    Periodicity is the network's confidence at the pitch that is most likely over time. CARGAN (Morrison et al. 2022) defined it; the
    figure here is that of Vocos' evaluation, made anew without its random numbers: an item's own root, mean over items. Needs torchcrepe
    (its wheel holds the weights, 89 MB) and takes seconds of a core for every second of speech.

    Trap: CARGAN pools frames of all files before the root is taken, at another hop; pauses count as equal, so more of them is better.

    Raises:
        NotScorable: a side is empty, silent, not finite or shorter than .1 s, or lengths differ beyond the policy.
        MissingDependency: torchcrepe is not installed.

    >>> from harness.testing.laws import noisy, speechlike
    >>> clean = speechlike(0.5)
    >>> periodicity_rmse_crepe(clean.samples, clean.samples, 16000), periodicity_rmse_crepe(clean.samples, noisy(clean, 0).samples, 16000) > 0
    (0.0, True)
    """
    reference, output, counts = _periodicities(sample)
    return Evidence(float(np.sqrt(np.square(output - reference).mean())), counts=counts)


@on_arrays(lambda: _crepe_params(voiced=CREPE_VOICED), better=Better.HIGHER, worst=0.0, **_CREPE)
def vuv_f1_crepe(sample: Sample) -> Evidence:
    """F1 of voiced and unvoiced frames by CREPE's periodicity from .21 on, 0 to 1, higher is better: "V/UV F1" in papers since Vocos.

    Trap: CARGAN's own decision is another one (hysteresis around a pitch that is dithered at random, so never the same twice).

    Raises:
        NotScorable: as `periodicity_rmse_crepe`, or fewer than ten frames of the reference are voiced.
        MissingDependency: torchcrepe is not installed.

    >>> from harness.testing.laws import speechlike
    >>> speech = speechlike(0.5).samples
    >>> vuv_f1_crepe(speech, speech, 16000)
    1.0
    """
    reference, output, counts = _periodicities(sample)
    return Evidence(_f1(reference >= CREPE_VOICED, output >= CREPE_VOICED), counts=counts)


def _periodicities(sample: Sample) -> tuple[world.Float64Array, world.Float64Array, dict[str, float]]:
    """CREPE's periodicity ``[T]`` of both sides over the common length, and the counts."""
    pair = aligned_pair(sample, SAMPLE_RATE_HZ, world.SHORTEST_S)

    def periodicity(signal: Signal, samples: FloatArray) -> world.Float64Array:
        return signal.derive(("crepe periodicity", samples.size), lambda: _periodicity(samples))

    reference, output = periodicity(sample.require_reference(), pair.reference), periodicity(sample.output, pair.output)
    voiced = {f"voiced_{side}": float(np.count_nonzero(p >= CREPE_VOICED)) for side, p in (("reference", reference), ("output", output))}
    return reference, output, pair.counts(frames=reference.size, **voiced)


def _periodicity(samples: FloatArray) -> world.Float64Array:
    """``[T]`` of ``samples [N]`` at 16 kHz, frames of 64 ms every 10 ms, as ``torchcrepe.predict(pad=False)`` computes it in one batch.

    That function draws from numpy's global generator (for the pitch, which is not wanted here), and decodes batch by batch.
    """
    ensure_torchaudio()
    import librosa
    import torch
    import torchcrepe

    frames = torchcrepe.preprocess(torch.from_numpy(samples.copy())[None], SAMPLE_RATE_HZ, CREPE_HOP, CREPE_BATCH, pad=False)
    with torch.no_grad():
        likely = torch.cat([torchcrepe.infer(batch, "full") for batch in frames]).numpy()  # [T, 360]
    lowest, highest = (
        int(torchcrepe.convert.frequency_to_bins(torch.tensor(hz), how))
        for hz, how in zip(CREPE_BAND_HZ, (torch.floor, torch.ceil), strict=True)
    )
    allowed = np.exp(likely[:, lowest:highest])
    bins = np.arange(torchcrepe.PITCH_BINS)
    steps = np.maximum(12 - np.abs(bins[:, None] - bins), 0)
    posterior = np.zeros_like(likely)
    posterior[:, lowest:highest] = allowed / allowed.sum(axis=1, keepdims=True)
    path = librosa.sequence.viterbi(posterior.T, steps / steps.sum(axis=1, keepdims=True))
    found: world.Float64Array = likely[np.arange(path.size), path].astype(np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(samples, CREPE_WINDOW)[::CREPE_HOP]
    hann = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(CREPE_WINDOW) / CREPE_WINDOW)).astype(np.float32)
    power = np.square(np.abs(np.fft.rfft(windows * hann, axis=1))).T
    with np.errstate(divide="ignore"):  # at 0 Hz, where the weighting has a floor of its own
        level_db = librosa.perceptual_weighting(power, librosa.fft_frequencies(sr=SAMPLE_RATE_HZ, n_fft=CREPE_WINDOW)).mean(axis=0) - 20
    found[level_db < CREPE_SILENT_DB] = 0.0
    return found
