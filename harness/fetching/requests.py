"""What a run, or the names on a command line, want that lies on a hub or in a package: asked of the systems and judges themselves."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from harness import judges
from harness.api import language_code
from harness.data.manifests import DatasetConfig, load_dataset
from harness.hub import HubFiles
from harness.judges.presets import asr_downloads, missing_asr
from harness.judges.weights import WEIGHTS, Weights, find
from harness.running.metric_set import KINDS
from harness.running.runner import metric_keys
from harness.settings.config import Config
from harness.settings.registry import resolve


@dataclass(frozen=True)
class Request:
    """Who wants something."""

    name: str  # "encodec6", "asr=seedtts", or of the weights
    weights: HubFiles | Weights | None  # None where the one who asks cannot run and says of nothing that could be fetched
    lacking: Callable[[], str | None]  # what that one says is missing here, None when nothing

    def here(self) -> bool:
        """Whether it lies here, as far as the files' names tell."""
        if isinstance(self.weights, Weights):
            return find(self.weights) is not None
        return self.weights is not None and self.weights.located() is not None


def of_weights(names: Iterable[str]) -> list[Request]:
    """Of pinned weights by their own names, `harness.judges.weights.WEIGHTS`."""
    return [Request(name, WEIGHTS[name], _nothing) for name in names]


def of_config(config: Config, sections: Sequence[str], languages: Collection[str] | None = None) -> list[Request]:
    """Of the systems and judges of a configuration.

    Args:
        config: composed.
        sections: "systems", or kinds of judges.
        languages: that will be spoken, for recognisers; None for all that a preset has one for.

    Raises:
        UnknownName, ConfigError: a judge is not described rightly.
        MissingDependency: a system's module cannot be imported.
    """
    found = [
        request for section in sections for request in (_systems(config) if section == "systems" else _judges(config, section, languages))
    ]
    return [request for place, request in enumerate(found) if request.weights not in [other.weights for other in found[:place]]]


def of_run(config: Config) -> list[Request]:
    """As `of_config`, for what a run uses: a kind of judge that none of its metrics asks for, or a recogniser of a language that its data
    does not hold, is left out.

    Raises:
        ManifestError: the data cannot be read; as `of_config` too.
    """
    keys = metric_keys(config)
    asked = {name for key in keys for name in inspect.signature(resolve("metrics", key)).parameters}
    spoken = {language_code(item.language) for item in load_dataset(DatasetConfig.from_mapping(config["dataset"])).items}
    return of_config(config, ["systems", *(kind for argument, kind in KINDS.items() if argument in asked)], spoken)


def _systems(config: Config) -> Iterator[Request]:
    for name, section in config["systems"].items():
        parameters = {key: value for key, value in section.items() if key != "family"}
        kind = resolve("systems", section["family"])
        downloads, missing = getattr(kind, "downloads", None), getattr(kind, "missing", None)
        lacking = partial(missing, **parameters) if missing is not None else _nothing
        yield from _each(name, downloads(**parameters) if downloads is not None else (), lacking)


def _judges(config: Config, kind: str, languages: Collection[str] | None) -> Iterator[Request]:
    others: Mapping[str, Any] = (config.get("also") or {}).get(kind) or {}
    for name, section in (("", config[kind]), *others.items()):
        label = f"{kind}={name or section.get('preset') or section.get('family')}"
        if kind == "asr":
            yield from _each(label, asr_downloads(section, languages), partial(missing_asr, section, languages))
        else:
            yield from _each(label, judges.downloads(kind, section), partial(judges.missing, kind, section))


def _each(name: str, wanted: Sequence[HubFiles | Weights], lacking: Callable[[], str | None]) -> Iterator[Request]:
    if wanted:
        yield from (Request(name, weights, lacking) for weights in wanted)
    elif lacking():
        yield Request(name, None, lacking)


def _nothing() -> None:
    """What one says that never lacks anything."""
