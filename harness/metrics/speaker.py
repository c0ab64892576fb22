"""Speaker similarity: is it still the same voice?"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.api import Better, Evidence, MetricInfo, Need, NotApplicable, NotScorable, Sample, Side, Signal, SpeakerEncoder
from harness.judges.input import NoSpeechError, audible

SHORTEST_S = 0.5
"""Below this a speaker embedding says more about the sounds that happen to be in it than about the voice."""


class SpeakerSimilarity:
    """Cosine of speaker embeddings, output against an *original* recording (SIM-o, never the codec's resynthesis of it).

    Two encoders are two scales: the same pair is .33 or .77 by model. The name says which, the signature which weights.

    Args:
        encoder: of voices.
        against: "reference", the item's own recording (resynthesis), or "prompt", the voice to be followed (zero-shot synthesis).
    """

    def __init__(self, encoder: SpeakerEncoder, against: Literal["reference", "prompt"] = "reference") -> None:
        if against not in ("reference", "prompt"):
            raise ValueError(f"against should be 'reference' or 'prompt', got {against!r}")
        self._encoder, self._against = encoder, against
        info = encoder.info
        self.info = MetricInfo(
            name=f"sim_{info.family}_o",
            version="1",
            unit="",
            better=Better.HIGHER,
            needs=frozenset({Need.OUTPUT, Need.REFERENCE if against == "reference" else Need.PROMPT}),
            sample_rate=info.sample_rate,
            bounds=(-1.0, 1.0),
            description=f"cosine of {info.family} speaker embeddings, output against the original {against}",
            params={"encoder": f"{info.family} {info.model} {info.digest} {info.package}", "against": against},
            worst=0.0,
        )

    def measure(self, sample: Sample) -> Evidence:
        """The cosine, in -1..1.

        Raises:
            NotApplicable: the item has no such original.
            NotScorable: a side silent, shorter than .5 s, not finite, or without speech for the encoder.
        """
        original = sample.reference if self._against == "reference" else sample.prompt
        if original is None:
            raise NotApplicable(f"the item has no {self._against} recording")
        # The original first: where it cannot be scored, no system is to blame.
        first = _embedding(self._encoder, original, Side.REFERENCE)
        second = _embedding(self._encoder, sample.output, Side.OUTPUT)
        return Evidence(float(np.clip(first @ second, -1.0, 1.0)))


class ResynthesisSimilarity:
    """Cosine of speaker embeddings, speech against the system's own codec's *resynthesis* of the prompt (SIM-r).

    What the codec loses of a voice is taken out of the comparison: it tells how well the model over the codes follows, and says less
    than SIM-o about what a listener hears. Two systems with different codecs are compared with different recordings.

    Args:
        encoder: of voices.
    """

    def __init__(self, encoder: SpeakerEncoder) -> None:
        self._encoder = encoder
        info = encoder.info
        self.info = MetricInfo(
            name=f"sim_{info.family}_r",
            version="1",
            unit="",
            better=Better.HIGHER,
            needs=frozenset({Need.OUTPUT, Need.PROMPT_RESYNTHESIS}),
            sample_rate=info.sample_rate,
            bounds=(-1.0, 1.0),
            description=f"cosine of {info.family} speaker embeddings, output against the prompt as the system's codec resynthesises it",
            params={"encoder": f"{info.family} {info.model} {info.digest} {info.package}", "against": "prompt resynthesis"},
            worst=0.0,
        )

    def measure(self, sample: Sample) -> Evidence:
        """The cosine, in -1..1.

        Raises:
            NotApplicable: the system has no codec to resynthesise the prompt with.
            NotScorable: a side silent, shorter than .5 s, not finite, or without speech for the encoder; both are the system's own.
        """
        if sample.prompt_resynthesis is None:
            raise NotApplicable("the system has no codec to resynthesise the prompt with")
        first = _embedding(self._encoder, sample.prompt_resynthesis, Side.OUTPUT)
        second = _embedding(self._encoder, sample.output, Side.OUTPUT)
        return Evidence(float(np.clip(first @ second, -1.0, 1.0)))


def _embedding(encoder: SpeakerEncoder, signal: Signal, side: Side) -> npt.NDArray[np.float64]:
    info = encoder.info
    samples = audible(signal, info.sample_rate, side, SHORTEST_S)
    try:
        return signal.derive(("speaker", info.family, info.model, info.digest), lambda: encoder.embed(samples))
    except NoSpeechError as error:
        raise NotScorable(side, str(error)) from error
