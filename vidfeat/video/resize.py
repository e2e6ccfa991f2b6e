"""Resizing and cropping whole frames as the authors of image networks do, to the last grey level.

torch resizes uint8 pictures in integers, along the rows first, rounding to uint8 in between. Here
the same integers are multiplied as floats, in which they and all of their sums are exact, so that
BLAS does the work: the filters of a few neighbouring pixels are one small matrix. Only the crop is
computed. For Pillow's resize, which does much the same with longer weights, Pillow itself is used.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vidfeat.video.resize_weights import AxisWeights, axis_weights, to_int16

if TYPE_CHECKING:
    from vidfeat.video.preprocess import Preprocess

# Resized pixels that share one matrix: more of them waste multiplications by zero, fewer waste
# function calls.
_BLOCK = 32
# Bytes of the rows processed at a time, so that they stay in the core's cache.
_CHUNK_BYTES = 1 << 20
# Whole numbers up to here are exact in float32.
_EXACT_FLOAT32 = 1 << 24
LOW_BYTE = 256
"""A level of a frame that is not rounded is its high byte plus 1/256 of its low byte."""


class Resizer(Protocol):
    """Resizes and crops upright frames of one size."""

    def apply(self, frame_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 (H, W, 3) to uint8 of the preprocessing's ``frame_shape``."""


class Window(NamedTuple):
    """The part of a resized frame that is kept, and where it lies in the crop."""

    resized: int
    start: int
    """In the resized frame."""
    length: int
    offset: int
    """In the crop: above 0 where the frame is smaller than the crop."""


def make_resizer(preprocess: Preprocess, height: int, width: int) -> Resizer:
    """The resizer for upright frames of a size."""
    resized = preprocess.resized(height, width)
    windows = [
        _window(length, crop, preprocess.crop_origin)
        for length, crop in zip(resized, preprocess.crop, strict=True)
    ]
    if preprocess.resampler == "pillow":
        return _PillowResizer(preprocess, windows)
    kind = _TorchResizer if preprocess.resampler == "torch" else _FloatResizer
    return kind(preprocess, (height, width), windows)


def _window(resized: int, crop: int, origin: str) -> Window:
    if resized < crop:  # padded on both sides, one pixel more at the end
        return Window(resized, 0, resized, (crop - resized) // 2)
    space = (resized - crop) / 2.0
    return Window(resized, int(space) if origin == "floor" else round(space), crop, 0)


class _Canvas:
    """The crop, filled where the frame does not reach."""

    def __init__(self, preprocess: Preprocess, down: Window, across: Window) -> None:
        self._shape = preprocess.frame_shape
        self._fill = np.resize(np.array(preprocess.fill, np.uint8), 3)
        self._rows = slice(down.offset, down.offset + down.length)
        self._columns = slice(across.offset, across.offset + across.length)
        self._whole = (down.length, across.length) == preprocess.crop

    def place(self, part_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._whole:
            return np.array(part_HWC, order="C")  # Pillow's array is read-only
        canvas = np.zeros(self._shape, np.uint8)
        canvas[:, :, :3] = self._fill
        canvas[self._rows, self._columns] = part_HWC
        return canvas


class _PillowResizer:
    """Pillow's own resize."""

    def __init__(self, preprocess: Preprocess, windows: list[Window]) -> None:
        from PIL import Image

        down, across = windows
        self._canvas = _Canvas(preprocess, down, across)
        self._size = (across.resized, down.resized)
        self._filter = Image.Resampling[preprocess.interpolation.upper()]
        self._part = (
            slice(down.start, down.start + down.length),
            slice(across.start, across.start + across.length),
        )

    def apply(self, frame_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        from PIL import Image

        image = Image.fromarray(frame_HWC).resize(self._size, self._filter)
        return self._canvas.place(np.asarray(image)[self._part])


class _Separable:
    """Resizes along the rows, then down the columns, by blocks of a banded matrix.

    It reuses its buffers, so only one thread at a time may use it.
    """

    rounds: bool

    def __init__(
        self, preprocess: Preprocess, size: tuple[int, int], windows: list[Window]
    ) -> None:
        down, across = windows
        self._canvas = _Canvas(preprocess, down, across)
        self._down, self._across = (
            self._axis(preprocess, length, window)
            for length, window in zip(size, windows, strict=True)
        )
        self._rows = slice(self._down.low, self._down.high)
        self._columns = slice(self._across.low, self._across.high)
        height, width = self._down.high - self._down.low, self._across.high - self._across.low
        self._chunk = max(1, _CHUNK_BYTES // (width * 3 * self._across.dtype.itemsize))
        self._source = np.empty((min(self._chunk, height), 3, width), self._across.dtype)
        self._between = np.empty((height, 3, across.length), self._across.dtype)
        self._result = np.empty((down.length, 3 * across.length), self._down.dtype)

    def _axis(self, preprocess: Preprocess, size: int, window: Window) -> _Band:
        raise NotImplementedError

    def _resized(self, frame_HWC: NDArray[np.uint8]) -> NDArray[Any]:
        """(crop rows, 3, crop columns), as floats."""
        source = frame_HWC[self._rows, self._columns].transpose(0, 2, 1)
        for top in range(0, len(source), self._chunk):
            rows = source[top : top + self._chunk]
            floats = self._source[: len(rows)]
            np.copyto(floats, rows)
            out = self._between[top : top + len(rows)]
            self._across.along_rows(
                floats.reshape(-1, floats.shape[-1]), out.reshape(-1, out.shape[-1])
            )
        between = self._between.reshape(len(self._between), -1)
        self._down.down_columns(between.astype(self._down.dtype, copy=False), self._result)
        return self._result.reshape(len(self._result), 3, -1)


class _TorchResizer(_Separable):
    """torch's resize of uint8 pictures on the CPU."""

    def _axis(self, preprocess: Preprocess, size: int, window: Window) -> _Band:
        axis, bits = to_int16(_weights(preprocess, size, window.resized, np.float64))
        return _Band(axis.part(window.start, window.length), bits)

    def apply(self, frame_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return self._canvas.place(self._resized(frame_HWC).transpose(0, 2, 1).astype(np.uint8))


class _FloatResizer(_Separable):
    """torch's resize of float pictures, kept to 1/256 of a grey level."""

    def _axis(self, preprocess: Preprocess, size: int, window: Window) -> _Band:
        axis = _weights(preprocess, size, window.resized, np.float32)
        return _Band(axis.part(window.start, window.length), None)

    def apply(self, frame_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        levels = self._resized(frame_HWC).transpose(0, 2, 1)
        fixed = np.rint(levels.clip(0, 255) * LOW_BYTE).astype(np.uint16)
        high, low = fixed // LOW_BYTE, fixed % LOW_BYTE
        return self._canvas.place(np.concatenate([high, low], -1).astype(np.uint8))


def _weights(preprocess: Preprocess, size: int, resized: int, dtype: type[Any]) -> AxisWeights:
    return axis_weights(
        size, resized, preprocess.interpolation, antialias=preprocess.antialias, dtype=dtype
    )


class _Band:
    """A banded matrix along one axis, as dense blocks of a few resized pixels each."""

    def __init__(self, axis: AxisWeights, bits: int | None) -> None:
        """Make it from weights: whole numbers with ``bits`` fractional bits, or any if None."""
        self._bits = bits
        self.low = int(axis.first.min())
        used = axis.first[:, None] + np.arange(axis.weights.shape[1])
        used = np.where(axis.weights != 0, used, axis.first[:, None])
        self.high = int(used.max()) + 1
        largest = 255 * float(np.abs(axis.weights).sum(axis=1).max()) + (1 << (bits or 0)) / 2
        self.dtype = np.dtype("f4" if bits is None or largest < _EXACT_FLOAT32 else "f8")
        self._blocks: list[tuple[slice, slice, NDArray[Any]]] = []
        edges = [*range(0, len(axis.first), _BLOCK), len(axis.first)]
        for start, end in pairwise(edges):
            first, last = int(axis.first[start:end].min()), int(used[start:end].max()) + 1
            dense = np.zeros((end - start, last - first), self.dtype)
            for row in range(start, end):
                columns = used[row] - first
                np.add.at(dense[row - start], columns, axis.weights[row])
            source = slice(first - self.low, last - self.low)
            self._blocks.append((slice(start, end), source, dense))

    def along_rows(self, rows: NDArray[Any], out: NDArray[Any]) -> None:
        """(n, source pixels) to (n, resized pixels)."""
        for resized, source, dense in self._blocks:
            out[:, resized] = rows[:, source] @ dense.T
        self._round(out)

    def down_columns(self, columns: NDArray[Any], out: NDArray[Any]) -> None:
        """(source pixels, n) to (resized pixels, n)."""
        for resized, source, dense in self._blocks:
            np.matmul(dense, columns[source], out=out[resized])
        self._round(out)

    def _round(self, values: NDArray[Any]) -> None:
        """Round to uint8's levels, as a shift of integers does: add a half, take the floor."""
        if self._bits is None:
            return
        values += 1 << self._bits >> 1
        values *= 2.0**-self._bits
        np.floor(values, out=values)
        np.clip(values, 0, 255, out=values)
