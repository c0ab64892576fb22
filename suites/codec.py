"""Resynthesis: quality, intelligibility, voice and bit rate of codecs."""

from __future__ import annotations

from collections.abc import Sequence

from harness.api import CodecSpec, Curve, Settings, SuiteInfo, Task

METRICS = (
    "pesq_wb", "pesq_nb", "stoi", "estoi", "si_sdr_db", "si_sdr_aligned_db", "lag_samples", "mcd_db", "log_mel_distance_db",
    "f0_rmse_cents", "voicing_error", "wer", "cer", "dwer", "intelligibility_probe", "sim_o", "mos", "level_rms_db", "level_lufs_db",
    "clipped_samples", "length_ratio", "nominal_bps", "emitted_bps", "entropy_bps", "side_bps", "codebook_use", "codebook_perplexity",
    "rtf", "rtf_encode", "rtf_decode",
)  # fmt: skip


class CodecSuite:
    """One prediction per codec and recording, with everything that can be measured against the recording."""

    info = SuiteInfo(
        name="codec",
        title="Codec resynthesis",
        task=Task.RESYNTHESIS,
        systems=("passthrough", "opus6", "opus16", "g722", "noise"),
        metrics=METRICS,
        headline=("pesq_wb", "stoi", "si_sdr_db", "mcd_db", "wer", "sim_o", "mos", "emitted_bps"),
        curves=(
            Curve("Quality against bit rate", x="emitted_bps", y=("pesq_wb", "stoi", "mcd_db"), log_x=True),
            Curve("Intelligibility and voice against bit rate", x="emitted_bps", y=("dwer", "sim_o"), log_x=True),
        ),
        calibration=("same_speaker", "impostor"),
    )

    def variants(self, spec: CodecSpec | None) -> Sequence[Settings]:
        return [{}]
