"""Quality, bit rate, use and phones codebook by codebook, of codecs that decode prefixes; suite.counts=[1,2,4] or all."""

from __future__ import annotations

from collections.abc import Sequence

from harness.api import CodecSpec, Curve, Settings, SuiteInfo, Task

Counts = Sequence[int] | str | None
"""Numbers of codebooks as a user gives them: a list, "all", or None for the suite's own choice."""


def every(most: int) -> list[int]:
    """1, 2, 3 ... ``most``."""
    return list(range(1, most + 1))


def doubling(most: int) -> list[int]:
    """The powers of two up to ``most``, and ``most`` itself."""
    return sorted({*(1 << i for i in range(most.bit_length())), most})


def checked_counts(counts: Counts) -> Counts:
    """``counts`` as given.

    Raises:
        ValueError: it is no list of whole numbers from 1, nor "all", nor None.
    """
    if isinstance(counts, str):
        if counts != "all":
            raise ValueError(f"suite.counts={counts}: write a list such as [1,2,4], all, or null for the suite's own choice")
    elif isinstance(counts, (int, float)):
        raise ValueError(f"suite.counts={counts}: write a list, such as [{counts}]")
    elif counts is not None:
        wrong = [c for c in counts if not isinstance(c, int) or isinstance(c, bool) or c < 1]
        if wrong or not counts:
            raise ValueError(f"suite.counts={list(counts)}: numbers of codebooks are whole numbers from 1, at least one of them")
    return counts


METRICS = (
    "pesq_wb", "stoi", "estoi", "si_sdr_db", "mcd_db", "log_mel_distance_db", "wer", "cer", "dwer", "intelligibility_probe", "sim_o",
    "emitted_bps", "entropy_bps", "codebook_use", "codebook_perplexity", "last_codebook_use", "last_codebook_entropy_bits",
    "phone_accuracy", "phone_chance",
)  # fmt: skip
HEADLINE = (
    "pesq_wb", "stoi", "si_sdr_db", "wer", "dwer", "sim_o", "last_codebook_use", "phone_accuracy", "phone_chance", "emitted_bps",
)  # fmt: skip


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

    info = SuiteInfo(
        name="codebook_sweep",
        title="Quality against the number of codebooks",
        task=Task.RESYNTHESIS,
        systems=("qdac16", "qdac16_noasr"),
        metrics=METRICS,
        headline=HEADLINE,
        curves=(
            Curve("Quality against the number of codebooks", x="settings.codebooks", y=("pesq_wb", "stoi", "si_sdr_db")),
            Curve("Intelligibility and voice against the number of codebooks", x="settings.codebooks", y=("wer", "dwer", "sim_o")),
            Curve("Use of each codebook alone", x="settings.codebooks", y=("last_codebook_use", "last_codebook_entropy_bits")),
            Curve("Phones told from each codebook alone", x="settings.codebooks", y=("phone_accuracy", "phone_chance")),
            Curve("Quality against bit rate", x="emitted_bps", y=("pesq_wb", "stoi", "mcd_db"), log_x=True),
            Curve("Intelligibility and voice against bit rate", x="emitted_bps", y=("wer", "dwer", "sim_o"), log_x=True),
        ),
    )
    usual = staticmethod(doubling)
    """From a codec's number of codebooks to those decoded where ``counts`` is None."""

    def __init__(self, counts: Counts = None) -> None:
        self._counts = checked_counts(counts)

    def variants(self, spec: CodecSpec | None) -> Sequence[Settings]:
        """``{"codebooks": b}`` for each b asked for, ascending; all of them where the codec has none of those."""
        if spec is None or not spec.prefix_decodable or not spec.num_codebooks:
            return [{}]
        most = spec.num_codebooks
        if self._counts is None:
            chosen = self.usual(most)
        elif isinstance(self._counts, str):
            chosen = every(most)
        else:
            chosen = sorted({c for c in self._counts if c <= most}) or [most]
        return [{"codebooks": count} for count in chosen]
