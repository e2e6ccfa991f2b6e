"""The residual networks of the R(2+1)D paper (arXiv 1711.11248), smallest part first.

The networks of its authors' next paper (CSN, arXiv 1904.02811) have the same blocks of three
convolutions, but the middle one has one kernel per channel. ``ir`` leaves it at that, ``ip`` puts a
1x1x1 convolution and batch norm before it, so that channels still interact.

One network is a ``Design`` (which of its five groups are 2D, 3D or (2+1)D, and how many blocks
each has) and the parts below: a convolution, a block of two or three, a stem, the whole. Tensor
names are torchvision's, so that its weights, and those converted to its names, load unchanged.

Shapes: N clips, C channels, T frames, H rows, W columns. No convolution has a bias; each is
followed by batch norm. Space is halved in the stem and at the start of layer2, layer3 and layer4;
time only in those of the three that are 3D or (2+1)D.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from vidfeat.errors import UsageError
from vidfeat.models.base import SequentialNetwork

# whole: one kernel as long as the clip (R2D's stem); ir, ip: one kernel per channel (CSN)
Kind = Literal["2d", "3d", "2+1d", "whole", "ir", "ip"]
MidplaneRule = Literal["block", "conv"]

WIDTHS = (64, 128, 256, 512)  # of layer1 .. layer4, that is conv2_x .. conv5_x of the paper
STEM_WIDTH = 64
STEM_MIDPLANES = 45  # a constant of the published networks; `midplanes` would give 83 for 7 x 7
BOTTLENECK_EXPANSION = 4
BLOCKS = {
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
BOTTLENECK_DEPTHS = (50, 101, 152)


@dataclass(frozen=True)
class Design:
    """The plan of one network.

    Attributes:
        kinds: kinds of the stem and of layer1 .. layer4.
        depth: one of ``BLOCKS``; from 50 on it is made of bottleneck blocks.
        midplanes: ``block`` counts the channels between the two parts of a (2+1)D convolution
            once per block, as torchvision does, ``conv`` for each convolution, as the paper does.
        stem_pool: a max-pool over space after the stem, as in CSN and in one published form of
            the 152-layer networks; it has no weights, so the tensors do not reveal it.
        width: channels of the stem and of layer1, doubled in each layer after; 64 in the paper,
            less for networks that are trained on a CPU.
    """

    kinds: tuple[Kind, Kind, Kind, Kind, Kind]
    depth: int = 18
    midplanes: MidplaneRule = "conv"
    stem_pool: bool = False
    width: int = STEM_WIDTH

    def __post_init__(self) -> None:
        if self.depth not in BLOCKS:
            known = ", ".join(map(str, BLOCKS))
            raise UsageError(f"no network with {self.depth} layers: the depths are {known}")
        if self.midplanes not in ("block", "conv"):
            raise UsageError(f"no midplane rule {self.midplanes!r}: there are block and conv")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of layer1 .. layer4."""
        return tuple(width * self.width // STEM_WIDTH for width in WIDTHS)

    @property
    def stem_midplanes(self) -> int:
        """Channels between the two parts of a (2+1)D stem."""
        return round(STEM_MIDPLANES * self.width / STEM_WIDTH)

    @property
    def bottleneck(self) -> bool:
        """Whether blocks have three convolutions (1x1x1, 3x3x3, 1x1x1) instead of two."""
        return self.depth in BOTTLENECK_DEPTHS


def midplanes(inputs: int, outputs: int, frames: int = 3, side: int = 3) -> int:
    """Channels between the two parts of a (2+1)D convolution: the paper's M.

    M = floor(t d^2 N_in N_out / (d^2 N_in + t N_out)) keeps the parameter count of the 3D
    convolution with a kernel of t ``frames`` and a ``side`` of d pixels.
    """
    square = side * side
    return (frames * square * inputs * outputs) // (square * inputs + frames * outputs)


def convolution(kind: Kind, inputs: int, outputs: int, middle: int, stride: int = 1) -> nn.Module:
    """A 3x3x3 convolution, or its replacement in a 2D or a (2+1)D group.

    ``middle`` is the channel count between the two parts of the (2+1)D one; the others ignore it.
    """
    if kind == "3d":
        return nn.Conv3d(inputs, outputs, 3, stride, padding=1, bias=False)
    if kind in ("ir", "ip"):
        each = nn.Conv3d(outputs, outputs, 3, stride, padding=1, groups=outputs, bias=False)
        if kind == "ir":
            return each
        mixed = nn.Conv3d(inputs, outputs, 1, bias=False)
        return nn.Sequential(mixed, nn.BatchNorm3d(outputs), each)
    spatial = (1, stride, stride)
    if kind == "2d":
        return nn.Conv3d(inputs, outputs, (1, 3, 3), spatial, padding=(0, 1, 1), bias=False)
    return nn.Sequential(
        nn.Conv3d(inputs, middle, (1, 3, 3), spatial, padding=(0, 1, 1), bias=False),
        nn.BatchNorm3d(middle),
        nn.ReLU(inplace=True),
        nn.Conv3d(middle, outputs, (3, 1, 1), (stride, 1, 1), padding=(1, 0, 0), bias=False),
    )


def shortcut(kind: Kind, inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """The 1x1x1 projection around a block; None if the shapes agree without one."""
    if stride == 1 and inputs == outputs:
        return None
    strides = (1 if kind == "2d" else stride, stride, stride)
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 1, strides, bias=False), nn.BatchNorm3d(outputs)
    )


class BasicBlock(nn.Module):
    """Two convolutions and a shortcut around them."""

    def __init__(
        self, kind: Kind, inputs: int, width: int, stride: int, rule: MidplaneRule
    ) -> None:
        super().__init__()
        first = midplanes(inputs, width)
        second = first if rule == "block" else midplanes(width, width)
        self.conv1 = nn.Sequential(
            convolution(kind, inputs, width, first, stride),
            nn.BatchNorm3d(width),
            nn.ReLU(inplace=True),
        )
        self.conv2 = nn.Sequential(convolution(kind, width, width, second), nn.BatchNorm3d(width))
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(kind, inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, T, H, W) -> (N, width, T', H', W')."""
        y = self.conv2(self.conv1(x))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """1x1x1 to fewer channels, 3x3x3 with the stride, 1x1x1 back to four times as many."""

    def __init__(
        self, kind: Kind, inputs: int, width: int, stride: int, rule: MidplaneRule
    ) -> None:
        super().__init__()
        outputs = width * BOTTLENECK_EXPANSION
        middle = midplanes(inputs if rule == "block" else width, width)
        self.conv1 = nn.Sequential(
            nn.Conv3d(inputs, width, 1, bias=False), nn.BatchNorm3d(width), nn.ReLU(inplace=True)
        )
        self.conv2 = nn.Sequential(
            convolution(kind, width, width, middle, stride),
            nn.BatchNorm3d(width),
            nn.ReLU(inplace=True),
        )
        self.conv3 = nn.Sequential(
            nn.Conv3d(width, outputs, 1, bias=False), nn.BatchNorm3d(outputs)
        )
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(kind, inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, T, H, W) -> (N, 4 width, T', H', W')."""
        y = self.conv3(self.conv2(self.conv1(x)))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)  # type: ignore[no-any-return]


def stem(design: Design, channels: int, clip_frames: int) -> nn.Sequential:
    """The first layer: 7 x 7 in space with stride 2; in time 1, 3 or the whole clip."""
    kind, width, middle = design.kinds[0], design.width, design.stem_midplanes
    if kind == "2+1d":
        parts: list[nn.Module] = [
            nn.Conv3d(channels, middle, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False),
            nn.BatchNorm3d(middle),
            nn.ReLU(inplace=True),
            nn.Conv3d(middle, width, (3, 1, 1), 1, (1, 0, 0), bias=False),
        ]
    else:
        length, padding = {"2d": (1, 0), "3d": (3, 1), "whole": (clip_frames, 0)}[kind]
        parts = [nn.Conv3d(channels, width, (length, 7, 7), (1, 2, 2), (padding, 3, 3), bias=False)]
    parts += [nn.BatchNorm3d(width), nn.ReLU(inplace=True)]
    if design.stem_pool:
        parts.append(nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)))
    return nn.Sequential(*parts)


class VideoResNet(SequentialNetwork):
    """Stem, four groups of blocks, mean over time and space, one linear layer.

    Args:
        design: which network.
        num_classes: outputs of the linear layer.
        clip_frames: T that R2D is built for; the others take any.
        in_channels: 3 for RGB, 2 for optical flow.
        bn_eps: added to the variance in batch norm; 1e-5 in torchvision, 1e-3 in Caffe2's files.
    """

    def __init__(
        self,
        design: Design,
        *,
        num_classes: int = 400,
        clip_frames: int = 16,
        in_channels: int = 3,
        bn_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.design = design
        self.clip_frames = clip_frames
        block = Bottleneck if design.bottleneck else BasicBlock
        expansion = BOTTLENECK_EXPANSION if design.bottleneck else 1
        self.stem = stem(design, in_channels, clip_frames)
        inputs = design.width
        widths = OrderedDict(stem=design.width)
        for group, width in enumerate(design.widths):
            kind, count = design.kinds[group + 1], BLOCKS[design.depth][group]
            blocks = []
            for index in range(count):
                stride = 2 if group > 0 and index == 0 else 1
                blocks.append(block(kind, inputs, width, stride, design.midplanes))
                inputs = width * expansion
            self.add_module(f"layer{group + 1}", nn.Sequential(*blocks))
            widths[f"layer{group + 1}"] = inputs
        self.fc = nn.Linear(inputs, num_classes)
        self.set_layers(widths, bn_eps)

    def features(self, x: Tensor, layers: Sequence[str] = ()) -> dict[str, Tensor]:
        """Maps of the named layers, in that order: see `VideoNetwork.features`."""
        chosen = self.check_layers(layers)
        if self.design.kinds[0] == "whole" and x.shape[2] != self.clip_frames:
            raise UsageError(
                f"this R2D takes clips of {self.clip_frames} frames, got {x.shape[2]}: "
                "build it for that length (clip_frames), or give clips of that length"
            )
        return super().features(x, chosen)
