"""A first layer that sees motion before it is trained.

The direction in which a texture moves does not show in any mean of filters over single frames:
random first layers hardly reveal it, and training from them makes no progress for a long time. A
pair of filters in quadrature over space, and another over time, combine into one that responds to
only one direction ("Spatiotemporal energy models for the perception of motion", Adelson and Bergen,
1985). A 3D kernel can hold that sum as it is. A (2+1)D stem holds its two factors: space first,
lifted so that the rectifier lets both signs through, then time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

_ORIENTATIONS = 4
_CYCLES_PER_PIXEL = (0.24, 0.13)
_PHASES = 2  # channels of a pair: even and odd
_LIFT = 3.0  # standard deviations added before the rectifier; filters over time cancel them
_TAPS = 3  # frames that a filter over time spans
_ODD = (-0.5, 0.0, 0.5)
_EVEN = (-0.5, 1.0, -0.5)


class _Pair(NamedTuple):
    """Two filters over space, (k, k) each: a wave, and the same shifted by a quarter wavelength."""

    even: Tensor
    odd: Tensor


def motion_energy_stem(network: nn.Module, noise: float = 0.1) -> int:
    """Set the stem's weights so that its channels respond to directions of motion.

    Four orientations at two spatial frequencies make eight pairs, and each pair two channels, one
    per direction; the remaining channels keep their random weights. A stem that sees single frames
    (rMC, f-R2D) cannot distinguish directions and is left unchanged.

    Args:
        network: changed in place; its stem is that of the paper's networks.
        noise: share of the random weights that stays in those that are set.

    Returns:
        How many channels of the stem's output were set.

    Raises:
        ValueError: a network with a different first layer.
    """
    named = dict(network.named_parameters())
    space = named.get("stem.0.weight")
    if space is None or space.ndim != 5:
        raise ValueError("only the first layer of the paper's networks can be set to see motion")
    with torch.no_grad():
        if space.shape[2] >= _TAPS:
            return _whole(space, noise)
        if "stem.3.weight" in named:
            return _separate(space, named["stem.1.bias"], named["stem.3.weight"], noise)
    return 0


def _separate(space: Tensor, lift: Tensor, time: Tensor, noise: float) -> int:
    """Set a (2+1)D stem: (M, C, 1, k, k) and the bias after it, then (O, M, 3, 1, 1)."""
    count = min(space.shape[0] // _PHASES, time.shape[0] // 2)
    pairs = list(_pairs(space.shape[-1], count))
    used = time[: 2 * len(pairs)]
    spread = float(time.std()) * math.sqrt(time.shape[1] / _PHASES)
    used.mul_(noise)
    for index, pair in enumerate(pairs):
        channels = slice(index * _PHASES, (index + 1) * _PHASES)
        lift[channels] = _LIFT
        for own, pattern in zip(space[channels], pair, strict=True):
            _replace(own, pattern, noise)
        for way in (1, -1):
            own = time[2 * index + (way < 0), channels, :, 0, 0]
            own.add_(2 * spread * _over_time(way, own.dtype))
    return 2 * len(pairs)


def _whole(kernel: Tensor, noise: float) -> int:
    """Set a 3D stem, or one as long as the clip: (O, C, T, k, k); filters fill its middle."""
    pairs = list(_pairs(kernel.shape[-1], kernel.shape[0] // 2))
    first = (kernel.shape[2] - _TAPS) // 2
    for index, pair in enumerate(pairs):
        for way in (1, -1):
            taps = _over_time(way, kernel.dtype)
            pattern = torch.zeros(kernel.shape[2:], dtype=kernel.dtype)
            pattern[first : first + _TAPS] = torch.einsum("pt,phw->thw", taps, torch.stack(pair))
            _replace(kernel[2 * index + (way < 0)], pattern, noise)
    return 2 * len(pairs)


def _replace(own: Tensor, pattern: Tensor, noise: float) -> None:
    """Replace one output channel's weights, (C, ...), with a pattern of the same norm."""
    size = float(own.norm())
    own.mul_(noise).add_(pattern / pattern.norm() * size / math.sqrt(own.shape[0]))


def _over_time(way: int, dtype: torch.dtype) -> Tensor:
    """Weights of the even and the odd filter over space, frame after frame: (2, 3)."""
    return torch.tensor((_ODD, tuple(way * tap for tap in _EVEN)), dtype=dtype)


def _pairs(size: int, most: int) -> Iterator[_Pair]:
    """Waves under a bell curve, none of which responds to uniform brightness."""
    place = torch.arange(size) - (size - 1) / 2
    y, x = torch.meshgrid(place, place, indexing="ij")
    bell = torch.exp(-(x**2 + y**2) / (2 * (size / 4) ** 2))
    settings = [(f, turn) for f in _CYCLES_PER_PIXEL for turn in range(_ORIENTATIONS)]
    for cycles_per_pixel, turn in settings[:most]:
        angle = math.pi * turn / _ORIENTATIONS
        along = (x * math.cos(angle) + y * math.sin(angle)) * (2 * math.pi * cycles_per_pixel)
        even, odd = torch.cos(along) * bell, torch.sin(along) * bell
        yield _Pair(even - bell * (even.sum() / bell.sum()), odd)
