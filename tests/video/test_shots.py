"""Cuts that were made on purpose are found, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.edited_videos import dissolve, flash, moving, write_edit
from vidfeat.video.reader import open_video
from vidfeat.video.shots import Shot, ShotReading, ShotRule, find_cuts, find_shots, shot_of

RULE = ShotRule()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(8, 40), min_size=1, max_size=5), st.integers(0, 1000))
def test_cuts_between_scenes_are_found(lengths, seed):
    scenes = [moving(length, seed + place) for place, length in enumerate(lengths)]
    cuts = find_cuts(np.concatenate(scenes), RULE)
    assert cuts == np.cumsum(lengths)[:-1].tolist()


@pytest.mark.parametrize(
    "frames",
    [
        moving(60, 3, speed=9.0),
        flash(moving(40, 4), 20, 1),
        flash(moving(40, 4), 20, 2),
        dissolve(moving(40, 5), moving(40, 6), 20),
        np.zeros((20, 36, 64, 3), np.uint8),
        np.zeros((1, 36, 64, 3), np.uint8),
        np.zeros((0, 36, 64, 3), np.uint8),
    ],
    ids=["a fast camera", "a flash", "a flash of two", "a dissolve", "black", "one frame", "none"],
)
def test_what_is_no_cut_is_none(frames):
    assert find_cuts(frames, RULE) == []


def test_shots_of_a_file_cover_it_and_clips_do_not_cross_their_cuts(tmp_path):
    from vidfeat.extraction.shots import segments_of
    from vidfeat.video.clip_plan import ClipPlan, plan_clips

    cuts = write_edit(tmp_path / "e.mp4", [13, 20, 17])
    with open_video(tmp_path / "e.mp4") as video:
        shots = video.settled(lambda: find_shots(video, RULE))
        timeline = video.timeline
        sent = [shot_of(one) for one in ShotReading(RULE).read(video)]
    assert sent == shots and all(isinstance(shot, Shot) for shot in shots)
    assert shots[0].start_seconds == 0 and shots[-1].end_seconds == timeline.duration_seconds
    assert [shot.start_seconds for shot in shots[1:]] == [shot.end_seconds for shot in shots[:-1]]
    assert [round(shot.start_seconds * 25) for shot in shots] == [0, *cuts]
    for plan in (ClipPlan(4), ClipPlan(4, fps=10), ClipPlan(16), ClipPlan(3, fps=7, clips=2)):
        clips = plan_clips(timeline, plan, segments_of(shots, plan.fps))
        assert clips
        for clip in clips:
            inside = {sum(position >= cut for cut in cuts) for position in clip.positions}
            assert len(inside) == 1, (plan, clip)
