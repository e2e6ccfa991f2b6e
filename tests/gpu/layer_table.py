"""The cost of each layer of a network, from its shapes: operations, bytes, minimum time."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vidfeat.models.base import VideoNetwork


@dataclass(frozen=True)
class LayerCost:
    """One convolution or linear layer, on a batch."""

    name: str
    kernel: tuple[int, ...]
    """(T, H, W); empty for a linear layer."""
    stride: tuple[int, ...]
    inputs: tuple[int, ...]
    """(N, C, T, H, W) of the input."""
    outputs: tuple[int, ...]
    flops: float
    """Two per multiply-add."""
    bytes_moved: float
    """Each input, weight and output counted once."""

    def floor_seconds(self, flops_per_second: float, bytes_per_second: float) -> float:
        """The minimum time of this layer alone on a device with these two rates."""
        return max(self.flops / flops_per_second, self.bytes_moved / bytes_per_second)


def layer_table(
    network: VideoNetwork,
    batch: int,
    clip_shape: tuple[int, int, int] = (16, 112, 112),
    *,
    channels: int = 3,
    bytes_per_value: int = 2,
) -> list[LayerCost]:
    """Every convolution and linear layer of a network in the order in which they run.

    Args:
        network: left as it is; the shapes come from a copy without memory.
        batch: clips.
        clip_shape: frames, rows and columns.
        channels: of a frame.
        bytes_per_value: of maps and weights.
    """
    rows: list[LayerCost] = []

    def note(name: str, module: nn.Module) -> Any:
        def hook(_module: nn.Module, given: tuple[Tensor, ...], found: Tensor) -> None:
            weight = module.weight
            assert isinstance(weight, Tensor)
            per_output = weight[0].numel()  # multiply-adds
            convolution = isinstance(module, nn.Conv3d)
            values = given[0].numel() + weight.numel() + found.numel()
            rows.append(
                LayerCost(
                    name=name,
                    kernel=tuple(module.kernel_size) if convolution else (),  # type: ignore[arg-type]
                    stride=tuple(module.stride) if convolution else (),  # type: ignore[arg-type]
                    inputs=tuple(given[0].shape),
                    outputs=tuple(found.shape),
                    flops=2.0 * found.numel() * per_output,
                    bytes_moved=float(values * bytes_per_value),
                )
            )

        return hook

    bare = copy.deepcopy(network).to("meta").eval()
    for name, module in bare.named_modules():
        if isinstance(module, nn.Conv3d | nn.Linear):
            module.register_forward_hook(note(name, module))
    with torch.no_grad():
        bare(torch.empty((batch, channels, *clip_shape), device="meta"))
    return rows
