"""How a metric of this package is declared, and how one of two signals becomes a function on arrays as well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.api import Audio, Better, Evidence, Item, JudgeInfo, MetricInfo, Need, Sample, Signal
from harness.data.audio import out_of_scale, resample
from harness.errors import MissingDependency
from harness.metrics import METRICS

ON_ARRAYS = Item(id="arrays", dataset="")
"""The item of what is measured on arrays."""

_ARGUMENTS = """
    Args:
        reference: float ``[N]`` or ``[C, N]``, full scale at +-1, read as float32; channels are averaged.
        output: likewise; what is judged.
        sample_rate: of both, in Hz.
        output_rate: of the output, where it is another.
"""


def declared(name: str, *needs: Need, **more: Any) -> MetricInfo:
    """The declaration of a metric of `harness.metrics.METRICS`, which describes it.

    Further fields of `MetricInfo` are by default version 1, no unit, no rate and no direction.
    """
    usual: dict[str, Any] = {"version": "1", "unit": "", "better": Better.NEITHER, "sample_rate": None, "description": METRICS[name][1]}
    return MetricInfo(**{**usual, **more}, name=name, needs=frozenset(needs))


@dataclass(frozen=True)
class Measured:
    """A metric that is a function of a sample."""

    declare: Callable[[], MetricInfo]  # makes its declaration, when it is asked for: versions of packages are in it
    measure: Callable[[Sample], Evidence]  # see `harness.api.Metric`

    @property
    def info(self) -> MetricInfo:
        return self.declare()


def identity(info: JudgeInfo) -> str:
    """A judge as one parameter of a metric's signature."""
    return f"{info.family} {info.model} {info.digest} {info.package}"


def on_arrays(params: Callable[[], dict[str, Any]] = dict, package: str = "", **more: Any) -> Callable[[Callable[[Sample], Evidence]], Any]:
    """Makes of a measurement of a sample a function on arrays, whose ``metric()`` is what a run measures with.

    Args:
        params: makes the parameters of the signature.
        package: of PyPI, imported under the same name with _ for -, without which function and metric raise MissingDependency.
        more: other fields of the declaration, see `declared`.
    """

    def require() -> None:
        if package and find_spec(package.replace("-", "_")) is None:
            raise MissingDependency(f"{package} is not installed: pip install {package}")

    def decorate(measure: Callable[[Sample], Evidence]) -> Any:
        def function(reference: npt.ArrayLike, output: npt.ArrayLike, sample_rate: int, output_rate: int | None = None) -> float:
            require()
            judged = signal_of(output, sample_rate if output_rate is None else output_rate)
            return measure(Sample(ON_ARRAYS, judged, signal_of(reference, sample_rate))).value

        def declare() -> MetricInfo:
            return declared(measure.__name__, Need.OUTPUT, Need.REFERENCE, params=params(), **more)

        def metric() -> Measured:
            require()
            return Measured(declare, measure)

        about, lead, rest = str(measure.__doc__).partition("\n    Raises:")
        function.__doc__ = about.rstrip() + "\n" + _ARGUMENTS + lead + rest
        for attribute in ("__name__", "__qualname__", "__module__"):
            setattr(function, attribute, getattr(measure, attribute))
        made: Any = function
        made.metric, made.package = metric, package
        return made

    return decorate


def signal_of(samples: npt.ArrayLike, sample_rate: int) -> Signal:
    """An array ``[N]`` or ``[C, N]`` as metrics see it.

    Raises:
        ValueError: of another shape, or not of a full scale of +-1.
    """
    array = np.asarray(samples)
    if array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[0] > max(array.shape[1], 1)):
        raise ValueError(f"samples should be [N] or [C, N], got the shape {array.shape}{'; give its .T' if array.ndim == 2 else ''}")
    audio = Audio(array if array.ndim == 2 else array[None], sample_rate)
    if np.isfinite(audio.samples).all() and (reason := out_of_scale(audio)):
        raise ValueError(reason)
    return Signal(audio, resample)
