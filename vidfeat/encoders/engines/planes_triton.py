"""Planes to the network's pixels as one Triton kernel: one launch for all frames of a cut.

The arithmetic is that of :mod:`vidfeat.encoders.engines.planes_torch`, step by step.
Import it only where the kernel is used: it needs Triton.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from vidfeat.video.yuv import CHROMA_OFFSET

if TYPE_CHECKING:
    from vidfeat.encoders.engines.plane_tables import DeviceTables

_BLOCK = 256


@triton.jit
def _level(value):  # type: ignore[no-untyped-def]
    """A colour clipped to a grey level, as float64."""
    return tl.minimum(tl.maximum(value, 0), 255).to(tl.float64)


@triton.jit
def _round_level(total):  # type: ignore[no-untyped-def]
    """float32 from 0 up to the nearest whole number, ties to even, as uint8."""
    low = total.to(tl.int32)
    rest = total - low.to(tl.float32)
    up = (rest > 0.5) | ((rest == 0.5) & ((low & 1) == 1))
    return (low + up.to(tl.int32)).to(tl.uint8)


# Sizes differ from video to video: a kernel compiled for a stride or an address that 16 divides
# would be compiled again in the middle of a run.
@triton.jit(  # type: ignore[untyped-decorator]
    do_not_specialize=["frame_stride"],
    do_not_specialize_on_alignment=["planes", "places", "weights", "out"],
)
def _planes_kernel(  # type: ignore[no-untyped-def]
    planes,
    places,
    weights,
    out,
    frame_stride,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    CHROMA_OFFSET: tl.constexpr,
    HEAD: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Grid: (blocks of a frame's pixels, frames). ``places`` begins with HEAD scalars."""
    v_step = tl.load(places)
    luma = tl.load(places + 1)
    red_v = tl.load(places + 2)
    green_u = tl.load(places + 3)
    green_v = tl.load(places + 4)
    blue_u = tl.load(places + 5)
    offset = tl.load(places + 6)
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < HEIGHT * WIDTH
    i = pixel // WIDTH
    j = pixel % WIDTH
    frame = tl.program_id(1).to(tl.int64)
    source = planes + frame * frame_stride
    luma_rows = places + HEAD
    luma_columns = luma_rows + 2 * HEIGHT
    chroma_rows = luma_columns + 2 * WIDTH
    chroma_columns = chroma_rows + 2 * HEIGHT
    row_weights = weights
    column_weights = weights + 2 * HEIGHT

    red_total = tl.zeros((BLOCK,), tl.float32)
    green_total = tl.zeros((BLOCK,), tl.float32)
    blue_total = tl.zeros((BLOCK,), tl.float32)
    for step in tl.static_range(4):
        # Corners in the order in which torch adds them: (row, column) is low-high, low-low,
        # high-low, high-high.
        row = i + (step // 2) * HEIGHT
        column = j + ((step + 1 - step // 2) % 2) * WIDTH
        y_place = tl.load(luma_rows + row, mask=inside, other=0)
        y_place += tl.load(luma_columns + column, mask=inside, other=0)
        u_place = tl.load(chroma_rows + row, mask=inside, other=0)
        u_place += tl.load(chroma_columns + column, mask=inside, other=0)
        y = tl.load(source + y_place, mask=inside, other=0).to(tl.int32)
        u = tl.load(source + u_place, mask=inside, other=0).to(tl.int32)
        v = tl.load(source + u_place + v_step, mask=inside, other=0).to(tl.int32)
        y = (((y << 3) - offset) * luma) >> 16
        u = (u << 3) - CHROMA_OFFSET
        v = (v << 3) - CHROMA_OFFSET
        red = _level(y + ((v * red_v) >> 16))
        green = _level(y + ((u * green_u) >> 16) + ((v * green_v) >> 16))
        blue = _level(y + ((u * blue_u) >> 16))
        weight = tl.load(row_weights + row, mask=inside, other=0.0)
        weight *= tl.load(column_weights + column, mask=inside, other=0.0)
        exact = weight.to(tl.float64)
        # A product is exact in float64: the sum is rounded once, to float32, as a fused
        # multiply-add rounds it. The first is added to zero.
        red_total = (red * exact + red_total.to(tl.float64)).to(tl.float32)
        green_total = (green * exact + green_total.to(tl.float64)).to(tl.float32)
        blue_total = (blue * exact + blue_total.to(tl.float64)).to(tl.float32)

    target = out + (frame * (HEIGHT * WIDTH) + pixel) * 3
    tl.store(target, _round_level(red_total), mask=inside)
    tl.store(target + 1, _round_level(green_total), mask=inside)
    tl.store(target + 2, _round_level(blue_total), mask=inside)


def convert_planes(planes: torch.Tensor, tables: DeviceTables, out: torch.Tensor) -> None:
    """uint8 (F, nbytes) into uint8 (F, crop height, crop width, 3), on the current stream."""
    height, width = tables.crop
    # The grid's second axis takes 65,535 frames at most.
    for first in range(0, len(planes), 65535):
        part = planes[first : first + 65535]
        _planes_kernel[(triton.cdiv(height * width, _BLOCK), len(part))](
            part,
            tables.places,
            tables.weights,
            out[first : first + 65535],
            part.stride(0),
            HEIGHT=height,
            WIDTH=width,
            CHROMA_OFFSET=CHROMA_OFFSET,
            HEAD=len(tables.head),
            BLOCK=_BLOCK,
            num_warps=4,
        )
