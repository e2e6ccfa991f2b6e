"""Decoding in the calling process, with the events of the pool: for looking at one step at a time.

Nothing protects the caller from a decoder that crashes or hangs: the command line uses this for
``--workers 0`` alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vidfeat.errors import VideoError
from vidfeat.video.clips import plan_video, stream_clips
from vidfeat.video.decode.tasks import (
    ClipReady,
    ClipSource,
    Event,
    Finished,
    Reading,
    Started,
    VideoTask,
    attempt_of,
    check_there,
    with_path,
)
from vidfeat.video.frame_folder import open_frames_or_video
from vidfeat.video.packing import PixelPacker
from vidfeat.video.reader import Recounted, VideoReader


def decode_inline(
    source: ClipSource, tasks: Iterable[VideoTask]
) -> Iterator[tuple[VideoTask, Event]]:
    """As :meth:`vidfeat.video.decode.pool.DecodePool.run`, in this process."""
    packer = PixelPacker(source.preprocess)  # there is no process to relieve
    for task in tasks:
        try:
            for event in _video(source, packer, task):
                yield task, event
        except VideoError as error:
            yield task, Finished(with_path(error, task.path))


def _video(source: ClipSource, packer: PixelPacker, task: VideoTask) -> Iterator[Event]:
    if task.making is not None:
        for index, frames in enumerate(task.making.make()):
            yield ClipReady(index, frames, 0.0, 0.0, lambda: None)
        yield Finished()
        return
    check_there(task.path)
    plan = source.plan
    with open_frames_or_video(
        task.path, source.limits, stream=plan.stream, frames_fps=plan.frames_fps
    ) as video:
        if task.reading is not None:
            yield from _read(video, task.reading)
            return
        while True:
            clips = plan_video(video, source.plan, task.stretches)
            first = task.first_clip if task.first_attempt == attempt_of(video.info) else 0
            yield Started(video.info, len(clips), first)
            if task.probe_only:
                break
            try:
                for clip in stream_clips(video, clips[first:], packer, first=first):
                    seconds = clip.start_seconds, clip.end_seconds
                    yield ClipReady(clip.index, clip.frames, *seconds, lambda: None)
            except Recounted:
                continue
            break
        yield Finished(None, video.damage)


def _read(video: VideoReader, reading: Reading) -> Iterator[Event]:
    while True:
        yield Started(video.info, 0, 0)
        try:
            for index, frames in enumerate(reading.read(video)):
                yield ClipReady(index, frames, 0.0, 0.0, lambda: None)
        except Recounted:
            continue
        break
    yield Finished(None, video.damage)
