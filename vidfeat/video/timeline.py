"""The frame clock of one video: which frame is shown when, and in which slot of another rate.

A *position* counts the shown frames of a video from 0. A *slot* counts the frames of a rate: see
``clip_plan.py``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

# A frame that stays for this long, and for this many times the usual duration, is a pause of the
# recording: clips are laid on either side of it, and none in it.
_PAUSE_SECONDS = 60.0
_PAUSE_FRAMES = 20
# Times are floats computed from ticks: differences below this count as equal.
_HAIR = Fraction(1, 1_000_000)


@dataclass(frozen=True)
class Timeline:
    """The frame clock of one video: how many frames are shown, and when."""

    num_frames: int
    """Frames that are shown."""
    rate: Fraction
    """Frames per second: constant, or the average of a variable rate."""
    times: Sequence[float] | None = None
    """Seconds at which each frame is shown, from the first; None at a constant rate."""
    duration_seconds: float = 0.0
    """Seconds from the first frame's start to the last frame's end; 0 computes it."""

    def __post_init__(self) -> None:
        if self.num_frames < 1 or self.rate <= 0:
            raise ValueError(f"a timeline needs frames and a rate: {self!r}")
        if self.times is not None and len(self.times) != self.num_frames:
            raise ValueError(f"{len(self.times)} times for {self.num_frames} frames")
        if self.duration_seconds <= 0:
            last = (
                float((self.num_frames - 1) / self.rate) if self.times is None else self.times[-1]
            )
            object.__setattr__(self, "duration_seconds", last + float(1 / self.rate))

    def slots(self, fps: Fraction | None) -> int:
        """How many slots the video has at a target rate."""
        if fps is None:
            return self.num_frames
        if self.times is None:
            # k with floor(k rate / fps) < n, that is k < n fps / rate: the ceiling of it
            return -(-self.num_frames * fps // self.rate)
        # k with k / fps < duration; a duration that is a hair too long adds no slot
        return max(1, -int(-(Fraction(self.duration_seconds) * fps - _HAIR) // 1))

    def position(self, slot: int, fps: Fraction | None) -> int:
        """The frame shown in a slot."""
        if fps is None:
            return slot
        if self.times is None:
            return int(slot * self.rate // fps)
        # the frame that starts exactly at k / fps must not be missed because of the last bit
        return max(0, bisect_right(self.times, float(slot / fps + _HAIR)) - 1)

    def start_of(self, slot: int, fps: Fraction | None) -> float:
        """Second at which the frame of a slot is first shown (constant rate: by its index)."""
        position = self.position(slot, fps)
        return float(position / self.rate) if self.times is None else float(self.times[position])

    def end_of(self, slot: int, fps: Fraction | None) -> float:
        """Second at which a slot ends: the start of the next, or the end of the video."""
        if slot + 1 >= self.slots(fps):
            return self.duration_seconds
        following = self.position(slot + 1, fps)
        if following == self.position(slot, fps):  # a target above the video's own rate
            following += 1
        if following >= self.num_frames:
            return self.duration_seconds
        end = float(following / self.rate) if self.times is None else float(self.times[following])
        return min(end, self.duration_seconds)

    @cached_property
    def pauses(self) -> tuple[int, ...]:
        """Frames after which the recording pauses, in order."""
        if self.times is None or self.num_frames < 2:
            return ()
        steps = np.diff(np.asarray(self.times))
        long = (steps > _PAUSE_SECONDS) & (steps > _PAUSE_FRAMES * np.median(steps))
        return tuple(np.flatnonzero(long).tolist())

    def shots(self, fps: Fraction | None) -> list[tuple[int, int, float]]:
        """The parts between pauses: first slot, the slot after the last, and end in seconds."""
        if not self.pauses or self.times is None:
            return [(0, self.slots(fps), self.duration_seconds)]
        usual = float(np.median(np.diff(np.asarray(self.times))))
        starts = [0, *(frame + 1 for frame in self.pauses)]
        lasts = [*self.pauses, self.num_frames - 1]
        shots = []
        for first, last in zip(starts, lasts, strict=True):
            if fps is None:
                begin, end = first, last + 1
            else:
                begin = -int(-(Fraction(self.times[first]) * fps - _HAIR) // 1)
                seconds = Fraction(self.times[last] + usual)
                end = max(begin + 1, -int(-(seconds * fps - _HAIR) // 1))
            if last == self.num_frames - 1:
                shots.append((begin, self.slots(fps), self.duration_seconds))
            else:
                shots.append((begin, end, float(self.times[last]) + usual))
        return shots

    def slot_at(self, seconds: float, fps: Fraction | None) -> int:
        """The slot shown at a time in seconds, clamped to the video."""
        last = self.slots(fps) - 1
        if fps is None and self.times is not None:
            return min(max(0, bisect_right(self.times, seconds + float(_HAIR)) - 1), last)
        rate = self.rate if fps is None else fps
        slot = int(Fraction(seconds) * rate + _HAIR)
        return min(max(0, slot), last)
