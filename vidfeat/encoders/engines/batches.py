"""Batches assembled clip by clip, in the memory that an engine reads.

A *feed* belongs to a run. It makes batches, and embeds the full ones. The feed of an engine
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
"""Makes memory ready for copies to a device; the function it returns undoes that."""


class ClipBatch(Protocol):
    """A batch being filled."""

    def put(self, place: int, frames: ClipFrames, release: Callable[[], None]) -> None:
        """Set clip ``place``; ``release`` is called once ``frames`` are no longer needed."""
        ...

    def complete(self, filled: int) -> None:
        """End the batch after ``filled`` clips: the other places become black."""
        ...


class Feed(Protocol):
    """Makes batches and embeds them, from several threads at a time."""

    planes: bool
    """Whether clips may arrive as planes."""
    threads: int
    """Number of threads that call ``embed`` at the same time."""

    @property
    def pin(self) -> Pin | None:
        """Pins the memory in which clips arrive; None if that gains nothing."""
        ...

    def warm_up(self) -> None:
        """Prepare for the first batch; called from one of the threads that embed."""
        ...

    def new_batch(self) -> ClipBatch:
        """Return an empty batch; called from the thread that fills it."""
        ...

    def embed(self, batch: ClipBatch, runner: int) -> NDArray[np.float32]:
        """Vectors (B, D) of a complete batch, which is reused afterwards.

        Args:
            batch: a batch of this feed.
            runner: the calling thread, from 0 to ``threads`` - 1.
        """
        ...

    def close(self) -> None:
        """Release everything at the end of the run."""
        ...


# Batches up to this size are padded with black clips, so that all have one size; larger ones only
# to a multiple of the step, since padding would take too much time and memory.
_FILLED_UP = 1024
_STEP = 256


class HostBatch:
    """Pixels in an array, which grows as clips arrive if the batch is very large."""

    def __init__(self, shape: tuple[int, int, int, int, int]) -> None:
        self._size = shape[0]
        first = shape[0] if shape[0] <= _FILLED_UP else _STEP
        self._memory = np.empty((first, *shape[1:]), np.uint8)
        self.clips_NTHWC = self._memory
        """The clips of a complete batch."""

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
        """Make the rest black."""
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
        """None: pinning gains nothing here."""
        return None

    def warm_up(self) -> None:
        """Does nothing."""

    def new_batch(self) -> HostBatch:
        """A batch to reuse, or a new one."""
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
