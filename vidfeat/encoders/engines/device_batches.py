"""Batches in a GPU's memory, filled by copies that overlap with the network.

Each clip is copied out of the decode process's own memory, which is registered with CUDA, on a
separate stream. The planes of consecutive clips are converted to pixels together on that stream.
Nothing waits for the device: a slot goes back to its process once later clips have arrived and the
copy is known to be done.

The thread that fills batches queues all of its work on the copy stream while the feed is open.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from vidfeat.encoders.engines.base import Engine
from vidfeat.encoders.engines.batches import ClipBatch, Pin
from vidfeat.encoders.engines.cuda_engine import CudaEngine
from vidfeat.encoders.engines.planes_torch import PlaneConverter
from vidfeat.video.plane_tables import PlaneCut
from vidfeat.video.planes import ClipFrames, PlaneClip

# Slots that wait for their copies. A decode process has at least four slots, so it can always
# continue with the others.
_MOST_PENDING = 2
# Clips whose planes are converted by one launch.
_CONVERTED_TOGETHER = 8


def _event() -> torch.cuda.Event:
    """An event that leaves the core to others while a thread waits for it."""
    return torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]


class DeviceBatch:
    """A batch of pixels on the device."""

    def __init__(self, feed: DeviceFeed) -> None:
        self._feed = feed
        self.clips_NTHWC = torch.empty(feed.shape, dtype=torch.uint8, device=feed.device)
        self.filled = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def put(self, place: int, frames: ClipFrames, release: Callable[[], None]) -> None:
        """Queue the copy of a clip, and the conversion of planes."""
        self._feed.send(self, place, frames, release)

    def complete(self, filled: int) -> None:
        """Make the rest black, and record an event after the last copy."""
        self._feed.convert()
        if filled < len(self.clips_NTHWC):
            self.clips_NTHWC[filled:].zero_()
        self.filled.record(self._feed.copies)


class _Staged:
    """Planes on the device, not yet converted to pixels, of consecutive clips of one batch."""

    def __init__(self, batch: DeviceBatch, place: int, clip: PlaneClip) -> None:
        self.batch, self.first, self.cut = batch, place, clip.cut
        shape = (_CONVERTED_TOGETHER, *clip.planes_TB.shape)
        self.planes = torch.empty(shape, dtype=torch.uint8, device=batch.clips_NTHWC.device)
        self.count = 0

    def takes(self, batch: DeviceBatch, cut: PlaneCut) -> bool:
        """Whether the next clip can be converted together with these."""
        same = self.cut is cut or self.cut == cut
        return same and self.batch is batch and self.count < _CONVERTED_TOGETHER


class DeviceFeed:
    """Batches for one engine on a CUDA device.

    Args:
        engine: the engine on the device.
        shape: (B, T, H, W, 3).
    """

    planes = True

    def __init__(self, engine: Engine, shape: tuple[int, int, int, int, int]) -> None:
        self._engine = cast("CudaEngine", engine)
        self.threads = self._engine.batches_at_once
        self.shape = shape
        self.device = self._engine.device
        self.copies = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        self._before = torch.cuda.current_stream(self.device)
        torch.cuda.set_stream(self.copies)
        self._converter = PlaneConverter(self.device)
        self._staged: _Staged | None = None
        self._pending: deque[tuple[torch.cuda.Event, Callable[[], None]]] = deque()
        self._events: list[torch.cuda.Event] = []
        self._spare: SimpleQueue[DeviceBatch] = SimpleQueue()

    def new_batch(self) -> DeviceBatch:
        """A batch to reuse, or a new one."""
        try:
            return self._spare.get_nowait()
        except Empty:
            return DeviceBatch(self)

    def warm_up(self) -> None:
        """Load kernels and record the graph, while the first clips are decoded."""
        self._engine.warm_up(self.shape)

    def send(
        self, batch: DeviceBatch, place: int, frames: ClipFrames, release: Callable[[], None]
    ) -> None:
        """Queue the copy of a clip into its place."""
        if isinstance(frames, np.ndarray):
            self.convert()
            batch.clips_NTHWC[place].copy_(torch.from_numpy(frames), non_blocking=True)
        else:
            staged = self._staged
            if staged is None or not staged.takes(batch, frames.cut):
                self.convert()
                staged = self._staged = _Staged(batch, place, frames)
            staged.planes[staged.count].copy_(torch.from_numpy(frames.planes_TB), non_blocking=True)
            staged.count += 1
        copied = self._events.pop() if self._events else _event()
        copied.record(self.copies)
        self._pending.append((copied, release))
        while self._pending and (len(self._pending) > _MOST_PENDING or self._first_is_done()):
            event, give_back = self._pending.popleft()
            event.synchronize()
            self._events.append(event)
            give_back()

    def _first_is_done(self) -> bool:
        return bool(self._pending[0][0].query())  # type: ignore[no-untyped-call]

    def convert(self) -> None:
        """Convert the planes that have been sent to pixels."""
        staged, self._staged = self._staged, None
        if staged is not None:
            last = staged.first + staged.count
            self._converter.convert(
                staged.planes[: staged.count].flatten(0, 1),
                staged.cut,
                staged.batch.clips_NTHWC[staged.first : last].flatten(0, 1),
            )

    def embed(self, batch: ClipBatch, runner: int) -> NDArray[np.float32]:  # noqa: ARG002
        """Run the network after the batch's copies."""
        assert isinstance(batch, DeviceBatch)
        vectors = self._engine.submit(batch.clips_NTHWC, batch.filled).result()
        self._spare.put(batch)
        return vectors

    @property
    def pin(self) -> Pin:
        """Registers the memory in which clips arrive."""
        return self._register

    def _register(self, memory: NDArray[np.uint8]) -> Callable[[], None]:
        """Register memory for direct copies, in the background.

        Until that is done, or if CUDA refuses, copies are slower but correct.
        """
        address = memory.ctypes.data
        runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
        registered: list[bool] = []

        def register() -> None:
            registered.append(int(runtime.cudaHostRegister(address, memory.nbytes, 0)) == 0)
            if not registered[0]:
                # CUDA reports the error again at the next call: make it this one
                with suppress(RuntimeError):
                    torch.empty(1, device=self.device).zero_()

        thread = threading.Thread(target=register, name="pin", daemon=True)
        thread.start()

        def undo() -> None:
            thread.join()
            if registered == [True]:
                torch.cuda.synchronize(self.device)  # a copy may still read it
                runtime.cudaHostUnregister(address)

        return undo

    def close(self) -> None:
        """Wait for the last copies and give their slots back."""
        torch.cuda.synchronize(self.device)
        while self._pending:
            self._pending.popleft()[1]()
        torch.cuda.set_stream(self._before)
