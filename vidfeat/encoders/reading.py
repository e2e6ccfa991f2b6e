"""From videos to rows: decoding, and a network that takes the clips of one video batch by batch.

``extract`` fills its batches across videos instead: see `vidfeat.extraction.assembly`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vidfeat.encoders.rows import RowLayout
from vidfeat.errors import VideoError
from vidfeat.store.embeddings import Embeddings
from vidfeat.system.urls import shown_path
from vidfeat.video.clip_plan import PlannedClip
from vidfeat.video.clips import Clip
from vidfeat.video.decode.decoder import make_decoder
from vidfeat.video.decode.pool import DEFAULT_TIMEOUT_SECONDS
from vidfeat.video.decode.tasks import ClipSource, Started, VideoTask
from vidfeat.video.frame_clips import frames_of_clips


@dataclass(frozen=True)
class ClipNetwork:
    """A network, and the clips or frames that it takes."""

    outputs: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    """Its output (N crops, O) for N clips, or frames, from the source. The array is reused after
    the call."""
    source: ClipSource
    batch_size: int
    """Most clips, or frames, per batch."""
    rows: RowLayout = field(default_factory=RowLayout)
    """How its output becomes the rows of clips."""


@dataclass(frozen=True)
class VideoRead:
    """The rows of a video's clips, or why there are none.

    Attributes:
        path: as it was given.
        clips: the rows of its clips, with the seconds of each; None where the video failed.
        error: why it failed, or, with ``clips``, why it broke off after them.
    """

    path: str
    clips: Embeddings | None
    error: VideoError | None = None


def read_videos(
    network: ClipNetwork,
    tasks: Iterable[VideoTask],
    *,
    workers: int = 1,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    started: Callable[[Started], None] | None = None,
) -> Iterator[VideoRead]:
    """Decode videos and compute the rows of their clips, video after video, in the order given.

    Args:
        network: what computes the rows.
        tasks: the videos.
        workers: decode processes, so that a file that crashes or hangs its decoder affects no
            other; 0 decodes in this process, without that protection.
        timeout_seconds: silence after which a video is given up.
        started: called with each ``Started``; what it raises ends the reading.
    """
    source = network.source
    clips = _VideoClips(network)
    with make_decoder(source, workers, timeout_seconds=timeout_seconds) as decoder:
        for task, event in decoder.run(tasks):
            shown = shown_path(task.path)
            if isinstance(event, Started):
                # if this is the second one, the video was planned again: discard what came before
                clips.start(event.clips)
                if started is not None:
                    started(event)
            elif isinstance(event, Clip):
                clips.add(event)
            elif event.error is not None:
                clips.start()
                error = event.error
                if error.kind == "gone":  # it was not listed beforehand: it may never have existed
                    error = VideoError("there is no such file", kind="gone", path=shown)
                yield VideoRead(task.path, None, error)
            else:
                found = clips.finish()
                error = None
                if event.damage is not None:
                    error = VideoError(event.damage.message, kind="damaged", path=shown)
                elif found is None:
                    error = VideoError("no clip could be read", kind="no_frames", path=shown)
                yield VideoRead(task.path, found, error)


class _VideoClips:
    """Runs the clips of one video through the network, a batch at a time."""

    def __init__(self, network: ClipNetwork) -> None:
        self._network = network
        self._batch = np.empty((network.batch_size, *network.source.clip_shape), np.uint8)
        self.start()

    def start(self, of_frames: Sequence[PlannedClip] = ()) -> None:
        """Begin a video.

        Args:
            of_frames: the clips that its frames form, if frames arrive one by one.
        """
        self._filled = 0
        self._outputs: list[NDArray[np.float32]] = []
        self._of_frames = of_frames
        self._clips: list[PlannedClip] = []

    def add(self, clip: Clip) -> None:
        """Copy a clip, and run the network when the batch is full."""
        self._batch[self._filled] = clip.frames_THWC
        clip.release()
        seconds = clip.start_seconds, clip.end_seconds
        self._clips.append(PlannedClip((), *seconds, clip.step_seconds))
        self._filled += 1
        if self._filled == len(self._batch):
            self._run()

    def finish(self) -> Embeddings | None:
        """All rows of the video; None if there are none."""
        if self._filled:
            self._run()
        if not self._outputs:
            return None
        outputs, came = np.concatenate(self._outputs), len(self._clips)
        if not self._network.source.frame_by_frame:
            return rows_of(outputs, self._clips, self._network.rows)
        found = rows_of_frames(outputs, self._of_frames, self._network.rows, came)
        return found if len(found) else None

    def _run(self) -> None:
        self._outputs.append(self._network.outputs(self._batch[: self._filled]))
        self._filled = 0


def rows_of(
    outputs: NDArray[np.float32], clips: Sequence[PlannedClip], rows: RowLayout
) -> Embeddings:
    """The rows of clips, from the outputs of a clip network."""
    return Embeddings(rows.of_clips(outputs), *_seconds(clips, rows))


def rows_of_frames(
    outputs: NDArray[np.float32], clips: Sequence[PlannedClip], rows: RowLayout, came: int
) -> Embeddings:
    """The rows of clips, from the outputs of a frame network for all of their frames.

    Args:
        outputs: the outputs for the crops of each frame.
        clips: the clips of a video.
        rows: how frames become rows.
        came: number of frames that could be read; a clip that lacks one has no rows.
    """
    frames_NT = frames_of_clips(clips)
    whole = np.flatnonzero(frames_NT.max(axis=1) < came)
    vectors = rows.of_frames(outputs, frames_NT[whole])
    return Embeddings(vectors, *_seconds([clips[int(place)] for place in whole], rows))


def _seconds(
    clips: Sequence[PlannedClip], rows: RowLayout
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    seconds = [row for clip in clips for row in rows.seconds(clip)]
    start, end = np.array(seconds, np.float64).reshape(-1, 2).T
    return start, end
