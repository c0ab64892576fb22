"""What is measured: of signals and texts also as functions on arrays, for a notebook or a script.

Every metric of two signals is a function of this package that gives what a run records, to the last digit (the same resampler, alignment
and guards):

    >>> from harness.metrics import si_sdr_db
    >>> from harness.testing.laws import noisy, speechlike
    >>> clean = speechlike(1.0, sample_rate=24000)
    >>> round(si_sdr_db(clean.samples, noisy(clean, 20).samples, 24000), 1)
    22.0

Signals are float arrays ``[N]`` or ``[C, N]`` with full scale at +-1, of any rate; channels are averaged. What cannot be measured (silence,
NaN, too short ...) raises `harness.api.NotScorable` with the side at fault and the reason, and never becomes a number.
`harness list metrics` names all metrics; a suite or ``metrics=[...]`` chooses those of a run.

A metric is added here in three steps: a function or class in a module, its line below, a test.
"""

from __future__ import annotations

from typing import Any

_ON_ARRAYS = {
    "perceptual": {
        "pesq_wb": "wide-band PESQ, MOS-LQO after ITU-T P.862.2",
        "pesq_nb": "narrow-band PESQ, MOS-LQO after ITU-T P.862.1, 8-kHz recordings at 8 kHz",
        "stoi": "short-time objective intelligibility (Taal et al. 2011)",
        "estoi": "extended short-time objective intelligibility (Jensen and Taal 2016), without the library's dither",
        "visqol_speech": "ViSQOL v3, speech mode at 16 kHz, exponential mapping, MOS-LQO (Chinen et al. 2020)",
        "visqol_speech_lattice": "ViSQOL v3, speech mode at 16 kHz, lattice mapping as Google's program has it (needs ai-edge-litert)",
        "visqol_audio": "ViSQOL v3, audio mode at 48 kHz, MOS-LQO up to 4.73 (Chinen et al. 2020)",
    },
    "waveform": {
        "si_sdr_db": "scale-invariant signal-to-distortion ratio, means removed (Le Roux et al. 2019)",
        "si_sdr_aligned_db": "SI-SDR over the overlap left after removing the estimated lag (cross-correlation, whole samples)",
        "lag_samples": "delay of the output in 16 kHz samples, positive when late: peak of the cross-correlation",
        "level_rms_db": "root-mean-square level of the output minus the reference, each over its whole length, means removed",
        "level_lufs_db": "integrated loudness (ITU-R BS.1770-4, mono) of the output minus the reference",
        "clipped_samples": "samples of the output at or beyond 32767/32768 of full scale, before any resampling",
        "length_ratio": "seconds of output over seconds of reference",
    },
    "spectral": {
        "mcd_db": "mel-cepstral distortion (Kubichek 1993) of WORLD envelopes up to 7 kHz, 60 dB deep, c1-c24, no time warping",
        "mcd_dtw_db": "mel-cepstral distortion of WORLD envelopes up to 7 kHz, 60 dB deep, c1-c24, after dynamic time warping, mean over the path",
        "log_mel_distance_db": "root mean square over 80 mel bands of the level difference, mean over frames",
        "mel_distance_dac": "multi-scale mel distance of DAC (Kumar et al. 2023; seven scales, log10, at 22.05 kHz)",
        "stft_distance_dac": "multi-scale STFT distance of DAC (magnitudes, and log10 of their squares, at 22.05 kHz)",
        "stft_distance_pwg": "multi-resolution STFT distance of Parallel WaveGAN (convergence and log magnitude, at 24 kHz)",
    },
    "pitch": {
        "f0_rmse_cents": "root mean square of the F0 ratio in cents over frames voiced on both sides",
        "voicing_error": "share of frames voiced on one side only",
        "vuv_f1": "F1 of voiced frames (WORLD's decision), unvoiced ones on both sides left out",
        "gross_pitch_error": "share of the frames voiced on both sides whose F0 (WORLD's) is more than 20 % off",
        "f0_correlation": "Pearson correlation of log F0 over frames voiced on both sides",
        "periodicity_rmse_crepe": "root mean square difference of CREPE's periodicity (Morrison et al. 2022; needs torchcrepe)",
        "vuv_f1_crepe": "F1 of frames voiced by CREPE's periodicity, as Vocos' evaluation has it (needs torchcrepe)",
    },
}
"""Functions on arrays by module; each has a ``metric()`` that a run measures with."""

_AUDIBLE, _ENDED = "from a request, its wait included, to the first sample above -40 dBFS", "from a request to the end of its speech"
_FLOOR = "floor of the stage '{}' (bytes over measured bandwidth, operations over measured rate) over its time"
_SPEED = {
    "rtf": "real-time factor: sum of wall time over sum of audio",
    "rtf_encode": "real-time factor of the encoder",
    "rtf_decode": "real-time factor of the decoder",
    "rtf_batched": "real-time factor of a batch",
    "rtf_prefill": "real-time factor of reading text and prompt",
    "rtf_lm": "real-time factor of the language model's steps",
    "rtf_codec": "real-time factor of the codec's decoder",
    "rtf_vocoder": "real-time factor of the vocoder",
    "ttft_token_ms": "time from the request to the first token",
    "ttf_frame_ms": "time from the request to every codebook of frame 0",
    "ttfc_ms": "time from the request to the first chunk of audio",
    "ttfa_ms": "time from the request to the first sample above -40 dBFS",
    "underrun_0_ms": "time a player without a buffer stands still",
    "underrun_100_ms": "time a player with 100 ms of buffer stands still",
    "underrun_200_ms": "time a player with 200 ms of buffer stands still",
    "codebook_tokens_per_s": "codebook tokens a second, with prefill",
    **{f"floor_share_{stage}": _FLOOR.format(stage) for stage in ("encode", "decode", "prefill", "lm")},
    "floor_rtf": "real-time factor of the floors of all stages that have one",
    "host_peak_mib": "peak of resident memory while it was timed",
    "device_peak_mib": "peak of memory allocated on the device while it was timed",
    "kv_cache_mib": "memory of the key-value cache",
    "load_audio_per_s": "seconds of speech a second under load, all requests",
    "load_ttfa_p50_ms": f"median time {_AUDIBLE}",
    "load_ttfa_p90_ms": f"p90 of the time {_AUDIBLE}",
    "load_ttfa_p95_ms": f"p95 of the time {_AUDIBLE}",
    "load_ttfa_p99_ms": f"p99 of the time {_AUDIBLE}, from 459 requests",
    "load_latency_p50_ms": f"median time {_ENDED}",
    "load_latency_p95_ms": f"p95 of the time {_ENDED}",
    "joules_per_s": "joules per second of speech",
}
"""Figures of a timing, in `harness.metrics.speed`."""

_FEW = "; corrected for few tokens, histograms over all items"
_OTHERS = {
    "tokens": {
        "nominal_bps": ("NominalBps", "frame rate times the sum of log2 of the codebook sizes, side information apart"),
        "emitted_bps": ("EmittedBps", "bits of the tokens or packets really emitted, side information apart"),
        "entropy_bps": ("EntropyBps", f"sum over codebooks of the first-order entropy, times the frame rate{_FEW}"),
        "side_bps": ("SideBps", "bits of side information as stored"),
        "codebook_use": (
            "CodebookUse",
            "share of codebook entries used by the tokens counted, mean over codebooks; grows with their number",
        ),
        "codebook_perplexity": ("CodebookPerplexity", f"perplexity of the codes, mean over codebooks{_FEW}"),
        "last_codebook_use": (
            "LastCodebookUse",
            "share of entries of the last codebook decoded used by the tokens counted; grows with their number",
        ),
        "last_codebook_entropy_bits": ("LastCodebookEntropy", f"first-order entropy per token of the last codebook decoded{_FEW}"),
        "token_consistency": (
            "TokenConsistency",
            "share of tokens that come out the same when the decoded output is encoded again (O'Reilly et al. 2024)",
        ),
        "token_consistency_shift": (
            "TokenConsistencyShift",
            "share of tokens that stay when the input comes 1 ms later (after Liu et al. 2024)",
        ),
    },
    "phones": {
        "phone_accuracy": (
            "PhoneAccuracy",
            "frames whose phone a linear probe tells from the last codebook's tokens, fitted on the other speakers",
        ),
        "phone_chance": ("PhoneChance", "phone_accuracy of a probe that sees no tokens and names the other speakers' commonest phone"),
    },
    "speed": {name: (name, text) for name, text in _SPEED.items()},
    "text": {
        "wer": ("Wer", "word error rate of the recogniser's transcript against the text"),
        "cer": ("Cer", "character error rate of the recogniser's transcript against the text"),
        "dwer": ("DWer", "error rate against the recogniser's own transcript of the reference audio"),
        "intelligibility_probe": (
            "IntelligibilityProbe",
            "share of wrong words from a recogniser restricted to the corpus's own sentences (a probe, not a WER)",
        ),
        "per": ("Per", "phone error rate of a phone recogniser against the phones of the text (English)"),
    },
    "judged": {
        "speech_bert_score": ("SpeechBertScore", "SpeechBERTScore precision (Saeki et al. 2024) over frames of the features= model"),
        "frechet_distance": (
            "FrechetDistance",
            "Frechet distance between outputs and recordings as corpora, utterance means of the features= model",
        ),
        "emotion_sim": ("EmotionSimilarity", "cosine of emotion embeddings, output against recording or prompt (emotion= judge)"),
        "sim_o": ("SpeakerSimilarity", "speaker similarity to the original recording or prompt (speaker= judge)"),
        "sim_r": ("ResynthesisSimilarity", "speaker similarity to the codec's resynthesis of the prompt"),
        "stopped_by_itself": ("StoppedByItself", "share of outputs that the model ended itself, the others were cut at a limit"),
        "mos": ("PredictedMos", "predicted MOS (mos= judge)"),
    },
}
"""Classes and figures by module: what builds each, and one line about it."""

METRICS = {
    **{name: (f"harness.metrics.{module}:{name}.metric", text) for module, names in _ON_ARRAYS.items() for name, text in names.items()},
    **{name: (f"harness.metrics.{module}:{attr}", text) for module, names in _OTHERS.items() for name, (attr, text) in names.items()},
}
"""Every metric of this package by the name a user types: "module:attribute" of what builds it, and one line about it."""

_FUNCTIONS = {**{name: module for module, names in _ON_ARRAYS.items() for name in names}, "wer": "text", "cer": "text"}

__all__ = ["METRICS", *_FUNCTIONS]


def __getattr__(name: str) -> Any:
    """A function on arrays, imported when it is first asked for: this package itself imports nothing."""
    if name not in _FUNCTIONS:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_FUNCTIONS[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
