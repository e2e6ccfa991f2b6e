"""Batches in a GPU's memory, filled by copies that overlap with the network.

Each clip is copied out of the decode process's own memory, which is registered with CUDA, on a
stream of its own; planes become pixels there, in the batch. Nothing waits for the device: a slot
goes back to its process once a later clip is put and the copy is known to be done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from vidfeat.encoders.engines.base import Engine
from vidfeat.encoders.engines.batches import ClipBatch
from vidfeat.encoders.engines.cuda_engine import CudaEngine
from vidfeat.encoders.engines.planes_torch import PlaneConverter
from vidfeat.video.planes import ClipFrames

# Slots that wait for their copies. A decode process has at least four slots where its memory
# allows, so it can always go on with the others.
_MOST_PENDING = 2


class DeviceBatch:
    """Pixels on the device."""

    def __init__(self, feed: DeviceFeed) -> None:
        self._feed = feed
        self.clips_NTHWC = torch.empty(feed.shape, dtype=torch.uint8, device=feed.device)
        self.filled = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def put(self, place: int, frames: ClipFrames, release: Callable[[], None]) -> None:
        """Queue the copy of a clip, and the conversion of planes."""
        self._feed.send(frames, self.clips_NTHWC[place], release)

    def complete(self, filled: int) -> None:
        """Blacken the rest, and note when all copies are done."""
        with torch.cuda.stream(self._feed.copies):
            self.clips_NTHWC[filled:].zero_()
            self.filled.record(self._feed.copies)


class DeviceFeed:
    """Batches for one engine on a CUDA device.

    Args:
        engine: on the device.
        shape: (B, T, H, W, 3).
    """

    planes = True

    def __init__(self, engine: Engine, shape: tuple[int, int, int, int, int]) -> None:
        self._engine = cast("CudaEngine", engine)
        self.threads = self._engine.batches_at_once
        self.shape = shape
        self.device = self._engine.device
        self.copies = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        self._converter = PlaneConverter(self.device)
        self._pending: deque[tuple[torch.cuda.Event, Callable[[], None]]] = deque()
        self._spare: SimpleQueue[DeviceBatch] = SimpleQueue()

    def new_batch(self) -> DeviceBatch:
        """One whose network has run, or a new one."""
        try:
            return self._spare.get_nowait()
        except Empty:
            return DeviceBatch(self)

    def send(self, frames: ClipFrames, out_THWC: torch.Tensor, release: Callable[[], None]) -> None:
        """Queue a clip's way into its place on the device."""
        with torch.cuda.device(self.device), torch.cuda.stream(self.copies):
            if isinstance(frames, np.ndarray):
                out_THWC.copy_(torch.from_numpy(frames), non_blocking=True)
            else:
                given = torch.from_numpy(frames.planes_TB)
                planes = torch.empty(given.shape, dtype=torch.uint8, device=self.device)
                planes.copy_(given, non_blocking=True)
                self._converter.convert(planes, frames.cut, out_THWC)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record(self.copies)
        self._pending.append((copied, release))
        while len(self._pending) > _MOST_PENDING or self._pending[0][0].query():
            event, give_back = self._pending.popleft()
            event.synchronize()
            give_back()
            if not self._pending:
                return

    def embed(self, batch: ClipBatch, runner: int) -> NDArray[np.float32]:  # noqa: ARG002
        """Run the network behind the batch's copies."""
        assert isinstance(batch, DeviceBatch)
        vectors = self._engine.submit(batch.clips_NTHWC, batch.filled).result()
        self._spare.put(batch)
        return vectors

    def pin(self, memory: NDArray[np.uint8]) -> Callable[[], None]:
        """Register memory for copies without a detour; where CUDA refuses, copies are slower."""
        address = memory.ctypes.data
        runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
        if int(runtime.cudaHostRegister(address, memory.nbytes, 0)) != 0:
            return lambda: None

        def undo() -> None:
            torch.cuda.synchronize(self.device)  # a copy may still read it
            runtime.cudaHostUnregister(address)

        return undo

    def close(self) -> None:
        """Wait for the last copies and give their slots back."""
        torch.cuda.synchronize(self.device)
        while self._pending:
            self._pending.popleft()[1]()
