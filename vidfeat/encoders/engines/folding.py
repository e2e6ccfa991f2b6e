"""Convolutions with the batch norms after them folded in."""

from __future__ import annotations

from torch import Tensor, nn


def folded(module: nn.Module) -> list[tuple[nn.Conv3d, Tensor, Tensor]]:
    """Each convolution, with a weight and bias that include its batch norm, in float64."""
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
        found.append((convolution, weight.detach(), bias.detach()))
    return found
