"""The part of a decoded frame that the network's input depends on, as bytes to ship.

Of a frame only the rows and columns that the crop's gather touches matter (see
:mod:`vidfeat.preprocess`). A decode process copies just those samples of the decoder's planes into
one flat buffer; conversion to RGB, resize and crop happen where the buffer arrives, and give every
pixel as :meth:`FramePreprocessor.frame` gives it. What is copied, and where each pixel of the crop
finds its four corners in the buffer, is a :class:`PlaneCut`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import UsageError
from vidfeat.plane_tables import cut_tables
from vidfeat.preprocess import Preprocess
from vidfeat.yuv import ChromaProbe, Colour, colour_of, direct_rule_holds

if TYPE_CHECKING:
    import av

# Smaller frames have other filters in FFmpeg's scaler.
_SMALLEST_SCALED = 16
_UNLOCATED = 0
_KEPT_KINDS = 64


class Samples(NamedTuple):
    """How samples of 4:2:0 lie in memory."""

    bits: int = 8
    """8, or 10 in two bytes, little-endian."""
    interleaved: bool = False
    """Chroma is one plane of alternating U and V, as hardware decoders give it (NV12, P010)."""
    high: bool = False
    """10 bits in the upper bits of 16 (P010)."""

    @property
    def bytes(self) -> int:
        """Of one sample."""
        return 1 if self.bits == 8 else 2

    @property
    def low_bits(self) -> int:
        """Below a sample, to be shifted out."""
        return 16 - self.bits if self.high else 0


PLANAR = Samples()
_SAMPLES = {
    "yuv420p": PLANAR,
    "yuvj420p": PLANAR,
    "nv12": Samples(interleaved=True),
    "yuv420p10le": Samples(10),
    "p010le": Samples(10, interleaved=True, high=True),
}


@dataclass(frozen=True)
class Orientation:
    """How a decoded frame is turned to stand upright."""

    turns: int = 0
    """Quarter turns counter-clockwise, 0 to 3."""
    mirrored: bool = False
    """Left and right swapped first, before the turn."""

    def __post_init__(self) -> None:
        if self.turns not in (0, 1, 2, 3):
            raise UsageError(f"turns are 0, 1, 2 or 3 quarters, not {self.turns!r}")


UPRIGHT = Orientation()


@dataclass(frozen=True)
class PlaneCut:
    """Which samples of a frame are shipped, and how the crop is made of them.

    Equal cuts are interchangeable: use it as a key. Pickled, it is its few fields; tables are made
    once in each process.
    """

    height: int
    """Of the decoded frame, before it is turned."""
    width: int
    colour: Colour
    resize: tuple[int, int] | int
    crop: tuple[int, int]
    orientation: Orientation = UPRIGHT
    interlaced: bool = False
    """The frame holds two fields, each with its own rows of chroma; FFmpeg converts each alone."""
    samples: Samples = PLANAR
    location: int | None = None
    """Of chroma, where FFmpeg interpolates it (see :mod:`vidfeat.yuv`); None where it does not."""

    @property
    def nbytes(self) -> int:
        """Bytes that :meth:`copy` writes for one frame."""
        return cut_tables(self).nbytes

    def from_hardware(self) -> PlaneCut:
        """The cut of the same video's frames as a hardware decoder lays them out (NV12, P010).

        The pixels made of them are those of FFmpeg's own planes.
        """
        wide = self.samples.bits > 8
        return replace(self, samples=Samples(self.samples.bits, interleaved=True, high=wide))

    def copy(self, frame: av.VideoFrame, out: NDArray[np.uint8]) -> None:
        """Copy a frame's part of the samples.

        Args:
            frame: a frame for which :class:`PlaneCutter` gives this cut.
            out: uint8 (nbytes,), contiguous.
        """
        for plane, block in zip(frame.planes, cut_tables(self).blocks, strict=True):
            block.copy(memoryview(plane), plane.line_size, out)

    def copy_arrays(self, planes: Sequence[NDArray[np.uint8]], out: NDArray[np.uint8]) -> None:
        """The same from arrays (rows, bytes of a row), each contiguous, one for each plane."""
        for plane, block in zip(planes, cut_tables(self).blocks, strict=True):
            block.copy(plane.data, plane.strides[0], out)


class PlaneCutter:
    """Finds the cuts of decoded frames, of any number of videos. For one thread.

    PyAV does not tell where a frame's chroma lies. Where it matters (10 bits, odd heights) it is
    found out frame by frame (:class:`vidfeat.yuv.ChromaProbe`).
    """

    def __init__(self, preprocess: Preprocess) -> None:
        self.preprocess = preprocess
        self._known: dict[tuple[object, ...], PlaneCut | None] = {}
        self._probe: ChromaProbe | None = None

    def cut(self, frame: av.VideoFrame) -> PlaneCut | None:
        """The cut for a decoded frame, or None where only ``FramePreprocessor`` is exact.

        None is given for other pixel formats than 4:2:0 of 8 and 10 bits, for colour spaces that
        FFmpeg does not convert, where it converts by none of the rules of :mod:`vidfeat.yuv`, and
        for frames upside down in memory.
        """
        key = (
            frame.format.name,
            frame.height,
            frame.width,
            frame.rotation,
            frame.interlaced_frame,
            frame.colorspace,
            frame.color_range,
        )
        if key not in self._known:
            if len(self._known) >= _KEPT_KINDS:
                self._known.clear()
            self._known[key] = self._by_tags(frame)
        cut = self._known[key]
        if cut is None or any(plane.line_size <= 0 for plane in frame.planes):
            return None
        if cut.location is None:
            return cut
        if self._probe is None:
            self._probe = ChromaProbe()
        location = self._probe.location(frame, cut.colour, cut.samples.bits)
        return None if location is None else _located(cut, location)

    def _by_tags(self, frame: av.VideoFrame) -> PlaneCut | None:
        """Without the location of chroma."""
        samples, colour = _SAMPLES.get(frame.format.name), colour_of(frame)
        if samples is None or colour is None:
            return None
        field_height = frame.height
        if frame.interlaced_frame:
            if frame.height % 4:
                return None  # the fields' rows of chroma do not come out even
            field_height //= 2
        interpolated = samples != PLANAR or field_height % 2 == 1
        if interpolated:
            if frame.width % 2 or min(field_height, frame.width) < _SMALLEST_SCALED:
                return None
        elif not direct_rule_holds(frame.format.name, colour):
            return None
        return PlaneCut(
            frame.height,
            frame.width,
            colour,
            self.preprocess.resize,
            self.preprocess.crop,
            Orientation(frame.rotation % 360 // 90),
            frame.interlaced_frame,
            samples,
            _UNLOCATED if interpolated else None,
        )


@lru_cache(maxsize=64)
def _located(cut: PlaneCut, location: int) -> PlaneCut:
    return replace(cut, location=location)


def plane_cut(frame: av.VideoFrame, preprocess: Preprocess) -> PlaneCut | None:
    """The cut for one frame (see :class:`PlaneCutter`, which is quicker for many)."""
    return PlaneCutter(preprocess).cut(frame)
