"""Networks for tests of engines."""

from __future__ import annotations

import torch
from torch import nn

from vidfeat.models import VideoResNet, build_model


def lived_in(name: str, seed: int = 5) -> VideoResNet:
    """A network whose batch norms are not the identity."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_model(name, 7)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.1)
    assert isinstance(network, VideoResNet)
    return network.eval()
