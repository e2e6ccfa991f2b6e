"""Cutting clips out of videos, in decode processes: requests in, pixels out; no torch.

A request holds everything that was drawn at random, so that the answer is the same whichever
process gives it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from vidfeat.video.clip_plan import ClipPlan, PlannedClip, VideoSegment, plan_clips
from vidfeat.video.frame_preprocessor import FramePreprocessor
from vidfeat.video.orientation import orientation_of
from vidfeat.video.preprocess import Preprocess
from vidfeat.video.reader import VideoReader, to_rgb
from vidfeat.video.timeline import Timeline

if TYPE_CHECKING:
    import av


@dataclass(frozen=True)
class Window:
    """Which square of a frame is shown, as shares of the possible range.

    With ``area`` 0 the frame is scaled to ``scale`` and a square is cut out at ``top`` and
    ``left``, each from 0 to 1. Otherwise a rectangle with that share of the frame's area and that
    ``aspect`` (width over height) is cut out and scaled.
    """

    scale: tuple[int, ...]
    crop: int
    top: float = 0.5
    left: float = 0.5
    area: float = 0.0
    aspect: float = 1.0
    mirrored: bool = False
    origin: Literal["round", "floor"] = "round"
    """How a crop that starts at half a pixel is rounded."""
    scaler: Literal["torchvision", "swscale"] = "torchvision"
    """What scales the frame, if the window is a crop of the scaled frame."""

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that a frame is scaled to before the crop."""
        if len(self.scale) == 2:
            return self.scale[0], self.scale[1]
        return _short_side(self.scale[0], height, width)

    def box(self, height: int, width: int) -> tuple[float, float, float, float]:
        """The rectangle of a source frame that becomes the square: top, left, height, width."""
        if self.area:
            high = min(float(height), (self.area * height * width / self.aspect) ** 0.5)
            wide = min(float(width), high * self.aspect)
            return (height - high) * self.top, (width - wide) * self.left, high, wide
        size = self.size(height, width)
        whole = int if self.origin == "floor" else round
        top = whole((size[0] - self.crop) * self.top)
        left = whole((size[1] - self.crop) * self.left)
        down, across = height / size[0], width / size[1]
        return top * down, left * across, self.crop * down, self.crop * across


@dataclass(frozen=True)
class ClipRequest:
    """One clip for training: a ``Reading`` for a decode process."""

    frames: int
    stride: int
    fps: str
    start: float
    """Where the clip starts: 0 at the first frame, 1 at the last possible start."""
    window: Window
    flow: bool = False
    start_seconds: float | None = None
    """The labelled segment of the video."""
    end_seconds: float | None = None

    def read(self, video: VideoReader) -> Iterator[NDArray[np.uint8]]:
        """Yield the clip: uint8 (T, crop, crop, 3), or packed flow (T, crop, crop, 4).

        Raises:
            VideoError: kind ``too_short``: the segment lies past the end of the video.
            Recounted: see :meth:`VideoReader.frames`.
        """
        plan = _plan(self.frames + self.flow, self.stride, self.fps)
        segments = _segments(self.start_seconds, self.end_seconds)
        clip = jittered_clip(video.timeline, plan, self.start, segments)
        yield from _cut_clips(video, [clip], (self.window,), self.flow)


@dataclass(frozen=True)
class VideoRequest:
    """The uniform clips of one video, for evaluation: a ``Reading`` for a decode process."""

    frames: int
    stride: int
    fps: str
    clips: int
    windows: tuple[Window, ...]
    """One per crop; the crops of a clip follow each other."""
    flow: bool = False
    start_seconds: float | None = None
    end_seconds: float | None = None
    leave_out_short: bool = False
    """Whether a video shorter than a clip is an error; otherwise its last frame is repeated."""

    def read(self, video: VideoReader) -> Iterator[NDArray[np.uint8]]:
        """Yield the clips as :meth:`ClipRequest.read` does: ``clips`` times ``windows`` of them.

        Raises:
            VideoError: kind ``too_short``: the segment lies past the end of the video, or the
                video is shorter than a clip and is to be left out.
            Recounted: see :meth:`VideoReader.frames`.
        """
        plan = _plan(self.frames + self.flow, self.stride, self.fps, self.clips)
        if self.leave_out_short:
            plan = replace(plan, short="error")
        segments = _segments(self.start_seconds, self.end_seconds)
        planned = plan_clips(video.timeline, plan, segments)
        yield from _cut_clips(video, planned, self.windows, self.flow)


def pack_flow(fields_THWC: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Flow (T, H, W, 2) as bytes (T, H, W, 4): half precision exceeds the flow's accuracy."""
    return np.ascontiguousarray(fields_THWC.astype(np.float16)).view(np.uint8)


def unpack_flow(packed_THWC: NDArray[np.uint8]) -> NDArray[np.float16]:
    """The inverse of :func:`pack_flow`."""
    return packed_THWC.view(np.float16)


def jittered_clip(
    timeline: Timeline, plan: ClipPlan, start: float, segments: Sequence[VideoSegment] = ()
) -> PlannedClip:
    """A clip that starts at a share of the possible range: 0 the first frame, 1 the last start.

    Every start is equally likely for ``start`` uniform in [0, 1). A video shorter than a clip
    follows the plan's policy.
    """
    dense = ClipPlan(plan.frames, plan.stride, plan.fps, hop_frames=1, short=plan.short)
    if segments:
        found = plan_clips(timeline, dense, segments)
        return found[min(int(start * len(found)), len(found) - 1)]
    room = timeline.slots(plan.fps) - plan.span + 1
    if room < 1:
        return plan_clips(timeline, dense)[0]
    slot = min(int(start * room), room - 1)
    slots = range(slot, slot + plan.span, plan.stride)
    last = timeline.num_frames - 1
    positions = tuple(min(timeline.position(k, plan.fps), last) for k in slots)
    return PlannedClip(
        positions, timeline.start_of(slots[0], plan.fps), timeline.end_of(slots[-1], plan.fps)
    )


def cut(frame_HWC: NDArray[np.uint8], window: Window) -> NDArray[np.uint8]:
    """Cut the window out of an upright frame and scale it: uint8 (crop, crop, 3).

    Bilinear without antialiasing, as in the published preprocessing; a frame that already has its
    scale is only cropped.
    """
    height, width = frame_HWC.shape[:2]
    top, left, high, wide = window.box(height, width)
    crop = window.crop
    if high == wide == crop and top == int(top) and left == int(left):
        pixels = frame_HWC[int(top) : int(top) + crop, int(left) : int(left) + crop]
    else:
        y0, y1, wy = _axis(top, high, crop, height)
        x0, x1, wx = _axis(left, wide, crop, width)
        rows = frame_HWC[y0].astype(np.float32)
        rows += (frame_HWC[y1] - rows) * wy[:, None, None]
        columns = rows[:, x0]
        columns += (rows[:, x1] - columns) * wx[None, :, None]
        pixels = np.rint(columns).astype(np.uint8)
    return pixels[:, ::-1] if window.mirrored else pixels


def _axis(
    start: float, length: float, out: int, size: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    source = np.clip(start + (np.arange(out) + 0.5) * (length / out) - 0.5, 0, size - 1)
    low = source.astype(np.intp)
    return low, np.minimum(low + 1, size - 1), (source - low).astype(np.float32)


def _cut_clips(
    video: VideoReader, clips: list[PlannedClip], windows: Sequence[Window], flow: bool
) -> Iterator[NDArray[np.uint8]]:
    """Yield the clips in order, each cut out by every window; frames are dropped after use."""
    if flow:
        from vidfeat.video.flow import clip_to_flow
    cutters = [_cutter(window) for window in windows]
    decoded = video.frames({position for clip in clips for position in clip.positions})
    ready: dict[int, list[NDArray[np.uint8]]] = {}
    for place, clip in enumerate(clips):
        while not all(position in ready for position in clip.positions):
            position, frame = next(decoded)
            ready[position] = [cutter(frame) for cutter in cutters]
        for index in range(len(windows)):
            frames = np.stack([ready[position][index] for position in clip.positions])
            yield pack_flow(clip_to_flow(frames)) if flow else frames
        lowest = min((min(later.positions) for later in clips[place + 1 :]), default=None)
        for position in [p for p in ready if lowest is None or p < lowest]:
            del ready[position]


def _cutter(window: Window) -> Callable[[av.VideoFrame], NDArray[np.uint8]]:
    """The function from a frame to a square; a centre crop is bit-identical to extraction's."""
    if window.scaler == "swscale" and window.area == 0:
        return lambda frame: cut(_scaled_by_ffmpeg(frame, window), window)
    plain = window.area == 0 and not window.mirrored and window.origin == "round"
    if plain and window.top == window.left == 0.5:
        return FramePreprocessor(_preset(window)).frame
    return lambda frame: cut(to_rgb(frame), window)


def _scaled_by_ffmpeg(frame: av.VideoFrame, window: Window) -> NDArray[np.uint8]:
    """The upright frame at the window's scale, as FFmpeg's scaler makes it: uint8 (H, W, 3)."""
    from av.video.reformatter import Interpolation

    orientation = orientation_of(frame)
    height, width = window.size(*orientation.shown(frame.height, frame.width))
    if orientation.turns % 2:
        height, width = width, height
    scaled = frame.reformat(
        width, height, "rgb24", interpolation=Interpolation.FAST_BILINEAR, threads=1
    )
    pixels: NDArray[np.uint8] = np.asarray(scaled.to_ndarray(), np.uint8)
    return orientation.apply(pixels)


def _preset(window: Window) -> Preprocess:
    """The preprocessing that extraction uses for this window."""
    size = window.scale
    resize = (size[0], size[1]) if len(size) == 2 else size[0]
    return Preprocess(resize=resize, crop=(window.crop, window.crop))


def _plan(frames: int, stride: int, fps: str, clips: int | None = None) -> ClipPlan:
    return ClipPlan(frames, stride, Fraction(fps) if fps else None, clips=clips)


def _segments(start: float | None, end: float | None) -> tuple[VideoSegment, ...]:
    if start is None and end is None:
        return ()
    return (VideoSegment(start or 0.0, end),)


def _short_side(side: int, height: int, width: int) -> tuple[int, int]:
    if height <= width:
        return side, int(side * width / height)
    return int(side * height / width), side
