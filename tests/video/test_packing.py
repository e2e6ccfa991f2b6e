"""Clips on their way as planes: the same pixels where they arrive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.video_assets import render, x264
from tests.support.video_fixtures import REAL_VIDEOS
from vidfeat.video import ClipPlan
from vidfeat.video.clips import Clip
from vidfeat.video.decode.pool import DecodePool
from vidfeat.video.decode.tasks import ClipSource, VideoTask
from vidfeat.video.packing import PlanePacker
from vidfeat.video.planes import PlaneClip
from vidfeat.video.planes_numpy import clip_to_rgb
from vidfeat.video.preprocess import Preprocess
from vidfeat.video.reader import open_video

PREPROCESS = Preprocess()
PLAN = ClipPlan(frames=8, stride=2, hop_frames=5)


def clips(paths: list[Path], *, planes: bool) -> list[tuple[str, int, bool, np.ndarray]]:
    found = []
    with DecodePool(ClipSource(PLAN, PREPROCESS, planes=planes), 2) as pool:
        for task, event in pool.run([VideoTask(str(path)) for path in paths]):
            if isinstance(event, Clip):
                sent = isinstance(event.frames, PlaneClip)
                pixels = clip_to_rgb(event.frames) if sent else event.frames_THWC.copy()
                found.append((task.path, event.index, sent, pixels))
                event.release()
    return found


def compare(paths: list[Path]) -> int:
    """How many clips came as planes; all have the pixels of the usual way."""
    came, expected = clips(paths, planes=True), clips(paths, planes=False)
    assert [clip[:2] for clip in came] == [clip[:2] for clip in expected]
    for mine, usual in zip(came, expected, strict=True):
        assert np.array_equal(mine[3], usual[3]), mine[:3]
    return sum(clip[2] for clip in came)


def test_clips_of_several_videos(tmp_path: Path) -> None:
    paths = [
        render(tmp_path / f"{number}.mp4", range(number, number + 60), gop=12, options=x264())
        for number in range(4)
    ]
    assert compare(paths) > 8


@pytest.mark.parametrize("name", REAL_VIDEOS)
def test_real_videos(shared_data: Path, name: str) -> None:
    assert compare([shared_data / "videos" / name]) > 0


def test_a_clip_of_frames_of_two_kinds_comes_as_pixels(shared_data: Path) -> None:
    packer = PlanePacker(PREPROCESS)
    taken, expected = [], []
    for name in REAL_VIDEOS[:2] * 2:
        with open_video(shared_data / "videos" / name) as video:
            (_, frame), *_ = video.frames([3])
            taken.append(packer.take(frame))
            pixels = PlanePacker(PREPROCESS)
            expected.append(pixels._preprocessor.whole(frame))
    cut = taken[0][0]
    assert cut is not None
    packed = packer.pack(taken, np.empty(1 << 22, np.uint8))
    assert isinstance(packed, np.ndarray)
    assert np.array_equal(packed, np.stack(expected))
