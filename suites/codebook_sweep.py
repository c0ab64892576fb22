"""What each codebook adds: every codec that decodes prefixes is run with its first b codebooks."""

from __future__ import annotations

from collections.abc import Sequence

from harness.api import CodecSpec, Curve, Settings, SuiteInfo, Task
from suites.prefixes import Counts, checked_counts, doubling, prefix_variants


class CodebookSweepSuite:
    """One prediction per recording and number of codebooks, quality beside bit rate.

    A row with b codebooks holds the decoding of codebooks 1 to b and, as ``last_codebook_*`` and ``phone_accuracy``, what codebook b
    is alone. Row 1 says how much text codebook 1 carries: ``wer`` and ``dwer`` of its decoding, and the probe on its tokens. A codec
    that does not decode prefixes is run once, as a point of comparison.

    The open-vocabulary recogniser behind ``wer``, ``cer`` and ``dwer`` takes most of the time, and longest where few codebooks leave
    it little to hear. So the default are the powers of two and the whole: curves bend at few codebooks and flatten at many. What is
    counted from tokens is cheap for every codebook: ``suite.counts=all metrics=[last_codebook_use,last_codebook_entropy_bits,
    phone_accuracy,phone_chance]``.

    Args:
        counts: numbers of codebooks; those a codec does not have are left out. "all" is every number from 1; None the powers of two
            and all codebooks together.

    Raises:
        ValueError: ``counts`` is neither, or holds something else than whole numbers from 1.
    """

    def __init__(self, counts: Counts = None) -> None:
        self._counts = checked_counts(counts)

    @property
    def info(self) -> SuiteInfo:
        return SuiteInfo(
            name="codebook_sweep",
            title="Quality against the number of codebooks",
            task=Task.RESYNTHESIS,
            systems=("qdac16", "qdac16_noasr"),
            metrics=(
                "pesq_wb",
                "stoi",
                "estoi",
                "si_sdr_db",
                "mcd_db",
                "log_mel_distance_db",
                "wer",
                "cer",
                "dwer",
                "intelligibility_probe",
                "sim_o",
                "emitted_bps",
                "entropy_bps",
                "codebook_use",
                "codebook_perplexity",
                "last_codebook_use",
                "last_codebook_entropy_bits",
                "phone_accuracy",
                "phone_chance",
            ),
            headline=(
                "pesq_wb",
                "stoi",
                "si_sdr_db",
                "wer",
                "dwer",
                "sim_o",
                "last_codebook_use",
                "phone_accuracy",
                "phone_chance",
                "emitted_bps",
            ),
            curves=(
                Curve("Quality against the number of codebooks", x="settings.codebooks", y=("pesq_wb", "stoi", "si_sdr_db")),
                Curve("Intelligibility and voice against the number of codebooks", x="settings.codebooks", y=("wer", "dwer", "sim_o")),
                Curve("Use of each codebook alone", x="settings.codebooks", y=("last_codebook_use", "last_codebook_entropy_bits")),
                Curve("Phones told from each codebook alone", x="settings.codebooks", y=("phone_accuracy", "phone_chance")),
                Curve("Quality against bit rate", x="emitted_bps", y=("pesq_wb", "stoi", "mcd_db"), log_x=True),
                Curve("Intelligibility and voice against bit rate", x="emitted_bps", y=("wer", "dwer", "sim_o"), log_x=True),
            ),
        )

    def variants(self, spec: CodecSpec | None) -> Sequence[Settings]:
        return prefix_variants(spec, self._counts, doubling)
