"""Getting published weights, on request and never otherwise: what a run or some names want, what is offered for it, and the transfer.

`requests` says what is wanted, `hub` and `transfer` fetch and check, `offers` tells before anything moves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.errors import MissingDependency, UsageError
from harness.fetching.offers import Offer, offered
from harness.fetching.requests import Request, of_run
from harness.fetching.transfer import obtain
from harness.foreign import reason_of
from harness.settings.config import Config

Say = Callable[[str], None]


def fetch(requests: Sequence[Request], say: Say, dry: bool = False) -> list[str]:
    """Gets what is not here, each after it was told with size, licence, revision and digest.

    Args:
        requests: whose weights; the same ones wanted twice are fetched once.
        say: gets each line.
        dry: only tells.

    Returns:
        A sentence for each that is still missing.
    """
    offers = [offered(request) for request in requests]
    for offer in offers:
        for line in offer.lines():
            say(line)
    if dry:
        return [f"{offer.request.name}: not here" for offer in offers if not offer.here]
    return [fault for offer in offers if (fault := _fault(offer, say))]


def fetch_for_run(config: Config, say: Say) -> None:
    """Gets what a run wants and lacks; says nothing where all is here.

    Args:
        config: of the run, composed.
        say: gets each line.

    Raises:
        MissingDependency: something cannot be had, and ``run.allow_missing`` is off; nothing was run.
    """
    wanted = [request for request in of_run(config) if request.weights is not None and not request.here()]
    faults = fetch(wanted, say)
    for fault in faults:
        say(fault)
    if faults and not config["run"]["allow_missing"]:
        raise MissingDependency(f"run.fetch=true: {'; '.join(faults)}")


def _fault(offer: Offer, say: Say) -> str:
    try:
        if not offer.here:
            say(f"{offer.request.name}: {obtain(offer, say)}")
    except UsageError as error:
        return f"{offer.request.name}: {error}"
    except OSError as error:  # no space, no permission: of this one; the others are still tried
        return f"{offer.request.name}: {reason_of(error)}"
    lacking = offer.request.lacking()
    return f"{offer.request.name}: its weights are here, but {lacking}" if lacking else ""
