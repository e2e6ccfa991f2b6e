"""X3D (arXiv 2004.04730): small networks expanded along every axis, with one kernel per channel.

XS, S and M are one network on clips of different lengths and sizes; L is deeper. The last layer,
``lin5``, is a linear layer with a ReLU at each place after the mean: 2,048 channels.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from torch import Tensor, nn

from vidfeat.models.base import SequentialNetwork, WindowMean

BN_EPS = 1e-5
STEM = 24
WIDTHS = (24, 48, 96, 192)
COUNTS = (1, 2, 5, 3)
WIDER = 2.25  # a block's middle, relative to its ends
SQUEEZED = 0.0625
FEATURES = 2048
DEEPER = {"x3d_xs": 2.2, "x3d_s": 2.2, "x3d_m": 2.2, "x3d_l": 5.0}
MAP_SIDES = {"x3d_xs": 5, "x3d_s": 5, "x3d_m": 7, "x3d_l": 10}
"""Side of the map after the last group, for inputs of the size that it was trained with."""
NAMES = tuple(DEEPER)


def rounded(width: float) -> int:
    """The nearest multiple of eight, but no less than nine tenths of the width."""
    near = max(8, int(width + 4) // 8 * 8)
    return near + 8 if near < 0.9 * width else near


class Squeeze(nn.Module):
    """Each channel weighted by the averages of all channels (squeeze and excitation)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        middle = rounded(channels * SQUEEZED)
        self.weigh = nn.Sequential(
            nn.Conv3d(channels, middle, 1),
            nn.ReLU(inplace=True),
            nn.Conv3d(middle, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) -> the same shape."""
        return x * self.weigh(x.mean(dim=(2, 3, 4), keepdim=True))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Widen, 3x3x3 per channel, weight the channels in every second block, narrow."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, squeeze: bool) -> None:
        super().__init__()
        middle = int(WIDER * outputs)
        self.conv1 = nn.Sequential(
            nn.Conv3d(inputs, middle, 1, bias=False),
            nn.BatchNorm3d(middle),
            nn.ReLU(inplace=True),
        )
        strides = (1, stride, stride)
        self.conv2 = nn.Sequential(
            nn.Conv3d(middle, middle, 3, strides, padding=1, groups=middle, bias=False),
            nn.BatchNorm3d(middle),
            Squeeze(middle) if squeeze else nn.Identity(),
            nn.SiLU(inplace=True),
        )
        self.conv3 = nn.Sequential(
            nn.Conv3d(middle, outputs, 1, bias=False), nn.BatchNorm3d(outputs)
        )
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Sequential()
        if inputs != outputs or stride > 1:
            self.downsample.append(nn.Conv3d(inputs, outputs, 1, strides, bias=False))
            if inputs != outputs:  # as published: a shortcut of equal widths has no batch norm
                self.downsample.append(nn.BatchNorm3d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, T, H, W) -> (N, outputs, T, H', W')."""
        return self.relu(self.conv3(self.conv2(self.conv1(x))) + self.downsample(x))  # type: ignore[no-any-return]


class X3D(SequentialNetwork):
    """Stem, four groups of blocks, a wide layer, means over windows, ``lin5``, one linear layer."""

    def __init__(
        self, deeper: float, map_side: int, *, num_classes: int = 400, in_channels: int = 3
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(in_channels, STEM, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False),
            nn.Conv3d(STEM, STEM, (5, 1, 1), padding=(2, 0, 0), groups=STEM, bias=False),
            nn.BatchNorm3d(STEM),
            nn.ReLU(inplace=True),
        )
        inputs = STEM
        widths = OrderedDict(stem=STEM)
        for index, (width, count) in enumerate(zip(WIDTHS, COUNTS, strict=True)):
            blocks = []
            for number in range(math.ceil(deeper * count)):
                stride, squeeze = (2 if number == 0 else 1), number % 2 == 0
                blocks.append(Block(inputs, width, stride, squeeze=squeeze))
                inputs = width
            self.add_module(f"layer{index + 1}", nn.Sequential(*blocks))
            widths[f"layer{index + 1}"] = width
        middle = int(WIDER * inputs)
        self.conv5 = nn.Sequential(
            nn.Conv3d(inputs, middle, 1, bias=False),
            nn.BatchNorm3d(middle),
            nn.ReLU(inplace=True),
        )
        self.lin5 = nn.Sequential(
            WindowMean(side=map_side),
            nn.Conv3d(middle, FEATURES, 1, bias=False),
            nn.ReLU(inplace=True),
        )
        self.fc = nn.Linear(FEATURES, num_classes)
        self.set_layers({**widths, "conv5": middle, "lin5": FEATURES}, BN_EPS)


def build(name: str, *, num_classes: int, clip_frames: int, in_channels: int) -> X3D:
    """Build one of ``NAMES`` with random weights; it takes clips of any length."""
    del clip_frames
    return X3D(DEEPER[name], MAP_SIDES[name], num_classes=num_classes, in_channels=in_channels)
