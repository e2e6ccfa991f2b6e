"""Clips cut on request: which frames, which pixels."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.train_fixtures import micro, render_video
from vidfeat.errors import VideoError
from vidfeat.training.clips import (
    ClipRequest,
    VideoRequest,
    Window,
    cut,
    jittered_clip,
    pack_flow,
    unpack_flow,
)
from vidfeat.training.feed import Ahead, Feed
from vidfeat.video.clip_plan import ClipPlan, VideoSegment
from vidfeat.video.frame_preprocessor import FramePreprocessor
from vidfeat.video.preprocess import Preprocess
from vidfeat.video.reader import open_video, read_frames
from vidfeat.video.timeline import Timeline


@given(
    frames=st.integers(1, 60),
    length=st.integers(1, 12),
    stride=st.integers(1, 3),
    fps=st.sampled_from([None, Fraction(15), Fraction(7)]),
    start=st.floats(0, 1, exclude_max=True),
)
@settings(max_examples=150, deadline=None)
def test_jittered_clips_stay_in_the_video(
    frames: int, length: int, stride: int, fps: Fraction | None, start: float
) -> None:
    timeline = Timeline(frames, Fraction(30))
    clip = jittered_clip(timeline, ClipPlan(length, stride, fps), start)
    assert len(clip.positions) == length
    assert 0 <= min(clip.positions) <= max(clip.positions) < frames
    assert list(clip.positions) == sorted(clip.positions)
    if fps is None and frames > length * stride:
        assert {b - a for a, b in zip(clip.positions, clip.positions[1:], strict=False)} <= {stride}


def test_every_start_comes_with_its_share() -> None:
    timeline = Timeline(20, Fraction(30))
    plan = ClipPlan(8)
    starts = [jittered_clip(timeline, plan, k / 1300).positions[0] for k in range(1300)]
    assert sorted(set(starts)) == list(range(13))
    assert all(starts.count(first) == 100 for first in range(13))


def test_a_labelled_segment_is_not_left() -> None:
    timeline = Timeline(90, Fraction(30))
    for start in (0.0, 0.3, 0.999):
        clip = jittered_clip(timeline, ClipPlan(8), start, (VideoSegment(1.0, 2.0),))
        assert min(clip.positions) >= 30 and max(clip.positions) < 60


@given(
    height=st.integers(20, 60),
    width=st.integers(20, 60),
    top=st.floats(0, 1),
    left=st.floats(0, 1),
    area=st.sampled_from([0.0, 0.3, 1.0]),
    aspect=st.sampled_from([0.5, 1.0, 2.0]),
)
@settings(max_examples=60, deadline=None)
def test_a_window_lies_within_the_frame(
    height: int, width: int, top: float, left: float, area: float, aspect: float
) -> None:
    window = Window((20, 26), 16, top, left, area, aspect)
    y, x, high, wide = window.box(height, width)
    assert y >= -1e-6 and y + high <= height + 1e-6
    assert x >= -1e-6 and x + wide <= width + 1e-6
    assert cut(np.zeros((height, width, 3), np.uint8), window).shape == (16, 16, 3)


def test_a_frame_of_the_right_scale_is_only_cut() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (20, 26, 3), dtype=np.uint8)
    window = Window((20, 26), 16, top=1.0, left=0.0)
    assert np.array_equal(cut(frame, window), frame[4:, :16])
    mirrored = Window((20, 26), 16, top=1.0, left=0.0, mirrored=True)
    assert np.array_equal(cut(frame, mirrored), frame[4:, :16][:, ::-1])
    assert np.array_equal(cut(frame, Window((20,), 16, 1.0, 0.0)), frame[4:, :16])


def test_scaling_is_the_published_one_to_a_grey_level() -> None:
    frame = np.random.default_rng(1).integers(0, 256, (48, 70, 3), dtype=np.uint8)
    exact = FramePreprocessor(Preprocess((20, 26), (16, 16))).rgb(frame)
    ours = cut(frame, Window((20, 26), 16, 0.5, 0.5))
    assert np.abs(exact.astype(int) - ours.astype(int)).max() <= 1


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "v.mp4"
    render_video(path, frames=20, size=(16, 22))
    return path


def test_requests_give_the_frames_asked_for(video: Path) -> None:
    frames = read_frames(video, range(20))
    window = Window((16, 22), 16, 0.0, 1.0)
    with open_video(video) as reader:
        (clip,) = ClipRequest(4, 2, "", 0.5, window).read(reader)
        first = int(0.5 * 14)
        assert np.array_equal(clip, frames[first : first + 7 : 2][:, :, 6:])
        uniform = VideoRequest(4, 1, "", 3, (window, Window((16, 22), 16, 0.0, 0.0)))
        clips = list(uniform.read(reader))
    assert len(clips) == 6
    for index, start in enumerate((0, 8, 16)):  # floor(i (n - L) / (clips - 1))
        assert np.array_equal(clips[2 * index], frames[start : start + 4][:, :, 6:])
        assert np.array_equal(clips[2 * index + 1], frames[start : start + 4][:, :, :16])


def test_the_centre_crop_is_that_of_extraction_to_the_bit(tmp_path: Path) -> None:
    path = tmp_path / "large.mp4"
    render_video(path, frames=4, size=(48, 70))
    exact = FramePreprocessor(Preprocess((20, 26), (16, 16)))
    with open_video(path) as reader:
        (clip,) = VideoRequest(4, 1, "", 1, (Window((20, 26), 16),)).read(reader)
        expected = [exact.frame(frame) for _, frame in reader.frames(range(4))]
    assert np.array_equal(clip, np.stack(expected))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_feed_answers_in_order_and_names_what_failed(
    video: Path, tmp_path: Path, workers: int
) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video at all" * 100)
    files = [video, tmp_path / "broken.mp4", tmp_path / "absent.mp4", video]
    windows = [Window((16, 22), 16, 0.0, k / 3) for k in range(4)]
    requests = [
        (str(file), ClipRequest(4, 1, "", k / 4, window))
        for k, (file, window) in enumerate(zip(files, windows, strict=True))
    ]
    with Feed(micro(), workers) as feed:
        reads = list(feed.read(requests * 3))
        again = list(feed.read(requests))
    assert [read.clips is None for read in reads] == [False, True, True, False] * 3
    assert isinstance(reads[1].error, VideoError) and reads[1].error.path.endswith("broken.mp4")
    frames = read_frames(video, range(20))
    for k in (0, 3):
        start, left = int(k / 4 * 17), round(6 * k / 3)
        expected = frames[start : start + 4][:, :, left : left + 16]
        for read in (reads[k], reads[k + 4], again[k]):
            assert read.clips is not None and np.array_equal(read.clips[0], expected)


def test_packed_flow_comes_back() -> None:
    flow = np.random.default_rng(0).normal(0, 3, (4, 16, 16, 2)).astype(np.float32)
    packed = pack_flow(flow)
    assert packed.shape == (4, 16, 16, 4) and packed.dtype == np.uint8
    assert np.abs(unpack_flow(packed).astype(np.float32) - flow).max() < 0.01


def test_ahead_passes_on_items_errors_and_can_be_left() -> None:
    with Ahead(iter(range(5))) as items:
        assert list(items) == list(range(5))

    def failing():
        yield 1
        raise VideoError("broke", kind="damaged")

    with Ahead(failing()) as items, pytest.raises(VideoError, match="broke"):
        list(items)
    with Ahead(iter(range(10**9)), depth=2) as items:
        for item in items:
            if item == 3:
                break
