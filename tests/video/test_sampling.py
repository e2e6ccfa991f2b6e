"""Clip plans: tables of small cases, and properties over many videos."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vidfeat.errors import UsageError, VideoError
from vidfeat.video.clip_plan import ClipPlan, PlannedClip, VideoSegment, plan_clips
from vidfeat.video.timeline import Timeline

NTSC = Fraction(30000, 1001)
SECOND = Fraction(1)


def video(num_frames: int, rate: Fraction | int = 30) -> Timeline:
    return Timeline(num_frames, Fraction(rate))


def starts(clips: list[PlannedClip]) -> list[int]:
    return [clip.positions[0] for clip in clips]


# --- dense windows -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_frames", "plan", "expected"),
    [
        # side by side by default; the last one is moved back so that no second stays unseen
        (32, ClipPlan(frames=16), [0, 16]),
        (33, ClipPlan(frames=16), [0, 16, 17]),
        (47, ClipPlan(frames=16), [0, 16, 31]),
        (16, ClipPlan(frames=16), [0]),
        (17, ClipPlan(frames=16), [0, 1]),
        (33, ClipPlan(frames=16, tail="drop"), [0, 16]),
        # with a stride a window spans 31 slots
        (62, ClipPlan(frames=16, stride=2), [0, 31]),
        (63, ClipPlan(frames=16, stride=2), [0, 31, 32]),
        # hops
        (32, ClipPlan(frames=16, hop_frames=8), [0, 8, 16]),
        (39, ClipPlan(frames=16, hop_frames=8), [0, 8, 16]),
        (40, ClipPlan(frames=16, hop_frames=8), [0, 8, 16, 24]),
        (39, ClipPlan(frames=16, hop_frames=8, tail="flush"), [0, 8, 16, 23]),
        (40, ClipPlan(frames=16, hop_frames=8, tail="flush"), [0, 8, 16, 24]),
        (100, ClipPlan(frames=16, hop_frames=40), [0, 40, 80]),
        (20, ClipPlan(frames=16, hop_frames=1), [0, 1, 2, 3, 4]),
        (20, ClipPlan(frames=16, hop_frames=1000), [0]),
        (20, ClipPlan(frames=1, hop_frames=7), [0, 7, 14]),
        # a hop in seconds is rounded to frames
        (90, ClipPlan(frames=16, hop_seconds=1.0), [0, 30, 60]),
        (90, ClipPlan(frames=16, hop_seconds=0.5), [0, 15, 30, 45, 60]),
        (20, ClipPlan(frames=16, hop_seconds=0.0001), [0, 1, 2, 3, 4]),
    ],
)
def test_dense_windows(num_frames: int, plan: ClipPlan, expected: list[int]) -> None:
    clips = plan_clips(video(num_frames), plan)
    assert starts(clips) == expected
    for clip, start in zip(clips, expected, strict=True):
        assert clip.positions == tuple(start + i * plan.stride for i in range(plan.frames))
        assert clip.start_seconds == pytest.approx(start / 30)
        assert clip.end_seconds == pytest.approx((clip.positions[-1] + 1) / 30)


def test_hop_in_seconds_at_ntsc_rate_is_thirty_frames() -> None:
    clips = plan_clips(video(120, NTSC), ClipPlan(frames=16, hop_seconds=1.0))
    assert starts(clips) == [0, 30, 60, 90]


# --- uniform clips -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_frames", "frames", "clips", "expected"),
    [
        (250, 16, 10, [0, 26, 52, 78, 104, 130, 156, 182, 208, 234]),
        (303, 16, 10, [0, 31, 63, 95, 127, 159, 191, 223, 255, 287]),
        (100, 16, 2, [0, 84]),
        (100, 16, 3, [0, 42, 84]),
        (20, 16, 10, [0, 0, 0, 1, 1, 2, 2, 3, 3, 4]),
        (16, 16, 4, [0, 0, 0, 0]),
        (100, 16, 1, [42]),
        (101, 16, 1, [42]),
        (16, 16, 1, [0]),
    ],
)
def test_uniform_clips(num_frames: int, frames: int, clips: int, expected: list[int]) -> None:
    planned = plan_clips(video(num_frames), ClipPlan(frames=frames, clips=clips))
    assert starts(planned) == expected
    if clips > 1:
        assert expected == [
            math.floor(i * (num_frames - frames) / (clips - 1)) for i in range(clips)
        ]


def test_uniform_clips_of_a_target_rate_count_shown_frames() -> None:
    """60 frames at 30 a second are 30 at 15: starts at floor(i (30 - 16) / 2) of those."""
    planned = plan_clips(video(60), ClipPlan(frames=16, fps=Fraction(15), clips=3))
    assert [clip.positions for clip in planned] == [
        tuple(range(0, 32, 2)),
        tuple(range(14, 46, 2)),
        tuple(range(28, 60, 2)),
    ]


# --- videos shorter than a clip ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_frames", "plan", "expected"),
    [
        (3, ClipPlan(frames=8), (0, 1, 2, 2, 2, 2, 2, 2)),
        (3, ClipPlan(frames=8, short="loop"), (0, 1, 2, 0, 1, 2, 0, 1)),
        (1, ClipPlan(frames=4), (0, 0, 0, 0)),
        (1, ClipPlan(frames=4, short="loop"), (0, 0, 0, 0)),
        (5, ClipPlan(frames=4, stride=2), (0, 2, 4, 4)),
        (5, ClipPlan(frames=4, stride=2, short="loop"), (0, 2, 4, 1)),
        (6, ClipPlan(frames=4, stride=2), (0, 2, 4, 5)),
        (10, ClipPlan(frames=8, fps=Fraction(15)), (0, 2, 4, 6, 8, 8, 8, 8)),
        (10, ClipPlan(frames=8, fps=Fraction(15), short="loop"), (0, 2, 4, 6, 8, 0, 2, 4)),
    ],
)
def test_short_videos(num_frames: int, plan: ClipPlan, expected: tuple[int, ...]) -> None:
    (clip,) = plan_clips(video(num_frames), plan)
    assert clip.positions == expected
    assert clip.start_seconds == 0
    assert clip.end_seconds == pytest.approx(num_frames / 30)


def test_short_videos_give_as_many_clips_as_asked_for() -> None:
    clips = plan_clips(video(5), ClipPlan(frames=16, clips=10))
    assert len(clips) == 10
    assert len({clip.positions for clip in clips}) == 1


def test_short_videos_as_an_error() -> None:
    with pytest.raises(VideoError, match="short=") as caught:
        plan_clips(video(15), ClipPlan(frames=16, short="error"))
    assert caught.value.kind == "too_short"
    assert "15" in str(caught.value)
    assert "16" in str(caught.value)
    assert len(plan_clips(video(16), ClipPlan(frames=16, short="error"))) == 1


# --- segments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        (VideoSegment(1.0, 2.0), range(30, 60)),
        (VideoSegment(1.0, 1.001), range(30, 31)),  # frame 30 is shown from 1.0 to 1.033
        (VideoSegment(1.01, 1.02), range(30, 31)),
        (VideoSegment(0.0, 0.1), range(3)),
        (VideoSegment(0.0, 0.11), range(4)),
        (VideoSegment(0.05, 0.15), range(1, 5)),
        (VideoSegment(2.9, 1000.0), range(87, 90)),
        (VideoSegment(2.9, None), range(87, 90)),
        (VideoSegment(), range(90)),
    ],
)
def test_segment_takes_the_frames_shown_in_it(segment: VideoSegment, expected: range) -> None:
    clips = plan_clips(video(90), ClipPlan(frames=1, hop_frames=1), [segment])
    assert starts(clips) == list(expected)


def test_windows_start_at_their_segment() -> None:
    plan = ClipPlan(frames=8, hop_frames=8)
    clips = plan_clips(video(90), plan, [VideoSegment(1.0, 2.0), VideoSegment(0.0, 0.5)])
    assert starts(clips) == [0, 30, 38, 46]  # in time order
    assert all(clip.positions[-1] - clip.positions[0] == 7 for clip in clips)


def test_segments_with_uniform_clips_have_so_many_each() -> None:
    clips = plan_clips(
        video(90), ClipPlan(frames=8, clips=3), [VideoSegment(1.0, 2.0), VideoSegment(0, 1)]
    )
    assert starts(clips) == [0, 11, 22, 30, 41, 52]


def test_segment_shorter_than_a_clip_follows_the_policy() -> None:
    segment = [VideoSegment(1.0, 1.1)]
    (clip,) = plan_clips(video(90), ClipPlan(frames=5), segment)
    assert clip.positions == (30, 31, 32, 32, 32)
    assert (clip.start_seconds, clip.end_seconds) == pytest.approx((1.0, 1.1))
    (clip,) = plan_clips(video(90), ClipPlan(frames=5, short="loop"), segment)
    assert clip.positions == (30, 31, 32, 30, 31)
    with pytest.raises(VideoError, match="short=") as caught:
        plan_clips(video(90), ClipPlan(frames=5, short="error"), segment)
    assert caught.value.kind == "too_short"


def test_segment_behind_the_end_is_never_silent() -> None:
    with pytest.raises(VideoError) as caught:
        plan_clips(video(90), ClipPlan(frames=5), [VideoSegment(3.0, 4.0)])
    assert caught.value.kind == "too_short"
    assert "3" in str(caught.value)


@pytest.mark.parametrize("bounds", [(-1.0, 1.0), (2.0, 2.0), (2.0, 1.0), (math.nan, 1.0)])
def test_impossible_segments(bounds: tuple[float, float]) -> None:
    with pytest.raises(UsageError):
        VideoSegment(*bounds)


# --- target rate ---------------------------------------------------------------------------------


def test_ten_frames_at_fifteen_a_second() -> None:
    """What torchvision's own resampling gives for common rates: floor(k rate / 15)."""
    expected = {
        Fraction(30): [0, 2, 4, 6, 8, 10, 12, 14, 16, 18],
        Fraction(25): [0, 1, 3, 5, 6, 8, 10, 11, 13, 15],
        Fraction(24): [0, 1, 3, 4, 6, 8, 9, 11, 12, 14],
        NTSC: [0, 1, 3, 5, 7, 9, 11, 13, 15, 17],
        Fraction(15): [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        Fraction(10): [0, 0, 1, 2, 2, 3, 4, 4, 5, 6],
    }
    for rate, positions in expected.items():
        plan = ClipPlan(frames=10, fps=Fraction(15), hop_frames=1000)
        (clip,) = plan_clips(video(100, rate), plan)
        assert list(clip.positions) == positions, rate


def test_integers_hold_where_floats_break() -> None:
    """At 29.97 frames per second float32 picks other frames from some thousand frames on, and even
    doubles do at exact ratios."""
    rate, count = NTSC, 200_000
    plan = ClipPlan(frames=1, fps=Fraction(15), hop_frames=1)
    found = np.array(starts(plan_clips(video(count, rate), plan)))
    k = np.arange(len(found), dtype=object)
    exact = np.array([i * 30000 // (1001 * 15) for i in k])
    assert np.array_equal(found, exact)
    assert exact[-1] < count <= len(found) * 30000 / (1001 * 15)
    single = np.floor(np.arange(len(found), dtype=np.float32) * np.float32(rate / 15)).astype(int)
    assert (single != exact).any()  # the trap is real

    # 49 * (1 / 49) < 1 in doubles: whole positions must not fall short by one
    for rate in (Fraction(49), NTSC, Fraction(24000, 1001), Fraction(2997, 100)):
        plan = ClipPlan(frames=1, fps=rate, hop_frames=1)
        assert starts(plan_clips(video(3000, rate), plan)) == list(range(3000))


def test_positions_far_into_a_week_of_video() -> None:
    count = 18_000_000
    plan = ClipPlan(frames=16, fps=Fraction(15), clips=2)
    last = plan_clips(video(count, NTSC), plan)[1]
    slots = -(-count * 15 * 1001 // 30000)
    expected = tuple(k * 30000 // (1001 * 15) for k in range(slots - 16, slots))
    assert last.positions == expected
    assert last.positions[-1] in (count - 1, count - 2)
    assert last.end_seconds == pytest.approx(count / NTSC, abs=1e-6)


def test_variable_rate_shows_the_frame_of_the_moment() -> None:
    times = (0.0, 0.1, 0.15, 1.0, 1.05)
    timeline = Timeline(5, Fraction(5), times, 1.1)
    plan = ClipPlan(frames=1, hop_frames=1, fps=Fraction(10))
    assert starts(plan_clips(timeline, plan)) == [0, 1, *[2] * 8, 3]
    native = ClipPlan(frames=1, hop_frames=1)
    clips = plan_clips(timeline, native)
    assert starts(clips) == [0, 1, 2, 3, 4]
    assert [clip.start_seconds for clip in clips] == pytest.approx(times)
    assert [clip.end_seconds for clip in clips] == pytest.approx([*times[1:], 1.1])


# --- properties ----------------------------------------------------------------------------------

rates = st.sampled_from(
    [*map(Fraction, (1, 10, 15, 24, 25, 30, 50, 60)), NTSC, Fraction(24000, 1001), Fraction(37, 3)]
)
layouts = st.one_of(
    st.just({}),
    st.builds(lambda n: {"hop_frames": n}, st.integers(1, 60)),
    st.builds(lambda s: {"hop_seconds": s / 16}, st.integers(1, 60)),
    st.builds(lambda n: {"clips": n}, st.integers(1, 20)),
)
plans = st.builds(
    lambda frames, stride, fps, layout, short, tail: ClipPlan(
        frames=frames, stride=stride, fps=fps, short=short, tail=tail, **layout
    ),
    st.integers(1, 40),
    st.integers(1, 5),
    st.one_of(st.none(), rates),
    layouts,
    st.sampled_from(["repeat_last", "loop"]),
    st.sampled_from([None, "drop", "flush"]),
)


@st.composite
def variable_videos(draw: st.DrawFn) -> tuple[Timeline, list[int], int]:
    """A timeline of a variable rate, its times and duration in exact milliseconds."""
    gaps = draw(st.lists(st.integers(1, 700), min_size=1, max_size=60))
    ticks = [0]
    for gap in gaps[:-1]:
        ticks.append(ticks[-1] + gap)
    duration = ticks[-1] + gaps[-1]
    times = tuple(tick * float(Fraction(1, 1000)) for tick in ticks)
    average = Fraction(len(ticks) * 1000, duration)
    timeline = Timeline(len(ticks), average, times, times[-1] + gaps[-1] * float(Fraction(1, 1000)))
    return timeline, ticks, duration


def oracle_starts(slots: int, plan: ClipPlan, rate: Fraction) -> list[int]:
    """First slots of the windows, by counting up."""
    span = (plan.frames - 1) * plan.stride + 1
    room = slots - span
    if plan.clips is not None:
        if plan.clips == 1:
            return [room // 2]
        return [math.floor(Fraction(i * room, plan.clips - 1)) for i in range(plan.clips)]
    hop = span
    if plan.hop_frames is not None:
        hop = plan.hop_frames
    if plan.hop_seconds is not None:
        hop = max(1, round(Fraction(plan.hop_seconds) * (plan.fps or rate)))
    found = []
    start = 0
    while start <= room:
        found.append(start)
        start += hop
    default_tail = "drop" if plan.hop_frames or plan.hop_seconds else "flush"
    if (plan.tail or default_tail) == "flush" and found[-1] < room:
        found.append(room)
    return found


@given(num_frames=st.integers(1, 400), rate=rates, plan=plans)
@settings(max_examples=300, deadline=None, derandomize=True)
@example(num_frames=2, rate=Fraction(30), plan=ClipPlan(frames=1, fps=Fraction(60), hop_frames=1))
def test_constant_rate(num_frames: int, rate: Fraction, plan: ClipPlan) -> None:
    clips = plan_clips(video(num_frames, rate), plan)
    ratio = SECOND if plan.fps is None else rate / plan.fps
    slots = sum(1 for _ in iter_slots(num_frames, ratio))
    span = (plan.frames - 1) * plan.stride + 1
    if slots >= span:
        expected = [
            tuple(math.floor((start + i * plan.stride) * ratio) for i in range(plan.frames))
            for start in oracle_starts(slots, plan, rate)
        ]
        assert [clip.positions for clip in clips] == expected
    else:
        assert len(clips) == (plan.clips or 1)
    check_seconds(clips, num_frames, float(num_frames / rate))


def iter_slots(num_frames: int, ratio: Fraction) -> Iterator[int]:
    k = 0
    while math.floor(k * ratio) < num_frames:
        yield k
        k += 1


def check_seconds(clips: list[PlannedClip], num_frames: int, duration: float) -> None:
    """Start and end move forward, lie within the video, and enclose something."""
    for clip in clips:
        assert all(0 <= position < num_frames for position in clip.positions)
        assert 0 <= clip.start_seconds < clip.end_seconds <= duration + 1e-9
    for before, after in itertools.pairwise(clips):
        assert before.start_seconds <= after.start_seconds
        assert before.end_seconds <= after.end_seconds
        assert before.positions[0] <= after.positions[0]


@given(drawn=variable_videos(), plan=plans)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_variable_rate(drawn: tuple[Timeline, list[int], int], plan: ClipPlan) -> None:
    timeline, ticks, duration = drawn
    clips = plan_clips(timeline, plan)
    check_seconds(clips, len(ticks), duration / 1000)
    if plan.fps is None:
        return
    # by exact integers: slot k shows the last frame whose time is not after k / fps
    slots = math.ceil(Fraction(duration, 1000) * plan.fps)
    span = (plan.frames - 1) * plan.stride + 1
    if slots < span:
        return
    expected = []
    for start in oracle_starts(slots, plan, timeline.rate):
        moments = [Fraction(start + i * plan.stride) / plan.fps * 1000 for i in range(plan.frames)]
        expected.append(tuple(sum(tick <= moment for tick in ticks) - 1 for moment in moments))
    assert [clip.positions for clip in clips] == expected


@given(
    num_frames=st.integers(1, 300),
    rate=rates,
    plan=plans,
    bounds=st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 3000)), max_size=3),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_segments_keep_within_their_bounds(
    num_frames: int, rate: Fraction, plan: ClipPlan, bounds: list[tuple[int, int]]
) -> None:
    timeline = video(num_frames, rate)
    duration = num_frames / rate
    segments = [
        VideoSegment(start / 1000, (start + length) / 1000)
        for start, length in bounds
        if Fraction(start, 1000) < duration
    ]
    if not segments:
        return
    frame = float(1 / rate + (0 if plan.fps is None else 1 / plan.fps))
    for segment in segments:
        clips = plan_clips(timeline, plan, [segment])
        assert clips
        for clip in clips:
            assert segment.end_seconds is not None
            assert clip.start_seconds >= segment.start_seconds - frame - 1e-6
            assert clip.end_seconds <= segment.end_seconds + frame + 1e-6
            assert all(0 <= position < num_frames for position in clip.positions)
            for position in clip.positions:
                shown = float(position / rate)
                assert shown < segment.end_seconds + 1e-6
                assert shown + float(1 / rate) > segment.start_seconds - frame - 1e-6
    together = plan_clips(timeline, plan, segments)
    apart = [clip for segment in segments for clip in plan_clips(timeline, plan, [segment])]
    assert together == sorted(apart, key=lambda clip: (clip.start_seconds, clip.end_seconds))


@given(plan=plans)
@settings(deadline=None, derandomize=True)
def test_plans_survive_json(plan: ClipPlan) -> None:
    assert ClipPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_what_the_vectors_see_is_apart_from_where_clips_lie() -> None:
    one = ClipPlan(frames=8, stride=2, fps=NTSC, hop_frames=3)
    other = ClipPlan(frames=8, stride=2, fps=NTSC, clips=10)
    assert one.space_dict() == other.space_dict()
    assert one.to_dict() != other.to_dict()
    for changed in (ClipPlan(frames=9), ClipPlan(stride=2), ClipPlan(fps=Fraction(15))):
        assert changed.space_dict() != ClipPlan().space_dict()
    assert ClipPlan(fps=NTSC).space_dict() != ClipPlan(fps=Fraction(2997, 100)).space_dict()


# --- validation ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"frames": 0}, "frames"),
        ({"frames": -3}, "frames"),
        ({"stride": 0}, "stride"),
        ({"fps": 0}, "fps"),
        ({"fps": -15}, "fps"),
        ({"fps": math.nan}, "fps"),
        ({"fps": math.inf}, "fps"),
        ({"hop_frames": 0}, "hop_frames"),
        ({"hop_frames": -8}, "hop_frames"),
        ({"hop_seconds": 0.0}, "hop_seconds"),
        ({"hop_seconds": -1.0}, "hop_seconds"),
        ({"hop_seconds": math.nan}, "hop_seconds"),
        ({"hop_seconds": math.inf}, "hop_seconds"),
        ({"clips": 0}, "clips"),
        ({"clips": -1}, "clips"),
        ({"hop_frames": 8, "clips": 10}, "clips"),
        ({"hop_frames": 8, "hop_seconds": 1.0}, "hop_seconds"),
        ({"hop_seconds": 1.0, "clips": 10}, "hop_seconds"),
        ({"short": "silence"}, "short"),
        ({"short": None}, "short"),
        ({"tail": "cut"}, "tail"),
    ],
)
def test_impossible_plans_name_the_argument(options: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError) as caught:
        ClipPlan(**options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert named in message
    assert named in caught.value.fields
    assert "\n" not in message


def test_plan_is_frozen_and_rates_are_exact() -> None:
    plan = ClipPlan(fps=Fraction(30000, 1001))
    assert plan.fps == NTSC
    with pytest.raises(AttributeError):
        plan.frames = 3  # type: ignore[misc]
    assert ClipPlan(fps=15).fps == Fraction(15)  # type: ignore[arg-type]
