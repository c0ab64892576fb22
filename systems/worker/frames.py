"""Frames put together from bytes as they come."""

from __future__ import annotations

from systems.worker.elsewhere import speech_worker as wire
from systems.worker.elsewhere.speech_worker import Malformed, Message

_EXCERPT_BYTES = 60


class FrameBuffer:
    """Bytes of a worker that have not yet become messages.

    What cannot become a frame is refused with the first byte that shows it, before anything more is read or room is made for it.
    """

    def __init__(self) -> None:
        self._bytes = bytearray()

    def __len__(self) -> int:
        return len(self._bytes)

    def feed(self, data: bytes) -> None:
        """Appends what came."""
        self._bytes += data

    @property
    def wanted(self) -> int | None:
        """Length in bytes of the frame that has begun, head included; None before its head is complete.

        Raises:
            Malformed: no frame begins here, or one that is too long.
        """
        if not wire.MAGIC.startswith(bytes(self._bytes[: len(wire.MAGIC)])):
            raise Malformed(f"not a frame: it begins with {self.excerpt()!r}")
        if len(self._bytes) < wire.HEAD.size:
            return None
        head = wire.read_head(self._bytes)
        return wire.HEAD.size + head.json_bytes + head.data_bytes

    @property
    def complete(self) -> bool:
        """Whether a whole frame is there.

        Raises:
            Malformed: as `wanted`.
        """
        wanted = self.wanted
        return wanted is not None and len(self._bytes) >= wanted

    def take(self) -> Message:
        """The first frame, taken off.

        Raises:
            Malformed: as `wanted`, or its content is damaged.
        """
        wanted = self.wanted
        if wanted is None or len(self._bytes) < wanted:
            raise Malformed(f"half a frame: {len(self._bytes)} bytes")
        head = wire.read_head(self._bytes)
        body = bytes(self._bytes[wire.HEAD.size : wanted])
        del self._bytes[:wanted]
        return wire.unpack(head, body)

    def excerpt(self) -> bytes:
        """The first bytes, for messages."""
        return bytes(self._bytes[:_EXCERPT_BYTES])
