"""The network of DNSMOS P.835 over many windows at once: what neighbouring windows share is computed once.

The package runs its graph on one window of 9.01 s after another, a second apart, so that eight ninths of a window were computed before; a
clip of 3 s, repeated, becomes two to six windows. 97 % of the work are four convolutions over all 900 frames, which know no window but for
its edges, 4 frames from where it begins and ends. Here they run once over the frames of all windows; the edges are computed from what each
window sees there, zeros beside it, and put in their place; the rest runs window by window as in the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from harness.api import FloatArray
from harness.judges.checkpoints import check_weights

HOP, FRAME = 160, 320
BINS = FRAME // 2 + 1
FRAMES = 900
"""Of a window, whose last 160 samples end the last of them."""
STEP = 100
"""Frames from one window to the next: a second."""
CONVOLUTIONS = {
    "conv2d": (128, 1), "conv2d_1": (64, 128), "conv2d_2": (64, 64), "conv2d_3": (32, 64),
    "conv2d_4": (32, 32), "conv2d_5": (32, 32), "conv2d_6": (64, 32),
}  # fmt: skip
"""Channels out and in of each, 3 x 3 with zeros around; the first four at full resolution, all with ReLU."""
DENSE = {"dense": (64, 128), "dense_1": (128, 64), "dense_3": (64, 3)}
"""Inputs and outputs; ReLU between them."""
EDGE = 4
"""Frames from a window's edge that four convolutions bring its zeros to."""
CHUNK = 300
"""Frames that the convolutions take at a time: 25 MB for the widest, which stay in the processor's cache."""
ADDEND = 128
"""Products of a bin that are added up apart, as onnxruntime does: what a bin that nearly cancels is left with depends on the order in single
precision, and one such bin can move a score by 5e-5."""
GROUP = 64
"""Windows whose frames are held at a time."""


class SharedWindows:
    """The network, from the weights of the package's graph ``sig_bak_ovr.onnx``.

    Args:
        weights: by their names in the graph.
        path: of the graph, for the message.

    Raises:
        CheckpointError: the graph's weights have other names or shapes.
    """

    def __init__(self, weights: Mapping[str, npt.NDArray[np.generic]], path: Path) -> None:
        found = {name: torch.from_numpy(np.array(values)) for name, values in weights.items() if values.dtype == np.float32}
        check_weights(_expected(), found, path, allow_unexpected=True)
        self._transform = torch.cat([found[f"time2freq/stft-{part}/kernel:0"][:, :, 0] for part in ("real", "imag")]).T.contiguous()
        self._floor = float(found["mos_estimator_logpow/Maximum/x:0"])
        layers = [(found[f"{name}/kernel:0"], found[f"{name}/bias:0"]) for name in CONVOLUTIONS]
        (first, self._first_bias), *rest = layers
        self._first = first.reshape(len(first), 9).T.contiguous()
        self._full = [(kernel.contiguous(memory_format=torch.channels_last), bias) for kernel, bias in rest[:3]]
        self._reduced = rest[3:]
        self._dense = [tuple(found[_dense(name, part)] for part in ("MatMul", "BiasAdd")) for name in DENSE]

    def __call__(self, samples: FloatArray, windows: Sequence[int]) -> npt.NDArray[np.float32]:
        """Signal, background and overall quality as the graph puts them out, ``[W, 3]``.

        Args:
            samples: ``[N]`` at 16 kHz.
            windows: the second at which each begins, ascending; every one lies in the samples whole.
        """
        with torch.inference_mode():
            groups = [windows[first : first + GROUP] for first in range(0, len(windows), GROUP)]
            found: npt.NDArray[np.float32] = torch.cat([self._group(samples, group) for group in groups]).numpy()
        return found

    def _group(self, samples: FloatArray, windows: Sequence[int]) -> Tensor:
        begin, end = STEP * windows[0], STEP * windows[-1] + FRAMES
        part = torch.from_numpy(np.array(samples[HOP * begin : HOP * (end + 1)]))
        spectrum = self._log_power(part)
        shared = torch.cat([self._pooled(spectrum, start) for start in range(0, len(spectrum), CHUNK)], dim=1)
        at = [STEP * window - begin for window in windows]
        edges = functional.max_pool2d(self._convolved(torch.stack(
            [spectrum[start : start + 2 * EDGE] for start in at] + [spectrum[start + FRAMES - 2 * EDGE : start + FRAMES] for start in at]
        )), 2)  # fmt: skip
        inner = EDGE // 2
        found = []
        for number, start in enumerate(at):
            middle = shared[:, start // 2 + inner : (start + FRAMES) // 2 - inner]
            found.append(self._rated(torch.cat([edges[number, :, :inner], middle, edges[len(at) + number, :, inner:]], dim=1)))
        return torch.cat(found)

    def _log_power(self, samples: Tensor) -> Tensor:
        """Decimal logarithms of the power, ``[T, 161]``."""
        frames = samples.unfold(0, FRAME, HOP)
        parts = (frames[:, first : first + ADDEND] @ self._transform[first : first + ADDEND] for first in range(0, FRAME, ADDEND))
        both = reduce(torch.add, parts)
        power = both[:, :BINS].square() + both[:, BINS:].square()
        return torch.log10(torch.clamp(power, min=self._floor))

    def _pooled(self, spectrum: Tensor, start: int) -> Tensor:
        """The four convolutions and the first pooling over the `CHUNK` from ``start``, ``[32, T', 80]``; silence lies around the whole."""
        stop = min(start + CHUNK, len(spectrum))
        left, right = min(EDGE, start), min(EDGE, len(spectrum) - stop)
        full = self._convolved(spectrum[None, start - left : stop + right])
        return functional.max_pool2d(full[0, :, left : left + stop - start], 2)

    def _convolved(self, spectra: Tensor) -> Tensor:
        """The four convolutions at full resolution over each of ``[B, T, 161]``, ``[B, 32, T, 161]``."""
        batch, frames, bins = spectra.shape
        # Of one channel a library's convolution makes poor use of the processor: nine shifted copies times a matrix, channels last.
        shifted = functional.pad(spectra, (1, 1, 1, 1)).unfold(1, 3, 1).unfold(2, 3, 1).reshape(-1, 9)
        full = functional.relu_(torch.addmm(self._first_bias, shifted, self._first)).reshape(batch, frames, bins, -1).permute(0, 3, 1, 2)
        for kernel, bias in self._full:
            full = functional.relu_(functional.conv2d(full, kernel, bias, padding=1))
        return full

    def _rated(self, pooled: Tensor) -> Tensor:
        """What follows the first pooling, of one window ``[32, 450, 80]``: ``[1, 3]``."""
        x = pooled[None]
        for number, (kernel, bias) in enumerate(self._reduced):
            x = functional.relu_(functional.conv2d(functional.max_pool2d(x, 2) if number else x, kernel, bias, padding=1))
        x = x.amax((2, 3))
        for number, (matrix, bias) in enumerate(self._dense):
            x = torch.addmm(bias, functional.relu(x) if number else x, matrix)
        return x


def _dense(name: str, part: str) -> str:
    return f"mos_estimator_logpow/{name}/{part}/ReadVariableOp/resource:0"


def _expected() -> dict[str, Tensor]:
    """Of the shapes that the graph's weights have."""
    shapes: dict[str, tuple[int, ...]] = {"mos_estimator_logpow/Maximum/x:0": ()}
    shapes |= {f"time2freq/stft-{part}/kernel:0": (BINS, FRAME, 1) for part in ("real", "imag")}
    shapes |= {f"{name}/kernel:0": (*channels, 3, 3) for name, channels in CONVOLUTIONS.items()}
    shapes |= {f"{name}/bias:0": channels[:1] for name, channels in CONVOLUTIONS.items()}
    shapes |= {_dense(name, "MatMul"): size for name, size in DENSE.items()}
    shapes |= {_dense(name, "BiasAdd"): size[1:] for name, size in DENSE.items()}
    return {name: torch.empty(shape) for name, shape in shapes.items()}
