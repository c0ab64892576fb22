"""SoCodec, Table 2, under language models: with and without semantic features and loss; two of its three have to be trained first (systems/lm)."""

from __future__ import annotations

from dataclasses import replace

from suites.quantizer_ablation_tts import QuantizerAblationTtsSuite


class SemanticAblationTtsSuite(QuantizerAblationTtsSuite):
    """One utterance per system, item and seed, of language models trained alike on the codes of Codec-1, Codec-2 and SoCodec.

    Those over Codec-1 and Codec-2 do not come with the harness: `systems/lm/README.md` says how they are trained, `systems/LOG.md` what was measured.
    """

    info = replace(
        QuantizerAblationTtsSuite.info,
        name="semantic_ablation_tts",
        title="Semantic features and loss under a language model",
        systems=("socodec120_codec1_tts", "socodec120_codec2_tts", "socodec120_tts"),
    )
