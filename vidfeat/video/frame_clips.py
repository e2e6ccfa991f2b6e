"""Clips for networks that see frames one by one: a clip per frame, and seconds of time steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vidfeat.video.clip_plan import PlannedClip
from vidfeat.video.timeline import Timeline


def frame_positions(clips: Sequence[PlannedClip]) -> list[int]:
    """The frames that clips need, ascending, each once."""
    return sorted({position for clip in clips for position in clip.positions})


def frames_of_clips(clips: Sequence[PlannedClip]) -> NDArray[np.int64]:
    """For each clip, the indices of its frames in :func:`frame_positions`: (N, T)."""
    positions = np.array([clip.positions for clip in clips], np.int64)
    return np.searchsorted(np.array(frame_positions(clips), np.int64), positions)


def clip_of_each_frame(timeline: Timeline, clips: Sequence[PlannedClip]) -> list[PlannedClip]:
    """A clip of one frame for every frame that clips need, in time order."""
    return [
        PlannedClip((position,), timeline.start_of(position, None), timeline.end_of(position, None))
        for position in frame_positions(clips)
    ]


def with_step_seconds(timeline: Timeline, clip: PlannedClip, steps: int) -> PlannedClip:
    """A clip with the start and end of each of its time steps.

    Step i covers the frames ``floor(i T / steps)`` to ``ceil((i + 1) T / steps) - 1``. It ends
    where the next frame begins, or with the clip.

    Args:
        timeline: the frame clock of its video.
        clip: T frames.
        steps: number of steps; more than T where a network repeats its input in time.
    """
    positions = clip.positions
    count = len(positions)
    starts = [timeline.start_of(position, None) for position in positions]
    ends = [clip.end_seconds] * count
    for place in range(count - 1):
        # A frame that is repeated, or followed by an earlier one, is the last of the video.
        if positions[place + 1] > positions[place]:
            ends[place] = starts[place + 1]
    seconds = []
    for step in range(steps):
        first = step * count // steps
        last = max(first, -(-(step + 1) * count // steps) - 1)
        covered = slice(first, last + 1)
        seconds.append((min(starts[covered]), max(ends[covered])))
    return replace(clip, step_seconds=tuple(seconds))
