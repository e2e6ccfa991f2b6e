"""The frame clock: one bad timestamp costs itself, and not the clock."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.odd_videos import encoded, scene, write_video
from vidfeat.video.clip_plan import ClipPlan, plan_clips
from vidfeat.video.clock import clock_from_ticks
from vidfeat.video.reader import open_video, probe

MS = Fraction(1, 1000)
LYING_HEADER = [Fraction(1000)]


def thirtieths(count: int) -> list[int | None]:
    return [round(number * 1000 / 30) for number in range(count)]


damage = st.lists(
    # not the first and last: nothing behind them says that a time far away is wrong
    st.tuples(st.integers(1, 295), st.sampled_from(["repeat", "swap", "missing", "far"])),
    max_size=20,
)


def damaged(ticks: list[int | None], changes: list[tuple[int, str]]) -> list[int | None]:
    result = list(ticks)
    for place, kind in changes:
        after = min(place + 1, len(ticks) - 1)
        if kind == "repeat":
            result[after] = result[place]
        elif kind == "swap":
            result[place], result[after] = result[after], result[place]
        elif kind == "missing":
            result[place] = None
        else:
            result[place] = 1_000_000_000 if place % 2 else -5
    return result


@settings(max_examples=150, deadline=None)
@given(damage, st.sampled_from([LYING_HEADER, [Fraction(30)], []]))
def test_bad_timestamps_leave_a_constant_clock(
    changes: list[tuple[int, str]], header: list[Fraction]
) -> None:
    ticks = damaged(thirtieths(300), changes)
    clock = clock_from_ticks(ticks, MS, header)
    assert clock.timeline.num_frames == 300
    assert clock.timeline.duration_seconds == pytest.approx(10, abs=0.1)
    assert float(clock.timeline.rate) == pytest.approx(30, rel=0.01)
    if ticks != thirtieths(300):
        assert 1 <= clock.repaired <= 2 * len(changes)


@settings(max_examples=100, deadline=None)
@given(damage)
def test_bad_timestamps_leave_a_variable_clock(changes: list[tuple[int, str]]) -> None:
    """The good times stay, and the gap too."""
    truth = [tick + (3000 if number >= 150 else 0) for number, tick in enumerate(thirtieths(300))]
    changes = [change for change in changes if not 147 <= change[0] <= 152]
    clock = clock_from_ticks(damaged(truth, changes), MS, LYING_HEADER)
    assert clock.timing == "variable"
    assert clock.timeline.times is not None
    off = np.abs(np.array(clock.timeline.times) * 1000 - np.array(truth))
    off = np.abs(off - np.median(off))
    assert off.max() <= 130
    assert np.count_nonzero(off > 2) <= 3 * len(changes)


def test_a_clock_that_was_set_back_goes_on() -> None:
    """Two recordings joined without new times: 300 frames, then 300 that begin at 0 again."""
    ticks = thirtieths(300)
    clock = clock_from_ticks([*ticks, *ticks], MS, LYING_HEADER)
    assert clock.timeline.duration_seconds == pytest.approx(20, abs=0.1)


@pytest.mark.parametrize("share", [3, 2])
def test_a_header_that_lies_is_not_believed_where_most_times_are_out_of_order(share: int) -> None:
    ticks = thirtieths(600)
    for place in range(0, 598, share):
        ticks[place], ticks[place + 1] = ticks[place + 1], ticks[place]
    clock = clock_from_ticks(ticks, MS, LYING_HEADER)
    assert clock.timeline.duration_seconds == pytest.approx(20, abs=0.2)


def test_times_that_ascend_are_left_alone() -> None:
    ticks = [0, 20, 120, 153, 353, 373, 393, 893]
    clock = clock_from_ticks(ticks, MS, [Fraction(30)], last_duration=33)
    assert (clock.timing, clock.repaired) == ("variable", 0)
    assert clock.timeline.times == pytest.approx([tick / 1000 for tick in ticks])


@pytest.mark.parametrize("suffix", [".mkv", ".flv", ".ts", ".mp4"])
@pytest.mark.parametrize("places", [(300,), (1,), (599,), (100, 200, 201, 430)])
def test_repeated_times_in_a_file(tmp_path: Path, suffix: str, places: tuple[int, ...]) -> None:
    """The header claims 1000 frames per second, as recorders of variable rate write it."""
    stamps = [round(number * 1000 / 30) for number in range(600)]
    change = {place: place - 1 for place in places}
    if suffix in (".mp4", ".ts"):
        change = {}  # their writers refuse it: here for the value that must come out
    path = write_video(tmp_path / f"a{suffix}", scene(600), stamps, rate=1000, change=change)
    info = probe(path)
    assert info.num_frames == 600
    assert info.duration_seconds == pytest.approx(20, abs=0.05)
    assert float(info.fps) == pytest.approx(30, abs=0.01)
    assert (info.repaired_timestamps > 0) == bool(change)


@pytest.mark.parametrize(
    ("name", "repaired"), [("clean.mkv", 0), ("dup.mkv", 1), ("disordered.mkv", 6)]
)
def test_stored_files_with_bad_times(name: str, repaired: int, shared_data: Path) -> None:
    path = shared_data / "odd" / "dupstamp" / name
    plan = ClipPlan(8, fps=Fraction(10))
    for count in (False, True):
        with open_video(path, count=count) as video:
            assert video.info.num_frames == 600
            assert video.info.fps == 30
            assert video.info.duration_seconds == 20
            assert video.info.repaired_timestamps == repaired
            assert len(plan_clips(video.timeline, plan)) == 25


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
@pytest.mark.parametrize("bframes", ["0", "2"])
def test_a_gap_in_an_avi(tmp_path: Path, codec: str, bframes: str) -> None:
    """AVI has decoding times alone; a pause of 3 seconds stands in them."""
    stamps = [40 * (number if number < 50 else number + 75) for number in range(100)]
    path = write_video(
        tmp_path / "a.avi",
        scene(100),
        stamps,
        rate=25,
        codec=codec,
        options={"bf": bframes, "g": "12"},
    )
    with open_video(path) as video:
        assert video.info.num_frames == 100
        assert video.info.duration_seconds == pytest.approx(7, abs=0.15)
        times = video.timeline.times
        assert times is not None
        steps = np.diff(times)
        assert 48 <= np.argmax(steps) <= 50
        assert steps.max() == pytest.approx(3.04, abs=0.1)
        assert np.delete(steps, np.argmax(steps)).max() < 0.1


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".flv"])
@pytest.mark.parametrize("where", ["first", "last"])
def test_a_pause_of_hours_at_an_end_is_not_how_long_a_frame_is_shown(
    tmp_path: Path, suffix: str, where: str
) -> None:
    """FLV does not say how long its last frame lasts, and the average step is of minutes."""
    hours = 36_000_000
    steady = [round(number * 1000 / 30) for number in range(60)]
    stamps = [0, *(hours + tick for tick in steady)] if where == "first" else [*steady, hours]
    with open_video(write_video(tmp_path / f"a{suffix}", scene(61), stamps)) as video:
        shown = 36_000 + (2 if where == "first" else 1 / 30)
        assert video.info.duration_seconds == pytest.approx(shown, abs=0.02)
        assert len(plan_clips(video.timeline, ClipPlan(8, fps=Fraction(10)))) == 4


@pytest.mark.parametrize("bad", ["repeated", "swapped"])
def test_a_rate_that_wrong_times_made_is_not_believed(tmp_path: Path, bad: str) -> None:
    """FFmpeg reckons the rate of an MP4 from its times, the wrong ones among them."""
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:
        stamps = [round(number * 1000 / 30) for number in range(120)]
        packets = encoded(out, scene(120), stamps, MS, 1000, options={"bf": "0"})
        for packet in packets:
            packet.dts -= 200
        one, other = packets[60].pts, packets[59].pts
        packets[60].pts = other
        if bad == "swapped":
            packets[59].pts = one
        for packet in packets:
            out.mux(packet)
    with open_video(path, count=True) as video:
        assert video.info.fps == 30
        assert video.info.duration_seconds == pytest.approx(4)
        assert video.info.repaired_timestamps == 1


@pytest.mark.parametrize("rate", [24, 25, 30, 60, Fraction(30000, 1001), Fraction(59, 2)])
@pytest.mark.parametrize("count", [30, 120])
def test_times_in_whole_milliseconds_are_those_of_the_usual_rate(
    tmp_path: Path, rate: Fraction | int, count: int
) -> None:
    """An MP4 reckons 29.998 or 29.991 from them: slots at 10 a second would show frames 2, 5, 8."""
    stamps = [round(number * 1000 / rate) for number in range(count)]
    path = write_video(tmp_path / "a.mp4", scene(count, (32, 32)), stamps, rate=rate)
    with open_video(path) as video:
        usual = rate in (24, 25, 30, 60) or (rate != Fraction(59, 2) and count == 120)
        assert video.info.fps == pytest.approx(float(rate), rel=1e-9 if usual else 1e-3)
        if rate == 30:
            shown = [video.timeline.position(slot, Fraction(10)) for slot in range(10)]
            assert shown == [3 * slot for slot in range(10)]


def test_joined_recordings_are_told_of(tmp_path: Path) -> None:
    """The tags of one FLV behind those of another: the times begin at 0 again."""
    stamps = [round(number * 1000 / 30) for number in range(30)]
    parts = [write_video(tmp_path / f"{n}.flv", scene(30, seed=n), stamps) for n in (0, 1)]
    joined = tmp_path / "joined.flv"
    joined.write_bytes(parts[0].read_bytes() + parts[1].read_bytes()[13:])
    info = probe(joined)
    assert (info.num_frames, info.repaired_timestamps) == (60, 30)
    assert info.duration_seconds == pytest.approx(2, abs=0.02)


def test_a_header_that_alone_tells_the_time_is_told_of(tmp_path: Path) -> None:
    same = dict.fromkeys(range(1, 30), 0)
    info = probe(write_video(tmp_path / "a.mkv", scene(30), thirtieths(30), rate=1000, change=same))
    assert any("1000 frames/s" in remark for remark in info.remarks)
