"""Folders of frames: read in numeric order, planned and embedded as a video of a given rate."""

from __future__ import annotations

import shutil
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.frame_folders import write_picture
from tests.support.video_assets import render, x264
from vidfeat.encoders.load import load_encoder
from vidfeat.errors import StoreError, UsageError, VideoError
from vidfeat.extraction.options import ExtractOptions
from vidfeat.extraction.run import extract
from vidfeat.index.query import QuerySource
from vidfeat.index.video_index import VideoIndex
from vidfeat.store.reader import FeatureStore
from vidfeat.video.clip_plan import ClipPlan
from vidfeat.video.frame_folder import FrameFolder, open_frames_or_video
from vidfeat.video.frame_names import frames_in, missing_numbers
from vidfeat.video.listing import list_videos
from vidfeat.video.plan_choice import PlanChoice
from vidfeat.video.reader import Limits, read_frames, to_rgb

RATE = Fraction(12)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """24 frames whose place can be told by their grey level."""
    noise = np.random.default_rng(0).integers(0, 30, (24, 40, 56, 3), np.uint8)
    return noise + np.arange(0, 192, 8, dtype=np.uint8)[:, None, None, None]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, frames: np.ndarray) -> Path:
    """Two folders of frames, numbered without zeros in front, beside a video and a text."""
    root = tmp_path_factory.mktemp("data")
    for index, pixels in enumerate(frames):
        write_picture(root / f"class/v1/img_{index + 1}.png", pixels)
    for index, pixels in enumerate(frames[:10]):
        write_picture(root / f"class/v2/{index:05d}.png", pixels)
    render(root / "other/a.mp4", range(9), gop=4, options=x264())
    (root / "notes.txt").write_text("text")
    return root


def test_frames_come_in_the_order_of_their_numbers(root: Path, frames: np.ndarray) -> None:
    names = frames_in(root / "class/v1")
    assert names[:2] == ["img_1.png", "img_2.png"]
    assert names[9] == "img_10.png"
    with open_frames_or_video(root / "class/v1", frames_fps=RATE) as video:
        assert (video.info.num_frames, video.info.fps) == (24, 12)
        assert video.info.duration_seconds == 2.0
        assert (video.info.width, video.info.height) == (56, 40)
        read = {position: to_rgb(frame) for position, frame in video.frames([11, 3, 3])}
    assert list(read) == [3, 11]
    for position, pixels in read.items():
        assert np.array_equal(pixels, frames[position])


def test_folders_of_frames_are_videos_where_a_rate_is_given(root: Path) -> None:
    assert [v.identity for v in list_videos([root]).videos] == ["other/a.mp4"]
    found = list_videos([root], frames=True).videos
    assert [v.identity for v in found] == ["class/v1", "class/v2", "other/a.mp4"]
    one = list_videos([root / "class/v1"], root, frames=True).videos
    assert [v.identity for v in one] == ["class/v1"]
    alone = list_videos([root / "class/v1"], frames=True)
    assert (alone.root, alone.videos[0].identity) == (str(root / "class"), "v1")


@pytest.mark.parametrize("workers", [0, 1])
def test_extract_gives_the_vectors_of_the_frames(
    root: Path, frames: np.ndarray, tmp_path: Path, workers: int
) -> None:
    encoder = load_encoder(
        "r2plus1d_10_w16", "random", plan=PlanChoice(frames=8, frames_fps="12"), device="cpu"
    )
    report = extract(root, tmp_path / "a.h5", encoder, options=ExtractOptions(workers=workers))
    assert report.videos == 3
    with FeatureStore(tmp_path / "a.h5") as store:
        assert list(store.paths) == ["class/v1", "class/v2", "other/a.mp4"]
        found = store.read("class/v1")
    by_array = encoder.encode(frames, fps=12)
    np.testing.assert_allclose(found.vectors, by_array.vectors, rtol=1e-4, atol=1e-5)
    assert found.start_seconds.tolist() == by_array.start_seconds.tolist()
    assert found.end_seconds[-1] == pytest.approx(2.0)


def test_a_folder_of_frames_is_a_query(root: Path, tmp_path: Path) -> None:
    """One of the index, and one that lies elsewhere."""
    encoders = {
        rate: load_encoder(
            "r2plus1d_10_w16", "random", plan=PlanChoice(frames=8, frames_fps=rate), device="cpu"
        )
        for rate in ("12", None)
    }
    extract(root, tmp_path / "a.h5", encoders["12"], options=ExtractOptions(workers=0))
    index = VideoIndex.build(tmp_path / "a.h5")
    shutil.copytree(root / "class" / "v1", tmp_path / "elsewhere")
    source = QuerySource(index, encoder=encoders["12"])
    for folder, own in ((root / "class" / "v1", True), (tmp_path / "elsewhere", False)):
        (query,) = source.make(str(folder))
        assert (query.video_id >= 0) == own
        best = index.search(query, 1)[0]
        assert best.video == "class/v1"
        assert best.score == pytest.approx(1, abs=1e-4)
    extract(root, tmp_path / "b.h5", encoders[None], options=ExtractOptions(workers=0))
    plain = QuerySource(VideoIndex.build(tmp_path / "b.h5"), encoder=encoders[None])
    with pytest.raises(StoreError, match=r"folder of frames.*frames_fps"):
        plain.make(str(tmp_path / "elsewhere"))


def test_the_rate_is_part_of_the_plan() -> None:
    plan = ClipPlan(frames=8, frames_fps=Fraction(30000, 1001))
    assert ClipPlan.from_dict(plan.to_dict()) == plan
    assert "frames_fps" not in ClipPlan().to_dict()  # what was made before goes by the same name
    with pytest.raises(UsageError, match="frames_fps must be a rate above 0"):
        ClipPlan(frames_fps=Fraction(0))


def test_what_is_no_folder_of_frames(root: Path, tmp_path: Path, frames: np.ndarray) -> None:
    folder = tmp_path / "v"
    write_picture(folder / "1.png", frames[0])
    (folder / "notes.txt").write_text("text")
    assert frames_in(folder) == []  # something else lies there
    (folder / "notes.txt").unlink()
    (folder / "2.jpg").write_text("no picture")
    with pytest.raises(VideoError, match=r"2\.jpg is not a picture"), opened(folder) as video:
        list(video.frames([0, 1]))
    (folder / "2.jpg").write_bytes((folder / "1.png").read_bytes()[:60])
    with pytest.raises(VideoError, match=r"2\.jpg"), opened(folder) as video:
        list(video.frames([1]))
    write_picture(folder / "01.png", frames[0])
    with pytest.raises(VideoError, match="frame 1 is in two files"):
        FrameFolder(str(folder), Limits(), RATE)
    with pytest.raises(VideoError, match="max_frames"):
        FrameFolder(str(root / "class/v1"), Limits(max_frames=5), RATE)
    with pytest.raises(VideoError, match="max_pixels"):
        FrameFolder(str(root / "class/v1"), Limits(max_pixels=100), RATE)


def test_numbers_that_are_left_out_are_told(tmp_path: Path, frames: np.ndarray) -> None:
    for number in (1, 2, 4, 5, 8):
        write_picture(tmp_path / f"v/img_{number:03d}.png", frames[0])
    with opened(tmp_path / "v") as video:
        (remark,) = video.info.remarks
    assert remark.startswith("3 frames are missing, the first after number 2:")
    for number in (10, 20, 30, 50):
        write_picture(tmp_path / f"w/{number}.png", frames[0])
    with opened(tmp_path / "w") as video:
        assert video.info.remarks[0].startswith("1 frame is missing, the first after number 30:")
    (tmp_path / "w/50.png").unlink()
    with opened(tmp_path / "w") as video:
        assert video.info.remarks == ()  # every tenth frame: that is their rate


@given(st.lists(st.integers(0, 60), min_size=1, max_size=20, unique=True).map(sorted))
def test_missing_numbers_fill_the_steps(numbers: list[int]) -> None:
    count, first = missing_numbers(numbers)
    assert 0 <= count <= numbers[-1] - numbers[0]
    assert count == 0 or first in numbers[:-1]
    steps = {after - before for before, after in pairwise(numbers)}
    if len(steps) <= 1:
        assert count == 0


def test_what_lies_among_frames_is_told(tmp_path: Path, frames: np.ndarray) -> None:
    write_picture(tmp_path / "v/1.png", frames[0])
    write_picture(tmp_path / "w/1.png", frames[0])
    (tmp_path / "w/notes.txt").write_text("text")
    (tmp_path / "w/2.png").symlink_to("2.png")
    listing = list_videos([tmp_path], frames=True)
    assert [video.identity for video in listing.videos] == ["v"]
    assert "2 .png next to files that are not frames" in listing.notes[0]
    with pytest.raises(UsageError, match="frames_fps=RATE reads folders of frames"):
        list_videos([tmp_path])
    for text in ("abc", "native"):
        with pytest.raises(UsageError, match=rf"frames_fps must be a rate .*\d, not '{text}'"):
            PlanChoice(frames_fps=text)


def opened(folder: Path):
    return open_frames_or_video(folder, frames_fps=RATE)


def test_files_are_read_as_before(root: Path) -> None:
    with open_frames_or_video(root / "other/a.mp4", frames_fps=RATE) as video:
        assert video.info.num_frames == 9
        assert video.info.fps == 30
    assert read_frames(root / "other/a.mp4", [0]).shape[0] == 1
