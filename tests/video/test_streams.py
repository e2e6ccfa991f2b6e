"""Which video stream of a file is read, and raw streams without a container."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.support.odd_videos import scene, write_two_streams, write_video
from vidfeat.errors import VideoError
from vidfeat.video.clip_plan import ClipPlan, plan_clips
from vidfeat.video.listing import list_videos
from vidfeat.video.reader import open_video, probe, read_frames

SMALL, LARGE = (64, 48), (96, 72)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
@pytest.mark.parametrize(
    ("counts", "sizes", "default", "chosen"),
    [
        ((4, 120), (SMALL, LARGE), 1, 1),  # the default, not the first
        ((120, 4), (SMALL, LARGE), 0, 0),  # the default, not the largest
        ((60, 120), (SMALL, LARGE), None, 1),  # none is: the largest
        ((60, 60), (SMALL, SMALL), None, 0),  # all alike: the first
        ((0, 60), (LARGE, SMALL), 0, 1),  # nothing in the default one
    ],
)
def test_the_stream_that_ffmpeg_takes(
    tmp_path: Path,
    suffix: str,
    counts: tuple[int, int],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    default: int | None,
    chosen: int,
) -> None:
    if default is None and suffix != ".mkv":
        pytest.skip("the writer of MP4 marks one itself")
    path = write_two_streams(tmp_path / f"a{suffix}", counts, (20, 20), sizes, default)
    info = probe(path)
    assert info.num_frames == counts[chosen]
    assert (info.width, info.height) == sizes[chosen]
    with av.open(str(path)) as container:
        several = len(container.streams.video) > 1  # MP4 holds no empty one
    assert info.stream == (chosen if several else 0)
    assert any("video streams" in remark for remark in info.remarks) == several


def test_another_stream_may_be_asked_for(tmp_path: Path) -> None:
    path = write_two_streams(tmp_path / "a.mkv", (8, 40), (2, 20), (SMALL, LARGE), 1)
    with open_video(path, stream=0) as video:
        assert video.info.num_frames == 8
        known = video.known
    with open_video(path, known=known) as video:  # as another process opens it
        _, frame = next(video.frames([3]))
        assert frame.width == 64
    with open_video(path, stream=0, count=True) as video:
        assert video.info.num_frames == 8
    with pytest.raises(VideoError, match="no video stream number 2: the file has 2"):
        probe_stream(path, 2)


def probe_stream(path: Path, number: int) -> None:
    with open_video(path, stream=number):
        pass


def test_the_stream_is_part_of_a_plan_only_where_it_was_asked_for() -> None:
    assert "stream" not in ClipPlan().to_dict()
    plan = ClipPlan(stream=2)
    assert ClipPlan.from_dict(plan.to_dict()) == plan


@pytest.mark.parametrize("name", ["second.mkv", "second.mp4"])
def test_stored_files_with_two_streams(name: str, shared_data: Path) -> None:
    info = probe(shared_data / "odd" / "second_stream" / name)
    assert (info.num_frames, info.width, info.height) == (120, 96, 72)
    assert info.duration_seconds == pytest.approx(4, abs=1e-3)
    assert info.fps == 30
    with open_video(shared_data / "odd" / "second_stream" / name) as video:
        assert len(plan_clips(video.timeline, ClipPlan(8, fps=Fraction(10)))) == 5


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt"), [(".gif", "gif", "rgb8"), (".avif", "libsvtav1", "yuv420p")]
)
def test_all_frames_of_an_animation(suffix: str, codec: str, pix_fmt: str, tmp_path: Path) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"no encoder {codec}")
    path = tmp_path / f"a{suffix}"
    frames = [np.roll(frame, n, 0) for n, frame in enumerate(scene(60, (64, 64)))]
    write_video(path, frames, rate=20, codec=codec, pix_fmt=pix_fmt, options={"bf": "0"})
    info = probe(path)
    assert (info.num_frames, info.fps) == (60, 20)


RAW = {
    ".mjpeg": ("mjpeg", "mjpeg", "yuvj420p"),
    ".264": ("h264", "libx264", "yuv420p"),
    ".h264": ("h264", "libx264", "yuv420p"),
    ".265": ("hevc", "libx265", "yuv420p"),
    ".m1v": ("mpeg1video", "mpeg1video", "yuv420p"),
    ".m2v": ("mpeg2video", "mpeg2video", "yuv420p"),
    ".ivf": ("ivf", "libvpx-vp9", "yuv420p"),
    ".obu": ("obu", "libsvtav1", "yuv420p"),
}


@pytest.mark.parametrize("suffix", RAW)
def test_raw_streams_go_by_their_rate(suffix: str, tmp_path: Path) -> None:
    container, codec, pix_fmt = RAW[suffix]
    if codec not in av.codecs_available:
        pytest.skip(f"no encoder {codec}")
    options = {"x265-params": "log-level=none:pools=1"} if codec == "libx265" else {}
    path = write_video(
        tmp_path / f"a{suffix}",
        scene(40),
        rate=25,
        codec=codec,
        pix_fmt=pix_fmt,
        format=container,
        options=options,
    )
    info = probe(path)
    assert (info.num_frames, info.fps, info.timing) == (40, 25, "constant")
    assert info.duration_seconds == pytest.approx(1.6)
    assert [video.identity for video in list_videos([tmp_path]).videos] == [path.name]


@pytest.mark.parametrize("rate", [24, 50, Fraction(30000, 1001)])
@pytest.mark.parametrize("suffix", [".264", ".265", ".m1v", ".m2v"])
def test_raw_streams_of_other_rates_tell_them(
    suffix: str, rate: Fraction | int, tmp_path: Path
) -> None:
    container, codec, pix_fmt = RAW[suffix]
    options = {"x265-params": "log-level=none:pools=1"} if codec == "libx265" else {"bf": "2"}
    path = tmp_path / f"a{suffix.upper()}"
    frames = scene(20, (64, 64))
    kind = {"codec": codec, "pix_fmt": pix_fmt, "format": container}
    info = probe(write_video(path, frames, rate=rate, options=options, **kind))
    assert (info.num_frames, info.fps, info.assumed_rate) == (20, rate, False)
    assert info.duration_seconds == pytest.approx(20 / rate)


def test_a_raw_stream_without_a_rate_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "a.mjpeg"
    kind = {"codec": "mjpeg", "pix_fmt": "yuvj420p", "format": "mjpeg"}
    info = probe(write_video(path, scene(4), rate=30, **kind))
    assert info.fps == 25
    assert any("25 frames/s are assumed" in remark for remark in info.remarks)


@pytest.mark.parametrize("suffix", [".apng", ".png", ".gif", ".webp"])
def test_animated_pictures(suffix: str, tmp_path: Path) -> None:
    pictures = [
        Image.fromarray(np.roll(frame, n, 0)) for n, frame in enumerate(scene(12, (64, 64)))
    ]
    path = tmp_path / f"a{suffix}"
    first, *others = pictures
    kind = {"format": "PNG"} if suffix == ".apng" else {}
    first.save(path, save_all=True, append_images=others, duration=50, loop=0, **kind)
    if suffix == ".webp":
        with pytest.raises(VideoError, match="animated WebP is not read"):
            probe(path)
        return
    info = probe(path)
    assert (info.num_frames, info.fps) == (12, 20)
    first.save(path, **kind)
    if "png" in suffix:
        with pytest.raises(VideoError, match="it is a PNG picture"):
            probe(path)


def test_jpegs_behind_each_other_are_a_video_and_one_is_not(tmp_path: Path) -> None:
    raw = write_video(
        tmp_path / "a.mjpeg", scene(4), rate=25, codec="mjpeg", pix_fmt="yuvj420p", format="mjpeg"
    )
    shutil.copy(raw, tmp_path / "b.mp4")
    assert probe(tmp_path / "b.mp4").num_frames == 4
    data = raw.read_bytes()
    one = data[: data.index(b"\xff\xd8\xff", 3)]
    (tmp_path / "one.mjpeg").write_bytes(one)
    with pytest.raises(VideoError, match="it is a JPEG picture"):
        probe(tmp_path / "one.mjpeg")
    assert read_frames(raw, [2]).shape == (1, 72, 96, 3)
