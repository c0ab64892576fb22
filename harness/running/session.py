"""What the steps of one run share: what it is about, what it expects, and what it finds out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.api import Item, Need, SuiteInfo
from harness.running.costs import PREDICTIONS, SCORES, Costs, prediction_name, score_name, share
from harness.running.metric_set import MetricCards
from harness.running.plan import Attempt, Card, Digests, Entrant, Withheld, metrics_of, score_key
from harness.running.progress import Progress
from harness.running.provenance import timed_elsewhere
from harness.running.scoring import Measure, Subject
from harness.settings.config import Config
from harness.storing.aliases import Aliases
from harness.storing.outcomes import OutcomeWriter
from harness.storing.store import Store
from harness.workers.jobs import Job

LOADING, PREDICTING, SCORING = "loading systems and metrics", "predicting", "scoring"


@dataclass(kw_only=True)
class Session:
    """What the steps of one run share, and what they find out."""

    config: Config
    suite: SuiteInfo
    items: Mapping[str, Item]  # by id
    entrants: Mapping[str, Entrant]  # by label, as the cards
    cards: Mapping[str, Card]
    metrics: MetricCards
    digests: Digests
    plan: Sequence[Attempt]
    withheld: Withheld
    store: Store
    writer: OutcomeWriter
    aliases: Aliases  # of folders that reasons name
    progress: Progress
    costs: Costs
    audio_s: float  # of speech in an item, more or less
    prices: dict[tuple[str, str], float] = field(default_factory=dict)  # expected seconds of a call by kind and name
    score_keys: dict[tuple[str, str], str] = field(default_factory=dict)  # of every (prediction key, metric) whose prediction is there
    warmups_s: dict[str, float] = field(default_factory=dict)  # by label
    put_back: dict[str, list[str]] = field(default_factory=dict)  # what somebody's code changed for the whole process
    timed_with: list[Mapping[str, str]] = field(default_factory=list)  # what times of this run depend on: others do not count
    elsewhere: dict[str, str] = field(default_factory=dict)  # how predictions were timed that were not as this run does, by their key

    def __post_init__(self) -> None:
        for card in self.cards.values():
            self.timed_here(card.timed_with)

    def timed_here(self, taken_with: Mapping[str, str]) -> None:
        """Notes what times of this run depend on; those found in the store count only if they are of the same."""
        if taken_with and taken_with not in self.timed_with:
            self.timed_with.append(taken_with)

    def note_changes(self, who: str, changed: Sequence[str]) -> None:
        """Says once what somebody's code changed for the whole process, or of what it was lent."""
        known = self.put_back.setdefault(who, []) if changed else []
        if new := [what for what in changed if what not in known]:
            known.extend(new)
            self.progress.note(f"{who} changed {', '.join(new)}: put back")

    def metrics_of(self, attempt: Attempt) -> Sequence[str]:
        """Registry keys of the metrics that an output is measured with."""
        return metrics_of(self.entrants[attempt.label], self.metrics.metrics)

    def cost_of(self, step: Attempt | Measure) -> float:
        """Seconds of one worker that a step is expected to take: the same from the beginning of the run to its end."""
        if isinstance(step, Attempt):
            return self._price(PREDICTIONS, prediction_name(step.label, timed=step.timing is not None), 1.0)
        return self._price(SCORES, score_name(step.metric, self.config), share(step.metric, self.metrics.metrics))

    def _price(self, kind: str, name: str, share: float) -> float:
        if (kind, name) not in self.prices:
            self.prices[kind, name] = self.costs.seconds(kind, name, self.audio_s)
        return share * self.prices[kind, name]

    def whole_s(self, size: tuple[int, int]) -> float:
        """Expected seconds of everything that is planned, with so many workers that predict and that score."""
        outputs = Counter((attempt.label, attempt.timing is not None) for attempt in self.plan)
        made = measured = 0.0
        for (label, timed), number in outputs.items():
            made += number * self._price(PREDICTIONS, prediction_name(label, timed=timed), 1.0)
            for metric in metrics_of(self.entrants[label], self.metrics.metrics):
                if (label, metric) not in self.withheld:
                    measured += number * self._price(SCORES, score_name(metric, self.config), share(metric, self.metrics.metrics))
        return made / size[0] + measured / size[1]

    def times(self, metric: str) -> bool:
        """Whether a metric is made from times."""
        return Need.TIMING in self.metrics.metrics[metric].needs

    def enter(self, attempt: Attempt) -> Iterator[str]:
        """Metrics that an output is to be measured with; what tells the numbers apart goes to ``score_keys`` (and ``elsewhere``).

        None of an output that is not there.
        """
        if not self.store.has_prediction(attempt.key):
            return
        prediction = self.store.describe_prediction(attempt.key)
        taken_with = (prediction["timing"] or {}).get("taken_with", {})
        if prediction["timing"] and taken_with not in self.timed_with:
            self.elsewhere[attempt.key] = timed_elsewhere(taken_with, self.timed_with)
        for name in self.metrics_of(attempt):
            if (attempt.label, name) not in self.withheld and not (attempt.key in self.elsewhere and self.times(name)):
                infos, item = self.metrics.metrics, self.digests.items[attempt.item]
                self.score_keys[attempt.key, name] = score_key(prediction, item, infos[name])
                yield name

    def job(self, item: str, steps: Sequence[Measure]) -> Job:
        """Measurements of one item's outputs."""
        return Job(f"item '{item}'", Subject(self.items[item], self.digests.contents[item]), tuple(steps))
