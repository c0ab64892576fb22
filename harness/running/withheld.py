"""Which numbers untrained systems do not get: random weights never produce a quality number unless the run asks for it."""

from __future__ import annotations

from collections.abc import Mapping

from harness.api import Better, MetricInfo, Need, Status, Weights
from harness.running.plan import Card
from harness.storing.outcomes import Outcome

Withheld = frozenset[tuple[str, str]]
"""(label of an entrant, registry key of a metric)."""

RANDOM_WEIGHTS = Outcome(
    Status.SKIPPED_BY_POLICY, reason="random weights have no quality; allow_random=true measures them, to try the plumbing"
)


def withheld(cards: Mapping[str, Card], metrics: Mapping[str, MetricInfo], allow_random: bool) -> Withheld:
    """What is neither measured nor shown of systems whose weights are random.

    Args:
        cards: of the entrants, by label.
        metrics: by registry key.
        allow_random: the run's ``allow_random``.
    """
    if allow_random:
        return frozenset()
    random = [label for label, card in cards.items() if card.info.weights == Weights.RANDOM]
    return frozenset((label, key) for label in random for key, info in metrics.items() if speaks_of_quality(info))


def speaks_of_quality(metric: MetricInfo) -> bool:
    """Whether training changes what the number means.

    Time does not depend on it, nor do descriptions counted from the codes alone: bit rates, say.
    """
    if Need.TIMING in metric.needs:
        return False
    return metric.better is not Better.NEITHER or not metric.needs <= {Need.ENCODED, Need.CODES}
