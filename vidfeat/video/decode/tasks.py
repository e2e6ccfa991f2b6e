"""Requests to a decode process, and its answers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import VideoError
from vidfeat.system.urls import is_url, shown_path
from vidfeat.video.clip_plan import ClipPlan, PlannedClip, VideoSegment, plan_clips
from vidfeat.video.clips import Clip
from vidfeat.video.frame_clips import clip_of_each_frame, with_step_seconds
from vidfeat.video.packing import PLANE_BYTES_PER_PIXEL, Packer, PixelPacker, PlanePacker
from vidfeat.video.preprocess import Preprocess, clip_shape
from vidfeat.video.reader import Damage, Known, Limits, VideoInfo, VideoReader
from vidfeat.video.timeline import Timeline

if TYPE_CHECKING:
    from vidfeat.video.listing import ListedVideo


@dataclass(frozen=True)
class ClipSource:
    """What all videos of a run share."""

    plan: ClipPlan
    preprocess: Preprocess
    limits: Limits = field(default_factory=Limits)
    planes: bool = False
    """Whether clips may come as the decoder's planes, for a device to convert, where the
    preprocessing gathers few of their pixels."""
    frame_by_frame: bool = False
    """Whether each frame that the plan needs comes once, as a clip of its own; ``Started`` says
    which clips they make."""
    steps: int = 1
    """Time steps per clip, each with its own seconds."""

    @property
    def clip_frames(self) -> int:
        """Frames per item: those of a clip, or one."""
        return 1 if self.frame_by_frame else self.plan.frames

    @property
    def clip_bytes(self) -> int:
        """Bytes of one clip in transit."""
        pixels = int(np.prod(self.clip_shape))
        if not self._sends_planes:
            return pixels
        height, width = self.preprocess.crop
        return self.clip_frames * height * width * PLANE_BYTES_PER_PIXEL

    def packer(self) -> Packer[Any]:
        """The packer that decode processes use."""
        kind = PlanePacker if self._sends_planes else PixelPacker
        return kind(self.preprocess)

    @property
    def _sends_planes(self) -> bool:
        return self.planes and self.preprocess.gathers

    @property
    def clip_shape(self) -> tuple[int, ...]:
        """(T, H, W, bytes per pixel) of every clip; (crops, T, H, W, ...) with several crops."""
        return clip_shape(self.preprocess, self.clip_frames)

    def planned(
        self, timeline: Timeline, segments: Sequence[VideoSegment]
    ) -> tuple[list[PlannedClip], list[PlannedClip]]:
        """The clips of a video's plan, and the items that are sent: these clips, or their frames.

        Raises:
            VideoError: kind ``too_short``.
        """
        clips = plan_clips(timeline, self.plan, segments)
        if self.steps > 1:
            clips = [with_step_seconds(timeline, clip, self.steps) for clip in clips]
        return clips, clip_of_each_frame(timeline, clips) if self.frame_by_frame else clips


class Reading(Protocol):
    """A custom way to make clips of a video, such as random ones for training."""

    def read(self, video: VideoReader) -> Iterator[NDArray[np.uint8]]:
        """Yield arrays of the source's ``clip_shape``.

        Raises:
            Recounted: see :meth:`VideoReader.frames`; reading starts over.
        """


class Making(Protocol):
    """A source of clips that come from no file, such as rendered ones."""

    def make(self) -> Iterator[NDArray[np.uint8]]:
        """Yield arrays of the source's ``clip_shape``."""


@dataclass(frozen=True)
class VideoTask:
    """A video to decode, or only to measure."""

    path: str
    """For the operating system; bytes outside UTF-8 as surrogates. Or a URL with its secrets."""
    segments: tuple[VideoSegment, ...] = ()
    first_clip: int = 0
    """Clips before this one are skipped: an earlier run has them."""
    first_attempt: str = ""
    """The attempt (see :func:`attempt_of`) that ``first_clip`` holds for."""
    probe_only: bool = False
    """Measure and plan; decode nothing."""
    reading: Reading | None = None
    """In place of the source's plan and preprocessing; its clips have no seconds."""
    making: Making | None = None
    """In place of a video: ``path`` is a name, and no ``Started`` is sent."""
    state: tuple[int, int] | None = None
    """For a URL, the size and stamp that it was listed with, and must still have."""

    @classmethod
    def of(cls, video: ListedVideo, **settings: Any) -> VideoTask:
        """The task for a video of a run; ``settings`` are the other fields."""
        return cls(video.path, video.segments, state=video.remote_state, **settings)


@dataclass(frozen=True)
class Piece:
    """A contiguous run of the clips of one video, with all that is known about it."""

    known: Known
    clips: Sequence[PlannedClip]
    first: int
    """Index of ``clips[0]`` in the whole plan."""


@dataclass(frozen=True)
class Started:
    """A video has been opened and planned. A second one for the same video voids the first."""

    info: VideoInfo
    num_clips: int
    """Number of items: clips, or single frames."""
    first_clip: int
    """Index of the first clip that follows."""
    clips: Sequence[PlannedClip] = ()
    """The clips that single frames make; empty where clips come."""


@dataclass(frozen=True)
class Finished:
    """A video is done: all clips have been sent, or ``error`` says why none or no more came."""

    error: VideoError | None = None
    damage: Damage | None = None


Event = Started | Clip | Finished


def attempt_of(info: VideoInfo) -> str:
    """A text that must match for two runs over a video to give the same clips."""
    return f"{info.size_bytes}-{info.mtime_ns}-{info.num_frames_source}-{info.num_frames}"


def with_path(error: VideoError, path: str) -> VideoError:
    """Name the file in an error that does not name one yet."""
    error.path = error.path or shown_path(path)
    return error


def check_there(path: str) -> None:
    """Distinguish a listed video that has disappeared from one that cannot be opened.

    Raises:
        VideoError: kind ``gone``.
    """
    if not is_url(path) and not os.path.lexists(path):
        raise VideoError("disappeared during the run", kind="gone", path=path)


def cut_at_keys(known: Known, clips: Sequence[PlannedClip], first: int, size: int) -> list[Piece]:
    """Cut a plan into pieces of about ``size`` clips that begin just after a key frame.

    A piece that begins there decodes almost nothing that another piece decodes too.
    """
    index = known.index
    if index is None or len(clips) <= size:
        return [Piece(known, clips, first)]
    starts = np.array([min(clip.positions) for clip in clips])
    key_of = np.searchsorted(index.keys, starts, side="right") - 1
    lost = starts - index.keys[key_of]  # frames decoded needlessly by a piece that begins here
    cuts = [0]
    while len(clips) - cuts[-1] > size + size // 2:
        low = cuts[-1] + max(1, size // 2)
        high = max(low + 1, cuts[-1] + size + size // 2)
        cuts.append(low + int(np.argmin(lost[low:high])))
    cuts.append(len(clips))
    return [Piece(known, clips[low:high], first + low) for low, high in pairwise(cuts)]
