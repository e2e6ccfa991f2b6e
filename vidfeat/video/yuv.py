"""FFmpeg's conversion of YUV 4:2:0 samples to RGB, as arithmetic on integers.

libswscale has two ways from 4:2:0 to rgb24, and the result depends on which one it takes:

* *direct*: planar 8-bit frames of even height (of interlaced frames: fields of even height). Each
  sample, shifted left by three, is multiplied in 16 bits, and the high halves of the products are
  added. Chroma is repeated over its 2 x 2 pixels.
* *scaled*: everything else, by its scaler. Chroma is interpolated, across to the middle between two
  columns and down to each row, where the chroma location says that it lies elsewhere; two columns
  share one chroma. Luma and chroma are rounded to 8 bits and looked up in tables, which the
  formulas here replace. Frames of odd width take a third way, which is not reproduced.

Interlaced frames are converted field by field. All this was compared with PyAV 18.1 on x86: all
2^24 triples of every table and range for the direct rule, every luma and chroma location for the
scaled one (``tests/video/test_planes.py``). Other builds of FFmpeg (other processors, other
versions) may round differently, so each process checks a rule before it relies on it
(:func:`direct_rule_holds`, :class:`ChromaProbe`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import av
    from av.video.reformatter import VideoReformatter

# FFmpeg's integer tables (ITU-R numbers as in AVCOL_SPC): crv, cbu, cgu, cgv times 65536.
_TABLES = {
    1: (117489, 138438, 13975, 34925),  # BT.709
    4: (104448, 132798, 24759, 53109),  # FCC
    5: (104597, 132201, 25675, 53279),  # BT.601
    7: (117579, 136230, 16907, 35559),  # SMPTE 240M
    9: (110013, 140363, 12277, 42626),  # BT.2020
}
# AVCOL_SPC to table. 0 is RGB (meaningless on YUV samples) and 2 unspecified: FFmpeg takes BT.601
# for both. All others it refuses to convert.
_TABLE_OF_SPACE = {0: 5, 1: 1, 2: 5, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG; unspecified (0) is taken as limited

# AVChromaLocation to where a chroma sample lies among its 2 x 2 pixels, across and down, in 256ths
# of the way from the middle of the first to the middle of the second. Unspecified is the centre.
_POSITIONS = {1: (0, 128), 2: (128, 128), 3: (0, 0), 4: (128, 0), 5: (0, 256), 6: (128, 256)}
LOCATIONS = tuple(_POSITIONS)


class Colour(NamedTuple):
    """What the conversion to RGB depends on besides the samples and their layout."""

    table: int
    """Key of the matrix: 1 (BT.709), 4 (FCC), 5 (BT.601), 7 (SMPTE 240M) or 9 (BT.2020)."""
    full_range: bool
    """8-bit samples from 0 to 255 instead of luma from 16 to 235 and chroma from 16 to 240."""


class DirectCoefficients(NamedTuple):
    """Multipliers for samples shifted left by three; a term is ``(sample * multiplier) >> 16``."""

    luma: int
    red_v: int
    green_u: int
    green_v: int
    blue_u: int
    offset: int
    """Subtracted from luma (after the shift by three)."""


class ScaledCoefficients(NamedTuple):
    """For 8-bit samples: a colour is ``(base + luma * (y + terms)) >> 16``, clipped.

    A term is ``(sample * multiplier) >> 16``.
    """

    luma: int
    red_v: int
    green_u: int
    green_v: int
    blue_u: int
    red_base: int
    green_base: int
    blue_base: int


TABLES = tuple(_TABLES)
CHROMA_OFFSET = 128 << 3


def colour_of(frame: av.VideoFrame) -> Colour | None:
    """The colour that FFmpeg's conversion takes for a frame; None where it refuses the frame."""
    table = _TABLE_OF_SPACE.get(int(frame.colorspace))
    if table is None:
        return None
    full = int(frame.color_range) == _FULL_RANGE or frame.format.name.startswith("yuvj")
    return Colour(table, full)


def _limited_or_full(colour: Colour) -> tuple[int, int, list[int]]:
    """Multiplier and offset of luma, and the table's four numbers, times 65536."""
    table = list(_TABLES[colour.table])
    if colour.full_range:
        return 1 << 16, 0, [value * 224 // 255 for value in table]
    return (255 << 16) // 219, 16 << 16, table


@lru_cache(maxsize=16)
def direct_coefficients(colour: Colour) -> DirectCoefficients:
    """The integers of the direct rule, derived as libswscale derives them for its x86 code."""
    luma, offset, (red_v, blue_u, green_u, green_v) = _limited_or_full(colour)

    def rounded(value: int) -> int:
        return (value + (1 << 15)) >> 16

    return DirectCoefficients(
        luma=rounded(luma << 13),
        red_v=rounded(red_v << 13),
        green_u=rounded(-green_u << 13),
        green_v=rounded(-green_v << 13),
        blue_u=rounded(blue_u << 13),
        offset=rounded(offset << 3),
    )


@lru_cache(maxsize=16)
def scaled_coefficients(colour: Colour) -> ScaledCoefficients:
    """The integers of the scaled rule, from how libswscale fills its lookup tables.

    Its tables of luma begin at -384 and are entered at 384 (full range) or 326 (limited).
    """
    luma, offset, (red_v, blue_u, green_u, green_v) = _limited_or_full(colour)

    def per_luma(value: int) -> int:
        scaled = (value << 16) + (1 << 15)
        return scaled // luma if scaled >= 0 else -(-scaled // luma)  # as C divides

    red_v, blue_u = per_luma(red_v), per_luma(blue_u)
    green_u, green_v = per_luma(-green_u), per_luma(-green_v)
    base = (384 if colour.full_range else 326) * luma - (384 << 16) - offset + (1 << 15)
    return ScaledCoefficients(
        luma,
        red_v,
        green_u,
        green_v,
        blue_u,
        red_base=base - (red_v >> 9) * luma,
        green_base=base - ((green_u >> 9) + (green_v >> 9)) * luma,
        blue_base=base - (blue_u >> 9) * luma,
    )


def direct_to_rgb(
    y: NDArray[Any], u: NDArray[Any], v: NDArray[Any], colour: Colour
) -> NDArray[np.uint8]:
    """8-bit samples of one shape (chroma repeated to luma's) to RGB, uint8 (..., 3)."""
    c = direct_coefficients(colour)
    luma = (((y.astype(np.int32) << 3) - c.offset) * c.luma) >> 16
    blueness = (u.astype(np.int32) << 3) - CHROMA_OFFSET
    redness = (v.astype(np.int32) << 3) - CHROMA_OFFSET
    red = luma + ((redness * c.red_v) >> 16)
    green = luma + ((blueness * c.green_u) >> 16) + ((redness * c.green_v) >> 16)
    blue = luma + ((blueness * c.blue_u) >> 16)
    return np.stack([red, green, blue], -1).clip(0, 255).astype(np.uint8)


def scaled_to_rgb(
    y: NDArray[Any],
    u: NDArray[Any],
    v: NDArray[Any],
    colour: Colour,
    bits: int,
    location: int,
    *,
    interlaced: bool = False,
) -> NDArray[np.uint8]:
    """Planes of a whole frame of even width to RGB, uint8 (H, W, 3), by the scaled rule.

    Args:
        y: luma (H, W).
        u: chroma (half of H rounded up, W / 2).
        v: like ``u``.
        colour: of the frame.
        bits: 8 or 10.
        location: of chroma, 1 to 6 as in AVChromaLocation.
        interlaced: convert field by field; H is then a multiple of four.
    """
    c = scaled_coefficients(colour)
    height, width = y.shape
    down = down_taps(height, location, interlaced=interlaced)
    across = across_taps(width, location, bits)

    def chroma(plane: NDArray[Any]) -> NDArray[np.int32]:
        total = np.full((height, width), 1 << 18, np.int32)
        for row, row_weight in zip(down.places, down.weights, strict=True):
            for column, column_weight in zip(across.places, across.weights, strict=True):
                samples = plane[np.ix_(row, column)].astype(np.int32)
                total += samples * row_weight[:, None] * column_weight
        total >>= 19
        return np.minimum(total, np.int32(255))

    blueness, redness = chroma(u), chroma(v)
    luma = ((y.astype(np.int32) << (15 - bits)) + 64) >> 7
    red = c.red_base + c.luma * (luma + ((redness * c.red_v) >> 16))
    greenness = ((blueness * c.green_u) >> 16) + ((redness * c.green_v) >> 16)
    green = c.green_base + c.luma * (luma + greenness)
    blue = c.blue_base + c.luma * (luma + ((blueness * c.blue_u) >> 16))
    return (np.stack([red, green, blue], -1) >> 16).clip(0, 255).astype(np.uint8)


class Taps(NamedTuple):
    """The two chroma rows or columns that each row or column of luma takes, and their weights."""

    places: NDArray[np.intp]
    """(2, n)"""
    weights: NDArray[np.int32]
    """(2, n). A row's weight times a column's sum to ``1 << (27 - bits)``."""


def down_taps(height: int, location: int, *, interlaced: bool = False) -> Taps:
    """Rows of the chroma plane for each row of luma; weights out of 4096."""
    if not interlaced:
        return _down(height, _POSITIONS[location][1])
    places, weights = np.empty((2, height), np.intp), np.empty((2, height), np.int32)
    for field in (0, 1):
        # In its own rows, a field's chroma lies half as far down; the lower field's lies where the
        # upper field's would be one frame row later.
        position = (_POSITIONS[location][1] + 256 * field) >> 1
        taps = _down(height // 2, position)
        places[:, field::2] = taps.places * 2 + field
        weights[:, field::2] = taps.weights
    return Taps(places, weights)


def _down(height: int, position: int) -> Taps:
    """The scaler's vertical bilinear filter, from all rows of chroma to all rows of luma.

    Places are in 2^17ths of a chroma row, weights out of 4096.
    """
    chroma_height = (height + 1) // 2
    step = ((chroma_height << 16) + (height >> 1)) // height
    start = step - ((((position + 128) >> 1) << 16) >> 7)
    place = start + 2 * step * np.arange(height, dtype=np.int64)
    below = place >> 17
    upper = (1 << 30) - ((place & ((1 << 17) - 1)) << 13)
    upper_weight = (upper * 4096 + (1 << 29)) >> 30
    # a first tap with hardly any weight (SWS_MAX_REDUCE_CUTOFF) is left out
    upper_weight[upper <= 0.002 * (1 << 30)] = 0
    places = np.stack([below, below + 1]).clip(0, chroma_height - 1).astype(np.intp)
    return Taps(places, np.stack([upper_weight, 4096 - upper_weight]).astype(np.int32))


def across_taps(width: int, location: int, bits: int) -> Taps:
    """Columns of the chroma plane for each column of luma, for samples of 8 or 10 bits.

    Two columns share the chroma midway between them: it is a sample, or lies a quarter of the way
    to the next sample. libswscale's 15-bit intermediate values are exact here.
    """
    unit = 1 << (13 - bits)  # a quarter of the weight that brings a sample to 15 bits
    column = np.arange(width) // 2
    places = np.stack([column, np.minimum(column + 1, (width + 1) // 2 - 1)]).astype(np.intp)
    quarters = 1 if _POSITIONS[location][0] == 0 else 0
    weights = np.array([[(4 - quarters) * unit], [quarters * unit]], np.int32)
    return Taps(places, weights.repeat(width, 1))


# --- compared with this FFmpeg -------------------------------------------------------------------


@lru_cache(maxsize=64)
def direct_rule_holds(pixel_format: str, colour: Colour) -> bool:
    """Whether this FFmpeg converts a planar 8-bit format by the direct rule.

    Compared once per process, on a frame of random samples whose width is not a multiple of any
    vector register's.
    """
    import av
    from av.video.reformatter import VideoReformatter

    frame = av.VideoFrame(70, 66, pixel_format)
    y, u, v = _fill(frame, 8)
    frame.colorspace = colour.table
    if not pixel_format.startswith("yuvj"):
        frame.color_range = _FULL_RANGE if colour.full_range else 1
    u, v = (plane.repeat(2, 0).repeat(2, 1) for plane in (u, v))
    found = _by_ffmpeg(frame, VideoReformatter())
    return bool(np.array_equal(found, direct_to_rgb(y, u, v, colour)))


class ChromaProbe:
    """Finds where FFmpeg's conversion by the scaled rule takes a frame's chroma to lie.

    PyAV does not report it, and no tag is as reliable as the conversion itself: a small frame with
    the tags of the given one and random samples is converted, and the result is looked up among
    those of all locations. That takes about 25 microseconds, so it is done for every frame. Not
    thread-safe.
    """

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        # two, since a single one would set itself up again for each change of size or format
        self._shrink, self._convert = VideoReformatter(), VideoReformatter()
        self._known: dict[tuple[object, ...], tuple[list[bytes], dict[bytes, int]]] = {}

    def location(self, frame: av.VideoFrame, colour: Colour, bits: int) -> int | None:
        """1 to 6 as in AVChromaLocation; None if this FFmpeg converts by another rule."""
        # keep the height odd if it is: for planar 8-bit frames, that decides which rule applies
        height = 64 + frame.height % 2
        # at the frame's own size no copy would be made, and its samples must not change
        width = 36 if frame.width != 36 else 52
        name = frame.format.name
        small = self._shrink.reformat(frame, width, height, name, interpolation="POINT", threads=1)
        planes = small.planes
        pitches = tuple(plane.line_size for plane in planes)
        key = (name, height, width, small.interlaced_frame, colour, bits, pitches)
        known = self._known.get(key)
        if known is None:
            y, u, v = _fill(small, bits)
            results = {}
            for location in LOCATIONS:
                rgb = scaled_to_rgb(
                    y, u, v, colour, bits, location, interlaced=small.interlaced_frame
                )
                results[rgb.tobytes()] = location
            known = self._known[key] = [bytes(memoryview(plane)) for plane in planes], results
        for plane, filling in zip(planes, known[0], strict=True):
            plane.update(filling)
        return known[1].get(_by_ffmpeg(small, self._convert).tobytes())


def _by_ffmpeg(frame: av.VideoFrame, reformatter: VideoReformatter) -> NDArray[np.uint8]:
    converted = reformatter.reformat(frame, format="rgb24", threads=1)
    return np.asarray(converted.to_ndarray(), np.uint8)


def _fill(frame: av.VideoFrame, bits: int) -> list[NDArray[Any]]:
    """Fill a frame with random samples, many at the ends of the range; return Y, U and V."""
    random = np.random.default_rng(0)
    size = 1 if bits == 8 else 2
    high = 6 if frame.format.name.startswith("p010") else 0
    planes: list[NDArray[Any]] = []
    for plane in frame.planes:
        shape = (plane.height, plane.line_size // size)
        values = random.integers(0, 1 << bits, shape)
        values[::3] = np.where(values[::3] < 1 << (bits - 1), 0, (1 << bits) - 1)
        plane.update((values << high).astype(f"<u{size}").tobytes())
        planes.append(values)
    width, chroma_width = frame.width, (frame.width + 1) // 2
    if len(planes) == 2:
        pairs = planes[1]
        planes[1:] = [pairs[:, 0::2], pairs[:, 1::2]]
    return [planes[0][:, :width], *(plane[:, :chroma_width] for plane in planes[1:])]
