"""What the container of a sound file promises to hold, and whether it is there.

libsndfile silently clips the declared length of most formats to the size of the file, so a cut file reads as a shorter one.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

_STREAMED_SIZE = 0x7F000000
"""Sizes of 32 bits from here on are placeholders of programs that write to a pipe (0x7FFFF000, 0xFFFFFFFF ...), not promises."""
_W64_GUID = bytes.fromhex("f3acd3118cd100c04f8edb8a")
"""The end of every chunk's name in a Wave64 file but the first one's."""
_OGG_HEADER_BYTES = 27
_LAST_PAGE = 4


@dataclass(frozen=True)
class _Promise:
    """What a header says of its samples."""

    declared: int  # bytes of samples
    present: int  # likewise
    frame: int = 1  # bytes of one sample of every channel: less than that cannot have been a sample


def missing_bytes(data: bytes) -> str:
    """Which samples a whole sound file declares and does not hold, in words; "" where it is whole or of a kind that is not looked into."""
    promised = next((look for magic, look in _LOOKS.items() if data.startswith(magic)), None)
    if data.startswith(b"OggS"):
        return _unended_ogg(data)
    promise = promised(data) if promised is not None else None
    if promise is None or promise.declared // promise.frame <= max(promise.present, 0) // promise.frame:
        return ""
    return f"the header declares {promise.declared} bytes of samples, the file holds {max(promise.present, 0)}"


def _chunks(data: bytes, place: int, header: str, even: int = 1, within: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """Name, length and start of each chunk from ``place`` on.

    ``header`` is the format of a name and a length, in which ``within`` bytes of the header count; chunks begin at multiples of ``even``.
    """
    size = struct.calcsize(header)
    while len(data) >= place + size:
        name, length = struct.unpack_from(header, data, place)
        start, length = place + size, length - within
        yield name, length, start
        place = start + length + -length % even


def _riff(data: bytes) -> _Promise | None:
    """RIFF, RIFX, RF64 and BW64."""
    if data[8:12] != b"WAVE":
        return None
    endian = ">" if data[:4] == b"RIFX" else "<"
    frame, wide = 1, None
    for name, length, start in _chunks(data, 12, endian + "4sI", even=2):
        if name == b"fmt " and len(data) >= start + 14:
            frame = max(1, struct.unpack_from(endian + "H", data, start + 12)[0])
        elif name == b"ds64" and len(data) >= start + 16:
            wide = struct.unpack_from("<Q", data, start + 8)[0]
        elif name == b"data":
            if wide is None and length >= _STREAMED_SIZE > len(data):
                return None
            return _Promise(wide if wide is not None and length == 0xFFFFFFFF else length, len(data) - start, frame)
    return None


def _w64(data: bytes) -> _Promise | None:
    """Sony Wave64: lengths of 64 bits that count the chunk's own header; chunks begin at multiples of 8."""
    frame = 1
    for name, length, start in _chunks(data, 40, "<16sQ", even=8, within=24):
        if name[4:] != _W64_GUID or length < 0:
            return None
        if name[:4] == b"fmt " and len(data) >= start + 14:
            frame = max(1, struct.unpack_from("<H", data, start + 12)[0])
        elif name[:4] == b"data":
            return _Promise(length, len(data) - start, frame)
    return None


def _iff(data: bytes) -> _Promise | None:
    """AIFF, AIFF-C (samples in SSND, behind 8 bytes) and the Amiga's 8SVX and 16SV (in BODY)."""
    for name, length, start in _chunks(data, 12, ">4sI", even=2):
        if name in (b"SSND", b"BODY"):
            ahead = 8 if name == b"SSND" else 0
            return None if length >= _STREAMED_SIZE > len(data) else _Promise(length - ahead, len(data) - start - ahead)
    return None


def _au(data: bytes) -> _Promise | None:
    """Sun and NeXT, of both byte orders."""
    if len(data) < 24:
        return None
    start, declared = struct.unpack_from(">II" if data[:4] == b".snd" else "<II", data, 4)
    return None if declared >= _STREAMED_SIZE > len(data) else _Promise(declared, len(data) - start)


def _caf(data: bytes) -> _Promise | None:
    """Apple's Core Audio Format: lengths of 64 bits; -1 for samples that go on to the end of the file."""
    frame = 1
    for name, length, start in _chunks(data, 8, ">4sq"):
        if name == b"desc" and len(data) >= start + 20:
            frame = max(1, struct.unpack_from(">I", data, start + 16)[0])  # 0 where packets differ in length
        if length < 0:
            return None
        if name == b"data":
            return _Promise(length - 4, len(data) - start - 4, frame)
    return None


def _sphere(data: bytes) -> _Promise | None:
    """NIST SPHERE: a header of text, of a length that its second line states."""
    size = re.match(rb"NIST_1A\n\s*(\d+)\n", data)
    header = data[: int(size[1])] if size else b""
    said = {name: int(value) for name, value in re.findall(rb"^(\w+) -(?:i|s\d+) (\d+)$", header, re.MULTILINE)}
    count, width, channels = said.get(b"sample_count", 0), said.get(b"sample_n_bytes", 1), said.get(b"channel_count", 1)
    return _Promise(count * width * channels, len(data) - len(header), max(1, width * channels)) if count else None


_LOOKS: Mapping[bytes, Callable[[bytes], _Promise | None]] = {
    **dict.fromkeys((b"RIFF", b"RIFX", b"RF64", b"BW64"), _riff),
    b"riff": _w64,
    b"FORM": _iff,
    b"caff": _caf,
    **dict.fromkeys((b".snd", b"dns."), _au),
    b"NIST_1A": _sphere,
}


def _unended_ogg(data: bytes) -> str:
    """Ogg marks the last page of a stream, and a page says how long it is."""
    place = data.rfind(b"OggS")
    if len(data) < place + _OGG_HEADER_BYTES:
        return "the last page of the Ogg stream is cut"
    segments = data[place + 26]
    table = data[place + _OGG_HEADER_BYTES : place + _OGG_HEADER_BYTES + segments]
    if not data[place + 5] & _LAST_PAGE:
        return "the Ogg stream ends without its last page"
    if len(table) < segments or len(data) < place + _OGG_HEADER_BYTES + segments + sum(table):
        return "the last page of the Ogg stream is cut"
    return ""
