"""Reading video: every frame by position is the one that a plain sequential decode gives."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.bad_videos import BAD, DAMAGED, opened, outside
from tests.support.video_assets import (
    GOOD,
    Reference,
    read_number,
    red_bar_is_right,
    reference_frames,
    render,
    repeat_video,
    x264,
)
from tests.support.video_fixtures import FIGHTS, REAL_VIDEOS, asset, reference  # noqa: F401
from vidfeat.errors import VideoError
from vidfeat.video.clip_plan import ClipPlan, plan_clips
from vidfeat.video.reader import (
    Limits,
    Recounted,
    VideoReader,
    open_video,
    probe,
    read_frames,
    to_rgb,
)

Make = Callable[[str], Path]
Decode = Callable[[str], Reference]
each_asset = pytest.mark.parametrize("name", GOOD)


def frames_at(video: VideoReader, positions: Iterable[int]) -> dict[int, np.ndarray]:
    """Frames by position; a video that counts itself anew on the way is asked a second time."""
    positions = list(positions)
    try:
        return {position: to_rgb(frame) for position, frame in video.frames(positions)}
    except Recounted:
        return {position: to_rgb(frame) for position, frame in video.frames(positions)}


def all_frames(video: VideoReader) -> list[np.ndarray]:
    """All frames of a video; where it counts itself anew, of the new count."""
    try:
        found = [to_rgb(frame) for _, frame in video.frames(range(video.info.num_frames))]
    except Recounted:
        found = [to_rgb(frame) for _, frame in video.frames(range(video.info.num_frames))]
    return found


def assert_same(got: Iterable[np.ndarray], expected: Iterable[np.ndarray], what: object) -> None:
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        assert a.shape == b.shape, (what, i)
        assert a.dtype == np.uint8
        assert np.array_equal(a, b), (what, i)


# --- the assets are what they say ----------------------------------------------------------------


@each_asset
def test_asset_shows_its_numbers(name: str, asset: Make, reference: Decode) -> None:  # noqa: F811
    facts, plain = GOOD[name], reference(name)
    assert not plain.broken
    assert tuple(read_number(frame) for frame in plain.upright) == facts.numbers
    assert plain.upright[0].shape == (facts.size[1], facts.size[0], 3)
    assert red_bar_is_right(plain.upright[0]) == facts.coloured
    if facts.times is not None:
        assert plain.times == pytest.approx(facts.times, abs=1e-9)


# --- frame-exact reading -------------------------------------------------------------------------


@each_asset
def test_frames_equal_sequential_decode(name: str, asset: Make, reference: Decode) -> None:  # noqa: F811
    expected = reference(name).upright
    last = len(expected) - 1
    chance = random.Random(name)
    patterns = {
        "all": list(range(last + 1)),
        "first": [0],
        "last": [last],
        "every fourth": list(range(0, last + 1, 4)),
        "middle to end": list(range(last // 2, last + 1)),
        **{
            f"scattered {i}": sorted(chance.sample(range(last + 1), min(5, last + 1)))
            for i in range(4)
        },
    }
    for label, positions in patterns.items():
        with open_video(asset(name)) as video:
            assert video.info.num_frames == last + 1, label
            found = frames_at(video, positions)
            assert list(found) == positions, label
            assert_same(found.values(), (expected[p] for p in positions), label)


@each_asset
def test_every_single_frame_reached_from_a_fresh_start(
    name: str,
    asset: Make,  # noqa: F811
    reference: Decode,  # noqa: F811
) -> None:
    """Each position is asked for alone, so that each is reached by a seek of its own."""
    expected = reference(name).upright
    with open_video(asset(name)) as video:
        order = list(range(len(expected)))
        random.Random(name).shuffle(order)
        for position in order:
            found = frames_at(video, [position])
            assert_same(found.values(), [expected[position]], position)


@each_asset
def test_read_frames_keeps_the_order_asked_for(name: str, asset: Make, reference: Decode) -> None:  # noqa: F811
    expected = reference(name).upright
    last = len(expected) - 1
    asked = [last, 0, last // 2, last // 3, last, 0, min(1, last)]
    found = read_frames(asset(name), asked)
    assert found.shape == (len(asked), *expected[0].shape)
    assert_same(found, (expected[p] for p in asked), asked)


def test_a_known_video_is_read_without_counting_again(asset: Make, reference: Decode) -> None:  # noqa: F811
    for name in (
        "h264",
        "h264_open_gop",
        "mpeg4_packed",
        "edit_list_skips_lead",
        "vp8_hidden_frames",
    ):
        with open_video(asset(name)) as video:
            known = video.known
        expected = reference(name).upright
        with open_video(asset(name), known=known) as video:
            positions = [3, 11, 25]
            found = frames_at(video, positions)
            assert_same(found.values(), (expected[p] for p in positions), name)


def test_videos_of_many_kinds_read_in_turn(asset: Make, reference: Decode) -> None:  # noqa: F811
    """A converter that is kept between frames must not carry one video's colours to the next."""
    names = ["h264", "full_range", "h264_rgb", "mjpeg", "ten_bit_420", "grey", "odd_size_444"]
    for _ in range(2):
        for name in names:
            found = read_frames(asset(name), [4, 9])
            expected = reference(name).upright
            assert_same(found, [expected[4], expected[9]], name)


def test_positions_outside_of_the_video_are_refused(asset: Make) -> None:  # noqa: F811
    for wrong in ([-1], [60], [0, 5, 1000]):
        with pytest.raises(IndexError):
            read_frames(asset("h264"), wrong)


def _check_real(path: Path, positions: Callable[[int], list[int]]) -> None:
    expected = reference_frames(path).upright
    count = len(expected)
    with open_video(path) as video:
        assert video.info.num_frames == count
        assert (video.info.height, video.info.width) == expected[0].shape[:2]
        for asked in (positions(count), [count - 1], [count // 2]):
            found = frames_at(video, asked)
            assert_same(found.values(), (expected[p] for p in sorted(set(asked))), asked)


@pytest.mark.parametrize("name", REAL_VIDEOS)
def test_real_videos_scattered(name: str, shared_data: Path) -> None:
    chance = random.Random(name)
    _check_real(shared_data / "videos" / name, lambda n: sorted(chance.sample(range(n), 12)))


@pytest.mark.parametrize("name", REAL_VIDEOS)
def test_real_videos_dense(name: str, shared_data: Path) -> None:
    _check_real(shared_data / "videos" / name, lambda n: list(range(n)))


@pytest.mark.parametrize("name", FIGHTS)
def test_real_fights(name: str, shared_data: Path) -> None:
    chance = random.Random(name)
    _check_real(shared_data / "fights" / name, lambda n: sorted(chance.sample(range(n), 6)))


# --- what a video says of itself -----------------------------------------------------------------


@each_asset
def test_probe(name: str, asset: Make, reference: Decode) -> None:  # noqa: F811
    facts, plain = GOOD[name], reference(name)
    path = asset(name)
    info = probe(path)
    assert info.num_frames == len(facts.numbers)
    assert (info.width, info.height) == facts.size
    assert info.rotation % 360 == plain.rotation % 360
    assert info.num_frames_source in ("packets", "decoding")
    assert (info.size_bytes, info.mtime_ns) == (path.stat().st_size, path.stat().st_mtime_ns)
    if facts.timing is not None:
        assert info.timing == facts.timing
    if facts.rate is not None:
        assert info.fps == facts.rate
        assert info.duration_seconds == pytest.approx(info.num_frames / facts.rate, abs=1e-6)
    if facts.times is not None:
        span = facts.times[-1] - facts.times[0]
        assert span < info.duration_seconds < span + 1
        assert info.fps == pytest.approx(info.num_frames / info.duration_seconds, rel=0.2)


def test_count_by_packets_where_it_is_certain_by_decoding_elsewhere(asset: Make) -> None:  # noqa: F811
    """A packet scan is what makes a long film's count cheap; MPEG-4 part 2 and VP8 forbid it."""
    for name in ("h264", "h264_ntsc", "mkv_milliseconds", "hevc_open_gop", "faststart"):
        assert probe(asset(name)).num_frames_source == "packets", name
    for name in ("mpeg4_packed", "mpeg4_b_frames", "vp8_hidden_frames", "header_counts_too_many"):
        assert probe(asset(name)).num_frames_source == "decoding", name


def test_real_videos_have_the_counts_that_decode(shared_data: Path) -> None:
    expected = {
        "R6llTwEh07w.mp4": (303, Fraction(30), "constant"),
        "RATRACE_wave_f_nm_np1_fr_goo_37.avi": (72, Fraction(30), "disordered"),
        "SchoolRulesHowTheyHelpUs_wave_f_nm_np1_ba_med_0.avi": (74, Fraction(30), "disordered"),
        "WUzgd7C1pWA.mp4": (327, Fraction(30000, 1001), "constant"),
        "hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi": (
            83,
            Fraction(30),
            "disordered",
        ),
        "v_SoccerJuggling_g23_c01.avi": (240, Fraction(30000, 1001), None),
    }
    for name, (count, rate, timing) in expected.items():
        info = probe(shared_data / "videos" / name)
        assert (info.num_frames, info.fps) == (count, rate), name
        assert timing is None or info.timing == timing, name
        assert info.duration_seconds == pytest.approx(count / rate, abs=1e-6), name


def test_rotation_is_applied(asset: Make) -> None:  # noqa: F811
    for degrees in (90, 180, 270):
        frame = read_frames(asset(f"rotated_{degrees}"), [17])[0]
        assert frame.shape == (64, 96, 3)
        assert read_number(frame) == 17
        assert red_bar_is_right(frame)
        with av.open(str(asset(f"rotated_{degrees}"))) as container:
            assert container.streams.video[0].width == (96 if degrees == 180 else 64)


# --- one rule for the frame rate -----------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n, facts in GOOD.items() if facts.rate is not None])
@pytest.mark.parametrize("fps", [Fraction(15), Fraction(8), Fraction(30000, 1001), Fraction(50)])
def test_constant_rate_goes_by_index(name: str, fps: Fraction, asset: Make) -> None:  # noqa: F811
    rate = GOOD[name].rate
    assert rate is not None
    with open_video(asset(name)) as video:
        clips = plan_clips(video.timeline, ClipPlan(frames=1, hop_frames=1, fps=fps))
        found = [position for clip in clips for position in clip.positions]
        count = video.info.num_frames
    expected = [k * rate // fps for k in range(200) if k * rate // fps < count]
    assert found == expected


@pytest.mark.parametrize("name", [n for n, facts in GOOD.items() if facts.times is not None])
@pytest.mark.parametrize("fps", [Fraction(15), Fraction(8), Fraction(50), Fraction(2)])
def test_variable_rate_goes_by_the_time_shown(name: str, fps: Fraction, asset: Make) -> None:  # noqa: F811
    times = GOOD[name].times
    assert times is not None
    with open_video(asset(name)) as video:
        duration = video.info.duration_seconds
        clips = plan_clips(video.timeline, ClipPlan(frames=1, hop_frames=1, fps=fps))
    found = [position for clip in clips for position in clip.positions]
    # whole ticks of a nanosecond: no float decides which frame is shown
    shown = [round((t - times[0]) * 10**9) for t in times]
    expected = []
    for k in range(int(duration * fps) + 2):
        at = k * 10**9 * fps.denominator // fps.numerator
        if k / fps < duration - 1e-9:
            expected.append(sum(t <= at + 1 for t in shown) - 1)
    assert found == expected


def test_clip_of_a_variable_rate_covers_the_time_it_shows(asset: Make) -> None:  # noqa: F811
    """The pause of two seconds lies within a clip: it counts as time, not as frames."""
    with open_video(asset("pause_of_two_seconds")) as video:
        (clip,) = plan_clips(video.timeline, ClipPlan(frames=30))
        assert clip.positions == tuple(range(30))
        assert clip.end_seconds - clip.start_seconds == pytest.approx(3.0, abs=0.04)
        clips = plan_clips(video.timeline, ClipPlan(frames=1, hop_frames=1, fps=Fraction(10)))
    shown = [clip.positions[0] for clip in clips]
    assert shown[4:24] == [11] * 20  # the frame before the pause is shown for two seconds


def test_constant_rate_that_the_header_gets_wrong(tmp_path: Path) -> None:
    """Frames every 80 ms under a header that says thirty a second: constant all the same."""
    path = render(
        tmp_path / "lie.mkv",
        range(50),
        options=x264("bframes=0"),
        pts=[80 * i for i in range(50)],
        time_base=Fraction(1, 1000),
    )
    info = probe(path)
    assert info.timing == "constant"
    assert info.fps == Fraction(25, 2)


def test_unusual_constant_rate_in_milliseconds(tmp_path: Path) -> None:
    """7.3 frames per second, rounded to milliseconds: each within a tick of n / rate."""
    path = render(
        tmp_path / "odd_rate.mkv",
        range(60),
        options=x264("bframes=0"),
        pts=[round(i * 1000 / 7.3) for i in range(60)],
        time_base=Fraction(1, 1000),
    )
    info = probe(path)
    assert info.timing == "constant"
    assert float(info.fps) == pytest.approx(7.3, abs=0.01)


# --- nothing but the one file --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ffconcat", "hls", "hls_absolute"])
def test_playlists_open_no_other_file(name: str, tmp_path: Path) -> None:
    path = BAD[name].make(tmp_path)
    with opened(outside(tmp_path)) as was_opened:
        with pytest.raises(VideoError) as caught:
            probe(path)
        assert not was_opened()
    assert caught.value.kind == "not_video"


def test_the_watch_on_the_other_file_works(tmp_path: Path) -> None:
    """The control of the test above: FFmpeg left to itself does open the other file."""
    path = BAD["ffconcat"].make(tmp_path)
    with opened(outside(tmp_path)) as was_opened:
        with av.open(str(path)) as container:
            assert container.format.name == "concat"
        assert was_opened()


@pytest.mark.parametrize(
    "name", ["clip:one.mp4", "http:a.mp4", "concat:a.mp4|b.mp4", "file:x.mp4", "-i.mp4", "%03d.mp4"]
)
def test_relative_names_that_look_like_urls(
    name: str,
    asset: Make,  # noqa: F811
    reference: Decode,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / name).write_bytes(asset("h264").read_bytes())
    monkeypatch.chdir(tmp_path)
    assert probe(name).num_frames == 60
    assert_same(read_frames(name, [31]), [reference("h264").upright[31]], name)


def test_names_outside_utf8(asset: Make, tmp_path: Path) -> None:  # noqa: F811
    path = os.fsdecode(os.fsencode(tmp_path) + b"/latin-\xe9.mp4")
    Path(path).write_bytes(asset("h264").read_bytes())
    info = probe(path)
    assert info.num_frames == 60
    assert os.fsencode(info.path) == os.fsencode(path)
    assert read_number(read_frames(path, [44])[0]) == 44


# --- bad files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BAD)
def test_bad_files_give_one_line_and_a_kind(name: str, asset: Make) -> None:  # noqa: F811
    path = asset(name)
    for action in (probe, lambda p: read_frames(p, [0])):
        with pytest.raises(VideoError) as caught:
            action(path)
        message = str(caught.value)
        assert caught.value.kind in BAD[name].kinds, message
        assert caught.value.path == str(path)
        assert 10 < len(message) < 400
        assert "\n" not in message
        assert "Errno" not in message
        assert "returned" not in message


def test_reasons_name_what_the_file_is(asset: Make) -> None:  # noqa: F811
    words = {
        "truncated": "cut short",
        "empty": "empty",
        "text": "text",
        "ffconcat": "ffconcat",
        "hls": "playlist",
        "png": "PNG",
        "jpeg": "JPEG",
        "audio_only": "audio",
        "song_with_cover": "cover",
        "broken_link": "link",
        "pipe": "regular file",
        "folder_named_video": "folder",
    }
    for name, word in words.items():
        with pytest.raises(VideoError) as caught:
            probe(asset(name))
        assert word in str(caught.value), name


def test_file_without_permission(tmp_path: Path) -> None:
    """Asked as another user where the tests run as the superuser, who may read everything."""
    path = render(tmp_path / "forbidden.mp4", range(4), options=x264())
    path.chmod(0)
    if os.geteuid() != 0:
        with pytest.raises(VideoError) as caught:
            probe(path)
        assert caught.value.kind == "unreadable"
        assert "permission" in str(caught.value)
        return
    for folder in [tmp_path, *tmp_path.parents]:
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    script = (
        "import os, sys, av, vidfeat.video, vidfeat.errors, vidfeat.video.containers\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try:\n    vidfeat.video.probe(sys.argv[1])\n"
        "except vidfeat.errors.VideoError as error:\n    print(error.kind, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("unreadable "), done.stderr
    assert "permission" in done.stdout


# --- broken midway -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_midway_yields_what_sequential_decode_yields(
    name: str,
    asset: Make,  # noqa: F811
    reference: Decode,  # noqa: F811
) -> None:
    plain = reference(name)
    assert plain.broken == DAMAGED[name].raises
    expected = plain.upright
    assert 20 < len(expected) <= 60
    with open_video(asset(name)) as video:
        found = all_frames(video)
        assert video.info.num_frames == len(expected)
        assert_same(found, expected, name)
        # and again, scattered, now that it is known
        positions = [0, len(expected) // 2, len(expected) - 1]
        assert_same(frames_at(video, positions).values(), (expected[p] for p in positions), name)
        if DAMAGED[name].raises:
            assert video.damage is not None
            assert video.damage.at_seconds == pytest.approx(len(expected) / 30, abs=0.05)
            assert f"{video.damage.at_seconds:.2f} s" in video.damage.message
            assert "\n" not in video.damage.message


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_midway_scattered(name: str, asset: Make, reference: Decode) -> None:  # noqa: F811
    """Single frames before the break, without ever reading up to it."""
    expected = reference(name).upright
    for position in (0, 7, 15, len(expected) - 1):
        with open_video(asset(name)) as video:
            found = frames_at(video, [position])
            assert_same(found.values(), [expected[position]], position)


def test_file_cut_short_is_told_where_its_index_knows_better(asset: Make) -> None:  # noqa: F811
    with open_video(asset("cut_midway")) as video:
        all_frames(video)
        assert video.damage is not None
        assert video.damage.at_seconds == pytest.approx(29 / 30, abs=0.1)


def test_good_files_are_not_called_damaged(asset: Make) -> None:  # noqa: F811
    for name in GOOD:
        with open_video(asset(name)) as video:
            all_frames(video)
            assert video.damage is None, (name, video.damage)


# --- limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["h264", "mpeg4_packed", "mpeg1", "vfr_mkv"])
@pytest.mark.parametrize(
    "limits",
    [Limits(max_pixels=96 * 64 - 1), Limits(max_frames=28), Limits(max_seconds=0.9)],
    ids=["pixels", "frames", "seconds"],
)
def test_limits_are_enforced(name: str, limits: Limits, asset: Make) -> None:  # noqa: F811
    for action in (probe, lambda p, limits: read_frames(p, [0], limits)):
        with pytest.raises(VideoError) as caught:
            action(asset(name), limits=limits)
        assert caught.value.kind == "limit"


@pytest.mark.parametrize("name", ["h264", "mpeg4_packed"])
def test_limits_that_just_suffice(name: str, asset: Make) -> None:  # noqa: F811
    count = len(GOOD[name].numbers)
    limits = Limits(max_pixels=96 * 64, max_frames=count, max_seconds=count / 30 + 0.001)
    assert probe(asset(name), limits).num_frames == count


# --- what a reader costs -------------------------------------------------------------------------


def _open_files() -> set[str]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.add(str(entry.readlink()))
        except OSError:
            continue
    return {name for name in found if name.endswith((".mp4", ".avi", ".mkv", ".ts", ".webm"))}


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc here")
def test_no_file_stays_open(asset: Make) -> None:  # noqa: F811
    bad = ["truncated", "ffconcat", "audio_only", "zero_frames_mp4", "no_media_data"]
    paths = [asset(name) for name in (*bad, "h264", "mpeg4_packed", "flipped_bytes")]
    gc.collect()
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert not _open_files()
    gc.disable()  # closed by the reader, not by the collector
    try:
        for _ in range(25):
            for path in paths:
                try:
                    read_frames(path, [0, 5])
                except VideoError:
                    continue
        assert not _open_files()
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
    finally:
        gc.enable()


def test_a_reader_left_midway_closes_its_file(asset: Make) -> None:  # noqa: F811
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("h264", "mpeg1"):
            with open_video(asset(name)) as video:
                for position, _ in video.frames(range(20)):
                    if position == 3:
                        break
            assert str(asset(name)) not in _open_files()
            with pytest.raises(RuntimeError, match="mine"), open_video(asset(name)) as video:
                next(iter(video.frames([2])))
                raise RuntimeError("mine")
            assert str(asset(name)) not in _open_files()


_MEASURE = """
import resource, sys
from vidfeat.video.reader import Recounted, open_video, to_rgb
def read():
    with open_video(sys.argv[1]) as video:
        for again in range(2):
            try:
                for position, frame in video.frames(range(0, video.info.num_frames)):
                    to_rgb(frame)
                break
            except Recounted:
                continue
    return video.info.num_frames
count = read()
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize(
    ("suffix", "codec", "options", "allowance_mb"),
    [
        (".mp4", "libx264", x264("bframes=2"), 24),
        # counted by decoding: a bounded number of frames may be kept
        (".avi", "mpeg4", {"b": "300k"}, 96),
    ],
)
def test_memory_does_not_grow_with_length(
    suffix: str, codec: str, options: dict[str, str], allowance_mb: int, tmp_path: Path
) -> None:
    """Twenty times the frames, which would take 240 MB as RGB, in (nearly) the same memory."""
    size = (256, 192)
    short = render(
        tmp_path / f"short{suffix}", range(80), codec=codec, options=options, size=size, gop=40
    )
    long = repeat_video(short, tmp_path / f"long{suffix}", 20)
    peaks = {}
    for path in (short, long):
        done = subprocess.run(
            [sys.executable, "-c", _MEASURE, str(path)], capture_output=True, text=True, check=True
        )
        count, peak = map(int, done.stdout.split())
        assert count == (80 if path == short else 1600)
        peaks[path] = peak / 1024
    assert peaks[long] - peaks[short] < allowance_mb
