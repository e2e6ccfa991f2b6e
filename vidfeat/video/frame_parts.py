"""From planes to pixels on the CPU: only the part of a frame that matters is converted.

Under the direct rule of ``yuv.py``, the rows and columns needed are copied into a small frame,
which FFmpeg converts: the conversion of a pixel depends only on that pixel and its chroma. Under
the scaled rule, the formulas are evaluated here, on the distinct rows and columns: FFmpeg's scaler
is slow, and numpy on a part of the frame takes a fraction of its time.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vidfeat.video.plane_tables import Corners, PlaneCut, chroma_taps, cut_corners
from vidfeat.video.planes import PlaneCutter
from vidfeat.video.preprocess import Gather, Preprocess, rgb0_pixels
from vidfeat.video.yuv import scaled_coefficients

if TYPE_CHECKING:
    import av

_KEPT_CUTS = 4
# Where the detour pays off, by the share of the frame that it converts. One core, part against
# whole frame: the small frame took 1.0 of the time at a share of 0.6, 0.9 at 0.46, 0.73 at 0.31 and
# 0.33 at 0.2 (1920 x 1080); the formulas 0.86 at 0.57, 0.36 at 0.22 (640 x 360) and 0.06 at 0.02
# (1920 x 1080) for 10 bits, and for 8 bits, where FFmpeg's scaler is quicker, 1.1 at 0.22, 0.7 at
# 0.1 and 0.17 at 0.02.
_LARGEST_DIRECT_SHARE = 0.47
_LARGEST_SCALED_SHARE = {8: 0.1, 10: 0.45}
_COLUMNS = 8


class FramePart(Protocol):
    """Converts frames of one cut to pixels."""

    def frame(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """A decoded frame, turned upright, resized and cropped: uint8 (H, W, 3) RGB."""


class FrameParts:
    """Chooses the conversion for each frame. Not thread-safe."""

    def __init__(self, preprocess: Preprocess) -> None:
        self._cutter = PlaneCutter(preprocess)
        self._parts: OrderedDict[PlaneCut, FramePart | None] = OrderedDict()
        self._whole: tuple[str, int, int] | None = None

    def of(self, frame: av.VideoFrame) -> FramePart | None:
        """The conversion for a frame; None if the whole frame is to be converted."""
        # Both ways are exact. Checking every frame of a size that does not pay off costs more than
        # the occasional frame of another kind would gain.
        kind = (frame.format.name, frame.height, frame.width)
        if kind == self._whole:
            return None
        cut = self._cutter.cut(frame)
        if cut is None:
            return None
        if cut not in self._parts:
            self._parts[cut] = _part(cut, frame.format.name)
            if len(self._parts) > _KEPT_CUTS:
                self._parts.popitem(last=False)
        part = self._parts[cut]
        self._whole = kind if part is None else None
        return part


def _part(cut: PlaneCut, pixel_format: str) -> FramePart | None:
    if cut.location is None:
        direct = DirectPart(cut, pixel_format)
        return direct if direct.share <= _LARGEST_DIRECT_SHARE else None
    scaled = ScaledPart(cut)
    return scaled if scaled.share <= _LARGEST_SCALED_SHARE[cut.samples.bits] else None


class DirectPart:
    """Copies the rows and columns needed into a small frame, which FFmpeg converts."""

    def __init__(self, cut: PlaneCut, pixel_format: str) -> None:
        import av
        from av.video.reformatter import VideoReformatter

        corners = cut_corners(cut)
        taps = chroma_taps(cut)[0].places[0]
        chroma_rows = np.unique(taps[corners.rows])
        # two rows of luma share a row of chroma, in the small frame as in the whole one
        self._luma_rows = np.stack([np.flatnonzero(taps == row) for row in chroma_rows]).reshape(-1)
        self._chroma_rows = chroma_rows
        first = int(corners.columns.min()) // 2
        last = int(corners.columns.max()) // 2
        self._first = (2 * first, first, first)
        width = -(-2 * (last + 1 - first) // _COLUMNS) * _COLUMNS
        self._samples = (2 * (last + 1 - first), last + 1 - first, last + 1 - first)
        self.share = len(self._luma_rows) * width / (cut.height * cut.width)
        self._small = av.VideoFrame(width, len(self._luma_rows), pixel_format)
        self._reformatter = VideoReformatter()
        order = np.argsort(self._luma_rows)
        slots = order[np.searchsorted(self._luma_rows[order], corners.rows)]
        self._gather = _gather(corners, slots, corners.columns - 2 * first)

    def frame(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """See :meth:`FramePart.frame`."""
        small = self._small
        small.colorspace, small.color_range = frame.colorspace, frame.color_range
        rows = (self._luma_rows, self._chroma_rows, self._chroma_rows)
        parts = zip(frame.planes, small.planes, rows, self._first, self._samples, strict=True)
        for source, target, picked, first, count in parts:
            count = min(count, source.width - first)
            line = np.dtype((np.void, count))
            step, memory = source.line_size, memoryview(source)
            lines = np.ndarray(source.height, line, memory, first, (step,))
            step, memory = target.line_size, memoryview(target)
            out = np.ndarray(target.height, line, memory, 0, (step,))
            out[:] = lines[picked]
        return self._gather.apply(rgb0_pixels(self._reformatter, small))


class ScaledPart:
    """Evaluates the scaled rule on the distinct rows and columns."""

    def __init__(self, cut: PlaneCut) -> None:
        corners = cut_corners(cut)
        self._cut = cut
        self._rows, self._columns = np.unique(corners.rows), np.unique(corners.columns)
        self.share = len(self._rows) * len(self._columns) / (cut.height * cut.width)
        down, across = chroma_taps(cut)
        self._row_taps = down.places[:, self._rows]
        self._row_weights = down.weights[:, self._rows, None]
        places = across.places[:, self._columns]
        self._first, last = int(places.min()), int(places.max())
        self._chroma_columns = slice(self._first, last + 1)
        self._column_taps = places - self._first
        self._column_weights = across.weights[:, self._columns]
        self._coefficients = scaled_coefficients(cut.colour)
        self._pixels = np.zeros((len(self._rows), len(self._columns), 4), np.uint8)
        self._gather = _gather(
            corners,
            np.searchsorted(self._rows, corners.rows),
            np.searchsorted(self._columns, corners.columns),
        )

    def frame(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """See :meth:`FramePart.frame`."""
        samples, c = self._cut.samples, self._coefficients
        planes = [
            np.frombuffer(memoryview(plane), np.uint8)
            .view("u1" if samples.bytes == 1 else "<u2")
            .reshape(plane.height, plane.line_size // samples.bytes)
            for plane in frame.planes
        ]
        if samples.interleaved:
            planes[1:] = [planes[1][:, 0::2], planes[1][:, 1::2]]
        luma = planes[0][self._rows].take(self._columns, axis=1) >> samples.low_bits
        y = ((luma.astype(np.int32) << (15 - samples.bits)) + 64) >> 7
        u, v = (self._chroma(plane, samples.low_bits) for plane in planes[1:])
        red = (v * c.red_v) >> 16
        green = ((u * c.green_u) >> 16) + ((v * c.green_v) >> 16)
        blue = (u * c.blue_u) >> 16
        bases = (c.red_base, c.green_base, c.blue_base)
        for channel, (base, terms) in enumerate(zip(bases, (red, green, blue), strict=True)):
            terms += y
            terms *= c.luma
            terms += base
            terms >>= 16
            np.clip(terms, 0, 255, out=terms)
            self._pixels[:, :, channel] = terms
        return self._gather.apply(self._pixels.view(np.uint32)[:, :, 0])

    def _chroma(self, plane: NDArray[Any], low_bits: int) -> NDArray[np.int32]:
        part = (plane[:, self._chroma_columns] >> low_bits).astype(np.int32)
        rows = part[self._row_taps[0]] * self._row_weights[0]
        rows += part[self._row_taps[1]] * self._row_weights[1]
        total: NDArray[np.int32] = rows.take(self._column_taps[0], axis=1)
        total *= self._column_weights[0]
        if self._column_weights[1].any():
            total += rows.take(self._column_taps[1], axis=1) * self._column_weights[1]
        total += 1 << 18
        total >>= 19
        total[total > 255] = 255
        return total


def _gather(corners: Corners, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Gather:
    """A gather from converted pixels; the corners lie at these rows and columns, each (2, n)."""
    down, across = (columns, rows) if corners.swapped else (rows, columns)
    return Gather(
        corners.down._replace(low=down[0], high=down[1]),
        corners.across._replace(low=across[0], high=across[1]),
        swapped=corners.swapped,
    )
