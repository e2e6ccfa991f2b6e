"""(2+1)D networks on a processor: one clip per thread, with the results of their own forward pass.

torch computes kernels of (1, 3, 3) and (3, 1, 1) as 3-D convolutions. Here a clip is a stack of
channels-last images, for which both are 2-D, and nothing is copied between the two:

* batch norms are folded into the convolutions before them;
* a 3 x 3 kernel goes through Winograd's transform (Lavin and Gray, arXiv 1509.09308), by NNPACK,
  which is part of torch: twice as fast as direct convolution on AVX2. Small frames are laid side by
  side into one image, with a line of zeros between them;
* a kernel over time is a (3, 1) kernel over (T, H W).

Shapes: T frames, C channels, H rows, W columns; images of a clip are (T, C, H, W).
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidfeat.encoders.engines.folding import folded
from vidfeat.encoders.engines.side_by_side import SideBySide
from vidfeat.models.base import VideoNetwork
from vidfeat.models.resnet3d import BasicBlock, Bottleneck, VideoResNet

# Fewest rows and columns for which 3 x 3 kernels go through Winograd's transform: its tiles waste
# too much on smaller images.
_WINOGRAD_FROM = 10
# Side of an output tile, and the time to transform the kernels, which happens for every image, in
# tiles. An image of too many tiles does not fit into the cache.
_TILE = 6
_TILES_OF_KERNELS = 15
_MOST_TILES = 200
_PROBE_TOLERANCE = 1e-4


class FactoredNetwork:
    """The layers of a network of 2D and (2+1)D groups, for one clip at a time.

    It copies the weights when it is made; see :func:`factored_pays`.

    Args:
        network: one for which :func:`can_factor` is true.
        crop: rows and columns of a clip, which decide how each convolution is computed.
    """

    def __init__(self, network: VideoResNet, crop: tuple[int, int]) -> None:
        rows, columns = (-(-length // 2) for length in crop)
        self._check_layers = network.check_layers
        self._stem_pool = network.design.stem_pool
        self._stem = _Chain(network.stem, size=(rows, columns))
        self._groups: dict[str, list[_Block]] = {}
        if self._stem_pool:
            rows, columns = -(-rows // 2), -(-columns // 2)
        for name in network.layer_names[1:]:
            if name != "layer1":
                rows, columns = -(-rows // 2), -(-columns // 2)
            blocks = network.get_submodule(name).children()
            self._groups[name] = [
                _Block(block, (rows, columns))  # type: ignore[arg-type]
                for block in blocks
            ]

    def features(self, clip_CTHW: Tensor, layers: Sequence[str] = ()) -> dict[str, Tensor]:
        """Maps (1, C, T, H, W) of the named layers, as ``VideoNetwork.features`` returns them.

        Raises:
            UsageError: the network has no layer of that name.
        """
        chosen = self._check_layers(layers)
        maps: dict[str, Tensor] = {}
        for name, images in self._walk(clip_CTHW.transpose(0, 1)):
            if name in chosen:
                maps[name] = images.transpose(0, 1)[None]
            if len(maps) == len(chosen):
                break
        return {name: maps[name] for name in chosen}

    def _walk(self, images: Tensor) -> Iterator[tuple[str, Tensor]]:
        images = self._stem.run(images.contiguous(memory_format=torch.channels_last))
        if self._stem_pool:
            images = F.max_pool2d(images, 3, 2, 1)
        yield "stem", images
        for name, blocks in self._groups.items():
            for block in blocks:
                images = block.run(images)
            yield name, images


def factored_pays(network: VideoNetwork) -> bool:
    """Whether single clips are faster through a :class:`FactoredNetwork`.

    They are for networks of 2D and (2+1)D groups on processors with AVX2 and no wider registers,
    which NNPACK is made for: measured 1.4 to 1.8 times as fast as the network's own forward pass.
    """
    return can_factor(network) and winograd_pays()


def can_factor(network: VideoNetwork) -> bool:
    """Whether each kernel of a network covers only space or only time."""
    return isinstance(network, VideoResNet) and set(network.design.kinds) <= {"2d", "2+1d"}


@cache
def winograd_pays() -> bool:
    """Whether this torch has NNPACK, it computes correctly, and it is made for this processor."""
    available = getattr(torch, "_nnpack_available", None)  # also initialises it
    if (
        available is None
        or platform.machine() not in ("x86_64", "AMD64")
        or torch.backends.cpu.get_cpu_capability() != "AVX2"
        or not available()
    ):
        return False
    # On one thread: NNPACK keeps the first number of threads that it sees, and clips share no
    # threads.
    return SideBySide(1).map(_winograd_is_right, [torch.Generator().manual_seed(0)])[0]


def _winograd_is_right(generator: torch.Generator) -> bool:
    image = torch.randn((1, 8, 30, 29), generator=generator)
    weight = torch.randn((16, 8, 3, 3), generator=generator)
    bias = torch.randn(16, generator=generator)
    expected = F.conv2d(image, weight, bias, padding=1)
    try:
        found = _winograd(image, weight, bias)
    except (AttributeError, RuntimeError):  # torch guarantees neither the name nor the processor
        return False
    return bool((found - expected).abs().max() <= _PROBE_TOLERANCE * expected.abs().max())


def _winograd(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A 3 x 3 convolution, padded by one, of one image (1, C, H, W)."""
    return torch._nnpack_spatial_convolution(image, weight, bias, [1, 1], [1, 1])


def _mosaic(frames: int, rows: int, columns: int) -> tuple[int, int]:
    """How many frames to put below and next to each other in one image."""

    def tiles(down: int, across: int) -> int:
        height, width = down * (rows + 1) - 1, across * (columns + 1) - 1
        return -(-height // _TILE) * -(-width // _TILE)

    def cost(grid: tuple[int, int]) -> int:
        return -(-frames // (grid[0] * grid[1])) * (tiles(*grid) + _TILES_OF_KERNELS)

    grids = [grid for grid in ((1, 2), (2, 2)) if tiles(*grid) <= _MOST_TILES]
    return min([(1, 1), *grids], key=cost)


# -- blocks ----------------------------------------------------------------------------------------


class _Convolution(Protocol):
    """A convolution, the residual added to it, and the ReLU after it."""

    def run(self, images: Tensor, residual: Tensor | None) -> Tensor:
        """(T, C, H, W) -> (T', C', H', W'), both with their channels last."""
        ...


class _Chain:
    """Convolutions one after the other; ``size`` is the size of the output images."""

    def __init__(self, *parts: nn.Module, size: tuple[int, int]) -> None:
        winograd = min(size) >= _WINOGRAD_FROM
        self.steps = [
            _step(convolution, weight.float(), bias.float(), winograd=winograd)
            for part in parts
            for convolution, weight, bias in folded(part)
        ]

    def run(self, images: Tensor, residual: Tensor | None = None) -> Tensor:
        """(T, C, H, W) -> (T', C', H', W'); the residual is added before the last ReLU."""
        for step in self.steps[:-1]:
            images = step.run(images, None)
        return self.steps[-1].run(images, residual)


class _Block:
    """A residual block: convolutions, and a shortcut around them."""

    def __init__(self, block: BasicBlock | Bottleneck, size: tuple[int, int]) -> None:
        parts = [part for name, part in block.named_children() if name.startswith("conv")]
        self.chain = _Chain(*parts, size=size)
        self.shortcut = None if block.downsample is None else _Shortcut(block.downsample)

    def run(self, images: Tensor) -> Tensor:
        """(T, C, H, W) -> (T', C', H', W')."""
        residual = images if self.shortcut is None else self.shortcut.run(images)
        return self.chain.run(images, residual)


class _Shortcut:
    """The 1 x 1 x 1 projection around a block."""

    def __init__(self, projection: nn.Sequential) -> None:
        ((convolution, weight, bias),) = folded(projection)
        self.weight, self.bias = weight[:, :, 0].float(), bias.float()
        self.frame_stride, *self.stride = convolution.stride

    def run(self, images: Tensor) -> Tensor:
        """(T, C, H, W) -> (T', C', H', W')."""
        return F.conv2d(images[:: self.frame_stride], self.weight, self.bias, self.stride)


def _step(convolution: nn.Conv3d, weight: Tensor, bias: Tensor, *, winograd: bool) -> _Convolution:
    frames, *window = convolution.kernel_size
    if frames > 1:
        return _OverTime(weight[..., 0, 0], bias, convolution.stride[0])
    if winograd and window == [3, 3] and convolution.stride == (1, 1, 1):
        return _Winograd(weight[:, :, 0], bias)
    padding = convolution.padding[1:]
    assert not isinstance(padding, str)
    return _Direct(weight[:, :, 0], bias, convolution.stride[1:], padding)


# -- convolutions ----------------------------------------------------------------------------------


class _Winograd:
    """A 3 x 3 convolution with a stride of one."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = weight.contiguous(), bias

    def run(self, images: Tensor, residual: Tensor | None) -> Tensor:
        frames, channels, rows, columns = images.shape
        out = torch.empty(
            (frames, len(self.weight), rows, columns), memory_format=torch.channels_last
        )
        down, across = _mosaic(frames, rows, columns)
        height, width = down * (rows + 1) - 1, across * (columns + 1) - 1
        for first in range(0, frames, down * across):
            group = range(first, min(first + down * across, frames))
            places = [
                (
                    slice(top := place // across * (rows + 1), top + rows),
                    slice(left := place % across * (columns + 1), left + columns),
                )
                for place in range(len(group))
            ]
            mosaic = torch.zeros((1, channels, height, width))
            for frame, (lines, dots) in zip(group, places, strict=True):
                mosaic[0, :, lines, dots] = images[frame]
            mosaic = _winograd(mosaic, self.weight, self.bias)
            for frame, (lines, dots) in zip(group, places, strict=True):
                found = mosaic[0, :, lines, dots]
                if residual is not None:
                    found.add_(residual[frame])
                torch.clamp_min(found, 0, out=out[frame])
        return out


class _Direct:
    """A convolution over space with any kernel."""

    def __init__(
        self, weight: Tensor, bias: Tensor, stride: Sequence[int], padding: Sequence[int]
    ) -> None:
        self.weight = weight.contiguous(memory_format=torch.channels_last)
        self.bias, self.stride, self.padding = bias, list(stride), list(padding)

    def run(self, images: Tensor, residual: Tensor | None) -> Tensor:
        found = F.conv2d(images, self.weight, self.bias, self.stride, self.padding)
        return _added(found, residual).relu_()


class _OverTime:
    """A convolution over three frames, padded by one."""

    def __init__(self, weight: Tensor, bias: Tensor, stride: int) -> None:
        self.weight = weight[..., None].contiguous(memory_format=torch.channels_last)
        self.bias, self.stride = bias, stride

    def run(self, images: Tensor, residual: Tensor | None) -> Tensor:
        frames, channels, rows, columns = images.shape
        lines = images.permute(0, 2, 3, 1).reshape(1, frames, rows * columns, channels)
        found = F.conv2d(
            lines.permute(0, 3, 1, 2), self.weight, self.bias, (self.stride, 1), (1, 0)
        )
        found = found.permute(0, 2, 3, 1).reshape(-1, rows, columns, len(self.weight))
        return _added(found.permute(0, 3, 1, 2), residual).relu_()


def _added(images: Tensor, residual: Tensor | None) -> Tensor:
    return images if residual is None else images.add_(residual)
