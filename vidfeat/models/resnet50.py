"""C2D, I3D, Slow and R(2+1)D on a ResNet-50, as the PyTorchVideo library published them.

Each block narrows with 1x1x1 kernels (3x1x1 where a network looks across time), looks over space
with 1x3x3, and widens with 1x1x1. R(2+1)D looks across time in the middle, before it looks over
space.
Blocks have the names of ``resnet3d``.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor, nn

from vidfeat.models.base import SequentialNetwork, WindowMean

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
BN_EPS = 1e-5
WIDTHS = (64, 128, 256, 512)
EXPANSION = 4

Spans = tuple[tuple[int, ...], ...]
"""Frames of the blocks' first kernels for each of four groups, repeated over its blocks."""
ALONE: Spans = ((1,), (1,), (1,), (1,))


@dataclass(frozen=True)
class Design:
    """The plan of one network.

    Attributes:
        stem_frames: length of the stem's kernel.
        spans: frames that the first convolutions of the groups' blocks see.
        stem_pool: a max-pool over space after the stem.
        halved: whether layer1 ends with a max-pool over every two frames.
        parted: whether the middle convolution is split into one across time and one over space.
        time_strides: strides over time in the middle convolution of each group's first block.
        space_strides: the same over space.
    """

    stem_frames: int
    spans: Spans = ALONE
    stem_pool: bool = True
    halved: bool = False
    parted: bool = False
    time_strides: tuple[int, int, int, int] = (1, 1, 1, 1)
    space_strides: tuple[int, int, int, int] = (1, 2, 2, 2)


SLOW_SPANS: Spans = ((1,), (1,), (3,), (3,))
DESIGNS = {
    "c2d_r50": Design(1, halved=True),
    "i3d_r50": Design(5, ((3,), (3, 1), (3, 1), (1, 3)), halved=True),
    "slow_r50": Design(1, SLOW_SPANS),
    "r2plus1d_r50": Design(
        1,
        stem_pool=False,
        parted=True,
        time_strides=(1, 1, 2, 2),
        space_strides=(2, 2, 2, 2),
    ),
}
NAMES = tuple(DESIGNS)


class Block(nn.Module):
    """Three convolutions and a shortcut around them."""

    def __init__(
        self, inputs: int, width: int, outputs: int, span: int, stride: tuple[int, int] = (1, 1),
        *, parted: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        time, space = stride
        self.conv1 = nn.Sequential(
            nn.Conv3d(inputs, width, (span, 1, 1), padding=(span // 2, 0, 0), bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(inplace=True),
        )
        across: nn.Module = nn.Conv3d(
            width, width, (1, 3, 3), (1, space, space), padding=(0, 1, 1), bias=False
        )
        if parted:
            through = nn.Conv3d(width, width, (3, 1, 1), (time, 1, 1), (1, 0, 0), bias=False)
            across = nn.Sequential(through, nn.BatchNorm3d(width), nn.ReLU(inplace=True), across)
        self.conv2 = nn.Sequential(across, nn.BatchNorm3d(width), nn.ReLU(inplace=True))
        self.conv3 = nn.Sequential(
            nn.Conv3d(width, outputs, 1, bias=False), nn.BatchNorm3d(outputs)
        )
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Sequential()
        if inputs != outputs or stride != (1, 1):
            around = nn.Conv3d(inputs, outputs, 1, (time, space, space), bias=False)
            self.downsample = nn.Sequential(around, nn.BatchNorm3d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, T, H, W) -> (N, outputs, T', H', W')."""
        return self.relu(self.conv3(self.conv2(self.conv1(x))) + self.downsample(x))  # type: ignore[no-any-return]


def stem(channels: int, width: int, frames: int, *, pool: bool = True) -> nn.Sequential:
    """The first layer: 7 x 7 over space with stride 2, and a max-pool over space."""
    kernel = (frames, 7, 7)
    parts: list[nn.Module] = [
        nn.Conv3d(channels, width, kernel, (1, 2, 2), (frames // 2, 3, 3), bias=False),
        nn.BatchNorm3d(width),
        nn.ReLU(inplace=True),
    ]
    if pool:
        parts.append(nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)))
    return nn.Sequential(*parts)


def group(
    count: int, inputs: int, width: int, outputs: int, spans: tuple[int, ...],
    stride: tuple[int, int], *, parted: bool = False,
) -> nn.Sequential:  # fmt: skip
    """Blocks in a row; the first one has the stride (time, space)."""
    blocks = []
    for index in range(count):
        span, step = spans[index % len(spans)], stride if index == 0 else (1, 1)
        blocks.append(Block(inputs, width, outputs, span, step, parted=parted))
        inputs = outputs
    return nn.Sequential(*blocks)


class ResNet50(SequentialNetwork):
    """Stem, four groups of blocks, means over windows, one linear layer."""

    def __init__(self, design: Design, *, num_classes: int = 400, in_channels: int = 3) -> None:
        super().__init__()
        self.design = design
        inputs = WIDTHS[0]
        self.stem = stem(in_channels, inputs, design.stem_frames, pool=design.stem_pool)
        widths = OrderedDict(stem=inputs)
        for index, width in enumerate(WIDTHS):
            outputs = width * EXPANSION
            stride = (design.time_strides[index], design.space_strides[index])
            blocks = group(
                BLOCKS[50][index], inputs, width, outputs, design.spans[index], stride,
                parted=design.parted,
            )  # fmt: skip
            if index == 0 and design.halved:
                blocks.append(nn.MaxPool3d((2, 1, 1)))
            self.add_module(f"layer{index + 1}", blocks)
            inputs = widths[f"layer{index + 1}"] = outputs
        self.avgpool = WindowMean()
        self.fc = nn.Linear(inputs, num_classes)
        self.set_layers({**widths, "avgpool": inputs}, BN_EPS)


def build(name: str, *, num_classes: int, clip_frames: int, in_channels: int) -> ResNet50:
    """Build one of ``NAMES`` with random weights; it takes clips of any length."""
    del clip_frames
    return ResNet50(DESIGNS[name], num_classes=num_classes, in_channels=in_channels)
