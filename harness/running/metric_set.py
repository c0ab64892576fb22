"""Metrics built together with the models they judge by.

A metric asks for a backend by the name of a constructor argument: ``asr`` (recognisers under the ``asr=`` preset), ``probe`` (the
closed-vocabulary recogniser over the dataset's own texts), ``aligner`` (phones of a known text), ``encoder`` (``speaker=``) or
``predictor`` (``mos=``). One that can compare with two recordings asks by ``against``: it is told "reference" where recordings are
resynthesised and "prompt" where a voice is followed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.api import Metric, Task
from harness.errors import MissingDependency
from harness.foreign import attempt, loading, reason_of
from harness.judges.factory import build
from harness.kept import Kept
from harness.settings.registry import entries, metric_class


class NothingToJudge(Exception):
    """No item of the dataset can be measured with this metric: it is left out with that reason, and nothing is missing."""


@dataclass(frozen=True)
class MetricSet:
    """The judges of one run.

    Args:
        metrics: by registry key, in order.
        absent: keys left out, with the reason.
        foreign: keys that plug-ins brought.
    """

    metrics: dict[str, Metric]
    absent: dict[str, str]
    foreign: frozenset[str] = frozenset()


@dataclass
class MetricBuilder:
    """How to build the panel in any process.

    Args:
        keys: of the metrics.
        config: the sections ``asr``, ``speaker`` and ``mos``.
        texts: of the dataset's English items, the vocabulary of the probe.
        allow_missing: leave out what cannot be built instead of raising.
        task: of the suite.
    """

    keys: Sequence[str]
    config: Mapping[str, Any]
    texts: tuple[str, ...]
    allow_missing: bool = False
    task: Task = Task.RESYNTHESIS
    _built: dict[str, Any] = field(default_factory=dict, repr=False)

    def build(self) -> MetricSet:
        """Imports and loads everything the metrics need.

        Raises:
            MissingDependency: a backend or package is missing and ``allow_missing`` is off.
            UnknownName: no such metric or backend family.
        """
        metrics: dict[str, Metric] = {}
        absent: dict[str, str] = {}
        known = entries("metrics")
        origins = {key: known[key].origin if key in known else "" for key in self.keys}
        for key in self.keys:
            try:
                metrics[key] = self._metric(key, origins[key])
            except NothingToJudge as reason:
                absent[key] = str(reason)
            except MissingDependency as error:
                if not self.allow_missing:
                    raise MissingDependency(
                        f"metric '{key}': {error} (or leave it out with metrics=[...] or run.allow_missing=true)"
                    ) from error
                absent[key] = str(error)
        return MetricSet(metrics, absent, frozenset(key for key in metrics if origins[key]))

    def _metric(self, key: str, origin: str) -> Metric:
        make = metric_class(key)
        makers: dict[str, Callable[[], Any]] = {
            "asr": self._asr,
            "probe": self._probe,
            "aligner": self._aligner,
            "encoder": self._encoder,
            "predictor": self._predictor,
        }
        wanted = inspect.signature(make).parameters
        arguments = {name: self._once(name, makers[name]) for name in wanted if name in makers}
        if "against" in wanted:
            arguments["against"] = "prompt" if self.task is Task.SYNTHESIS else "reference"
        metric: Metric = _built(key, origin, lambda: make(**arguments)) if origin else make(**arguments)
        return metric

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._built:
            self._built[name] = make()
        return self._built[name]

    def _asr(self) -> Any:
        from harness.judges.presets import build_asr

        return build_asr(self.config["asr"])

    def _probe(self) -> Any:
        from harness.judges.closed_vocabulary import ClosedVocabulary

        if not self.texts:
            raise NothingToJudge("the intelligibility probe knows English only, and the dataset has no English texts")
        return ClosedVocabulary(texts=self.texts)

    def _aligner(self) -> Any:
        from harness.judges.phone_alignment import PhoneAligner

        return PhoneAligner()

    def _encoder(self) -> Any:
        return build("speaker", self.config["speaker"])

    def _predictor(self) -> Any:
        return build("mos", self.config["mos"])


def _built(key: str, origin: str, make: Callable[[], Metric]) -> Metric:
    """A metric that a plug-in brought; whatever its constructor raises, the metric is what is missing."""
    what = f"metric '{key}' (plug-in {origin})"
    loading(what)
    try:
        with Kept(settling=True):
            return attempt(make)
    except Exception as error:
        raise MissingDependency(f"{what} cannot be built: {reason_of(error)}") from error
