"""Videos to rows: decoding, and a network that takes the clips of one video batch by batch.

``extract`` fills its batches across videos instead: see `vidfeat.extraction.assembly`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import VideoError
from vidfeat.store.embeddings import Embeddings
from vidfeat.video.clips import Clip
from vidfeat.video.decode.decoder import make_decoder
from vidfeat.video.decode.pool import DEFAULT_TIMEOUT_SECONDS
from vidfeat.video.decode.tasks import ClipSource, Started, VideoTask

Rows = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Clips uint8 (N, T, H, W, 3) to rows (N, D). The array is used again after the call."""


@dataclass(frozen=True)
class VideoRead:
    """The rows of a video's clips, or why there are none.

    Attributes:
        path: as it was given.
        clips: one row per clip, with its seconds; None where the video failed.
        error: why it failed; beside ``clips``, where it broke off after them.
    """

    path: str
    clips: Embeddings | None
    error: VideoError | None = None


def read_videos(
    rows: Rows,
    batch_size: int,
    source: ClipSource,
    tasks: Iterable[VideoTask],
    *,
    workers: int = 1,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    started: Callable[[Started], None] | None = None,
) -> Iterator[VideoRead]:
    """Decode videos and compute the rows of their clips, video after video, in the order given.

    Args:
        rows: the network.
        batch_size: clips per call of ``rows``, at most.
        source: plan and preprocessing.
        tasks: the videos.
        workers: decode processes, so that a file that crashes or hangs its decoder costs only
            itself; 0 decodes in this process, without that protection.
        timeout_seconds: silence after which a video is given up.
        started: called with each ``Started``; what it raises ends the reading.
    """
    clips = _VideoClips(rows, batch_size, source.clip_shape)
    with make_decoder(source, workers, timeout_seconds=timeout_seconds) as decoder:
        for task, event in decoder.run(tasks):
            if isinstance(event, Started):
                clips.start()  # a second one: the video was planned again, all before is void
                if started is not None:
                    started(event)
            elif isinstance(event, Clip):
                clips.add(event)
            elif event.error is not None:
                clips.start()
                error = event.error
                if error.kind == "gone":  # nobody listed it a while ago: it may never have existed
                    error = VideoError("there is no such file", kind="gone", path=task.path)
                yield VideoRead(task.path, None, error)
            else:
                found = clips.finish()
                error = None
                if event.damage is not None:
                    error = VideoError(event.damage.message, kind="damaged", path=task.path)
                elif found is None:
                    error = VideoError("no clip could be read", kind="no_frames", path=task.path)
                yield VideoRead(task.path, found, error)


class _VideoClips:
    """The clips of one video on their way through the network, a batch at a time."""

    def __init__(self, rows: Rows, batch_size: int, clip_shape: tuple[int, ...]) -> None:
        self._network = rows
        self._batch = np.empty((batch_size, *clip_shape), np.uint8)
        self.start()

    def start(self) -> None:
        """Begin a video."""
        self._filled = 0
        self._rows: list[NDArray[np.float32]] = []
        self._seconds: list[tuple[float, float]] = []

    def add(self, clip: Clip) -> None:
        """Copy a clip, and run the network when the batch is full."""
        self._batch[self._filled] = clip.frames_THWC
        clip.release()
        self._seconds.append((clip.start_seconds, clip.end_seconds))
        self._filled += 1
        if self._filled == len(self._batch):
            self._run()

    def finish(self) -> Embeddings | None:
        """All rows of the video; None where there are none."""
        if self._filled:
            self._run()
        if not self._rows:
            return None
        start, end = np.array(self._seconds, dtype=np.float64).T
        return Embeddings(np.concatenate(self._rows), start, end)

    def _run(self) -> None:
        self._rows.append(self._network(self._batch[: self._filled]))
        self._filled = 0
