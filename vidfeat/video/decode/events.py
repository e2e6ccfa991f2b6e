"""From an open video to decode events, whichever process it is open in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import VideoError
from vidfeat.video.clips import Clip, stream_clips
from vidfeat.video.decode.tasks import (
    ClipSource,
    Finished,
    Piece,
    Reading,
    Started,
    VideoTask,
    attempt_of,
    with_path,
)
from vidfeat.video.packing import Packer
from vidfeat.video.reader import Recounted, VideoReader
from vidfeat.video.remote_stores import changed


def video_events(
    video: VideoReader,
    source: ClipSource,
    task: VideoTask,
    packer: Packer[Any],
    *,
    out: Callable[[int], NDArray[np.uint8]] | None = None,
    split_above: int | None = None,
) -> Iterator[Started | Piece | Clip | Finished]:
    """The events of one video, in order.

    If the video turns out not to be what its packets announced, ``Started`` comes a second time,
    and all clips before it are void.

    Args:
        video: the open video of the task.
        source: plan and preprocessing.
        task: what is wanted of the video.
        packer: packs frames into clips.
        out: given a clip's index, the memory to pack it into; clips of a ``Reading`` are not
            packed and never ask for it.
        split_above: a video with more clips than this that can be read from any key frame gives
            one ``Piece`` in place of its clips; None never splits.
    """
    if task.state is not None and task.state != (video.info.size_bytes, video.info.mtime_ns):
        raise with_path(changed(), video.path)
    while True:
        made: Iterator[Clip]
        if task.reading is not None:
            yield Started(video.info, 0, 0)
            made = _read_clips(video, task.reading)
        else:
            try:
                planned, clips = source.planned(video.timeline, task.segments)
            except VideoError as error:
                raise with_path(error, video.path) from None
            first = task.first_clip if task.first_attempt == attempt_of(video.info) else 0
            of_frames = planned if source.frame_by_frame else ()
            yield Started(video.info, len(clips), first, of_frames)
            if task.probe_only:
                break
            left = clips[first:]
            if split_above is not None and video.index is not None and len(left) > split_above:
                yield Piece(video.known, left, first)
                return
            made = stream_clips(video, left, packer, out, first)
        try:
            yield from made
        except Recounted:
            continue
        break
    yield Finished(None, video.damage)


def _read_clips(video: VideoReader, reading: Reading) -> Iterator[Clip]:
    for index, frames in enumerate(reading.read(video)):
        yield Clip(index, frames, 0.0, 0.0)
