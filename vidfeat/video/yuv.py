"""FFmpeg's conversion of YUV 4:2:0 samples to RGB, as arithmetic on integers.

libswscale converts 8-bit 4:2:0 frames of even height to rgb24 with 16-bit multiplications that
keep the high halves of their products; chroma is repeated over its 2 x 2 pixels. The rule here is
that one, in operations that numpy, torch and Triton all have: samples shifted left by three, one
multiplication and one arithmetic shift by 16 for each term. It was compared for all 2^24 triples
of every table and range (``tests/test_planes.py``).

Other builds of FFmpeg (other processors, other versions) may round in other ways. So the first
use of a conversion in a process compares it with this FFmpeg's own on a small frame, and
:func:`direct_rule_holds` says no where they differ.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import av

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


class Colour(NamedTuple):
    """What the conversion to RGB depends on, beside the samples."""

    table: int
    """Key of the matrix: 1 (BT.709), 4 (FCC), 5 (BT.601), 7 (SMPTE 240M) or 9 (BT.2020)."""
    full_range: bool
    """Samples from 0 to 255 instead of luma from 16 to 235 and chroma from 16 to 240."""


class Coefficients(NamedTuple):
    """Multipliers for samples shifted left by three; a term is ``(sample * multiplier) >> 16``."""

    luma: int
    red_v: int
    green_u: int
    green_v: int
    blue_u: int
    offset: int
    """Subtracted from luma (after the shift by three)."""


TABLES = tuple(_TABLES)
CHROMA_OFFSET = 128 << 3


def colour_of(frame: av.VideoFrame) -> Colour | None:
    """The colour that FFmpeg's conversion takes for a frame; None where it refuses the frame."""
    table = _TABLE_OF_SPACE.get(int(frame.colorspace))
    if table is None:
        return None
    full = int(frame.color_range) == _FULL_RANGE or frame.format.name.startswith("yuvj")
    return Colour(table, full)


@lru_cache(maxsize=16)
def coefficients(colour: Colour) -> Coefficients:
    """The integers of a colour, derived as libswscale derives them for its x86 code."""
    table = _TABLES[colour.table]
    luma, offset = (255 << 16) // 219, 16 << 16
    if colour.full_range:
        table = tuple(value * 224 // 255 for value in table)  # type: ignore[assignment]
        luma, offset = 1 << 16, 0
    red_v, blue_u, green_u, green_v = table

    def rounded(value: int) -> int:
        return (value + (1 << 15)) >> 16

    return Coefficients(
        luma=rounded(luma << 13),
        red_v=rounded(red_v << 13),
        green_u=rounded(-green_u << 13),
        green_v=rounded(-green_v << 13),
        blue_u=rounded(blue_u << 13),
        offset=rounded(offset << 3),
    )


def direct_to_rgb(
    y: NDArray[np.uint8], u: NDArray[np.uint8], v: NDArray[np.uint8], colour: Colour
) -> NDArray[np.uint8]:
    """8-bit samples of one shape (chroma repeated to luma's) to RGB, uint8 (..., 3)."""
    c = coefficients(colour)
    luma = (((y.astype(np.int32) << 3) - c.offset) * c.luma) >> 16
    blueness = (u.astype(np.int32) << 3) - CHROMA_OFFSET
    redness = (v.astype(np.int32) << 3) - CHROMA_OFFSET
    red = luma + ((redness * c.red_v) >> 16)
    green = luma + ((blueness * c.green_u) >> 16) + ((redness * c.green_v) >> 16)
    blue = luma + ((blueness * c.blue_u) >> 16)
    return np.stack([red, green, blue], -1).clip(0, 255).astype(np.uint8)


@lru_cache(maxsize=64)
def direct_rule_holds(pixel_format: str, colour: Colour) -> bool:
    """Whether this FFmpeg converts a planar 8-bit format of even height by the rule above.

    Compared once in a process, on a frame of random samples with a width that no vector register
    divides.
    """
    import av
    from av.video.reformatter import VideoReformatter

    height, width = 66, 70
    random = np.random.default_rng(0)
    frame = av.VideoFrame(width, height, pixel_format)
    samples = []
    for plane in frame.planes:
        values = random.integers(0, 256, (plane.height, plane.line_size), dtype=np.uint8)
        values[::3] = np.where(values[::3] < 128, 0, 255)  # the ends of the range, often
        plane.update(values.tobytes())
        samples.append(values[:, : plane.width])
    frame.colorspace = colour.table
    if not pixel_format.startswith("yuvj"):
        frame.color_range = _FULL_RANGE if colour.full_range else 1
    found = VideoReformatter().reformat(frame, format="rgb24", threads=1).to_ndarray()
    u, v = (plane.repeat(2, 0).repeat(2, 1)[:height, :width] for plane in samples[1:])
    return bool(np.array_equal(found, direct_to_rgb(samples[0], u, v, colour)))
