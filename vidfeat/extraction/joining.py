"""Tracks which clips of a video are complete as its frames arrive one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vidfeat.video.clip_plan import PlannedClip
from vidfeat.video.frame_clips import frame_positions


class ClipsOfFrames:
    """The clips of one video, whose frames arrive in the order of time, each once.

    Args:
        clips: the clips of its plan, in order.
        frames_done: frames that an earlier run encoded.
        clips_done: clips that those frames completed.
        waiting: those of the frames that later clips need: position -> number.
    """

    def __init__(
        self,
        clips: Sequence[PlannedClip],
        frames_done: int = 0,
        clips_done: int = 0,
        waiting: Mapping[int, int] | None = None,
    ) -> None:
        self.frames_done = frames_done
        self.clips_done = clips_done
        self.waiting: dict[int, int] = dict(waiting or {})
        """Frames that incomplete clips may need, as position -> number."""
        self._clips = clips
        self._positions = frame_positions(clips)
        self._last = [max(clip.positions) for clip in clips]
        self._needed_from = [0] * (len(clips) + 1)
        self._needed_from[-1] = lowest = self._positions[-1] + 1 if clips else 0
        for place in range(len(clips) - 1, -1, -1):
            lowest = min(lowest, min(clips[place].positions))
            self._needed_from[place] = lowest

    def add(self, number: int) -> list[tuple[PlannedClip, list[int]]]:
        """Take the next frame.

        Args:
            number: the caller's number for it.

        Returns:
            The clips that it completes, each with the numbers of its frames.
        """
        position = self._positions[self.frames_done]
        self.frames_done += 1
        self.waiting[position] = number
        complete = []
        while self.clips_done < len(self._clips) and self._last[self.clips_done] <= position:
            clip = self._clips[self.clips_done]
            complete.append((clip, [self.waiting[at] for at in clip.positions]))
            self.clips_done += 1
        if complete or position < self._needed_from[self.clips_done]:
            keep = self._needed_from[self.clips_done]
            self.waiting = {at: n for at, n in self.waiting.items() if at >= keep}
        return complete
