"""Converts planes to pixels in one Triton kernel: one launch for all frames of a cut.

The arithmetic is that of :mod:`vidfeat.encoders.engines.planes_torch`, step by step.
Import it only where the kernel is used: it needs Triton.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from vidfeat.encoders.engines.plane_tables import HEAD, DeviceTables
from vidfeat.video.yuv import CHROMA_OFFSET

_BLOCK = 256


@triton.jit
def _level(value):  # type: ignore[no-untyped-def]
    """A colour clipped to a grey level, as float64."""
    return tl.minimum(tl.maximum(value, 0), 255).to(tl.float64)


@triton.jit
def _round_level(total):  # type: ignore[no-untyped-def]
    """Round float32 values of 0 and above to the nearest integer, ties to even, as uint8."""
    low = total.to(tl.int32)
    rest = total - low.to(tl.float32)
    up = (rest > 0.5) | ((rest == 0.5) & ((low & 1) == 1))
    return (low + up.to(tl.int32)).to(tl.uint8)


@triton.jit  # type: ignore[untyped-decorator]
def _sample(address, inside, WIDE: tl.constexpr, LOW_BITS: tl.constexpr):  # type: ignore[no-untyped-def]
    """One sample, int32; two bytes if WIDE, at any alignment."""
    value = tl.load(address, mask=inside, other=0).to(tl.int32)
    if WIDE:
        value += tl.load(address + 1, mask=inside, other=0).to(tl.int32) << 8
        value = value >> LOW_BITS
    return value


# Sizes differ from video to video: a kernel specialised for strides or addresses divisible by 16
# would be compiled again in the middle of a run.
@triton.jit(  # type: ignore[untyped-decorator]
    do_not_specialize=["frame_stride"],
    do_not_specialize_on_alignment=["planes", "numbers", "weights", "out"],
)
def _planes_kernel(  # type: ignore[no-untyped-def]
    planes,
    numbers,
    weights,
    out,
    frame_stride,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    SCALED: tl.constexpr,
    BITS: tl.constexpr,
    LOW_BITS: tl.constexpr,
    CHROMA_OFFSET: tl.constexpr,
    HEAD: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Grid: (blocks of a frame's pixels, frames). ``numbers`` and ``weights``: DeviceTables."""
    TAPS: tl.constexpr = 2 if SCALED else 1
    WIDE: tl.constexpr = BITS > 8
    v_step = tl.load(numbers)
    luma = tl.load(numbers + 1)
    red_v = tl.load(numbers + 2)
    green_u = tl.load(numbers + 3)
    green_v = tl.load(numbers + 4)
    blue_u = tl.load(numbers + 5)
    red_base = tl.load(numbers + 6)  # the offset of luma, unless SCALED
    green_base = tl.load(numbers + 7)
    blue_base = tl.load(numbers + 8)
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < HEIGHT * WIDTH
    i = pixel // WIDTH
    j = pixel % WIDTH
    frame = tl.program_id(1).to(tl.int64)
    source = planes + frame * frame_stride
    luma_down = numbers + HEAD
    luma_across = luma_down + 2 * HEIGHT
    chroma_down = luma_across + 2 * WIDTH
    chroma_across = chroma_down + TAPS * 2 * HEIGHT
    down_taps = chroma_across + TAPS * 2 * WIDTH
    across_taps = down_taps + TAPS * 2 * HEIGHT
    across_weights = weights + 2 * HEIGHT

    red_total = tl.zeros((BLOCK,), tl.float32)
    green_total = tl.zeros((BLOCK,), tl.float32)
    blue_total = tl.zeros((BLOCK,), tl.float32)
    for step in tl.static_range(4):
        # Corners in the order in which torch adds them: (row, column) is low-high, low-low,
        # high-low, high-high.
        row = i + (step // 2) * HEIGHT
        column = j + ((step + 1 - step // 2) % 2) * WIDTH
        place = tl.load(luma_down + row, mask=inside, other=0)
        place += tl.load(luma_across + column, mask=inside, other=0)
        y = _sample(source + place, inside, WIDE, LOW_BITS)
        if SCALED:
            u = tl.full((BLOCK,), 1 << 18, tl.int32)
            v = tl.full((BLOCK,), 1 << 18, tl.int32)
            for tap in tl.static_range(4):
                tap_row = row + (tap // 2) * 2 * HEIGHT
                tap_column = column + (tap % 2) * 2 * WIDTH
                place = tl.load(chroma_down + tap_row, mask=inside, other=0)
                place += tl.load(chroma_across + tap_column, mask=inside, other=0)
                share = tl.load(down_taps + tap_row, mask=inside, other=0)
                share *= tl.load(across_taps + tap_column, mask=inside, other=0)
                u += _sample(source + place, inside, WIDE, LOW_BITS) * share
                v += _sample(source + place + v_step, inside, WIDE, LOW_BITS) * share
            u = tl.minimum(u >> 19, 255)
            v = tl.minimum(v >> 19, 255)
            y = ((y << (15 - BITS)) + 64) >> 7
            red = (red_base + luma * (y + ((v * red_v) >> 16))) >> 16
            green = y + ((u * green_u) >> 16) + ((v * green_v) >> 16)
            green = (green_base + luma * green) >> 16
            blue = (blue_base + luma * (y + ((u * blue_u) >> 16))) >> 16
        else:
            place = tl.load(chroma_down + row, mask=inside, other=0)
            place += tl.load(chroma_across + column, mask=inside, other=0)
            u = _sample(source + place, inside, WIDE, LOW_BITS)
            v = _sample(source + place + v_step, inside, WIDE, LOW_BITS)
            y = (((y << 3) - red_base) * luma) >> 16
            u = (u << 3) - CHROMA_OFFSET
            v = (v << 3) - CHROMA_OFFSET
            red = y + ((v * red_v) >> 16)
            green = y + ((u * green_u) >> 16) + ((v * green_v) >> 16)
            blue = y + ((u * blue_u) >> 16)
        weight = tl.load(weights + row, mask=inside, other=0.0)
        weight *= tl.load(across_weights + column, mask=inside, other=0.0)
        exact = weight.to(tl.float64)
        # A product is exact in float64: the sum is rounded once, to float32, as a fused
        # multiply-add rounds it. The first is added to zero.
        red_total = (_level(red) * exact + red_total.to(tl.float64)).to(tl.float32)
        green_total = (_level(green) * exact + green_total.to(tl.float64)).to(tl.float32)
        blue_total = (_level(blue) * exact + blue_total.to(tl.float64)).to(tl.float32)

    target = out + (frame * (HEIGHT * WIDTH) + pixel) * 3
    tl.store(target, _round_level(red_total), mask=inside)
    tl.store(target + 1, _round_level(green_total), mask=inside)
    tl.store(target + 2, _round_level(blue_total), mask=inside)


def convert_planes(planes: torch.Tensor, tables: DeviceTables, out: torch.Tensor) -> None:
    """Convert uint8 (F, nbytes) to uint8 (F, crop height, crop width, 3) on the current stream."""
    height, width = tables.crop
    # The grid's second axis takes 65,535 frames at most.
    for first in range(0, len(planes), 65535):
        part = planes[first : first + 65535]
        _planes_kernel[(triton.cdiv(height * width, _BLOCK), len(part))](
            part,
            tables.numbers,
            tables.weights,
            out[first : first + 65535],
            part.stride(0),
            HEIGHT=height,
            WIDTH=width,
            SCALED=tables.scaled,
            BITS=tables.samples.bits,
            LOW_BITS=tables.samples.low_bits,
            CHROMA_OFFSET=CHROMA_OFFSET,
            HEAD=HEAD,
            BLOCK=_BLOCK,
            num_warps=4,
        )
