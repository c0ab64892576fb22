"""Zero-shot text-to-speech: words, voice, opinion, speed and stop reasons; dataset=seedtts, pgc_hard or embedded; several seeds=[0,1,2]."""

from __future__ import annotations

from collections.abc import Sequence

from harness.api import CodecSpec, Curve, Settings, SuiteInfo, Task

METRICS = ("wer", "cer", "intelligibility_probe", "sim_o", "sim_r", "mos", "stopped_by_itself", "length_ratio", "rtf")
"""What every suite of text-to-speech measures; they differ in whom they ask."""


class ZeroShotSuite:
    """One utterance per system, item and seed (``seeds=[0,1,2]``), measured by what is heard in it.

    Nothing is compared sample by sample: two good readings of a text do not align. Speaker similarity is to the prompt, the original
    (SIM-o) or as the system's codec resynthesises it (SIM-r). The ground-truth row is the human recording of the same text through the
    same judges; beside it stands the similarity of two recordings of one voice, and in the impostor row that of two voices.
    """

    info = SuiteInfo(
        name="zero_shot",
        title="Zero-shot text-to-speech",
        task=Task.SYNTHESIS,
        systems=("qtts_hierarchical", "qtts_multihead", "socodec120_tts"),
        metrics=(*METRICS, "clipped_samples"),
        headline=("wer", "cer", "intelligibility_probe", "sim_o", "sim_r", "mos", "stopped_by_itself", "rtf"),
        curves=(Curve("Words and voice against speed", x="rtf", y=("cer", "sim_o"), log_x=True),),
        calibration=("ground_truth", "impostor"),
    )

    def variants(self, spec: CodecSpec | None) -> Sequence[Settings]:
        return [{}]
