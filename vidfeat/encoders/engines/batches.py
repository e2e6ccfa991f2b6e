"""Batches assembled clip by clip, in the memory that an engine reads.

A *feed* belongs to a run. It makes batches, and embeds those that are full. The feed of an engine
on the processor copies pixels into an array. The feed of a GPU (``device_batches.py``) sends pixels
or planes to the device at once, so that copying and conversion overlap with the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vidfeat.encoders.engines.base import Engine
from vidfeat.video.planes import ClipFrames
from vidfeat.video.planes_numpy import clip_to_rgb

Pin = Callable[[NDArray[np.uint8]], Callable[[], None]]
"""Makes memory ready for copies to a device; what it returns undoes that."""


class ClipBatch(Protocol):
    """A batch being filled."""

    def put(self, place: int, frames: ClipFrames, release: Callable[[], None]) -> None:
        """Set clip ``place``; ``release`` is called once ``frames`` are no longer needed."""
        ...

    def complete(self, filled: int) -> None:
        """There are no more clips: those from ``filled`` on become black."""
        ...


class Feed(Protocol):
    """Makes batches and embeds them, from several threads at a time."""

    planes: bool
    """Whether clips may come as planes."""
    threads: int
    """From how many threads ``embed`` is called at a time."""

    @property
    def pin(self) -> Pin | None:
        """For the memory in which clips arrive; None if that gains nothing."""
        ...

    def warm_up(self) -> None:
        """Get ready for the first batch; from one of the threads that embed."""
        ...

    def new_batch(self) -> ClipBatch:
        """An empty batch; from the thread that fills it."""
        ...

    def embed(self, batch: ClipBatch, runner: int) -> NDArray[np.float32]:
        """Vectors (B, D) of a complete batch, which is used again afterwards.

        Args:
            batch: of this feed.
            runner: the calling thread, from 0 to ``threads`` - 1.
        """
        ...

    def close(self) -> None:
        """The run is over: release everything."""
        ...


# Batches up to this size are padded with black clips, so that all have one size; larger ones only
# to a multiple of the step, since padding would take too much time and memory.
_FILLED_UP = 1024
_STEP = 256


class HostBatch:
    """Pixels in an array, which grows as clips come if the batch is very large."""

    def __init__(self, shape: tuple[int, int, int, int, int]) -> None:
        self._size = shape[0]
        first = shape[0] if shape[0] <= _FILLED_UP else _STEP
        self._memory = np.empty((first, *shape[1:]), np.uint8)
        self.clips_NTHWC = self._memory
        """Of a complete batch."""

    def put(self, place: int, frames: ClipFrames, release: Callable[[], None]) -> None:
        """Copy a clip."""
        if place >= len(self._memory):
            self._grow(min(self._size, 2 * place))
        self._memory[place] = frames if isinstance(frames, np.ndarray) else clip_to_rgb(frames)
        release()

    def _grow(self, size: int) -> None:
        larger = np.empty((size, *self._memory.shape[1:]), np.uint8)
        larger[: len(self._memory)] = self._memory
        self._memory = larger

    def complete(self, filled: int) -> None:
        """Blacken the rest."""
        size = self._size
        if size > _FILLED_UP:
            size = min(size, -(-filled // _STEP) * _STEP)
            if size > len(self._memory):
                self._grow(size)
        self._memory[filled:size] = 0
        self.clips_NTHWC = self._memory[:size]


class HostFeed:
    """Batches for engines that take arrays.

    Args:
        engines: the engine, or its replicas; each gets as many threads as it takes.
        shape: (B, T, H, W, 3).
    """

    planes = False

    def __init__(self, engines: Sequence[Engine], shape: tuple[int, int, int, int, int]) -> None:
        self._runners = [engine for engine in engines for _ in range(engine.batches_at_once)]
        self.threads = len(self._runners)
        self._shape = shape
        self._spare: SimpleQueue[HostBatch] = SimpleQueue()

    @property
    def pin(self) -> Pin | None:
        """Does nothing: there is no gain."""
        return None

    def warm_up(self) -> None:
        """Does nothing."""

    def new_batch(self) -> HostBatch:
        """One that was used before, or a new one."""
        try:
            return self._spare.get_nowait()
        except Empty:
            return HostBatch(self._shape)

    def embed(self, batch: ClipBatch, runner: int) -> NDArray[np.float32]:
        """Run the batch on the engine of this thread."""
        assert isinstance(batch, HostBatch)
        vectors = self._runners[runner].embed(batch.clips_NTHWC)
        self._spare.put(batch)
        return vectors

    def close(self) -> None:
        """Does nothing: nothing is held."""
