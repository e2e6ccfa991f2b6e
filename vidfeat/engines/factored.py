"""(2+1)D networks on a processor: one clip on one thread, to the numbers of their own forward pass.

torch computes kernels of (1, 3, 3) and (3, 1, 1) as 3-D convolutions. Here a clip is a stack of
images, and nothing is copied between the two halves of a (2+1)D convolution:

* batch norms are folded into the convolutions before them;
* 3 x 3 kernels over large images go through Winograd's transform (Lavin and Gray, arXiv
  1509.09308), by NNPACK, which torch carries: twice as fast as direct convolution on AVX2;
* there, channels come first, an empty frame stands at either end, and the three frames below a
  kernel over time are one contiguous matrix (3 C, H W): a matrix product a frame;
* small images have their channels last, where a kernel over time is one of (3, 1) over (T, H W).

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

from vidfeat.engines.side_by_side import SideBySide
from vidfeat.models.base import VideoNetwork
from vidfeat.models.resnet3d import BasicBlock, Bottleneck, VideoResNet

# Images of at least so many rows and columns go through Winograd's transform: of smaller ones its
# tiles of 6 x 6 waste too much, and the kernels, transformed anew for each image, cost too much.
_LARGE = 24
# Rows and columns after the stem from which the whole network is sooner for it: measured 1.4 times
# as fast at 56, and no faster at 32, where torch does well with sixteen clips at a time.
_PAYS_FROM = 40
_PROBE_TOLERANCE = 1e-4


class FactoredNetwork:
    """The layers of a network of 2D and (2+1)D groups, for one clip at a time.

    Made by :func:`factored`. It holds copies of the weights as they are when it is made.

    Args:
        network: what :func:`can_factor` says yes to.
        crop: rows and columns of a clip, by which each convolution is chosen.
    """

    def __init__(self, network: VideoResNet, crop: tuple[int, int]) -> None:
        rows, columns = (-(-length // 2) for length in crop)
        self._check_layers = network.check_layers
        self._stem_pool = network.design.stem_pool
        self._stem = _chain(network.stem, large=_is_large(rows, columns))
        self._groups: dict[str, list[_Block]] = {}
        if self._stem_pool:
            rows, columns = -(-rows // 2), -(-columns // 2)
        for name in network.layer_names[1:]:
            if name != "layer1":
                rows, columns = -(-rows // 2), -(-columns // 2)
            blocks = network.get_submodule(name).children()
            self._groups[name] = [
                _Block(block, large=_is_large(rows, columns))  # type: ignore[arg-type]
                for block in blocks
            ]

    def features(self, clip_CTHW: Tensor, layers: Sequence[str] = ()) -> dict[str, Tensor]:
        """Maps (1, C, T, H, W) of the layers named, as ``VideoNetwork.features`` of this one clip.

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
        images = self._stem.run(images)
        if self._stem_pool:
            images = F.max_pool2d(images, 3, 2, 1)
        yield "stem", images
        for name, blocks in self._groups.items():
            for block in blocks:
                images = block.run(images)
            yield name, images


def factored(network: VideoNetwork, crop: tuple[int, int]) -> FactoredNetwork | None:
    """The network for single clips of this many rows and columns; None where it is no sooner.

    It is for networks of 2D and (2+1)D groups whose images are large enough for Winograd's
    transform, on processors with AVX2 and no wider registers, for which NNPACK is made.
    """
    if not can_factor(network) or not winograd_pays():
        return None
    if min(-(-length // 2) for length in crop) < _PAYS_FROM:
        return None
    assert isinstance(network, VideoResNet)
    return FactoredNetwork(network, crop)


def can_factor(network: VideoNetwork) -> bool:
    """Whether all of a network is kernels over space alone and over time alone."""
    return isinstance(network, VideoResNet) and set(network.design.kinds) <= {"2d", "2+1d"}


@cache
def winograd_pays() -> bool:
    """Whether NNPACK is in this torch, computes what it should, and is made for this processor."""
    available = getattr(torch, "_nnpack_available", None)  # which also starts it
    if (
        available is None
        or platform.machine() not in ("x86_64", "AMD64")
        or torch.backends.cpu.get_cpu_capability() != "AVX2"
        or not available()
    ):
        return False
    # On one thread: NNPACK keeps the number that it first sees, and clips share no threads.
    return SideBySide(1).map(_winograd_is_right, [torch.Generator().manual_seed(0)])[0]


def _winograd_is_right(generator: torch.Generator) -> bool:
    image = torch.randn((1, 8, 30, 29), generator=generator)
    weight = torch.randn((16, 8, 3, 3), generator=generator)
    bias = torch.randn(16, generator=generator)
    expected = F.conv2d(image, weight, bias, padding=1)
    try:
        found = _winograd(image, weight, bias)
    except RuntimeError:
        return False
    return bool((found - expected).abs().max() <= _PROBE_TOLERANCE * expected.abs().max())


def _winograd(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A 3 x 3 convolution, padded by one, of one image (1, C, H, W)."""
    return torch._nnpack_spatial_convolution(image, weight, bias, [1, 1], [1, 1])


def _is_large(rows: int, columns: int) -> bool:
    return min(rows, columns) >= _LARGE


# -- blocks ----------------------------------------------------------------------------------------


class _Convolution(Protocol):
    """A convolution, what is added to it, and the ReLU after it."""

    by_frames: bool
    """Whether it wants an empty frame before and after its images."""

    def run(self, images: Tensor, residual: Tensor | None, *, margin: bool) -> Tensor:
        """(T, C, H, W) -> (T', C', H', W'), with an empty frame at either end if asked for."""
        ...


class _Chain:
    """Convolutions one after the other, each with its ReLU."""

    def __init__(self, steps: Sequence[_Convolution], *, large: bool) -> None:
        self.steps = steps
        self.large = large

    def run(self, images: Tensor, residual: Tensor | None = None) -> Tensor:
        """(T, C, H, W) -> (T', C', H', W'); the residual is added before the last ReLU."""
        memory = torch.contiguous_format if self.large else torch.channels_last
        images = images.contiguous(memory_format=memory)
        for step, following in zip(self.steps, (*self.steps[1:], None), strict=True):
            images = step.run(
                images,
                residual if following is None else None,
                margin=following is not None and following.by_frames,
            )
        return images


class _Block:
    """A residual block: convolutions, and a shortcut around them."""

    def __init__(self, block: BasicBlock | Bottleneck, *, large: bool) -> None:
        parts = [part for name, part in block.named_children() if name.startswith("conv")]
        self.chain = _chain(*parts, large=large)
        self.shortcut = None if block.downsample is None else _Shortcut(block.downsample)

    def run(self, images: Tensor) -> Tensor:
        """(T, C, H, W) -> (T', C', H', W')."""
        residual = images if self.shortcut is None else self.shortcut.run(images)
        return self.chain.run(images, residual)


class _Shortcut:
    """The 1 x 1 x 1 projection around a block."""

    def __init__(self, projection: nn.Sequential) -> None:
        ((convolution, weight, bias),) = _folded(projection)
        self.weight, self.bias = weight[:, :, 0], bias
        self.frame_stride, *self.stride = convolution.stride

    def run(self, images: Tensor) -> Tensor:
        """(T, C, H, W) -> (T', C', H', W')."""
        return F.conv2d(images[:: self.frame_stride], self.weight, self.bias, self.stride)


def _chain(*parts: nn.Module, large: bool) -> _Chain:
    steps = [
        _step(convolution, weight, bias, large=large)
        for part in parts
        for convolution, weight, bias in _folded(part)
    ]
    return _Chain(steps, large=large)


def _step(convolution: nn.Conv3d, weight: Tensor, bias: Tensor, *, large: bool) -> _Convolution:
    frames, *window = convolution.kernel_size
    if frames > 1:
        frame_stride = convolution.stride[0]
        return (_TimeProduct if large else _OverTime)(weight[..., 0, 0], bias, frame_stride)
    if large and window == [3, 3] and convolution.stride == (1, 1, 1):
        return _Winograd(weight[:, :, 0], bias)
    stride, padding = convolution.stride[1:], convolution.padding[1:]
    assert not isinstance(padding, str)
    return _Direct(weight[:, :, 0], bias, stride, padding, large=large)


def _folded(module: nn.Module) -> list[tuple[nn.Conv3d, Tensor, Tensor]]:
    """Each convolution with the weight and bias that it has together with its batch norm."""
    found = []
    parts = [part for part in module.modules() if isinstance(part, nn.Conv3d | nn.BatchNorm3d)]
    for convolution, norm in zip(parts[::2], parts[1::2], strict=True):
        assert isinstance(convolution, nn.Conv3d)
        assert isinstance(norm, nn.BatchNorm3d)
        assert norm.running_var is not None
        assert norm.running_mean is not None
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        weight = convolution.weight.double() * scale[:, None, None, None, None]
        bias = norm.bias.double() - norm.running_mean.double() * scale
        found.append((convolution, weight.detach().float(), bias.detach().float()))
    return found


# -- convolutions ----------------------------------------------------------------------------------


def _room(images: Tensor, shape: tuple[int, int, int, int], *, margin: bool) -> tuple[Tensor, ...]:
    """Memory for images of this shape, with empty frames around them or not; and the images."""
    if not margin:
        memory = images.new_empty(shape)
        return memory, memory
    memory = images.new_empty((shape[0] + 2, *shape[1:]))
    memory[0].zero_()
    memory[-1].zero_()
    return memory, memory[1:-1]


class _Winograd:
    """3 x 3 over large images, channels first."""

    by_frames = False

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight, self.bias = weight.contiguous(), bias

    def run(self, images: Tensor, residual: Tensor | None, *, margin: bool) -> Tensor:
        frames, _, rows, columns = images.shape
        memory, out = _room(images, (frames, len(self.weight), rows, columns), margin=margin)
        for frame in range(frames):  # while it is in the cache
            image = _winograd(images[frame : frame + 1], self.weight, self.bias)
            if residual is not None:
                image.add_(residual[frame])
            torch.clamp_min(image, 0, out=out[frame : frame + 1])
        return memory


class _Direct:
    """Any kernel over space."""

    by_frames = False

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        stride: Sequence[int],
        padding: Sequence[int],
        *,
        large: bool,
    ) -> None:
        memory = torch.contiguous_format if large else torch.channels_last
        self.weight, self.bias = weight.contiguous(memory_format=memory), bias
        self.stride, self.padding = list(stride), list(padding)

    def run(self, images: Tensor, residual: Tensor | None, *, margin: bool) -> Tensor:
        found = F.conv2d(images, self.weight, self.bias, self.stride, self.padding)
        if residual is not None:
            found.add_(residual)
        if not margin:
            return found.relu_()
        frames, channels, rows, columns = found.shape
        memory, out = _room(images, (frames, channels, rows, columns), margin=True)
        torch.clamp_min(found, 0, out=out)
        return memory


class _TimeProduct:
    """3 over time, channels first: a matrix product a frame."""

    by_frames = True

    def __init__(self, weight: Tensor, bias: Tensor, stride: int) -> None:
        self.weight = weight.transpose(1, 2).flatten(1).contiguous()  # (C', 3 C)
        self.bias, self.stride = bias[:, None], stride

    def run(self, images: Tensor, residual: Tensor | None, *, margin: bool) -> Tensor:
        length, channels, rows, columns = images.shape
        frames = (length - 3) // self.stride + 1  # two of them are the margin
        memory, out = _room(images, (frames, len(self.weight), rows, columns), margin=margin)
        planes = images.view(length * channels, rows * columns)
        for frame in range(frames):
            first = frame * self.stride * channels
            found = out[frame].view(-1, rows * columns)
            torch.addmm(self.bias, self.weight, planes[first : first + 3 * channels], out=found)
            if residual is not None:
                found.add_(residual[frame].view_as(found))
            found.relu_()
        return memory


class _OverTime:
    """3 over time, channels last: a kernel of (3, 1) over (T, H W)."""

    by_frames = False

    def __init__(self, weight: Tensor, bias: Tensor, stride: int) -> None:
        self.weight = weight[..., None].contiguous(memory_format=torch.channels_last)
        self.bias, self.stride = bias, stride

    def run(self, images: Tensor, residual: Tensor | None, *, margin: bool) -> Tensor:
        del margin  # nothing that follows here wants one
        frames, channels, rows, columns = images.shape
        lines = images.permute(0, 2, 3, 1).reshape(1, frames, rows * columns, channels)
        found = F.conv2d(
            lines.permute(0, 3, 1, 2), self.weight, self.bias, (self.stride, 1), (1, 0)
        )
        found = found.permute(0, 2, 3, 1).reshape(-1, rows, columns, len(self.weight))
        found = found.permute(0, 3, 1, 2)
        if residual is not None:
            found.add_(residual)
        return found.relu_()
