"""The cost of a clip, counted from shapes only, without computing anything."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from vidfeat.models.base import VideoNetwork, time_steps
from vidfeat.models.resnet3d import VideoResNet

# Rough FLOPS of machines on these networks. They determine the size of parts, and two runs of one
# command should make the same parts: hence constants, not measurements.
CPU_FLOPS_PER_THREAD = 4e10
GPU_FLOPS = 2e13


def flops_per_clip(
    network: VideoNetwork, layers: Sequence[str], clip_shape: tuple[int, int, int, int]
) -> float:
    """Floating-point operations (two per multiply-add) for one clip (T, H, W, C)."""
    frames, height, width, channels = clip_shape
    if isinstance(network, VideoResNet):
        return float(_of_convolutions(network, network.check_layers(layers), clip_shape))
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        _on_shapes(network, layers, (1, channels, frames, height, width))
    return float(counter.get_total_flops())


def steps_per_clip(
    network: VideoNetwork, layers: Sequence[str], clip_shape: tuple[int, int, int, int]
) -> int:
    """Time steps that the maps of layers have for one clip (T, H, W, C).

    Raises:
        UsageError: the layers differ in it, or have none.
    """
    frames, height, width, channels = clip_shape
    return time_steps(_on_shapes(network, layers, (1, channels, frames, height, width)))


def _on_shapes(
    network: VideoNetwork, layers: Sequence[str], shape: tuple[int, ...]
) -> list[torch.Tensor]:
    """The maps of layers, as tensors without values."""
    tensors = {
        name: torch.empty_like(tensor, device="meta")
        for name, tensor in (*network.named_parameters(), *network.named_buffers())
    }
    with torch.no_grad():
        maps: list[torch.Tensor] = torch.func.functional_call(
            _Features(network, layers),
            {f"network.{name}": tensor for name, tensor in tensors.items()},
            (torch.empty(shape, device="meta"),),
        )
    return maps


class _Features(torch.nn.Module):
    """``network.features`` as a forward pass, which is what functional_call calls."""

    def __init__(self, network: VideoNetwork, layers: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        self.layers = tuple(layers)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return list(self.network.features(x, self.layers).values())


def _of_convolutions(
    network: VideoResNet, layers: Sequence[str], clip_shape: tuple[int, int, int, int]
) -> int:
    """``flops_per_clip`` by arithmetic: torch's counter would import a compiler."""
    size = clip_shape[:3]
    total = 0
    left = set(layers)
    for name in network.layer_names:
        layer = network.get_submodule(name)
        blocks = [layer] if name == "stem" else list(layer.children())
        for block in blocks:
            inputs = size
            for part in block.modules():
                if isinstance(part, nn.MaxPool3d):
                    size = _out(size, part)
                elif isinstance(part, nn.Conv3d) and not _is_shortcut(block, part):
                    size = _out(size, part)
                    total += _flops(part, size)
            shortcut = getattr(block, "downsample", None)
            if shortcut is not None:
                total += _flops(shortcut[0], _out(inputs, shortcut[0]))
        left.discard(name)
        if not left:
            break
    return total


def _is_shortcut(block: nn.Module, part: nn.Module) -> bool:
    shortcut = getattr(block, "downsample", None)
    return shortcut is not None and part is shortcut[0]


def _out(size: tuple[int, ...], part: nn.Conv3d | nn.MaxPool3d) -> tuple[int, int, int]:
    """Frames, rows and columns of the output."""
    kernel, stride, padding = part.kernel_size, part.stride, part.padding
    assert isinstance(kernel, tuple)
    assert isinstance(stride, tuple)
    assert isinstance(padding, tuple)
    edges = zip(size, kernel, stride, padding, strict=True)
    frames, rows, columns = ((n + 2 * int(p) - k) // s + 1 for n, k, s, p in edges)
    return frames, rows, columns


def _flops(part: nn.Conv3d, size: tuple[int, int, int]) -> int:
    """Operations for an output of this size: two per multiply-add."""
    return 2 * math.prod(size) * part.out_channels * math.prod(part.weight.shape[1:])


def flops_per_second(device: torch.device) -> float:
    """Rough FLOPS of a device."""
    if device.type == "cuda":
        return GPU_FLOPS
    return CPU_FLOPS_PER_THREAD * torch.get_num_threads()
