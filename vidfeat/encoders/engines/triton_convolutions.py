"""Calls the Triton kernels, with tiles by the layer's shape and weights in the kernels' layout.

Maps are channels-last: (images, C, rows, columns) whose memory is (images, rows, columns, C).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import overload

import torch
import triton
from torch import Tensor

from vidfeat.encoders.engines import triton_kernels as kernels

# Most input channels whose weights a program of `over_time` can keep: more do not fit next to the
# frames.
WALKS_UP_TO = 160
_POINTWISE_BLOCK = 2048
_PATCH_CHANNELS = 16


@dataclass(frozen=True)
class Tiles:
    """What one program computes: ``positions`` by ``outputs`` (plus ``more_outputs``).

    Two tiles of outputs side by side allow sizes that are not powers of two: 144 is 128 and 16.
    """

    positions: int = 128
    outputs: int = 64
    more_outputs: int = 0
    inputs: int = 64
    more_inputs: int = 0
    warps: int = 4
    stages: int = 3

    def blocks(self, outputs: int) -> int:
        """Number of programs that share this many outputs."""
        return -(-outputs // (self.outputs + self.more_outputs))


def tiles_of_convolution(inputs: int, outputs: int) -> Tiles:
    """Tiles that waste the least for a convolution with this many channels."""
    pairs = [(128, 0), (128, 16), (128, 32), (128, 64), (64, 0), (64, 16), (64, 32), (32, 0)]
    pairs += [(32, 16), (16, 0)]

    def waste(pair: tuple[int, int]) -> tuple[int, int]:
        width = sum(pair)
        return -(-outputs // width) * width, -width

    wide, more = min(pairs, key=waste)
    chunk = next(size for size in (64, 32, 16) if inputs % size == 0 or size == 16 or inputs > size)
    return Tiles(128, wide, more, chunk, 0, 8 if wide + more > 64 else 4, 3)


def tiles_over_time(inputs: int, outputs: int) -> Tiles:
    """Tiles of :func:`over_time`; all inputs at once, as two powers of two."""
    sizes = [16, 32, 64, 128]
    pairs = [(size, more) for size in sizes for more in (0, *sizes) if more <= size]
    first, more = min((p for p in pairs if sum(p) >= inputs), key=lambda p: (sum(p), p[1]))
    wide = next(size for size in (64, 32, 16) if outputs >= size or size == 16)
    return Tiles(64, wide, 0, first, more, 4, 2)


# -- weights ---------------------------------------------------------------------------------------


def pack_convolution(weight: Tensor, tiles: Tiles) -> Tensor:
    """Pack (O, I, H, W) as (H W, I, O), padded with zeros to whole tiles."""
    outputs, inputs, rows, columns = weight.shape
    width = tiles.blocks(outputs) * (tiles.outputs + tiles.more_outputs)
    depth = -(-inputs // tiles.inputs) * tiles.inputs
    packed = weight.new_zeros((rows * columns, depth, width))
    packed[:, :inputs, :outputs] = weight.permute(2, 3, 1, 0).reshape(-1, inputs, outputs)
    return packed


def pack_over_time(weight: Tensor, tiles: Tiles) -> Tensor:
    """Pack (O, I, 3, 1) as (3, I, O), padded with zeros to whole tiles."""
    outputs, inputs = weight.shape[:2]
    width = tiles.blocks(outputs) * tiles.outputs
    packed = weight.new_zeros((3, tiles.inputs + tiles.more_inputs, width))
    packed[:, :inputs, :outputs] = weight[..., 0].permute(2, 1, 0)
    return packed


def pack_bias(bias: Tensor, tiles: Tiles) -> Tensor:
    """Pad a bias (O,) with zeros to whole tiles."""
    width = tiles.blocks(len(bias)) * (tiles.outputs + tiles.more_outputs)
    packed = bias.new_zeros(width)
    packed[: len(bias)] = bias
    return packed


@dataclass(frozen=True)
class Packed:
    """A convolution in the kernels' layout; pairs are for rows and columns."""

    weight: Tensor
    """From :func:`pack_convolution` or :func:`pack_over_time`."""
    bias: Tensor
    """From :func:`pack_bias`, float32."""
    tiles: Tiles
    """The tiles that both were packed for."""
    outputs: int
    """Output channels, without padding."""
    kernel: tuple[int, int] = (3, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 0)
    """With zeros."""


@overload
def _channels_last(images: Tensor) -> Tensor: ...
@overload
def _channels_last(images: None) -> None: ...


def _channels_last(images: Tensor | None) -> Tensor | None:
    """The images in channels-last memory, copied only if they are not already."""
    return None if images is None else images.contiguous(memory_format=torch.channels_last)


# -- calls -----------------------------------------------------------------------------------------


def convolution(
    images: Tensor,
    packed: Packed,
    *,
    unfinished: Tensor | None = None,
    residual: Tensor | None = None,
    relu: bool = True,
) -> Tensor:
    """A 2-D convolution with its bias, a residual and the ReLU.

    Args:
        images: (N, C, H, W), channels last.
        packed: the convolution.
        unfinished: a bias (C,) that the images still lack, to be followed by a ReLU.
        residual: added before the ReLU, in the shape of the result.
        relu: whether to end with a ReLU.
    """
    images, residual = _channels_last(images), _channels_last(residual)
    kernel, stride, padding = packed.kernel, packed.stride, packed.padding
    tiles, bias, outputs = packed.tiles, packed.bias, packed.outputs
    count, inputs, rows, columns = images.shape
    rows_out = (rows + 2 * padding[0] - kernel[0]) // stride[0] + 1
    columns_out = (columns + 2 * padding[1] - kernel[1]) // stride[1] + 1
    y = images.new_empty((count, rows_out, columns_out, outputs))
    positions = count * rows_out * columns_out
    blocks = tiles.blocks(outputs)
    kernels._convolution[(triton.cdiv(positions, tiles.positions) * blocks,)](
        images,
        packed.weight,
        bias if unfinished is None else unfinished,
        bias,
        y if residual is None else residual,
        y,
        positions,
        rows_out,
        columns_out,
        rows,
        columns,
        inputs,
        outputs,
        images.stride(0),
        images.stride(2),
        images.stride(3),
        *stride,
        *padding,
        packed.weight.shape[1] // tiles.inputs,
        packed.weight.shape[2],
        KH=kernel[0],
        KW=kernel[1],
        EVEN_INPUTS=inputs % tiles.inputs == 0,
        BLOCKS=blocks,
        BM=tiles.positions,
        BN=tiles.outputs,
        BN2=tiles.more_outputs,
        BK=tiles.inputs,
        FINISH_INPUT=unfinished is not None,
        RESIDUAL=residual is not None,
        RELU=relu,
        STAGES=tiles.stages,
        num_warps=tiles.warps,
        num_stages=tiles.stages,
    )
    return y.permute(0, 3, 1, 2)


def over_time(
    images: Tensor,
    frames: int,
    packed: Packed,
    *,
    unfinished: Tensor | None = None,
    residual: Tensor | None = None,
    relu: bool = True,
) -> Tensor:
    """A convolution over three frames, stride one, padded by one; see :func:`convolution`.

    Args:
        images: (N T, C, H, W), channels last.
        frames: T.
        packed: the convolution; its weight is from :func:`pack_over_time`.
        unfinished: a bias (C,) that the images still lack, to be followed by a ReLU.
        residual: added before the ReLU, in the shape of the result.
        relu: whether to end with a ReLU.
    """
    images, residual = _channels_last(images), _channels_last(residual)
    tiles, bias, outputs = packed.tiles, packed.bias, packed.outputs
    count, inputs, rows, columns = images.shape
    y = images.new_empty((count, rows, columns, outputs))
    clips, spots = count // frames, rows * columns
    blocks = tiles.blocks(outputs)
    kernels._over_time[(triton.cdiv(clips * spots, tiles.positions) * blocks,)](
        images,
        packed.weight,
        bias if unfinished is None else unfinished,
        bias,
        y if residual is None else residual,
        y,
        clips,
        frames,
        spots,
        inputs,
        outputs,
        packed.weight.shape[2],
        BLOCKS=blocks,
        BM=tiles.positions,
        BN=tiles.outputs,
        K1=tiles.inputs,
        K2=tiles.more_inputs,
        EVEN1=inputs >= tiles.inputs,
        EVEN2=inputs >= tiles.inputs + tiles.more_inputs,
        FINISH_INPUT=unfinished is not None,
        RESIDUAL=residual is not None,
        RELU=relu,
        STAGES=tiles.stages,
        num_warps=tiles.warps,
        num_stages=tiles.stages,
    )
    return y.permute(0, 3, 1, 2)


def finish_(
    images: Tensor, bias: Tensor, residual: Tensor | None = None, *, relu: bool = True
) -> Tensor:
    """Add a bias (C,) and a residual and apply the ReLU, in place, in one pass.

    Args:
        images: (N, C, H, W), channels last.
        bias: float32.
        residual: in the shape and memory format of the images.
        relu: whether to end with a ReLU.
    """
    images, residual = _channels_last(images), _channels_last(residual)
    size = images.numel()
    kernels._finish[(triton.cdiv(size, _POINTWISE_BLOCK),)](
        images,
        bias,
        images if residual is None else residual,
        size,
        images.shape[1],
        BLOCK=_POINTWISE_BLOCK,
        RESIDUAL=residual is not None,
        RELU=relu,
        num_warps=8,
    )
    return images


def patches(
    clips_NTHWC: Tensor, scale: Tensor, shift: Tensor, margin: int, dtype: torch.dtype
) -> Tensor:
    """Turn uint8 clips into normalised images of 2 x 2 patches: see ``stem_patches``.

    Args:
        clips_NTHWC: uint8 (N, T, H, W, 3), contiguous.
        scale: (3,) float32, by which pixels are multiplied.
        shift: (3,) float32, added afterwards.
        margin: patches of zeros before the first; the images have one fewer after the last.
        dtype: the type of the result.
    """
    clips, frames, rows, columns, _ = clips_NTHWC.shape
    down, across = (-(-length // 2) + 2 * margin - 1 for length in (rows, columns))
    images = clips * frames
    y = torch.empty((images, down, across, _PATCH_CHANNELS), dtype=dtype, device=clips_NTHWC.device)
    kernels._patches[(triton.cdiv(y.numel(), _POINTWISE_BLOCK),)](
        clips_NTHWC,
        y,
        scale,
        shift,
        y.numel(),
        rows,
        columns,
        down,
        across,
        MARGIN=margin,
        BLOCK=_POINTWISE_BLOCK,
        num_warps=8,
    )
    return y.permute(0, 3, 1, 2)
