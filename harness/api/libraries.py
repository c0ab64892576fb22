"""Versions of the outside libraries that make a number or an output, for its signature or key."""

from __future__ import annotations

from functools import cache


@cache
def version_of(distribution: str) -> str:
    """Version of an installed distribution, "absent" where there is none. Imports nothing of it."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return "absent"


def library(*distributions: str) -> str:
    """``"name version, name version"``, for the parameters of a metric."""
    return ", ".join(f"{name} {version_of(name)}" for name in distributions)


def versions(*distributions: str) -> tuple[tuple[str, str], ...]:
    """Pairs of name and version, for `harness.api.SystemInfo.tools`.

    Named are those whose version moves the output: what computes it (torch for a network, PyAV for the libopus in it) and what draws
    (numpy for noise), not what only carries it.
    """
    return tuple((name, version_of(name)) for name in distributions)
