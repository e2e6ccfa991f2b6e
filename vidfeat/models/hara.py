"""3D ResNets of Hara, Kataoka and Satoh (arXiv 1711.09577, 2004.04968), with 10 to 200 layers.

Unlike in the R(2+1)D paper's networks, the stem's kernel is seven frames long, and a max-pool over
space and time follows it. ``resnet2p1d`` are their (2+1)D forms, whose stem is split too.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from vidfeat.models import resnet3d
from vidfeat.models.base import SequentialNetwork
from vidfeat.models.resnet3d import WIDTHS, midplanes

BLOCKS = {**resnet3d.BLOCKS, 200: (3, 24, 36, 3)}
NAMES = (
    *(f"resnet3d_{depth}" for depth in BLOCKS),
    *(f"resnet2p1d_{depth}" for depth in (18, 34, 50)),
)
BN_EPS = 1e-5
STEM_FRAMES = 7


def convolution(inputs: int, outputs: int, stride: int, *, parted: bool) -> nn.Module:
    """A 3x3x3 convolution, or its (2+1)D form: 1x3x3, batch norm, ReLU and 3x1x1."""
    if not parted:
        return nn.Conv3d(inputs, outputs, 3, stride, padding=1, bias=False)
    middle = midplanes(inputs, outputs)
    across = (1, stride, stride)
    return nn.Sequential(
        nn.Conv3d(inputs, middle, (1, 3, 3), across, padding=(0, 1, 1), bias=False),
        nn.BatchNorm3d(middle),
        nn.ReLU(inplace=True),
        nn.Conv3d(middle, outputs, (3, 1, 1), (stride, 1, 1), padding=(1, 0, 0), bias=False),
    )


def _norm(width: int, *, relu: bool) -> list[nn.Module]:
    return [nn.BatchNorm3d(width), *([nn.ReLU(inplace=True)] if relu else [])]


class Block(nn.Module):
    """Two convolutions, or three with a narrow middle, and a shortcut around them."""

    def __init__(
        self, inputs: int, width: int, stride: int, *, bottleneck: bool, parted: bool
    ) -> None:
        super().__init__()
        self.expansion = 4 if bottleneck else 1
        outputs = width * self.expansion
        narrow = nn.Conv3d(inputs, width, 1, bias=False)
        first = narrow if bottleneck else convolution(inputs, width, stride, parted=parted)
        second = convolution(width, width, stride if bottleneck else 1, parted=parted)
        self.conv1 = nn.Sequential(first, *_norm(width, relu=True))
        self.conv2 = nn.Sequential(second, *_norm(width, relu=bottleneck))
        self.conv3 = nn.Sequential()
        if bottleneck:
            wide = nn.Conv3d(width, outputs, 1, bias=False)
            self.conv3 = nn.Sequential(wide, *_norm(outputs, relu=False))
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Sequential()
        if stride > 1 or inputs != outputs:
            around = nn.Conv3d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(around, nn.BatchNorm3d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, T, H, W) -> (N, outputs, T', H', W')."""
        return self.relu(self.conv3(self.conv2(self.conv1(x))) + self.downsample(x))  # type: ignore[no-any-return]


def stem(channels: int, *, parted: bool) -> nn.Sequential:
    """A 7x7x7 convolution with stride 2 over space; then a max-pool that halves time and space."""
    if parted:
        middle = midplanes(3, WIDTHS[0], STEM_FRAMES, 7)  # for three channels, whatever is given
        parts: list[nn.Module] = [
            nn.Conv3d(channels, middle, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False),
            *_norm(middle, relu=True),
            nn.Conv3d(middle, WIDTHS[0], (STEM_FRAMES, 1, 1), 1, (3, 0, 0), bias=False),
        ]
    else:
        kernel = (STEM_FRAMES, 7, 7)
        parts = [nn.Conv3d(channels, WIDTHS[0], kernel, (1, 2, 2), (3, 3, 3), bias=False)]
    pool = nn.MaxPool3d(3, stride=2, padding=1)
    return nn.Sequential(*parts, *_norm(WIDTHS[0], relu=True), pool)


class HaraResNet(SequentialNetwork):
    """Stem, four groups of blocks, mean over time and space, one linear layer."""

    def __init__(
        self, depth: int, *, parted: bool = False, num_classes: int = 400, in_channels: int = 3
    ) -> None:
        super().__init__()
        bottleneck = depth >= 50
        self.stem = stem(in_channels, parted=parted)
        inputs = WIDTHS[0]
        widths = OrderedDict(stem=inputs)
        for group, (width, count) in enumerate(zip(WIDTHS, BLOCKS[depth], strict=True)):
            blocks: list[nn.Module] = []
            for index in range(count):
                stride = 2 if group > 0 and index == 0 else 1
                blocks.append(Block(inputs, width, stride, bottleneck=bottleneck, parted=parted))
                inputs = width * (4 if bottleneck else 1)
            self.add_module(f"layer{group + 1}", nn.Sequential(*blocks))
            widths[f"layer{group + 1}"] = inputs
        self.fc = nn.Linear(inputs, num_classes)
        self.set_layers(widths, BN_EPS)


def build(name: str, *, num_classes: int, clip_frames: int, in_channels: int) -> HaraResNet:
    """Build one of ``NAMES`` with random weights; it takes clips of any length."""
    del clip_frames
    family, _, depth = name.partition("_")
    parted = family == "resnet2p1d"
    return HaraResNet(int(depth), parted=parted, num_classes=num_classes, in_channels=in_channels)
