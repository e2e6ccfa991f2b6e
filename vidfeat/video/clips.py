"""Decoding a video's planned clips as a stream: memory use does not grow with the video."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.video.clip_plan import PlannedClip
from vidfeat.video.packing import Packer
from vidfeat.video.planes import ClipFrames
from vidfeat.video.reader import VideoReader


def nothing_to_release() -> None:
    """Do nothing: the caller owns the frames."""


@dataclass(frozen=True)
class Clip:
    """The frames of one clip with the seconds that they cover."""

    index: int
    """Its index among the clips of its video."""
    frames: ClipFrames
    """Pixels, resized and cropped: (T, H, W, bytes per pixel), or (crops, T, H, W, ...); or planes
    that are converted to these on a device."""
    start_seconds: float
    end_seconds: float
    release: Callable[[], None] = nothing_to_release
    """To be called when the frames are no longer needed: their memory is reused."""
    step_seconds: tuple[tuple[float, float], ...] = field(default=(), kw_only=True)
    """Start and end of its time steps: see :class:`PlannedClip`."""
    new_frames: int = field(default=0, kw_only=True)
    """Frames decoded and resized for this clip that no earlier clip needed."""

    @property
    def frames_THWC(self) -> NDArray[np.uint8]:
        """The pixels of a clip that was not sent as planes."""
        assert isinstance(self.frames, np.ndarray)
        return self.frames

    def __repr__(self) -> str:
        shape = "planes"
        if isinstance(self.frames, np.ndarray):
            shape = "x".join(map(str, self.frames.shape))
        return f"Clip({self.index}, {shape}, {self.start_seconds:.3f}..{self.end_seconds:.3f} s)"


def stream_clips(
    video: VideoReader,
    clips: Sequence[PlannedClip],
    packer: Packer[Any],
    out: Callable[[int], NDArray[np.uint8]] | None = None,
    first: int = 0,
) -> Iterator[Clip]:
    """Decode planned clips in the order planned (ascending by first frame).

    A frame is decoded and resized once, however many clips share it, and dropped when no later
    clip needs it.

    Args:
        video: the open video that the clips were planned for.
        clips: a contiguous part of its plan.
        packer: packs frames into clips.
        out: given a clip's index, the memory to pack it into, uint8 (bytes,); None allocates it
            for pixels.
        first: the index of ``clips[0]`` in the whole plan.

    Raises:
        Recounted: see :meth:`VideoReader.frames`; plan again.
    """
    decoded = video.frames({position for clip in clips for position in clip.positions})
    ready: dict[int, Any] = {}
    # The first frame still needed after each clip, so that earlier ones can be dropped.
    needed_later = [0] * len(clips)
    lowest = 1 << 62
    for place in range(len(clips) - 1, -1, -1):
        needed_later[place] = lowest
        lowest = min(lowest, min(clips[place].positions))
    for place, clip in enumerate(clips):
        new_frames = 0
        while not all(position in ready for position in clip.positions):
            position, frame = next(decoded)
            ready[position] = packer.take(frame)
            new_frames += 1
        taken = [ready[position] for position in clip.positions]
        if out is None:
            memory = np.empty(sum(item.nbytes for item in taken), np.uint8)
        else:
            memory = out(first + place)
        frames = packer.pack(taken, memory)
        yield Clip(
            first + place,
            frames,
            clip.start_seconds,
            clip.end_seconds,
            step_seconds=clip.step_seconds,
            new_frames=new_frames,
        )
        for position in [p for p in ready if p < needed_later[place]]:
            packer.drop(ready.pop(position))
