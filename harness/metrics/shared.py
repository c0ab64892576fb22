"""What was made of an audio, for other signals that are the same bit for bit: a recording and its lossless copy, the recording of one item
that another is compared with.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, MutableMapping
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from harness.api import Signal

T = TypeVar("T")

KEPT = 512
"""Results of each judge that a process keeps: embeddings, of some kB."""
KEPT_ANALYSES = 16
"""Of a library, 150 kB each: for the outputs of one item."""


class Library:
    """Stands for a library where `judged_once` has a judge.

    Args:
        kept: results that are kept.
    """

    def __init__(self, kept: int = KEPT_ANALYSES) -> None:
        self.kept = kept


_Results = OrderedDict[tuple[str, Hashable], Any]
_recent: MutableMapping[Any, _Results] = WeakKeyDictionary()


def judged_once(judge: Any, signal: Signal, key: Hashable, compute: Callable[[], T]) -> T:
    """As `Signal.derive`, and what ``judge`` made of another signal with the same samples at the same rate is taken as it is.

    Args:
        judge: whose results, which do not refer to it, go when it goes.
        signal: what is judged.
        key: tells apart what this judge makes of an audio; `Signal.derive` keeps it under this key.
        compute: does not depend on anything else.
    """

    def found() -> T:
        results = _results(judge)
        if results is None:
            return compute()
        of = signal.derive("digest", signal.audio.digest), key
        if of not in results:
            results[of] = compute()
        results.move_to_end(of)
        value: T = results[of]
        if len(results) > (judge.kept if isinstance(judge, Library) else KEPT):
            results.popitem(last=False)
        return value

    return signal.derive(key, found)


def _results(judge: Any) -> _Results | None:
    try:
        return _recent.setdefault(judge, OrderedDict())
    except TypeError:  # a plug-in's judge that is no key, or cannot be referred to weakly: nothing of it is kept
        return None
