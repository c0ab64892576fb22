"""Contract checks for those who write systems, metrics and suites: call one in a test of yours.

    from harness.testing import check_codec

    def test_my_codec():
        check_codec(MyCodec(), factory=MyCodec)

Each check raises `BrokenLaw` (an AssertionError) with a sentence naming the law and the figures, or returns a `ContractReport` of what was
checked and what was skipped, with reasons.
"""

from harness.commands.gate import GateFailed, check_gate
from harness.testing.codec import check_codec
from harness.testing.laws import BrokenLaw, ContractReport, signal, speechlike
from harness.testing.metric import check_metric
from harness.testing.suite import check_suite
from harness.testing.synthesizer import check_recorded, check_synthesizer

__all__ = [
    "BrokenLaw", "ContractReport", "GateFailed", "check_codec", "check_gate", "check_metric", "check_recorded", "check_suite", "check_synthesizer", "signal",
    "speechlike",
]  # fmt: skip
