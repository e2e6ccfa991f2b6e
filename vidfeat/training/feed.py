"""Clips for training and evaluation, from the decode processes of the extraction engine.

Requests are answered in their order, so that a run does not depend on the number of processes. A
background thread keeps some batches ready while the network works on another.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from vidfeat.datasets.synthetic_motion import SceneRequest
from vidfeat.errors import VideoError
from vidfeat.training.config import Recipe
from vidfeat.training.distributed import cores_per_process
from vidfeat.video.clip_plan import ClipPlan
from vidfeat.video.clips import Clip
from vidfeat.video.decode.decoder import Decoder, make_decoder
from vidfeat.video.decode.tasks import ClipSource, Finished, Reading, Started, VideoTask
from vidfeat.video.preprocess import Preprocess

T = TypeVar("T")

MAX_WORKERS = 16


@dataclass(frozen=True)
class FlowSource(ClipSource):
    """Packed flow fields in place of frames: four bytes per pixel."""

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(T, H, W, 4)."""
        return (self.plan.frames, *self.preprocess.crop, 4)


@dataclass(frozen=True)
class Read:
    """The answer to one request: its clips, or why there are none."""

    clips: NDArray[np.uint8] | None
    """(n, T, H, W, C), packed if it is flow."""
    error: VideoError | None = None


class Feed:
    """Decodes requests, in order; use as a context manager.

    Args:
        recipe: defines the shape of a clip.
        workers: decode processes; 0 decodes in this process.
        timeout_seconds: after which a silent process is abandoned.
    """

    def __init__(self, recipe: Recipe, workers: int, *, timeout_seconds: float = 120.0) -> None:
        data = recipe.data
        kind = FlowSource if data.modality == "flow" else ClipSource
        self.source = kind(
            ClipPlan(data.frames, frames_fps=data.folder_fps),
            Preprocess((data.crop, data.crop), (data.crop, data.crop)),
        )
        self._recipe = recipe
        self._workers = workers
        self._timeout = timeout_seconds
        self._decoder: Decoder | None = None
        self._spare: Feed | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Feed:
        self._decoder = make_decoder(self.source, self._workers, timeout_seconds=self._timeout)
        self._stack.enter_context(self._decoder)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()
        self._decoder = self._spare = None

    def read(self, requests: Iterable[tuple[str, Reading | SceneRequest]]) -> Iterator[Read]:
        """Answer requests (file, what to read of it), in their order."""
        tasks = (_task(path, wanted) for path, wanted in requests)
        assert self._decoder is not None, "use it as a context manager"
        clips: list[NDArray[np.uint8]] = []
        for _, event in self._decoder.run(tasks):
            if isinstance(event, Started):
                clips = []
            elif isinstance(event, Clip):
                clips.append(event.frames_THWC.copy())
                event.release()
            elif isinstance(event, Finished):
                if event.error is not None or not clips:
                    error = event.error or VideoError(
                        "no clip could be made of it", kind="no_frames"
                    )
                    yield Read(None, error)
                else:
                    yield Read(np.stack(clips))
                clips = []

    def read_one(self, request: tuple[str, Reading | SceneRequest]) -> Read:
        """Answer a request out of turn, while others are being answered in order."""
        if self._spare is None:
            # The pool is busy with the requests in order: start another process when first needed.
            spare = Feed(self._recipe, min(1, self._workers), timeout_seconds=self._timeout)
            self._spare = self._stack.enter_context(spare)
        (answer,) = self._spare.read([request])
        return answer


def _task(path: str, wanted: Reading | SceneRequest) -> VideoTask:
    if isinstance(wanted, SceneRequest):
        return VideoTask(path, making=wanted)
    return VideoTask(path, reading=wanted)


def default_workers(cores: int) -> int:
    """Decode processes of one training process with this many cores: all but one, at least 1."""
    return max(1, min(MAX_WORKERS, cores - 1))


def workers_of(recipe: Recipe, local_size: int = 1) -> int:
    """Decode processes of each training process of a machine that runs ``local_size`` of them."""
    if recipe.run.workers >= 0:
        return recipe.run.workers
    return default_workers(cores_per_process(local_size))


def feed_of(recipe: Recipe, local_size: int) -> Feed:
    """The feed of one of ``local_size`` training processes of a machine."""
    workers = workers_of(recipe, local_size)
    return Feed(recipe, workers, timeout_seconds=recipe.run.seconds_per_video)


class Ahead(Generic[T]):
    """Runs an iterator in a thread and holds some of its items ready.

    Args:
        items: what to iterate over; its errors are raised to the consumer.
        depth: how many items may wait.
    """

    def __init__(self, items: Iterable[T], depth: int = 2) -> None:
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
        self._stopped = threading.Event()
        self.waited_seconds = 0.0
        """Time that the consumer had to wait, since it was last reset."""
        self._thread = threading.Thread(target=self._run, args=(items,), daemon=True)
        self._thread.start()

    def _run(self, items: Iterable[T]) -> None:
        try:
            for item in items:
                if not self._put("item", item):
                    break
            self._put("end", None)
        except BaseException as error:
            self._put("error", error)

    def _put(self, kind: str, value: Any) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put((kind, value), timeout=0.2)
            except queue.Full:
                continue
            return True
        return False

    def __iter__(self) -> Iterator[T]:
        while True:
            began = time.perf_counter()
            kind, value = self._queue.get()
            self.waited_seconds += time.perf_counter() - began
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value

    def __enter__(self) -> Ahead[T]:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopped.set()
        self._thread.join(timeout=60)
