"""All eight orientations of a display matrix, wherever frames are shown."""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.odd_videos import ORIENTATIONS, corner_names, corners, oriented
from vidfeat.datasets.reencode import Encoding, reencode
from vidfeat.video.frame_preprocessor import FramePreprocessor
from vidfeat.video.orientation import orientation_of
from vidfeat.video.planes import PlaneCutter
from vidfeat.video.planes_numpy import cut_to_rgb
from vidfeat.video.preprocess import Preprocess
from vidfeat.video.reader import probe, read_frames
from vidfeat.video.thumbnails import clip_frames

each_orientation = pytest.mark.parametrize("name", ORIENTATIONS)


def shown_size(name: str, size: tuple[int, int] = (96, 64)) -> tuple[int, int]:
    swapped = ORIENTATIONS[name][0][0] == 0
    return (size[1], size[0]) if swapped else size


@each_orientation
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_frames_are_as_ffmpeg_shows_them(name: str, suffix: str, tmp_path: Path) -> None:
    path = oriented(tmp_path, name, suffix=suffix)
    info = probe(path)
    assert (info.width, info.height) == shown_size(name)
    frame = read_frames(path, [3])[0]
    assert frame.shape[1::-1] == shown_size(name)
    assert corner_names(frame) == ORIENTATIONS[name][1]
    assert corner_names(clip_frames(path, 0.0, 0.4, 1)[0]) == ORIENTATIONS[name][1]


@each_orientation
def test_preprocessing_and_planes(name: str, tmp_path: Path) -> None:
    with av.open(str(oriented(tmp_path, name))) as container:
        frame = next(container.decode(video=0))
        preprocess = Preprocess((40, 50), (40, 50))
        ours = FramePreprocessor(preprocess).frame(frame)
        upright = orientation_of(frame).apply(frame.to_ndarray(format="rgb24"))
        expected = FramePreprocessor(preprocess).rgb(np.ascontiguousarray(upright))
        assert corner_names(ours) == ORIENTATIONS[name][1]
        np.testing.assert_array_equal(ours, expected)
        cut = PlaneCutter(preprocess).cut(frame)
        if cut is not None:
            planes = np.empty(cut.nbytes, np.uint8)
            cut.copy(frame, planes)
            np.testing.assert_array_equal(cut_to_rgb(cut, planes), ours)


@each_orientation
def test_prepared_videos_are_upright(name: str, tmp_path: Path) -> None:
    source, target = oriented(tmp_path, name), tmp_path / "out" / "a.mp4"
    reencode(source, target, Encoding((48,)))
    info = probe(target)
    assert (info.rotation, info.mirrored) == (0, False)
    assert corner_names(read_frames(target, [5])[0]) == ORIENTATIONS[name][1]


@each_orientation
def test_transcoded_segments_are_upright(name: str, tmp_path: Path) -> None:
    from vidfeat.web.transcode import transcode

    target = tmp_path / "played.mp4"
    transcode(oriented(tmp_path, name), target, 0.0, 0.3)
    assert corner_names(read_frames(target, [2])[0]) == ORIENTATIONS[name][1]


@pytest.mark.parametrize("name", ["plain", "hflip", "vflip", "transpose", "transverse"])
def test_stored_files(name: str, shared_data: Path) -> None:
    frame = read_frames(shared_data / "odd" / "mirrored" / f"{name}.mp4", [0])[0]
    assert corner_names(frame) == ORIENTATIONS[name][1]


def test_the_picture_itself() -> None:
    assert corner_names(corners()) == "RGBW"


def test_to_ask_for_the_orientation_leaves_nothing_in_the_frame(tmp_path: Path) -> None:
    """What refers to its frame, and is kept in it, is freed by the garbage collector alone."""
    path = oriented(tmp_path, "hflip")
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    references = sys.getrefcount(frame)
    assert orientation_of(frame).mirrored
    assert sys.getrefcount(frame) == references
