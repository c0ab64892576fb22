"""Metrics built together with the models they judge by.

A metric asks for a judge by the name of a constructor argument: ``asr`` (recognisers under the ``asr=`` preset), ``probe`` (the
closed-vocabulary recogniser over the dataset's own texts), ``aligner`` (phones of a known text), ``phones`` (a phone recogniser), ``encoder``
(``speaker=``), ``predictor`` (``mos=``), ``features`` or ``emotion``. One that can compare with two recordings asks by ``against``: it is told "reference" where recordings are
resynthesised and "prompt" where a voice is followed.

Where a run has several judges of a kind, what asks for one is measured by each: under its own key by the first, as ``KEY@NAME`` by the others.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.api import Metric, MetricInfo, Task
from harness.api.libraries import library
from harness.errors import ConfigError, HarnessError, MissingDependency
from harness.foreign import attempt, loading, reason_of
from harness.judges import build
from harness.kept import Kept
from harness.settings.registry import entries, resolve, source_digest


class NothingToJudge(Exception):
    """No item of the dataset can be measured with this metric: it is left out with that reason, and nothing is missing."""


@dataclass(frozen=True)
class MetricCards:
    """Declarations of the metrics that were built, by registry key, and the reasons of those that were not."""

    metrics: dict[str, MetricInfo]
    absent: dict[str, str]


@dataclass(frozen=True)
class MetricSet:
    """The metrics of one run, built."""

    metrics: dict[str, Metric]  # by registry key, in order
    cards: MetricCards
    foreign: frozenset[str] = frozenset()  # keys that plug-ins brought


@dataclass
class MetricBuilder:
    """How to build the metrics of a run in any process."""

    keys: Sequence[str]
    config: Mapping[str, Any]  # the sections ``asr``, ``speaker`` and ``mos``, and ``also``: further ones of each by name
    texts: tuple[str, ...]  # of the dataset's English items, the vocabulary of the probe
    allow_missing: bool = False  # leave out what cannot be built instead of raising
    task: Task = Task.RESYNTHESIS  # of the suite
    languages: frozenset[str] | None = None  # of the dataset's items: recognisers of others are not asked for; None asks for all
    recognisers: dict[str, Any] = field(default_factory=dict, repr=False)  # by configuration: protocols share them
    _judges: dict[tuple[str, str], Any] = field(default_factory=dict, repr=False)

    def build(self) -> MetricSet:
        """Imports and loads everything the metrics need.

        Raises UsageError: a judge or package is missing and ``allow_missing`` is off, no such metric or family of judges, or a metric
        declares what cannot be written down.
        """
        metrics: dict[str, Metric] = {}
        absent: dict[str, str] = {}
        known = entries("metrics")
        origins = {key: known[key].origin if key in known else "" for key in self.keys}
        for key, judge in [(asked, judge) for asked in self.keys for judge in ("", *self._others(asked))]:
            label = f"{key}@{judge}" if judge else key
            try:
                metrics[label] = self._metric(key, judge, origins[key])
            except NothingToJudge as reason:
                absent[label] = str(reason)
            except MissingDependency as error:
                if not self.allow_missing:
                    raise MissingDependency(
                        f"metric '{label}': {error} (or leave it out with metrics=[...] or run.allow_missing=true)"
                    ) from error
                absent[label] = str(error)
        cards = MetricCards({key: _declaration(key, metric) for key, metric in metrics.items()}, absent)
        return MetricSet(metrics, cards, frozenset(label for label in metrics if origins[label.partition("@")[0]]))

    def _others(self, key: str) -> list[str]:
        """Names of the judges, beside the first, that a metric is measured by as well."""
        wanted = inspect.signature(resolve("metrics", key)).parameters
        return [name for argument, kind in KINDS.items() if argument in wanted for name in (self.config.get("also") or {}).get(kind) or ()]

    def _metric(self, key: str, judge: str, origin: str) -> Metric:
        make = resolve("metrics", key)
        wanted = inspect.signature(make).parameters
        arguments = {name: self._judge(name, judge) for name in wanted if name in JUDGES}
        if "against" in wanted:
            arguments["against"] = "prompt" if self.task is Task.SYNTHESIS else "reference"
        if not origin:
            built: Metric = make(**arguments)
            return built
        what = f"metric '{key}' (plug-in {origin})"
        loading(what)
        try:
            with Kept(settling=True):
                built = attempt(lambda: make(**arguments))
        except Exception as error:  # whatever its constructor raises, the metric is what is missing
            raise MissingDependency(f"{what} cannot be built: {reason_of(error)}") from error
        return built

    def _judge(self, argument: str, name: str) -> Any:
        """The judge that a metric asks for by a constructor argument, built once: the first of its kind, or one of the others by its name."""
        if (argument, name) not in self._judges:
            loading(f"judge {KINDS.get(argument, argument)}{f'={name}' if name else ''}")
            self._judges[argument, name] = self._built(argument, name)
        return self._judges[argument, name]

    def _built(self, argument: str, name: str) -> Any:
        if argument == "aligner":
            from harness.judges.pocketsphinx import PhoneAligner

            return PhoneAligner()
        if argument == "phones":
            from harness.judges.phones import PhoneRecogniser

            return PhoneRecogniser()
        if argument == "probe":
            from harness.judges.pocketsphinx import ClosedVocabulary

            if not self.texts:
                raise NothingToJudge("the intelligibility probe knows English only, and the dataset has no English texts")
            return ClosedVocabulary(texts=self.texts)
        kind = KINDS[argument]
        section: Mapping[str, Any] = self.config["also"][kind][name] if name else self.config[kind]
        if kind == "asr":
            from harness.judges.presets import build_asr

            return build_asr(section, self.languages, self.recognisers)
        return build(kind, section)


KINDS = {"asr": "asr", "encoder": "speaker", "predictor": "mos", "features": "features", "emotion": "emotion"}
"""Section of the judge by the name of the constructor argument with which a metric asks for one: those of which a run may have several."""
JUDGES = (*KINDS, "probe", "aligner", "phones")
"""All of these arguments."""


def _declaration(key: str, metric: Metric) -> MetricInfo:
    """What a metric declares, checked: it is written to the manifest and is part of every key. Raises ConfigError where that cannot be."""
    try:
        info = attempt(lambda: metric.info)
        if type(info) is not MetricInfo:
            raise TypeError(f"info is a {type(info).__name__}, wanted harness.api.MetricInfo")
        worst, *_ = map(float, info.bounds)
        written = [info.signature(), info.unit, str(info.better), sorted(map(str, info.needs)), info.description, info.sample_rate, worst]
        json.dumps(written, ensure_ascii=False).encode()
    except HarnessError:
        raise
    except Exception as error:
        raise ConfigError(f"metric '{key}' declares what cannot be written down: {reason_of(error)}") from error
    # What it cannot know of itself: the harness resamples for it, and a plug-in's code is another without a new version.
    beside = {"resampler": library("soxr")} if info.sample_rate is not None else {}
    if source := source_digest(metric):
        beside["source"] = source
    return replace(info, params={**beside, **info.params})
