"""The networks of the R(2+1)D paper for batches on a GPU, in 2-D convolutions over one memory.

cuDNN computes kernels of (1, 3, 3) and (3, 1, 1) as 3-D convolutions, at half the speed of 2-D
ones. Here a batch is one block of memory, (N, T, H, W, C), which is a stack of N T images with
channels last for a kernel over space, and (N, C, T, H W) with channels last for one over time:
neither needs a copy. Batch norms are folded into the convolutions before them, in float64. Each
convolution takes the bias, the residual and the ReLU behind it along, where cuDNN can: that saves
a pass over memory each time, and these layers are bound by memory. Channels between the two parts
of a (2+1)D convolution are padded with zeros to a multiple of eight, as tensor cores want them.

Kernels over space and time together (R3D, MCx, rMCx) see the same memory as (N, C, T, H, W) with
channels last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidfeat.encoders.engines.folding import folded
from vidfeat.models.base import check_pools
from vidfeat.models.resnet3d import VideoResNet
from vidfeat.video.preprocess import Preprocess

_CHANNELS = 8


class BatchNetwork(nn.Module):
    """``network.features`` and its pooling, for uint8 clips (N, T, H, W, 3).

    Args:
        network: in evaluation mode; its weights are copied.
        preprocess: the normalisation, which is looked up in a table of 256 levels a channel.
        layers: to pool, in this order; checked names.
        pool: ``mean``, ``max`` or both.
        dtype: of weights and maps.
        fused: bias, residual and ReLU by cuDNN's own fused kernels (on CUDA, not compiled).
    """

    def __init__(
        self,
        network: VideoResNet,
        preprocess: Preprocess,
        layers: Sequence[str],
        pool: Sequence[str],
        dtype: torch.dtype,
        *,
        fused: bool = False,
    ) -> None:
        super().__init__()
        self.layers, self.pool = tuple(layers), check_pools(pool)
        self.dtype = dtype
        self.stem_pool = network.design.stem_pool
        channels = network.stem[0].in_channels
        assert isinstance(channels, int)
        self.input_channels = _padded(channels)
        levels = (
            torch.arange(256, dtype=torch.uint8).view(1, 1, 1, 256, 1).expand(-1, -1, -1, -1, 3)
        )
        # (3, 256): the normalised value of each level, by the operations that everyone else uses
        self.register_buffer(
            "table", preprocess.normalize(levels).reshape(3, 256).contiguous().to(dtype)
        )
        self.stem = _Chain(network.stem, dtype=dtype, fused=fused, inputs=self.input_channels)
        self.groups = nn.ModuleDict()
        for name in network.layer_names[1:]:
            blocks = network.get_submodule(name).children()
            self.groups[name] = nn.ModuleList(_Block(block, dtype, fused=fused) for block in blocks)

    @torch.no_grad()
    def load_(self, network: VideoResNet) -> None:
        """Take the weights of another network of the same design, in place."""
        self.stem.load_(network.stem)
        for name, blocks in self.groups.items():
            assert isinstance(blocks, nn.ModuleList)
            for mine, block in zip(blocks, network.get_submodule(name).children(), strict=True):
                assert isinstance(mine, _Block)
                mine.load_(block)

    def forward(self, clips_NTHWC: Tensor) -> Tensor:
        """Vectors (N, D), float32."""
        number = len(clips_NTHWC)
        maps: dict[str, Tensor] = {}
        for name, images in self._walk(self._normalised(clips_NTHWC), number):
            if name in self.layers:
                maps[name] = images
            if len(maps) == len(self.layers):
                break
        vectors = []
        for name in self.layers:
            places_NPC = maps[name].permute(0, 2, 3, 1).reshape(number, -1, maps[name].shape[1])
            for how in self.pool:
                if how == "mean":
                    vectors.append(places_NPC.mean(1, dtype=torch.float32))
                else:
                    vectors.append(places_NPC.amax(1).float())
        return vectors[0] if len(vectors) == 1 else torch.cat(vectors, 1)

    def _normalised(self, clips_NTHWC: Tensor) -> Tensor:
        """(N T, C, H, W) with channels last and padded."""
        levels = clips_NTHWC.flatten(0, 1).int()
        table = self.get_buffer("table")
        offsets = torch.arange(3, device=levels.device, dtype=torch.int32) * 256
        values = table.view(-1)[levels + offsets]
        if self.input_channels > 3:
            values = F.pad(values, (0, self.input_channels - 3))
        return values.permute(0, 3, 1, 2)

    def _walk(self, images: Tensor, number: int) -> Iterator[tuple[str, Tensor]]:
        images = self.stem(images, number)
        if self.stem_pool:
            images = F.max_pool2d(images, 3, 2, 1)
        yield "stem", images
        for name, blocks in self.groups.items():
            assert isinstance(blocks, nn.ModuleList)
            for block in blocks:
                images = block(images, number)
            yield name, images


class _Chain(nn.Module):
    """Convolutions one after the other, each with the ReLU behind it."""

    def __init__(
        self, *parts: nn.Module, dtype: torch.dtype, fused: bool, inputs: int | None = None
    ) -> None:
        super().__init__()
        self.steps = nn.ModuleList()
        every = [one for part in parts for one in folded(part)]
        for place, (convolution, weight, bias) in enumerate(every):
            last = place == len(every) - 1
            # what the next convolution reads may have zeros behind it; what leaves may not
            outputs = len(weight) if last else _padded(len(weight))
            self.steps.append(
                _Convolution(convolution, weight, bias, dtype, inputs, outputs, fused=fused)
            )
            inputs = outputs

    def load_(self, *parts: nn.Module) -> None:
        every = [one for part in parts for one in folded(part)]
        for step, (_, weight, bias) in zip(self.steps, every, strict=True):
            assert isinstance(step, _Convolution)
            step.load_(weight, bias)

    def forward(self, images: Tensor, number: int, residual: Tensor | None = None) -> Tensor:
        for step in self.steps[:-1]:
            images = step(images, number, None)
        result: Tensor = self.steps[-1](images, number, residual)
        return result


class _Block(nn.Module):
    """A residual block."""

    def __init__(self, block: nn.Module, dtype: torch.dtype, *, fused: bool) -> None:
        super().__init__()
        self.chain = _Chain(*_convolutions(block), dtype=dtype, fused=fused)
        self.shortcut: _Convolution | None = None
        if block.downsample is not None:
            ((convolution, weight, bias),) = folded(block.downsample)  # type: ignore[arg-type]
            self.shortcut = _Convolution(
                convolution, weight, bias, dtype, None, len(weight), fused=fused, relu=False
            )

    def load_(self, block: nn.Module) -> None:
        self.chain.load_(*_convolutions(block))
        if self.shortcut is not None:
            ((_, weight, bias),) = folded(block.downsample)  # type: ignore[arg-type]
            self.shortcut.load_(weight, bias)

    def forward(self, images: Tensor, number: int) -> Tensor:
        residual = images if self.shortcut is None else self.shortcut(images, number, None)
        result: Tensor = self.chain(images, number, residual)
        return result


class _Convolution(nn.Module):
    """One convolution over space, over time, or over both, with what follows it."""

    def __init__(
        self,
        convolution: nn.Conv3d,
        weight: Tensor,
        bias: Tensor,
        dtype: torch.dtype,
        inputs: int | None,
        outputs: int,
        *,
        fused: bool,
        relu: bool = True,
    ) -> None:
        super().__init__()
        frames, *window = convolution.kernel_size
        stride, padding = convolution.stride, convolution.padding
        assert not isinstance(padding, str)
        self.relu, self.fused = relu, fused
        self.frame_stride = stride[0]
        if frames == 1:
            self.kind = "space"
            self.stride, self.padding = list(stride[1:]), list(padding[1:])
        elif window == [1, 1]:
            self.kind = "time"
            self.stride, self.padding = [stride[0], 1], [padding[0], 0]
        else:
            self.kind = "both"
            self.stride, self.padding = list(stride), list(padding)
        shape = (outputs, inputs or weight.shape[1], *weight.shape[2:])
        given = self._laid_out(weight.new_zeros(shape, dtype=dtype))
        self.register_buffer("weight", given)
        self.register_buffer("bias", torch.zeros(outputs, dtype=dtype))
        self.load_(weight, bias)

    def _laid_out(self, weight: Tensor) -> Tensor:
        if self.kind == "space":
            return weight[:, :, 0].contiguous(memory_format=torch.channels_last)
        if self.kind == "time":
            return weight[..., 0].contiguous(memory_format=torch.channels_last)
        return weight.contiguous(memory_format=torch.channels_last_3d)

    @torch.no_grad()
    def load_(self, weight: Tensor, bias: Tensor) -> None:
        """Set the weights: (outputs, inputs, frames, rows, columns), unpadded."""
        mine = self.get_buffer("weight")
        part = weight[:, :, 0] if self.kind == "space" else weight
        part = weight[..., 0] if self.kind == "time" else part
        mine[: part.shape[0], : part.shape[1]] = part
        self.get_buffer("bias")[: len(bias)] = bias

    def forward(self, images: Tensor, number: int, residual: Tensor | None) -> Tensor:
        """(N T, C, H, W) -> (N T', C', H', W'), both with channels last."""
        count, channels, rows, columns = images.shape
        frames = count // number
        lines_NTHWC = images.permute(0, 2, 3, 1)  # contiguous
        if self.kind == "space":
            if self.frame_stride > 1:
                lines = lines_NTHWC.reshape(number, frames, rows, columns, channels)
                images = lines[:, :: self.frame_stride].flatten(0, 1).permute(0, 3, 1, 2)
            return self._run(images, residual)
        if self.kind == "time":
            given = lines_NTHWC.reshape(number, frames, rows * columns, channels)
            other = None
            if residual is not None:
                width = residual.shape[1]
                lines = residual.permute(0, 2, 3, 1)
                other = lines.reshape(number, -1, rows * columns, width).permute(0, 3, 1, 2)
            found = self._run(given.permute(0, 3, 1, 2), other)
            lines = found.permute(0, 2, 3, 1)
            return lines.reshape(-1, rows, columns, found.shape[1]).permute(0, 3, 1, 2)
        given = lines_NTHWC.reshape(number, frames, rows, columns, channels)
        weight = self.get_buffer("weight")
        found = F.conv3d(
            given.permute(0, 4, 1, 2, 3), weight, self.get_buffer("bias"), self.stride, self.padding
        )
        lines = found.permute(0, 2, 3, 4, 1)
        images = lines.flatten(0, 1).permute(0, 3, 1, 2)
        if residual is not None:
            images = images + residual
        return images.relu() if self.relu else images

    def _run(self, images: Tensor, residual: Tensor | None) -> Tensor:
        """A 2-D convolution, and what follows it."""
        weight, bias = self.get_buffer("weight"), self.get_buffer("bias")
        if self.fused and self.relu:
            ones = [1, 1]
            if residual is None:
                return torch.cudnn_convolution_relu(
                    images, weight, bias, self.stride, self.padding, ones, 1
                )
            return torch.cudnn_convolution_add_relu(
                images, weight, residual, 1.0, bias, self.stride, self.padding, ones, 1
            )
        found = F.conv2d(images, weight, bias, self.stride, self.padding)
        if residual is not None:
            found = found + residual
        return found.relu() if self.relu else found


def _convolutions(block: nn.Module) -> list[nn.Module]:
    return [part for name, part in block.named_children() if name.startswith("conv")]


def _padded(channels: int) -> int:
    return -(-channels // _CHANNELS) * _CHANNELS
