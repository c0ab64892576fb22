"""What the ablations of codecs measure."""

METRICS = (
    "mcd_db",
    "log_mel_distance_db",
    "stoi",
    "f0_rmse_cents",
    "cer",
    "wer",
    "dwer",
    "intelligibility_probe",
    "sim_o",
    "mos",
    "emitted_bps",
    "entropy_bps",
    "codebook_use",
    "codebook_perplexity",
)
"""Distortion, words, voice, opinion, and what the codes are used for."""
