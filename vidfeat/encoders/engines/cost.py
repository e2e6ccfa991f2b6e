"""What a clip costs a network: counted on shapes alone, without a single multiplication."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vidfeat.models.base import VideoNetwork

# What a machine does in a second with these networks, roughly. They cut work into parts, and two
# runs of one command should cut alike: so they are constants and no measurements.
CPU_FLOPS_PER_THREAD = 4e10
GPU_FLOPS = 2e13


def flops_per_clip(
    network: VideoNetwork, layers: Sequence[str], clip_shape: tuple[int, int, int, int]
) -> float:
    """Floating-point operations (two a multiply-add) of one clip (T, H, W, C)."""
    from torch.utils.flop_counter import FlopCounterMode

    frames, height, width, channels = clip_shape
    shape = (1, channels, frames, height, width)
    tensors = {
        name: torch.empty_like(tensor, device="meta")
        for name, tensor in (*network.named_parameters(), *network.named_buffers())
    }
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        torch.func.functional_call(
            _Features(network, layers),
            {f"network.{name}": tensor for name, tensor in tensors.items()},
            (torch.empty(shape, device="meta"),),
        )
    return float(counter.get_total_flops())


class _Features(torch.nn.Module):
    """``network.features`` as a forward pass, which is what functional_call calls."""

    def __init__(self, network: VideoNetwork, layers: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        self.layers = tuple(layers)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return list(self.network.features(x, self.layers).values())


def flops_per_second(device: torch.device) -> float:
    """What a device does in a second, roughly."""
    if device.type == "cuda":
        return GPU_FLOPS
    return CPU_FLOPS_PER_THREAD * torch.get_num_threads()
