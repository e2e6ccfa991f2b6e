"""Networks with seeded weights whose batch norm does something."""

import torch
from torch import nn

from vidfeat.models import build_model


def randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Fill every tensor by a seeded rule that keeps activations in range; returns the network.

    Fresh batch norm is the identity on statistics (mean 0, variance 1, weight 1, bias 0), so a
    swapped mean and bias, or a forgotten variance, would go unseen with it.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                assert module.running_mean is not None and module.running_var is not None
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.uniform_(-0.5, 0.5, generator=generator)
                module.running_mean.uniform_(-0.5, 0.5, generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
            elif isinstance(module, nn.Conv3d | nn.Linear):
                bound = (6 / module.weight[0].numel()) ** 0.5
                module.weight.uniform_(-bound, bound, generator=generator)
                if module.bias is not None:
                    module.bias.uniform_(-0.5, 0.5, generator=generator)
    return network.eval()


def make_network(name: str, seed: int = 0, **options) -> nn.Module:
    """A network with such weights, without the time that its own initialisation takes."""
    with torch.device("meta"):
        network = build_model(name, **options)
    network.to_empty(device="cpu")
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.num_batches_tracked.zero_()
    return randomise(network, seed)


def clips(*shape: int, seed: int = 1) -> torch.Tensor:
    """Normal noise of a shape (N, C, T, H, W)."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
