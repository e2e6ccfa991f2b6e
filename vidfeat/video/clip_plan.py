"""Which frames make a clip: pure arithmetic on frame positions and seconds.

A *position* counts the shown frames of a video from 0. A *slot* counts the frames of the plan's
own rate: without a target rate, slot k is position k; with one, slot k is the frame shown at
k / target. A clip takes ``frames`` slots, ``stride`` apart; the drawing is for 3 frames, stride 2,
hop 3 over eleven slots::

    slots      0 1 2 3 4 5 6 7 8 9 10
    clip 0     f x f x f
    clip 1           f x f x f
    clip 2                 f x f x f        (its window ends on slot 10)

Nothing here opens a file or imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, get_args

from vidfeat.errors import UsageError, VideoError
from vidfeat.video.timeline import Timeline

ShortPolicy = Literal["repeat_last", "loop", "error"]
TailPolicy = Literal["drop", "flush"]


@dataclass(frozen=True)
class ClipPlan:
    """How clips are laid over a video.

    At most one of ``hop_frames``, ``hop_seconds`` and ``clips`` is given. With none of them,
    windows are laid side by side and the last one is moved back to end on the last frame, so that
    no second of the video is missed. With a hop, windows start at exact multiples of it.
    """

    frames: int = 16
    """Frames per clip."""
    stride: int = 1
    """Slots from one frame of a clip to the next."""
    fps: Fraction | None = None
    """Target frames per second; None keeps the video's own rate."""
    hop_frames: int | None = None
    """Slots from the start of one window to the start of the next."""
    hop_seconds: float | None = None
    """The same in seconds, rounded to each video's slots."""
    clips: int | None = None
    """Number of clips, spread evenly; they overlap if the video is short."""
    short: ShortPolicy = "repeat_last"
    """For a video shorter than a clip: repeat its last frame, loop it, or fail."""
    tail: TailPolicy | None = None
    """For a remainder shorter than a hop; None: "flush" without a hop, "drop" with one."""
    stream: int | None = None
    """Number of the video stream, from 0; None takes the one that FFmpeg's command line takes."""
    frames_fps: Fraction | None = None
    """Rate of folders of frames, which are then read as videos; None reads only files."""

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise UsageError(f"frames must be at least 1, not {self.frames}", field="frames")
        if self.stride < 1:
            raise UsageError(f"stride must be at least 1, not {self.stride}", field="stride")
        if self.stream is not None and self.stream < 0:
            raise UsageError(f"stream must be 0 or more, not {self.stream}", field="stream")
        for name in ("fps", "frames_fps"):
            given_rate = getattr(self, name)
            if given_rate is None:
                continue
            try:
                rate = Fraction(given_rate).limit_denominator(1_000_000)
            except (ValueError, OverflowError):  # not a number, infinite
                rate = Fraction(0)
            if rate <= 0:
                raise UsageError(f"{name} must be a rate above 0, not {given_rate}", field=name)
            object.__setattr__(self, name, rate)
        layouts = {
            "hop_frames": self.hop_frames,
            "hop_seconds": self.hop_seconds,
            "clips": self.clips,
        }
        given = [name for name, value in layouts.items() if value is not None]
        if len(given) > 1:
            raise UsageError(
                f"{' and '.join(given)} exclude each other: give one of them", field=tuple(given)
            )
        for name in given:
            value = layouts[name]
            assert value is not None
            if not value > 0 or value == float("inf"):
                raise UsageError(f"{name} must be above 0, not {value}", field=name)
        if self.short not in get_args(ShortPolicy):
            known = ", ".join(get_args(ShortPolicy))
            raise UsageError(f"short must be one of {known}, not {self.short!r}", field="short")
        if self.tail is not None and self.tail not in get_args(TailPolicy):
            known = ", ".join(get_args(TailPolicy))
            raise UsageError(f"tail must be one of {known}, not {self.tail!r}", field="tail")

    @property
    def span(self) -> int:
        """Slots from a clip's first frame to its last, both counted."""
        return (self.frames - 1) * self.stride + 1

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON values; rates as text, so that 30000/1001 stays exact."""
        # Only if it is set, so that files made without it keep their fingerprint.
        stream = {} if self.stream is None else {"stream": self.stream}
        return {
            **self.space_dict(),
            **stream,
            **({} if self.frames_fps is None else {"frames_fps": str(self.frames_fps)}),
            "hop_frames": self.hop_frames,
            "hop_seconds": self.hop_seconds,
            "clips": self.clips,
            "short": self.short,
            "tail": self.tail,
        }

    def space_dict(self) -> dict[str, Any]:
        """The fields that decide which frames a vector saw, wherever its clip starts."""
        return {
            "frames": self.frames,
            "stride": self.stride,
            "fps": None if self.fps is None else str(self.fps),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ClipPlan:
        """The inverse of :meth:`to_dict`."""
        rates = {
            name: Fraction(values[name])
            for name in ("fps", "frames_fps")
            if values.get(name) is not None
        }
        return cls(**{**values, **rates})


@dataclass(frozen=True)
class VideoSegment:
    """A part of a video, in seconds from its first shown frame; no end means to the end."""

    start_seconds: float = 0.0
    end_seconds: float | None = None

    def __post_init__(self) -> None:
        if not self.start_seconds >= 0:
            raise UsageError(f"a segment starts at 0 or later, not {self.start_seconds}")
        if self.end_seconds is not None and not self.end_seconds > self.start_seconds:
            raise UsageError(
                f"a segment ends after its start: {self.start_seconds} to {self.end_seconds} s"
            )


@dataclass(frozen=True)
class PlannedClip:
    """One clip of one video: positions of its frames, and the seconds that it covers."""

    positions: tuple[int, ...]
    start_seconds: float
    end_seconds: float
    step_seconds: tuple[tuple[float, float], ...] = ()
    """Start and end of each time step, if each of them has its own row."""


def plan_clips(
    timeline: Timeline, plan: ClipPlan, segments: Sequence[VideoSegment] = ()
) -> list[PlannedClip]:
    """Lay a plan over a video, or over segments of it.

    Args:
        timeline: the video's frame clock.
        plan: the clips wanted.
        segments: parts of the video, each planned separately in the order given; none means the
            whole video.

    Returns:
        The clips in time order, at least one for each segment that lies in the video.

    Raises:
        VideoError: kind ``too_short``: the policy is "error" and a clip does not fit, or all
            segments lie past the end of the video (see :func:`segments_behind_end`).
    """
    total = timeline.slots(plan.fps)
    if not segments:
        return _plan_shots(timeline, plan, 0, total)
    behind = segments_behind_end(segments, timeline.duration_seconds)
    if len(behind) == len(segments):
        raise VideoError(describe_behind_end(behind, timeline.duration_seconds), kind="too_short")
    clips: list[PlannedClip] = []
    for segment in segments:
        if segment in behind:
            continue
        first = timeline.slot_at(segment.start_seconds, plan.fps)
        end = total
        if segment.end_seconds is not None and segment.end_seconds < timeline.duration_seconds:
            last = timeline.slot_at(segment.end_seconds, plan.fps)
            # the slot that begins at the segment's end is outside of it
            at_start = abs(timeline.start_of(last, plan.fps) - segment.end_seconds) < 1e-6
            end = max(first + 1, last if at_start else last + 1)
        clips += _plan_shots(timeline, plan, first, end)
    return sorted(clips, key=lambda clip: (clip.start_seconds, clip.end_seconds))


def segments_behind_end(
    segments: Sequence[VideoSegment], duration_seconds: float
) -> list[VideoSegment]:
    """The segments that begin at or past the end of the video: no clip is planned for them."""
    return [segment for segment in segments if segment.start_seconds >= duration_seconds]


def describe_behind_end(behind: Sequence[VideoSegment], duration_seconds: float) -> str:
    """Describe the segments past the end of a video, for a message."""
    starts = ", ".join(f"{segment.start_seconds:g} s" for segment in behind[:3])
    more = f" and {len(behind) - 3} more" if len(behind) > 3 else ""
    lies = "the segment from {} begins" if len(behind) == 1 else "the segments from {} begin"
    return f"{lies.format(starts + more)} past the end of the video at {duration_seconds:.3f} s"


def _plan_shots(timeline: Timeline, plan: ClipPlan, first: int, end: int) -> list[PlannedClip]:
    """Lay the plan over the slots ``first`` to ``end``, each shot between pauses separately."""
    if not timeline.pauses:
        return _plan_range(timeline, plan, first, end)
    shots = [
        (max(first, begin), min(end, stop), seconds if stop <= end else None)
        for begin, stop, seconds in timeline.shots(plan.fps)
        if begin < end and stop > first
    ]
    if not shots:  # a segment within a pause is a still image: one clip is enough
        return _plan_range(timeline, plan, first, min(end, first + plan.span))
    counts = [plan.clips] * len(shots)
    if plan.clips is not None:
        counts = list(_shares(plan.clips, [stop - begin for begin, stop, _ in shots]))
    clips: list[PlannedClip] = []
    for (begin, stop, seconds), count in zip(shots, counts, strict=True):
        if count != 0:
            own = plan if count is None else replace(plan, clips=count)
            clips += _plan_range(timeline, own, begin, stop, seconds)
    return clips


def _shares(total: int, lengths: Sequence[int]) -> list[int]:
    """Divide a number of clips among shots in proportion to their lengths."""
    whole = sum(lengths)
    ends = [round(total * sum(lengths[: place + 1]) / whole) for place in range(len(lengths))]
    return [end - before for end, before in zip(ends, [0, *ends], strict=False)]


def _plan_range(
    timeline: Timeline, plan: ClipPlan, first: int, end: int, end_seconds: float | None = None
) -> list[PlannedClip]:
    """Lay the plan over the slots ``first`` to ``end`` (excluded).

    ``end_seconds`` is where the last slot ends, if not where the next frame begins.
    """
    length = end - first
    if length < plan.span:
        slots = _short_slots(timeline, plan, length)
        until = timeline.end_of(end - 1, plan.fps) if end_seconds is None else end_seconds
        clip = _clip(
            timeline,
            plan,
            [first + slot for slot in slots],
            (timeline.start_of(first, plan.fps), until),
        )
        return [clip] * (plan.clips or 1)
    clips = [
        _clip(timeline, plan, [first + start + i * plan.stride for i in range(plan.frames)])
        for start in _starts(timeline, plan, length)
    ]
    if end_seconds is not None:
        clips = [
            replace(clip, end_seconds=end_seconds)
            if start + plan.span == length or clip.end_seconds > end_seconds
            else clip
            for clip, start in zip(clips, _starts(timeline, plan, length), strict=True)
        ]
    return clips


def _starts(timeline: Timeline, plan: ClipPlan, length: int) -> list[int]:
    """First slots of the windows over ``length`` slots, which hold at least one window."""
    room = length - plan.span
    if plan.clips is not None:
        if plan.clips == 1:
            return [room // 2]
        return [i * room // (plan.clips - 1) for i in range(plan.clips)]
    if plan.hop_frames is not None:
        hop = plan.hop_frames
    elif plan.hop_seconds is not None:
        rate = timeline.rate if plan.fps is None else plan.fps
        hop = max(1, round(Fraction(plan.hop_seconds) * rate))
    else:
        hop = plan.span
    starts = list(range(0, room + 1, hop))
    by_default = plan.hop_frames is None and plan.hop_seconds is None
    tail = plan.tail or ("flush" if by_default else "drop")
    if tail == "flush" and starts[-1] != room:
        starts.append(room)
    return starts


def _short_slots(timeline: Timeline, plan: ClipPlan, length: int) -> list[int]:
    """The slots of the one clip of a video or segment of ``length`` slots, less than a span."""
    wanted = [i * plan.stride for i in range(plan.frames)]
    if plan.short == "repeat_last":
        return [min(slot, length - 1) for slot in wanted]
    if plan.short == "loop":
        return [slot % length for slot in wanted]
    raise VideoError(
        f"{length} frames ({timeline.duration_seconds:.2f} s) are fewer than the {plan.span} of a "
        f"clip: choose short=repeat_last or short=loop, or fewer frames per clip",
        kind="too_short",
    )


def _clip(
    timeline: Timeline,
    plan: ClipPlan,
    slots: list[int],
    covers: tuple[float, float] | None = None,
) -> PlannedClip:
    if covers is None:
        covers = (timeline.start_of(slots[0], plan.fps), timeline.end_of(slots[-1], plan.fps))
    positions = tuple(
        min(timeline.position(slot, plan.fps), timeline.num_frames - 1) for slot in slots
    )
    return PlannedClip(positions, *covers)
