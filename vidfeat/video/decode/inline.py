"""Decoding in the calling process, with the events of the pool, for debugging.

Nothing protects the caller from a decoder that crashes or hangs: the command line uses this only
for ``--workers 0``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vidfeat.errors import VideoError
from vidfeat.video.clips import Clip
from vidfeat.video.decode.events import video_events
from vidfeat.video.decode.tasks import (
    ClipSource,
    Event,
    Finished,
    Piece,
    VideoTask,
    check_there,
    with_path,
)
from vidfeat.video.frame_folder import open_frames_or_video
from vidfeat.video.packing import PixelPacker


def decode_inline(
    source: ClipSource, tasks: Iterable[VideoTask]
) -> Iterator[tuple[VideoTask, Event]]:
    """Like :meth:`vidfeat.video.decode.pool.DecodePool.run`, but in this process."""
    packer = PixelPacker(source.preprocess)  # no decode process to relieve by sending planes
    for task in tasks:
        try:
            for event in _events(source, packer, task):
                yield task, event
        except VideoError as error:
            yield task, Finished(with_path(error, task.path))


def _events(source: ClipSource, packer: PixelPacker, task: VideoTask) -> Iterator[Event]:
    if task.making is not None:
        for index, frames in enumerate(task.making.make()):
            yield Clip(index, frames, 0.0, 0.0)
        yield Finished()
        return
    check_there(task.path)
    plan = source.plan
    with open_frames_or_video(
        task.path, source.limits, stream=plan.stream, frames_fps=plan.frames_fps
    ) as video:
        for event in video_events(video, source, task, packer):
            assert not isinstance(event, Piece), "nothing is split here"
            yield event
