"""Small videos that are odd in one way, written with PyAV: frames that tell their number."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

MILLISECOND = Fraction(1, 1000)
Frames = Iterable[NDArray[np.uint8]]


def scene(count: int, size: tuple[int, int] = (96, 72), seed: int = 0) -> list[NDArray[np.uint8]]:
    """RGB frames (H, W, 3) of a bright bar that moves over a ground."""
    width, height = size
    frames = []
    for number in range(count):
        frame = np.full((height, width, 3), 30 + 20 * (seed % 5), np.uint8)
        at = (3 * number) % (width - 8)
        frame[:, at : at + 8] = 220
        frames.append(frame)
    return frames


CORNERS = {"R": (255, 0, 0), "G": (0, 255, 0), "B": (0, 0, 255), "W": (255, 255, 255)}


def corners(size: tuple[int, int] = (96, 64)) -> NDArray[np.uint8]:
    """Red top left, green top right, blue bottom left, white bottom right."""
    width, height = size
    frame = np.empty((height, width, 3), np.uint8)
    for (row, column), name in zip(((0, 0), (0, 1), (1, 0), (1, 1)), "RGBW", strict=True):
        down = slice(row * height // 2, (row + 1) * height // 2)
        across = slice(column * width // 2, (column + 1) * width // 2)
        frame[down, across] = CORNERS[name]
    return frame


def corner_names(frame: NDArray[np.uint8]) -> str:
    """What stands in the corners, row by row: ``RGBW`` for a picture as stored."""
    names = {tuple(int(value > 128) for value in rgb): name for name, rgb in CORNERS.items()}
    places = ((4, 4), (4, -5), (-5, 4), (-5, -5))
    return "".join(names[tuple(int(value > 128) for value in frame[place])] for place in places)


def write_video(
    path: Path,
    frames: Frames,
    stamps: Sequence[int] | None = None,
    *,
    rate: Fraction | int = 30,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    format: str | None = None,  # noqa: A002 (PyAV's word)
    options: dict[str, str] | None = None,
    change: dict[int, int] | None = None,
) -> Path:
    """Write frames with times in milliseconds, or side by side at a rate.

    Args:
        path: the file.
        frames: RGB frames (H, W, 3).
        stamps: the millisecond of each.
        rate: that the header claims.
        codec: encoder.
        pix_fmt: of the encoder.
        format: of the container, where the name does not tell.
        options: of the encoder; ``bf`` is the most B-frames side by side.
        change: the number of a packet to the number of the one whose time it gets.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tick = Fraction(1) / Fraction(rate) if stamps is None else MILLISECOND
    options = {"bf": "0", "g": "300", **(options or {})}
    with av.open(str(path), "w", format=format) as out:
        packets = encoded(out, frames, stamps, tick, rate, codec, pix_fmt, options)
        times = [(packet.pts, packet.dts) for packet in packets]
        for number, source in (change or {}).items():
            packets[number].pts, packets[number].dts = times[source]
        for packet in packets:
            out.mux(packet)
    return path


def encoded(
    out: av.container.OutputContainer,
    frames: Frames,
    stamps: Sequence[int] | None,
    tick: Fraction,
    rate: Fraction | int,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
) -> list[av.Packet]:
    """Packets of a new stream."""
    frames = list(frames)
    stream = out.add_stream(codec, rate=rate)
    stream.height, stream.width = frames[0].shape[:2]
    stream.pix_fmt = pix_fmt
    stream.codec_context.time_base = stream.time_base = tick
    stream.codec_context.thread_count = 1
    stream.options = dict(options or {})
    packets = []
    for number, pixels in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts, frame.time_base = number if stamps is None else stamps[number], tick
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def write_two_streams(
    path: Path,
    counts: tuple[int, int],
    rates: tuple[int, int],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    default: int | None,
) -> Path:
    """Two video streams; one of them, or none, is marked as default."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        packets = []
        for number in range(2):
            stamps = [round(n * 1000 / rates[number]) for n in range(counts[number])]
            frames = scene(max(1, counts[number]), sizes[number], number)
            made = encoded(
                out, frames, stamps or [0], MILLISECOND, rates[number], options={"bf": "0"}
            )
            packets += made if counts[number] else []
            mark = av.stream.Disposition.default if number == default else 0
            out.streams.video[number].disposition = mark
        for packet in sorted(packets, key=lambda p: (p.dts * p.time_base, p.stream_index)):
            out.mux(packet)
    return path


# a b c d of a display matrix: x' = a x + c y, y' = b x + d y; and the corners that are then shown
ORIENTATIONS = {
    "plain": ((1, 0, 0, 1), "RGBW"),
    "hflip": ((-1, 0, 0, 1), "GRWB"),
    "vflip": ((1, 0, 0, -1), "BWRG"),
    "rot180": ((-1, 0, 0, -1), "WBGR"),
    "transpose": ((0, 1, 1, 0), "RBGW"),
    "transverse": ((0, -1, -1, 0), "WGBR"),
    "clockwise": ((0, 1, -1, 0), "BRWG"),
    "counter": ((0, -1, 1, 0), "GWRB"),
}


def set_matrix(path: Path, name: str, size: tuple[int, int]) -> Path:
    """Write an orientation into the track header of an MP4 or MOV with one track."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4
    at += 4 + (32 if data[at] == 1 else 20) + 16  # version, flags, times; layer and volume
    a, b, c, d = (value << 16 for value in ORIENTATIONS[name][0])
    width, height = size
    x = -min(0, a * width, c * height, a * width + c * height)
    y = -min(0, b * width, d * height, b * width + d * height)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, x, y, 1 << 30)
    path.write_bytes(data)
    return path


def oriented(
    folder: Path, name: str, size: tuple[int, int] = (96, 64), suffix: str = ".mp4"
) -> Path:
    """A video of ten frames whose display matrix asks for an orientation."""
    path = write_video(folder / f"{name}{suffix}", [corners(size)] * 10, rate=20)
    return set_matrix(path, name, size)
