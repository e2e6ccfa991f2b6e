"""A first layer that sees motion before it is trained.

Which way a texture moves cannot be told from any mean of single filters' answers: random first
layers hardly tell it, and training from them waits long for its first progress. A pair of filters
in quadrature over space, and another over time, combine to one that answers to one direction
alone ("Spatiotemporal energy models for the perception of motion", Adelson and Bergen, 1985). A
(2+1)D stem can hold just that: space first, lifted so that the rectifier lets both signs through,
then time.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_ORIENTATIONS = 4
_CYCLES_PER_PIXEL = (0.24, 0.13)
_PHASES = 2  # channels a pair takes: even and odd
_LIFT = 3.0  # deviations: what is added before the rectifier; filters over time take it away again
_ODD = (-0.5, 0.0, 0.5)
_EVEN = (-0.5, 1.0, -0.5)


def motion_energy_stem(network: nn.Module, noise: float = 0.1) -> int:
    """Set the stem's weights so that its channels answer to directions of motion.

    The stem must be that of R(2+1)D: a ``1 x k x k`` convolution, batch norm, ReLU, then one of
    three frames. Four orientations at two spatial frequencies make eight pairs, and each pair two
    channels, one a direction; what is left of the channels keeps its random weights.

    Args:
        network: changed in place.
        noise: of the random weights, what stays in those that are set.

    Returns:
        How many channels of the stem's output were set.

    Raises:
        ValueError: a network with another stem.
    """
    named = dict(network.named_parameters())
    space, lift = named.get("stem.0.weight"), named.get("stem.1.bias")
    time = named.get("stem.3.weight")
    if space is None or lift is None or time is None or tuple(time.shape[2:]) != (3, 1, 1):
        raise ValueError("only the stem of R(2+1)D, space before time, can see motion untrained")
    pairs = [
        (math.pi * turn / _ORIENTATIONS, frequency)
        for frequency in _CYCLES_PER_PIXEL
        for turn in range(_ORIENTATIONS)
    ]
    pairs = pairs[: min(space.shape[0] // _PHASES, time.shape[0] // 2)]
    with torch.no_grad():
        used = time[: 2 * len(pairs)]
        spread = float(time.std()) * math.sqrt(time.shape[1] / _PHASES)
        used.mul_(noise)
        for index, (angle, frequency) in enumerate(pairs):
            even, odd = _gabor(space.shape[-1], angle, frequency)
            lift[index * _PHASES : (index + 1) * _PHASES] = _LIFT
            for place, pattern in enumerate((even, odd)):
                own = space[index * _PHASES + place]
                size = float(own.norm())
                own.mul_(noise).add_(pattern / pattern.norm() * size / math.sqrt(own.shape[0]))
            for way in (1, -1):
                own = time[2 * index + (way < 0), index * _PHASES : (index + 1) * _PHASES, :, 0, 0]
                taps = (_ODD, tuple(way * tap for tap in _EVEN))
                own.add_(2 * spread * torch.tensor(taps, dtype=own.dtype))
    return 2 * len(pairs)


def _gabor(size: int, angle: float, cycles_per_pixel: float) -> tuple[Tensor, Tensor]:
    """A wave under a bell, even and odd, neither answering to plain light: (size, size) each."""
    place = torch.arange(size) - (size - 1) / 2
    y, x = torch.meshgrid(place, place, indexing="ij")
    along = (x * math.cos(angle) + y * math.sin(angle)) * (2 * math.pi * cycles_per_pixel)
    bell = torch.exp(-(x**2 + y**2) / (2 * (size / 4) ** 2))
    even, odd = torch.cos(along) * bell, torch.sin(along) * bell
    return even - bell * (even.sum() / bell.sum()), odd
