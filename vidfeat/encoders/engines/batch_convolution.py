"""Convolutions over one memory of channels-last images, each with its folded batch norm.

A library's convolution leaves bias, residual and ReLU to another pass over the map. With Triton no
such pass is needed: a kernel over time takes the map of the convolution before it as the library
left it, adds that bias as it reads, and its own bias, residual and ReLU as it writes. Without
Triton the passes are plain operations, which ``torch.compile`` fuses.

Shapes: N clips, C channels, T frames, H rows, W columns; images are (N T, C, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidfeat.video.preprocess import Preprocess

How = Literal["library", "triton", "walk"]
"""What computes a layer: cuDNN, an implicit matrix product in Triton, or one that walks along the
frames and reads each once."""

STEM_MARGIN = 2  # patches of zeros before the first: three pixels of padding, and one more
PATCH_CHANNELS = 16  # 12, and four of zeros to fill the steps of the matrix units


@dataclass(frozen=True)
class Shape:
    """The properties of a convolution that decide the choice of its kernel."""

    kernel: tuple[int, int, int]
    stride: tuple[int, int, int]
    inputs: int
    outputs: int
    """Channels, with padding, as in ``inputs``."""

    @property
    def over_time(self) -> bool:
        """Whether the kernel covers three frames and one pixel."""
        return self.kernel == (3, 1, 1)

    @property
    def over_space(self) -> bool:
        """Whether the kernel covers one frame."""
        return self.kernel[0] == 1


def how_to_run(shape: Shape, dtype: torch.dtype) -> How:
    """The fastest way to compute a convolution of this shape if Triton is available.

    Measured with r2plus1d_18 in fp16 on an H100, clips per second of the whole network: 3,420 with
    cuDNN for a convolution and all that follows it, 3,650 with kernels over time in Triton (3,030
    if none walks along the frames), 3,810 with kernels over space in Triton too. fp32 and TF32
    always use the library, because they promise its sums.
    """
    if dtype not in (torch.float16, torch.bfloat16):
        return "library"
    if shape.over_time:
        from vidfeat.encoders.engines.triton_convolutions import WALKS_UP_TO

        walks = shape.stride[0] == 1 and shape.inputs <= WALKS_UP_TO
        return "walk" if walks else "triton"
    return "triton" if shape.over_space else "library"


class Convolution(nn.Module):
    """A convolution with its folded batch norm.

    Args:
        name: the convolution's name in the network.
        one: the convolution; only its shape is used, see :meth:`load_`.
        inputs: input channels, with padding.
        outputs: output channels, with padding.
        dtype: the type of maps and weights.
        how: what computes it; None is ``library`` with plain operations after it.
    """

    def __init__(
        self,
        name: str,
        one: nn.Conv3d,
        inputs: int,
        outputs: int,
        dtype: torch.dtype,
        how: How | None,
    ) -> None:
        super().__init__()
        self.name = name
        self.stem = one.kernel_size[1:] == (7, 7)
        kernel, stride, padding = one.kernel_size, one.stride, one.padding
        assert len(kernel) == len(stride) == len(padding) == 3
        assert not isinstance(padding, str)
        if self.stem:  # over patches, which include the padding
            kernel, stride, padding = (kernel[0], 4, 4), (stride[0], 1, 1), (padding[0], 0, 0)
        self.shape = Shape(kernel, stride, inputs, outputs)
        self.padding = (int(padding[0]), int(padding[1]), int(padding[2]))
        self.fuses = how is not None
        self.how: How = how or "library"
        self.tiles: Any = None
        """The tiles of Triton's kernel, if one computes it."""
        weight = torch.zeros(outputs, inputs, *kernel, dtype=dtype)
        bias = torch.zeros(outputs, dtype=torch.float32 if self.fuses else dtype)
        if self.how != "library":
            from vidfeat.encoders.engines import triton_convolutions as kernels

            choose = kernels.tiles_over_time if self.how == "walk" else kernels.tiles_of_convolution
            self.tiles = choose(inputs, outputs)
        self.weight = nn.Buffer(self._pack(weight))
        self.bias = nn.Buffer(self._pack_bias(bias))

    def load_(self, weight: Tensor, bias: Tensor) -> None:
        """Copy a folded weight and bias into this layer, padded as it needs them."""
        if self.stem:
            weight = _over_patches(weight)
        shape = self.shape
        whole = weight.new_zeros((shape.outputs, shape.inputs, *shape.kernel))
        whole[: len(weight), : weight.shape[1]] = weight
        padded = bias.new_zeros(shape.outputs)
        padded[: len(bias)] = bias
        self.weight.copy_(self._pack(whole))
        self.bias.copy_(self._pack_bias(padded))

    def raw(self, images: Tensor, frames: int) -> Tensor:
        """The library's convolution without bias, residual and ReLU."""
        return self._library(images, frames, None)

    def run(
        self,
        images: Tensor,
        frames: int,
        *,
        unfinished: Tensor | None = None,
        residual: Tensor | None = None,
        relu: bool = True,
    ) -> Tensor:
        """Convolve (N T, C, H, W) to (N T', C', H', W'), with bias, residual and ReLU.

        Args:
            images: channels last.
            frames: T.
            unfinished: a bias that the images still lack, to be followed by a ReLU.
            residual: added before the ReLU.
            relu: whether to end with a ReLU.
        """
        if self.how == "walk":
            from vidfeat.encoders.engines.triton_convolutions import Packed, over_time

            packed = Packed(self.weight, self.bias, self.tiles, self.shape.outputs)
            return over_time(
                images, frames, packed, unfinished=unfinished, residual=residual, relu=relu
            )
        if self.how == "triton":
            return self._triton(images, frames, unfinished, residual, relu=relu)
        assert unfinished is None
        if self.fuses:
            from vidfeat.encoders.engines.triton_convolutions import finish_

            found = self._library(images, frames, None)
            return finish_(found, self.bias, residual, relu=relu)
        if relu and images.is_cuda and not torch.compiler.is_compiling():
            finished = self._cudnn(images, frames, residual)
            if finished is not None:
                return finished
        found = self._library(images, frames, self.bias)
        if residual is not None:
            found = found + residual
        return F.relu(found) if relu else found

    def _cudnn(self, images: Tensor, frames: int, residual: Tensor | None) -> Tensor | None:
        """Convolution, bias, residual and ReLU in one cuDNN kernel; None if cuDNN has none."""
        shape = self.shape
        if shape.over_time:
            size = images.shape[2:]
            given, stride, padding = over_lines(images, frames), [shape.stride[0], 1], [1, 0]
            added = None if residual is None else over_lines(residual, self.frames_out(frames))
        elif shape.over_space and shape.stride[0] == 1:
            given, added = images, residual
            stride, padding = list(shape.stride[1:]), list(self.padding[1:])
        else:
            return None
        once = [1, 1]
        if added is None:
            found = torch.cudnn_convolution_relu(
                given, self.weight, self.bias, stride, padding, once, 1
            )
        else:
            found = torch.cudnn_convolution_add_relu(
                given, self.weight, added, 1.0, self.bias, stride, padding, once, 1
            )
        return to_images(found, size) if shape.over_time else found

    @property
    def finishes_input(self) -> bool:
        """Whether it takes maps that still lack their bias and ReLU."""
        return self.how != "library"

    def frames_out(self, frames: int) -> int:
        """The number of output frames T' for T input frames."""
        return (frames + 2 * self.padding[0] - self.shape.kernel[0]) // self.shape.stride[0] + 1

    def _pack(self, weight: Tensor) -> Tensor:
        """The weight (O, I, T, H, W) in the layout of its kernel."""
        if self.how != "library":
            from vidfeat.encoders.engines import triton_convolutions as kernels

            flat = weight[..., 0] if self.shape.over_time else weight[:, :, 0]
            pack = kernels.pack_over_time if self.how == "walk" else kernels.pack_convolution
            return pack(flat, self.tiles)
        if self.shape.over_time:
            return weight[..., 0].contiguous(memory_format=torch.channels_last)
        if self.shape.over_space:
            return weight[:, :, 0].contiguous(memory_format=torch.channels_last)
        return weight.contiguous(memory_format=torch.channels_last_3d)

    def _pack_bias(self, bias: Tensor) -> Tensor:
        if self.how == "library":
            return bias
        from vidfeat.encoders.engines.triton_convolutions import pack_bias

        return pack_bias(bias, self.tiles)

    def _library(self, images: Tensor, frames: int, bias: Tensor | None) -> Tensor:
        shape, padding = self.shape, self.padding
        if shape.over_time:
            lines = over_lines(images, frames)
            found = F.conv2d(lines, self.weight, bias, (shape.stride[0], 1), (1, 0))
            return to_images(found, images.shape[2:])
        if shape.over_space:
            return F.conv2d(images, self.weight, bias, shape.stride[1:], padding[1:])
        found = F.conv3d(to_clips(images, frames), self.weight, bias, shape.stride, padding)
        return found.permute(0, 2, 1, 3, 4).flatten(0, 1)

    def _triton(
        self,
        images: Tensor,
        frames: int,
        unfinished: Tensor | None,
        residual: Tensor | None,
        *,
        relu: bool,
    ) -> Tensor:
        from vidfeat.encoders.engines.triton_convolutions import Packed, convolution

        shape, padding = self.shape, self.padding
        size = images.shape[2:]
        if shape.over_time:
            images = over_lines(images, frames)
            kernel, stride, padded = (3, 1), (shape.stride[0], 1), (1, 0)
        else:
            kernel, stride = cast(
                "tuple[tuple[int, int], ...]", (shape.kernel[1:], shape.stride[1:])
            )
            padded = padding[1:]
        packed = Packed(self.weight, self.bias, self.tiles, shape.outputs, kernel, stride, padded)
        found = convolution(images, packed, unfinished=unfinished, residual=residual, relu=relu)
        return to_images(found, size) if shape.over_time else found


# -- one memory, seen in three ways ----------------------------------------------------------------


def over_lines(images: Tensor, frames: int) -> Tensor:
    """(N T, C, H, W) channels last as (N, C, T, H W) channels last, without a copy."""
    count, channels, rows, columns = images.shape
    lines = images.permute(0, 2, 3, 1).reshape(count // frames, frames, rows * columns, channels)
    return lines.permute(0, 3, 1, 2)


def to_images(lines: Tensor, size: Sequence[int]) -> Tensor:
    """The inverse of :func:`over_lines`, for images of ``size`` rows and columns."""
    clips, channels, frames, _ = lines.shape
    images = lines.permute(0, 2, 3, 1).reshape(clips * frames, *size, channels)
    return images.permute(0, 3, 1, 2)


def to_clips(images: Tensor, frames: int) -> Tensor:
    """(N T, C, H, W) channels last as (N, C, T, H, W) channels last, without a copy."""
    count, *rest = images.shape
    return images.view(count // frames, frames, *rest).permute(0, 2, 1, 3, 4)


# -- the stem --------------------------------------------------------------------------------------


def stem_patches(clips_NTHWC: Tensor, preprocess: Preprocess, dtype: torch.dtype) -> Tensor:
    """uint8 clips (N, T, H, W, 3), normalised, as images (N T, 16, H', W') of patches.

    A pixel of the result is a patch of two by two pixels: channel ``6 y + 3 x + colour``. Zeros
    surround the frame as far as the stem reaches: two patches before and one after. H' is
    ceil(H / 2) + 3.
    """
    rows, columns = clips_NTHWC.shape[2:4]
    margin = 2 * STEM_MARGIN
    pixels = preprocess.normalize(clips_NTHWC).permute(0, 2, 3, 4, 1)  # N T H W C
    behind = [2 * -(-length // 2) - length + 2 for length in (rows, columns)]
    padded = F.pad(pixels.flatten(0, 1), (0, 0, margin, behind[1], margin, behind[0]))
    count, high, wide, colours = padded.shape
    split = padded.view(count, high // 2, 2, wide // 2, 2, colours)
    patches = split.permute(0, 1, 3, 2, 4, 5).flatten(3)
    filled = F.pad(patches, (0, PATCH_CHANNELS - patches.shape[-1]))
    return filled.to(dtype).permute(0, 3, 1, 2)


def _over_patches(weight: Tensor) -> Tensor:
    """A stem's weight (O, 3, T, 7, 7) for patches: (O, 12, T, 4, 4)."""
    outputs, colours, frames = weight.shape[:3]
    whole = F.pad(weight, (1, 0, 1, 0))  # the 8 x 8 window begins one pixel before the 7 x 7 one
    split = whole.reshape(outputs, colours, frames, 4, 2, 4, 2)
    return split.permute(0, 4, 6, 1, 2, 3, 5).reshape(outputs, 4 * colours, frames, 4, 4)
