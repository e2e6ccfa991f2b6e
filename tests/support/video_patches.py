"""Changing single bytes of finished video files: what no muxer writes of its own accord."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

CONTAINER_BOXES = {b"moov", b"trak", b"edts", b"mdia", b"minf", b"stbl", b"udta"}

# Display matrices of a track header (16.16 fixed point, the last column 2.30), by the clockwise
# angle that a player turns the stored picture by.
ONE, UNIT = 0x00010000, 0x40000000
MATRICES = {
    0: (ONE, 0, 0, 0, ONE, 0, 0, 0, UNIT),
    90: (0, ONE, 0, -ONE, 0, 0, 0, 0, UNIT),
    180: (-ONE, 0, 0, 0, -ONE, 0, 0, 0, UNIT),
    270: (0, -ONE, 0, ONE, 0, 0, 0, 0, UNIT),
}


def boxes(data: bytes, start: int = 0, end: int | None = None) -> list[tuple[bytes, int, int]]:
    """(type, first byte, byte after the last) of the boxes of an mp4 file at one level."""
    found = []
    end = len(data) if end is None else end
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        if size == 1:
            size = struct.unpack_from(">Q", data, start + 8)[0]
        if size == 0:
            size = end - start
        found.append((kind, start, start + size))
        start += size
    return found


def find_box(data: bytes, kind: bytes, nth: int = 0) -> tuple[int, int]:
    """(first byte of the content, byte after the last) of the nth box of a type, at any depth."""
    matches: list[tuple[int, int]] = []

    def walk(start: int, end: int) -> None:
        for name, first, last in boxes(data, start, end):
            if name == kind:
                matches.append((first + 8, last))
            if name in CONTAINER_BOXES:
                walk(first + 8, last)

    walk(0, len(data))
    return matches[nth]


def patch(path: Path, change: Callable[[bytearray], None]) -> Path:
    """Change the bytes of a file in place."""
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return path


def set_rotation(path: Path, degrees: int) -> Path:
    """Write the display matrix of the first track: players turn by ``degrees`` clockwise."""

    def change(data: bytearray) -> None:
        start, _ = find_box(data, b"tkhd")
        # version 0: flags 4, times 8, id 4, reserved 4, duration 4, reserved 8, layer..volume 8
        struct.pack_into(">9i", data, start + 40, *MATRICES[degrees])

    return patch(path, change)


def read_edits(path: Path) -> tuple[int, int, list[tuple[int, int]]]:
    """(movie time scale, media time scale, [(duration, media time)]) of the first track."""
    data = path.read_bytes()
    movie = struct.unpack_from(">I", data, find_box(data, b"mvhd")[0] + 12)[0]
    media = struct.unpack_from(">I", data, find_box(data, b"mdhd")[0] + 12)[0]
    start, _ = find_box(data, b"elst")
    count = struct.unpack_from(">I", data, start + 4)[0]
    edits = [struct.unpack_from(">Ii", data, start + 8 + 12 * i) for i in range(count)]
    return movie, media, edits


def set_edits(path: Path, edits: list[tuple[int, int]]) -> Path:
    """Overwrite the edit list with as many (duration in movie ticks, media time) entries."""

    def change(data: bytearray) -> None:
        start, _ = find_box(data, b"elst")
        assert struct.unpack_from(">I", data, start + 4)[0] == len(edits)
        for i, (duration, media_time) in enumerate(edits):
            struct.pack_into(">Ii", data, start + 8 + 12 * i, duration, media_time)

    return patch(path, change)


def cover_first(path: Path) -> Path:
    """Move the metadata (with the cover picture) before the tracks: the cover is stream 0 then."""

    def change(data: bytearray) -> None:
        start, end = find_box(data, b"moov")
        parts = [(kind, bytes(data[a:b])) for kind, a, b in boxes(data, start, end)]
        parts.sort(key=lambda part: (part[0] != b"mvhd", part[0] == b"trak"))
        data[start:end] = b"".join(content for _, content in parts)

    return patch(path, change)


def set_avi_frame_count(path: Path, count: int) -> Path:
    """Write another number of frames into both headers of an AVI file."""

    def change(data: bytearray) -> None:
        struct.pack_into("<I", data, data.index(b"avih") + 8 + 16, count)
        struct.pack_into("<I", data, data.index(b"strh") + 8 + 32, count)

    return patch(path, change)


def flip_bytes(path: Path, share: float, length: int = 64) -> Path:
    """Invert a segment of bytes that starts at a share of the media data."""

    def change(data: bytearray) -> None:
        try:
            start, end = next((a + 8, b) for kind, a, b in boxes(data) if kind == b"mdat")
        except StopIteration:
            start, end = 0, len(data)
        at = start + int((end - start) * share)
        data[at : at + length] = bytes(255 - byte for byte in data[at : at + length])

    return patch(path, change)


def cut(path: Path, share: float) -> Path:
    """Keep the first share of a file's bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path
