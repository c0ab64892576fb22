"""A codec in a worker."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from harness.api import Audio, Bitstream, CodecSpec, Codes, Encoded
from systems.worker.adapter import Adapter
from systems.worker.bridge import WorkerError, samples

_SIDE = "side:"


class WorkerCodec(Adapter):
    """Codes or packets from another Python environment."""

    family = "worker_codec"
    kind = "codec"

    @property
    def spec(self) -> CodecSpec:
        """As the worker declared it when it started."""
        spec = self._bridge.hello.spec
        assert spec is not None  # `read_hello` sees to it
        return spec

    def encode(self, audio: Audio) -> Encoded:
        """What the worker makes of mono audio.

        Raises:
            ValueError: wrong sample rate, or indices outside their codebooks.
            RuntimeError: the worker failed.
        """
        if audio.sample_rate != self.spec.sample_rate:
            raise ValueError(f"{self.info.description} wants {self.spec.sample_rate} Hz, got {audio.sample_rate}")
        arrays = self._bridge.ask("encode", {}, {"audio": audio.samples[0]}, "encoded").arrays
        if "packets" in arrays:
            return Bitstream(_packets(arrays), audio.num_samples, audio.sample_rate)
        if "indices" not in arrays or arrays["indices"].dtype != np.int64:
            raise WorkerError("the worker answered encode with neither indices of int64 nor packets")
        side = {name.removeprefix(_SIDE): np.array(value) for name, value in arrays.items() if name.startswith(_SIDE)}
        return Codes(np.array(arrays["indices"]), self.spec, audio.num_samples, side)

    def decode(self, encoded: Encoded) -> Audio:
        """Audio again, as long as the input was.

        Raises:
            RuntimeError: the worker failed.
        """
        if isinstance(encoded, Bitstream):
            arrays: dict[str, npt.NDArray[Any]] = {
                "packets": np.frombuffer(b"".join(encoded.packets), np.uint8),
                "packet_bytes": np.array([len(packet) for packet in encoded.packets], np.int64),
            }
        else:
            arrays = {"indices": encoded.indices, **{f"{_SIDE}{name}": value for name, value in encoded.side.items()}}
        reply = self._bridge.ask("decode", {"num_samples": encoded.num_samples}, arrays, "speech")
        return Audio.mono(samples(reply, "decode"), self.spec.sample_rate)


def _packets(arrays: dict[str, npt.NDArray[Any]]) -> tuple[bytes, ...]:
    joined, lengths = arrays["packets"], arrays.get("packet_bytes")
    if joined.dtype != np.uint8 or joined.ndim != 1 or lengths is None or lengths.dtype != np.int64 or lengths.ndim != 1:
        raise WorkerError("the worker answered encode with packets of another layout: packets uint8 [bytes], packet_bytes int64 [packets]")
    if (lengths < 0).any() or int(lengths.sum()) != joined.size:
        raise WorkerError(f"the worker's packets are {joined.size} bytes, their lengths add up to {int(lengths.sum())}")
    ends = np.cumsum(lengths)
    return tuple(joined[end - length : end].tobytes() for length, end in zip(lengths, ends, strict=True))
