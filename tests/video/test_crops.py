"""Several crops of a frame lie where torchvision lays them, on the frame as it is resized."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import functional as F

from vidfeat.errors import UsageError
from vidfeat.video.clip_plan import PlannedClip
from vidfeat.video.frame_clips import clip_of_each_frame, with_step_seconds
from vidfeat.video.frame_preprocessor import FramePreprocessor, crop_corners
from vidfeat.video.preprocess import Preprocess
from vidfeat.video.timeline import Timeline

KINDS = {
    "presets of videos": Preprocess((40, 53), (32, 32)),
    "torch": Preprocess(37, (32, 28), antialias=True, resampler="torch", crop_origin="floor"),
    "pillow": Preprocess(32, (32, 32), antialias=True, resampler="pillow", interpolation="bicubic"),
}
SIZES = [(72, 97), (97, 72), (64, 64)]


def whole(preprocess: Preprocess, frame: np.ndarray) -> torch.Tensor:
    """The resized frame without a crop, (3, H, W)."""
    resized = preprocess.resized(*frame.shape[:2])
    uncropped = replace(preprocess, resize=resized, crop=resized)
    return torch.from_numpy(FramePreprocessor(uncropped).rgb(frame)).permute(2, 0, 1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_crops_are_those_of_torchvision(kind: str, size: tuple[int, int]) -> None:
    preprocess = KINDS[kind]
    frame = np.random.default_rng(3).integers(0, 256, (*size, 3), np.uint8)
    one = FramePreprocessor(preprocess).rgb(frame)
    resized = whole(preprocess, frame)
    five = [part.permute(1, 2, 0).numpy() for part in F.five_crop(resized, list(preprocess.crop))]
    ten = [part.permute(1, 2, 0).numpy() for part in F.ten_crop(resized, list(preprocess.crop))]
    # torchvision rounds half a pixel, and transformers' networks take the lower one
    five[4], ten[4] = one, one
    found = FramePreprocessor(replace(preprocess, crops=5)).rgb(frame)
    assert found.shape == (5, *preprocess.frame_shape)
    assert np.array_equal(found, np.stack(five))
    found = FramePreprocessor(replace(preprocess, crops=10)).rgb(frame)
    assert np.array_equal(found[:9], np.stack(ten[:9]))
    (_, (top, left, _), _) = crop_corners(replace(preprocess, crops=3), *resized.shape[1:])
    mirrored = F.crop(F.hflip(resized), top, left, *preprocess.crop).permute(1, 2, 0).numpy()
    assert np.array_equal(found[9], mirrored)
    three = FramePreprocessor(replace(preprocess, crops=3)).rgb(frame)
    assert np.array_equal(three[1], one)
    rows, columns = preprocess.crop
    if resized.shape[2] >= resized.shape[1]:
        assert np.array_equal(three[0][0], resized.permute(1, 2, 0).numpy()[top, :columns])
        assert np.array_equal(three[2][0], resized.permute(1, 2, 0).numpy()[top, -columns:])
    else:
        assert np.array_equal(three[0][:, 0], resized.numpy()[:, :rows, left].T)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crops": 4}, "crops takes 1, 3, 5, 10, not 4"),
        ({"resize": (32, 32)}, "would all be the same"),
        ({"resize": (32, 32), "fit": "contain"}, "would all be the same"),
    ],
)
def test_crops_that_cannot_be_meant(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(KINDS["pillow"], **{"crops": 3, **change})


def test_the_crops_are_in_the_description_where_there_are_several() -> None:
    several = replace(KINDS["torch"], crops=10)
    assert Preprocess.from_dict(several.to_dict()) == several
    assert "crops" not in KINDS["torch"].to_dict()


# --- seconds of time steps --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("positions", "steps", "expected"),
    [
        (range(8), 4, [(0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8)]),
        (range(0, 16, 2), 2, [(0.0, 0.8), (0.8, 1.5)]),
        (range(3), 2, [(0.0, 0.2), (0.1, 0.3)]),  # both saw the frame in the middle
        ((0, 1, 2, 2, 2, 2), 3, [(0.0, 0.2), (0.2, 0.3), (0.2, 0.3)]),  # the last is repeated
        ((0, 1, 2, 0, 1, 2), 2, [(0.0, 0.3), (0.0, 0.3)]),  # the video again
        ((4,), 2, [(0.4, 0.5), (0.4, 0.5)]),
    ],
)
def test_a_step_covers_its_frames(
    positions: Any, steps: int, expected: list[tuple[float, float]]
) -> None:
    timeline = Timeline(20, 10)  # type: ignore[arg-type]
    positions = tuple(positions)
    end = max(positions) / 10 + 0.1
    clip = with_step_seconds(timeline, PlannedClip(positions, positions[0] / 10, end), steps)
    assert np.allclose(clip.step_seconds, expected)


def test_each_frame_is_a_clip_of_its_own() -> None:
    timeline = Timeline(6, 10)  # type: ignore[arg-type]
    clips = [PlannedClip((1, 3, 3), 0.1, 0.4), PlannedClip((2, 3, 5), 0.2, 0.6)]
    singly = clip_of_each_frame(timeline, clips)
    assert [clip.positions for clip in singly] == [(1,), (2,), (3,), (5,)]
    assert [clip.start_seconds for clip in singly] == pytest.approx([0.1, 0.2, 0.3, 0.5])
    assert [clip.end_seconds for clip in singly] == pytest.approx([0.2, 0.3, 0.4, 0.6])
