"""A video and a plan to clips: the frames planned, resized once, in bounded memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.support.clips import decoded
from tests.support.video_assets import GOOD, Reference, render, repeat_video, x264
from tests.support.video_fixtures import asset, reference  # noqa: F401
from vidfeat.errors import VideoError
from vidfeat.video.clip_plan import ClipPlan, VideoSegment, plan_clips
from vidfeat.video.clips import Clip
from vidfeat.video.decode.inline import decode_inline
from vidfeat.video.decode.tasks import ClipSource, VideoTask
from vidfeat.video.frame_preprocessor import FramePreprocessor
from vidfeat.video.preprocess import Preprocess
from vidfeat.video.reader import open_video

Make = Callable[[str], Path]
Decode = Callable[[str], Reference]

PLANS = {
    "side by side": ClipPlan(frames=8),
    "overlapping": ClipPlan(frames=8, hop_frames=3, tail="flush"),
    "apart": ClipPlan(frames=2, hop_frames=11),
    "stride": ClipPlan(frames=4, stride=3, hop_frames=5),
    "uniform": ClipPlan(frames=8, clips=3),
    "faster": ClipPlan(frames=8, fps=Fraction(50)),
    "slower": ClipPlan(frames=5, fps=Fraction(15)),
    "long": ClipPlan(frames=100),
    "looped": ClipPlan(frames=100, short="loop"),
}


def check(path: Path, plan: ClipPlan, frames: list[np.ndarray], segments: tuple = ()) -> None:
    preprocess = Preprocess(resize=(32, 40), crop=(28, 30))
    found = decoded(path, plan, preprocess, segments)
    clips = found.clips
    with open_video(path) as video:
        # what is found to be damaged only when it is read through
        count = video.timeline.num_frames != len(frames)
    with open_video(path, count=count) as video:
        planned = plan_clips(video.timeline, plan, segments)
    resized = FramePreprocessor(preprocess).frames(np.stack(frames))
    assert len(clips) == len(planned) > 0
    for clip, plan_of in zip(clips, planned, strict=True):
        assert clip.frames_THWC.shape == (plan.frames, 28, 30, 3)
        assert np.array_equal(clip.frames_THWC, resized[list(plan_of.positions)])
        assert (clip.start_seconds, clip.end_seconds) == (
            plan_of.start_seconds,
            plan_of.end_seconds,
        )


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize(
    "name",
    [
        *("h264", "h264_open_gop", "h264_intra_refresh", "vfr_mp4", "mpeg4_packed", "rotated_90"),
        *("edit_list_skips_lead", "vp8_hidden_frames", "one_frame", "cover_then_video"),
    ],
)
def test_clips_hold_the_planned_frames(
    name: str,
    plan: str,
    asset: Make,  # noqa: F811
    reference: Decode,  # noqa: F811
) -> None:
    check(asset(name), PLANS[plan], reference(name).upright)


@pytest.mark.parametrize("name", GOOD)
def test_every_asset_as_clips(name: str, asset: Make, reference: Decode) -> None:  # noqa: F811
    check(asset(name), ClipPlan(frames=4, hop_frames=7, fps=Fraction(15)), reference(name).upright)


def test_segments_of_a_video(asset: Make, reference: Decode) -> None:  # noqa: F811
    segments = (VideoSegment(1.0, 1.5), VideoSegment(0.25, 0.5), VideoSegment(1.9, None))
    for name in ("h264", "vfr_mp4"):
        check(asset(name), ClipPlan(frames=4), reference(name).upright, segments)


@pytest.mark.parametrize("name", ["broken_packets", "flipped_bytes", "cut_midway", "cut_matroska"])
@pytest.mark.parametrize("plan", ["side by side", "overlapping", "uniform", "slower"])
def test_broken_midway_keeps_the_clips_before(
    name: str,
    plan: str,
    asset: Make,  # noqa: F811
    reference: Decode,  # noqa: F811
) -> None:
    """The clips are those of a video that ends where the sequential decode breaks."""
    frames = reference(name).upright
    preprocess = Preprocess(resize=(32, 40), crop=(28, 30))
    found = decoded(asset(name), PLANS[plan], preprocess)
    clips = found.clips
    whole = render(
        asset(name).parent / f"whole_{len(frames)}.mp4", range(len(frames)), options=x264()
    )
    with open_video(whole) as video:
        planned = plan_clips(video.timeline, PLANS[plan])
    resized = FramePreprocessor(preprocess).frames(np.stack(frames))
    assert len(clips) == len(planned)
    for clip, plan_of in zip(clips, planned, strict=True):
        assert np.array_equal(clip.frames_THWC, resized[list(plan_of.positions)])
        assert clip.end_seconds == pytest.approx(plan_of.end_seconds, abs=0.002)
    if reference(name).broken:
        assert found.finished.damage is not None
        assert found.finished.damage.at_seconds == pytest.approx(len(frames) / 30, abs=0.01)


def test_too_short_names_the_file(asset: Make) -> None:  # noqa: F811
    with pytest.raises(VideoError) as caught:
        decoded(asset("three_frames"), ClipPlan(short="error"), Preprocess())
    assert caught.value.kind == "too_short"
    assert caught.value.path == str(asset("three_frames"))


def test_a_clip_shows_its_shape_not_its_pixels(asset: Make) -> None:  # noqa: F811
    clip = decoded(asset("h264"), ClipPlan(frames=4), Preprocess()).clips[0]
    assert "4x112x112x3" in repr(clip)
    assert len(repr(clip)) < 100


def test_frames_are_dropped_when_no_later_clip_needs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """400 frames in many clips: never more live ones than a clip's and its hop's."""
    short = render(tmp_path / "short.mp4", range(40), options=x264("bframes=0"), gop=20)
    path = repeat_video(short, tmp_path / "long.mp4", 10)
    made: list[weakref.ref[np.ndarray]] = []
    resize = FramePreprocessor.frame

    def watched(self: FramePreprocessor, frame: av.VideoFrame) -> np.ndarray:
        pixels = resize(self, frame)
        made.append(weakref.ref(pixels))
        return pixels

    monkeypatch.setattr(FramePreprocessor, "frame", watched)
    source = ClipSource(ClipPlan(frames=8, hop_frames=2), Preprocess((32, 40), (28, 30)))
    count = 0
    for _, event in decode_inline(source, [VideoTask(str(path))]):
        count += isinstance(event, Clip)
        assert sum(ref() is not None for ref in made[-40:]) <= 12
    assert count == 197
    assert len(made) == 400  # each resized once
    assert not any(ref() is not None for ref in made[:-12])
