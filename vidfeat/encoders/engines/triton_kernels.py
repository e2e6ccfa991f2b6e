"""Triton kernels for memory-bound layers: each map is read and written once.

A library's convolution leaves its bias, the residual and the ReLU to a second pass over the map.
Here they are applied while the map is in registers:

* ``_convolution``: any 2-D kernel over channels-last images as an implicit matrix product;
* ``_over_time``: three frames, stride one. A program walks along the frames of its positions with
  three accumulators and so reads every frame once, not three times;
* both can take a map that a library's convolution left unfinished, and apply its bias and ReLU as
  they read it (``FINISH_INPUT``);
* ``_finish``: bias, residual and ReLU over a map, for layers that neither of them computes;
* ``_patches``: normalises uint8 frames, and joins two by two pixels to one of twelve channels.

Sums are in float32 whatever the maps' type. The ReLU keeps NaN, so that no overflow is hidden.

Tile sizes come with the call and are never tuned at run time: the same layer gives the same bits in
every process.
"""
# Triton reads these functions as its own language: their arguments have no types.
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _relu(x):
    return tl.where(x < 0, 0.0, x)  # NaN is not below zero: it stays


@triton.jit
def _convolution(
    x,
    weight,  # (KH * KW, C padded to BK, width)
    bias_in,  # (C,) float32
    bias,  # (width,) float32
    residual,  # as y
    y,  # (images, rows_out, columns_out, outputs)
    positions,
    rows_out,
    columns_out,
    rows,
    columns,
    inputs,
    outputs,
    x_image,
    x_row,
    x_column,
    row_stride,
    column_stride,
    row_padding,
    column_padding,
    chunks,  # of BK inputs each
    width,  # outputs, padded to whole tiles
    KH: tl.constexpr,
    KW: tl.constexpr,
    EVEN_INPUTS: tl.constexpr,
    BLOCKS: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BN2: tl.constexpr,
    BK: tl.constexpr,
    FINISH_INPUT: tl.constexpr,
    RESIDUAL: tl.constexpr,
    RELU: tl.constexpr,
    STAGES: tl.constexpr,
):
    program = tl.program_id(0)
    position = (program // BLOCKS) * BM + tl.arange(0, BM)
    first_output = (program % BLOCKS) * (BN + BN2)
    inside = position < positions
    column = position % columns_out
    row = (position // columns_out) % rows_out
    image = position // (columns_out * rows_out)
    top = row * row_stride - row_padding
    left = column * column_stride - column_padding
    chunk = tl.arange(0, BK)
    base = x + image.to(tl.int64) * x_image + top * x_row + left * x_column
    n = first_output + tl.arange(0, BN)
    weights = weight + chunk[:, None] * width + n[None, :]
    total = tl.zeros((BM, BN), tl.float32)
    if BN2 > 0:
        n2 = first_output + BN + tl.arange(0, BN2)
        weights2 = weight + chunk[:, None] * width + n2[None, :]
        total2 = tl.zeros((BM, BN2), tl.float32)
    for step in tl.range(0, KH * KW * chunks, num_stages=STAGES):
        tap = step // chunks
        channel = (step % chunks) * BK
        down = tap // KW
        across = tap % KW
        valid = inside & (top + down >= 0) & (top + down < rows)
        valid = valid & (left + across >= 0) & (left + across < columns)
        places = base + (down * x_row + across * x_column + channel)
        mask = valid[:, None]
        if not EVEN_INPUTS:
            mask = mask & (channel + chunk < inputs)[None, :]
        values = tl.load(places[:, None] + chunk[None, :], mask=mask, other=0.0)
        if FINISH_INPUT:
            added = tl.load(bias_in + channel + chunk, mask=channel + chunk < inputs, other=0.0)
            finished = _relu(values.to(tl.float32) + added[None, :])
            values = tl.where(mask, finished, 0.0).to(values.dtype)
        skip = (tap * chunks * BK + channel) * width
        total = tl.dot(values, tl.load(weights + skip), total)
        if BN2 > 0:
            total2 = tl.dot(values, tl.load(weights2 + skip), total2)
    start = position.to(tl.int64) * outputs
    places = start[:, None] + n[None, :]
    mask = inside[:, None] & (n < outputs)[None, :]
    total += tl.load(bias + n)[None, :]
    if RESIDUAL:
        total += tl.load(residual + places, mask=mask, other=0.0).to(tl.float32)
    if RELU:
        total = _relu(total)
    tl.store(y + places, total.to(y.dtype.element_ty), mask=mask)
    if BN2 > 0:
        places = start[:, None] + n2[None, :]
        mask = inside[:, None] & (n2 < outputs)[None, :]
        total2 += tl.load(bias + n2)[None, :]
        if RESIDUAL:
            total2 += tl.load(residual + places, mask=mask, other=0.0).to(tl.float32)
        if RELU:
            total2 = _relu(total2)
        tl.store(y + places, total2.to(y.dtype.element_ty), mask=mask)


@triton.jit
def _frame(x, bias_in, channel, inputs, inside, EVEN: tl.constexpr, FINISH: tl.constexpr):
    """Load a tile of one frame: these channels at the positions that x points to."""
    mask = inside[:, None]
    if not EVEN:
        mask = mask & (channel < inputs)[None, :]
    values = tl.load(x[:, None] + channel[None, :], mask=mask, other=0.0)
    if FINISH:
        added = tl.load(bias_in + channel, mask=channel < inputs, other=0.0)
        finished = _relu(values.to(tl.float32) + added[None, :])
        values = tl.where(mask, finished, 0.0).to(values.dtype)
    return values


@triton.jit
def _leave(y, residual, total, added, mask, RESIDUAL: tl.constexpr, RELU: tl.constexpr):
    """Write a tile of an output frame."""
    total += added[None, :]
    if RESIDUAL:
        total += tl.load(residual, mask=mask, other=0.0).to(tl.float32)
    if RELU:
        total = _relu(total)
    tl.store(y, total.to(y.dtype.element_ty), mask=mask)


@triton.jit
def _over_time(
    x,  # (clips, frames, spots, inputs)
    weight,  # (3, K1 + K2, width)
    bias_in,  # (inputs,) float32
    bias,  # (width,) float32
    residual,  # as y
    y,  # (clips, frames, spots, outputs)
    clips,
    frames,
    spots,
    inputs,
    outputs,
    width,  # outputs, padded to whole tiles
    BLOCKS: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    K1: tl.constexpr,
    K2: tl.constexpr,
    EVEN1: tl.constexpr,
    EVEN2: tl.constexpr,
    FINISH_INPUT: tl.constexpr,
    RESIDUAL: tl.constexpr,
    RELU: tl.constexpr,
    STAGES: tl.constexpr,
):
    program = tl.program_id(0)
    place = (program // BLOCKS) * BM + tl.arange(0, BM)
    n = (program % BLOCKS) * BN + tl.arange(0, BN)
    inside = place < clips * spots
    clip = (place // spots).to(tl.int64)
    first = clip * frames * spots + place % spots  # in the first frame
    k1 = tl.arange(0, K1)
    taps = (K1 + K2) * width
    w1 = weight + k1[:, None] * width + n[None, :]
    first0 = tl.load(w1)
    first1 = tl.load(w1 + taps)
    first2 = tl.load(w1 + 2 * taps)
    if K2 > 0:
        k2 = K1 + tl.arange(0, K2)
        w2 = weight + k2[:, None] * width + n[None, :]
        second0 = tl.load(w2)
        second1 = tl.load(w2 + taps)
        second2 = tl.load(w2 + 2 * taps)
    added = tl.load(bias + n)
    mask = inside[:, None] & (n < outputs)[None, :]
    before = tl.zeros((BM, BN), tl.float32)  # of the frame before this one, and so on
    here = tl.zeros((BM, BN), tl.float32)
    after = tl.zeros((BM, BN), tl.float32)
    spots = spots.to(tl.int64)
    for frame in tl.range(0, frames, num_stages=STAGES):
        start = x + (first + frame * spots) * inputs
        values = _frame(start, bias_in, k1, inputs, inside, EVEN1, FINISH_INPUT)
        before = tl.dot(values, first2, before)
        here = tl.dot(values, first1, here)
        after = tl.dot(values, first0, after)
        if K2 > 0:
            values2 = _frame(start, bias_in, k2, inputs, inside, EVEN2, FINISH_INPUT)
            before = tl.dot(values2, second2, before)
            here = tl.dot(values2, second1, here)
            after = tl.dot(values2, second0, after)
        # As a branch this does not compile (Triton 3.6); masked, it costs nothing.
        goes = ((first + (frame - 1) * spots) * outputs)[:, None] + n[None, :]
        _leave(y + goes, residual + goes, before, added, mask & (frame > 0), RESIDUAL, RELU)
        before = here
        here = after
        after = tl.zeros((BM, BN), tl.float32)
    goes = ((first + (frames - 1) * spots) * outputs)[:, None] + n[None, :]
    _leave(y + goes, residual + goes, before, added, mask, RESIDUAL, RELU)


@triton.jit
def _finish(
    y,  # (positions, channels), changed in place
    bias,  # (channels,) float32
    residual,  # as y
    size,
    channels,
    BLOCK: tl.constexpr,
    RESIDUAL: tl.constexpr,
    RELU: tl.constexpr,
):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = place < size
    value = tl.load(y + place, mask=mask, other=0.0).to(tl.float32)
    value += tl.load(bias + place % channels, mask=mask, other=0.0)
    if RESIDUAL:
        value += tl.load(residual + place, mask=mask, other=0.0).to(tl.float32)
    if RELU:
        value = _relu(value)
    tl.store(y + place, value.to(y.dtype.element_ty), mask=mask)


@triton.jit
def _patches(
    x,  # uint8 (images, rows, columns, 3)
    y,  # (images, patch_rows, patch_columns, 16)
    scale,  # (3,) float32
    shift,
    size,
    rows,
    columns,
    patch_rows,
    patch_columns,
    MARGIN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    channel = (place % 16).to(tl.int32)
    patch = place // 16
    column = 2 * ((patch % patch_columns).to(tl.int32) - MARGIN) + channel // 3 % 2
    patch = patch // patch_columns
    row = 2 * ((patch % patch_rows).to(tl.int32) - MARGIN) + channel // 6
    image = patch // patch_rows
    mask = (place < size) & (channel < 12)
    mask = mask & (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    source = (image * rows + row) * columns + column
    colour = channel % 3
    value = tl.load(x + source * 3 + colour, mask=mask, other=0).to(tl.float32)
    value = value * tl.load(scale + colour) + tl.load(shift + colour)
    value = tl.where(mask, value, 0.0)
    tl.store(y + place, value.to(y.dtype.element_ty), mask=place < size)
