"""Shots: where a video is cut, found by how much successive frames differ.

A cut is a frame that differs strongly from the one before, and many times as much as its neighbours
differ from each other: with a moving camera, all frames differ. A flash is not a cut, because the
scene continues after it. Dissolves and fades have no such frame and are not found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from vidfeat.video.reader import VideoReader

SMALL_WIDTH, SMALL_HEIGHT = 64, 36
FLASH_FRAMES = 2


class Shot(NamedTuple):
    """The part of a video between two cuts, in seconds from the first shown frame."""

    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class ShotRule:
    """What counts as a cut.

    Attributes:
        least_difference: minimum mean difference of two frames, in grey levels of 255.
        ratio: minimum ratio of that difference to the mean difference of the surrounding frames.
        around: number of surrounding frames on either side.
        least_frames: shortest shot; of cuts closer than that, the strongest counts.
    """

    least_difference: float = 10.0
    ratio: float = 3.0
    around: int = 6
    least_frames: int = 6

    @property
    def name(self) -> str:
        """Identifies the rule: equal rules find the same shots."""
        return (
            f"frame differences, version 1: {self.least_difference:g}, {self.ratio:g}, "
            f"{self.around}, {self.least_frames}"
        )


def find_cuts(frames_HWC: Iterable[NDArray[np.uint8]], rule: ShotRule) -> list[int]:
    """Frames that begin a shot, except the first, in ascending order.

    Args:
        frames_HWC: all frames in order, scaled down to one size.
        rule: what counts as a cut.
    """
    before: list[NDArray[np.int16]] = []
    steps: list[float] = []
    """``steps[t]``: from frame t to the next."""
    across: list[float] = []
    """``across[t]``: from frame t to the one after a flash that begins at the next."""
    for frame in frames_HWC:
        now = frame.astype(np.int16)
        if before:
            steps.append(float(np.abs(now - before[-1]).mean()))
        if len(before) == FLASH_FRAMES + 1:
            across.append(float(np.abs(now - before[0]).mean()))
        before = [*before[-FLASH_FRAMES:], now]
    difference = np.array(steps)
    if not len(difference):
        return []
    nothing = np.full(FLASH_FRAMES, np.inf)
    behind = np.concatenate([across, np.full(len(steps) - len(across), np.inf)])
    ahead = np.concatenate([nothing, behind])[: len(steps)]  # the same at the end of a flash
    total = np.concatenate([[0.0], np.cumsum(difference)])
    place = np.arange(len(difference))
    low, high = np.maximum(place - rule.around, 0), np.minimum(place + rule.around + 1, len(place))
    others = np.maximum(high - low - 1, 1)
    usual = (total[high] - total[low] - difference) / others
    strong = (difference >= rule.least_difference) & (difference >= rule.ratio * usual)
    strong &= (behind >= 0.5 * difference) & (ahead >= 0.5 * difference)
    cuts: list[int] = []
    for step in place[strong][np.argsort(-difference[strong], kind="stable")].tolist():
        if all(abs(step + 1 - cut) >= rule.least_frames for cut in cuts):
            cuts.append(step + 1)
    return sorted(cuts)


def small_frames(video: VideoReader) -> Iterator[NDArray[np.uint8]]:
    """All frames of a video as small RGB pictures (36, 64, 3), whatever their aspect ratio.

    Raises:
        Recounted: see :meth:`VideoReader.frames`.
    """
    from av.video.reformatter import VideoReformatter

    reformatter = VideoReformatter()
    for _, frame in video.frames(range(video.timeline.num_frames)):
        yield _small(reformatter, frame)


def _small(reformatter: object, frame: av.VideoFrame) -> NDArray[np.uint8]:
    made = reformatter.reformat(  # type: ignore[attr-defined]
        frame, SMALL_WIDTH, SMALL_HEIGHT, "rgb24", interpolation="AREA", threads=1
    )
    pixels: NDArray[np.uint8] = made.to_ndarray()
    return pixels


def find_shots(video: VideoReader, rule: ShotRule) -> list[Shot]:
    """The shots of an open video, in order; they cover all of it.

    Raises:
        Recounted: see :meth:`VideoReader.frames`.
    """
    cuts = find_cuts(small_frames(video), rule)
    starts = [0.0, *(video.timeline.start_of(frame, None) for frame in cuts)]
    return [
        Shot(start, end)
        for start, end in zip(starts, [*starts[1:], video.info.duration_seconds], strict=True)
    ]


@dataclass(frozen=True)
class ShotReading:
    """Lets a decode process find shots: the seconds of a shot are sent in place of a clip's pixels.

    An array of ``SHOT_SHAPE`` bytes holds start and end as float64: see :func:`shot_of`.
    """

    rule: ShotRule

    def read(self, video: VideoReader) -> Iterator[NDArray[np.uint8]]:
        """Yield the seconds of each shot."""
        for shot in find_shots(video, self.rule):
            seconds = np.zeros(3, np.float64)
            seconds[:2] = shot
            yield seconds.view(np.uint8).reshape(SHOT_SHAPE)


SHOT_SHAPE = (1, 1, 8, 3)


def shot_of(clip_THWC: NDArray[np.uint8]) -> Shot:
    """The shot that a clip of :class:`ShotReading` stands for."""
    start, end, _ = np.ascontiguousarray(clip_THWC).reshape(-1).view(np.float64).tolist()
    return Shot(start, end)
