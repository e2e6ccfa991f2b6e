"""I3D (arXiv 1705.07750): Inception with its kernels inflated over time.

Padding is TensorFlow's: what is missing for the stride is added half before and half after.
Module names below the stages are those of the published PyTorch files.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidfeat.models.base import SequentialNetwork, WindowMean

NAMES = ("i3d",)
BN_EPS = 1e-3
FEATURES = 1024

# 1x1x1; 1x1x1 before 3x3x3; the same again, narrower; max-pool before 1x1x1
BRANCHES = {
    "Mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "Mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "Mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "Mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "Mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "Mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "Mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "Mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "Mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}


def pad_same(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Pad time, rows and columns with zeros, so that there are ceil(size / stride) outputs."""
    pads: list[int] = []
    for size, width, step in zip(x.shape[:1:-1], kernel[::-1], stride[::-1], strict=True):
        total = max(width - (size % step or step), 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


class SameConv3d(nn.Conv3d):
    """A convolution with TensorFlow's padding."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, C', T', H', W')."""
        return super().forward(pad_same(x, tuple(self.kernel_size), tuple(self.stride)))


class SameMaxPool3d(nn.MaxPool3d):
    """A max-pool with TensorFlow's padding; values are not negative, so zeros change nothing."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) -> (N, C, T', H', W')."""
        kernel, stride = self.kernel_size, self.stride
        assert isinstance(kernel, tuple)
        assert isinstance(stride, tuple)
        padded: Tensor = super().forward(pad_same(x, kernel, stride))
        return padded


def unit(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A convolution, batch norm and ReLU."""
    convolution = SameConv3d(inputs, outputs, (kernel,) * 3, (stride,) * 3, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm3d(outputs), nn.ReLU(inplace=True))


class Inception(nn.Module):
    """Four branches side by side, concatenated by channels."""

    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.b0 = unit(inputs, widths[0], 1)
        self.b1a = unit(inputs, widths[1], 1)
        self.b1b = unit(widths[1], widths[2], 3)
        self.b2a = unit(inputs, widths[3], 1)
        self.b2b = unit(widths[3], widths[4], 3)
        self.b3a = SameMaxPool3d((3, 3, 3), (1, 1, 1))
        self.b3b = unit(inputs, widths[5], 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, T, H, W) -> (N, outputs, T, H, W)."""
        branches = (
            self.b0(x),
            self.b1b(self.b1a(x)),
            self.b2b(self.b2a(x)),
            self.b3b(self.b3a(x)),
        )
        return torch.cat(branches, dim=1)


def _mixed(number: int) -> list[tuple[str, nn.Module]]:
    return [
        (name, Inception(*made))
        for name, made in BRANCHES.items()
        if name.startswith(f"Mixed_{number}")
    ]


def _stage(*parts: tuple[str, nn.Module]) -> nn.Sequential:
    return nn.Sequential(OrderedDict(parts))


class I3D(SequentialNetwork):
    """Five stages by resolution; the last layer is a running mean over 2 frames of 7 x 7."""

    def __init__(self, num_classes: int = 400, in_channels: int = 3) -> None:
        super().__init__()
        pool = SameMaxPool3d
        self.stem = unit(in_channels, 64, 7, 2)
        self.stage2 = _stage(
            ("pool", pool((1, 3, 3), (1, 2, 2))),
            ("Conv3d_2b_1x1", unit(64, 64, 1)),
            ("Conv3d_2c_3x3", unit(64, 192, 3)),
        )
        self.stage3 = _stage(("pool", pool((1, 3, 3), (1, 2, 2))), *_mixed(3))
        self.stage4 = _stage(("pool", pool((3, 3, 3), (2, 2, 2))), *_mixed(4))
        self.stage5 = _stage(("pool", pool((2, 2, 2), (2, 2, 2))), *_mixed(5))
        self.avgpool = WindowMean(frames=2)
        self.fc = nn.Linear(FEATURES, num_classes)
        widths = {"stem": 64, "stage2": 192, "stage3": 480, "stage4": 832, "stage5": FEATURES}
        self.set_layers({**widths, "avgpool": FEATURES}, BN_EPS)


def build(name: str, *, num_classes: int, clip_frames: int, in_channels: int) -> I3D:
    """Build the network with random weights; it takes clips of any length."""
    del name, clip_frames
    return I3D(num_classes, in_channels)
