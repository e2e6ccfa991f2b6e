"""Which source pixels a resized pixel is made from, and their weights, along one axis.

The formulas are torch's (``aten/src/ATen/native/cpu/UpSampleKernel.cpp``): in float32 for pictures
of floats; for uint8 pictures in float64, then rounded to 16-bit integers with as many fractional
bits as the largest weight allows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

_MOST_BITS = 22
_LARGEST_WEIGHT = 1 << 15


class AxisWeights(NamedTuple):
    """Resized pixel ``i`` is the sum of ``weights[i, k]`` times source pixel ``first[i] + k``."""

    first: NDArray[np.intp]
    weights: Floats
    """(n, taps); zero after a pixel's last source pixel."""

    def part(self, start: int, count: int) -> AxisWeights:
        """The weights of ``count`` resized pixels, from ``start`` on."""
        kept = slice(start, start + count)
        return AxisWeights(self.first[kept], self.weights[kept])


def axis_weights(
    size: int, resized: int, interpolation: str, *, antialias: bool, dtype: type[Any] = np.float64
) -> AxisWeights:
    """The weights of all resized pixels along an axis; each pixel's sum to 1.

    Args:
        size: number of source pixels.
        resized: number of resized pixels.
        interpolation: ``bilinear`` or ``bicubic``.
        antialias: widen the filter where the picture shrinks.
        dtype: the type in which they are computed.
    """
    scale = dtype(size) / dtype(resized)
    centres = scale * (np.arange(resized, dtype=dtype) + dtype(0.5))
    if antialias:
        return _filtered(size, centres, float(scale), interpolation)
    return _interpolated(size, centres, interpolation)


def to_int16(axis: AxisWeights) -> tuple[AxisWeights, int]:
    """Weights as whole numbers, and the number of their fractional bits."""
    largest = axis.weights.max()
    bits = 0
    while bits < _MOST_BITS and int(0.5 + largest * (1 << (bits + 1))) < _LARGEST_WEIGHT:
        bits += 1
    scaled = axis.weights * (1 << bits)
    whole = np.trunc(scaled + np.where(scaled < 0, -0.5, 0.5))
    return AxisWeights(axis.first, whole), bits


def _filtered(size: int, centres: Floats, scale: float, interpolation: str) -> AxisWeights:
    """Antialiased: a filter as wide as the step between resized pixels."""
    wide = max(scale, 1.0)
    support = _HALF_WIDTH[interpolation] * wide
    taps = math.ceil(support) * 2 + 1
    first = np.maximum(np.trunc(centres - support + 0.5).astype(np.intp), 0)
    count = np.minimum(np.trunc(centres + support + 0.5).astype(np.intp), size) - first
    place = np.arange(taps)
    distance = (place + first[:, None]).astype(centres.dtype) - centres[:, None]
    weights = _FILTERS[interpolation]((distance + 0.5) * centres.dtype.type(1.0 / wide))
    weights[place >= count[:, None]] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    return AxisWeights(first, weights)


def _interpolated(size: int, centres: Floats, interpolation: str) -> AxisWeights:
    """Without antialiasing: two or four neighbours; the border pixel is repeated beyond it."""
    source = centres - centres.dtype.type(0.5)
    taps = 2 * _HALF_WIDTH[interpolation]
    if interpolation == "bilinear":
        source = np.maximum(source, 0)
    low = np.minimum(np.floor(source).astype(np.intp), size - 1)
    part = np.clip(source - low, 0, 1)
    half = taps // 2
    offsets = np.arange(taps) - (half - 1)
    plain = _triangle if interpolation == "bilinear" else _cubic_of(-0.75)
    values = plain(offsets - part[:, None])
    places = np.clip(low[:, None] + offsets, 0, size - 1)
    first = places[:, 0]
    weights = np.zeros_like(values)
    np.add.at(weights, (np.arange(len(centres))[:, None], places - first[:, None]), values)
    return AxisWeights(first, weights)


def _triangle(x: Floats) -> Floats:
    height: Floats = np.maximum(1 - np.abs(x), 0)
    return height


def _cubic_of(a: float) -> Callable[[Floats], Floats]:
    """Keys' cubic; ``a`` is -0.5 where torch and Pillow antialias, and -0.75 in torch otherwise."""

    def cubic(x: Floats) -> Floats:
        x = np.abs(x)
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = (((x - 5) * x + 8) * x - 4) * a
        return np.where(x < 1, near, np.where(x < 2, far, 0))

    return cubic


_HALF_WIDTH = {"bilinear": 1, "bicubic": 2}
_FILTERS = {"bilinear": _triangle, "bicubic": _cubic_of(-0.5)}
