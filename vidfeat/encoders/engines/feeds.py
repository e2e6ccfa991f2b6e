"""The feed that fits an encoder's engines."""

from __future__ import annotations

from collections.abc import Sequence

from vidfeat.encoders.engines.base import Engine
from vidfeat.encoders.engines.batches import Feed, HostFeed


def feed_of(engines: Sequence[Engine], shape: tuple[int, int, int, int, int]) -> Feed:
    """The feed for the engines of an encoder."""
    if len(engines) == 1 and engines[0].takes_planes:
        from vidfeat.encoders.engines.device_batches import DeviceFeed

        return DeviceFeed(engines[0], shape)
    return HostFeed(engines, shape)
