"""Fixtures of the video tests: every asset rendered once a session, and its plain decode."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from tests.support.bad_videos import BAD, DAMAGED
from tests.support.video_assets import GOOD, Reference, reference_frames


def has_encoder(name: str) -> bool:
    try:
        av.codec.Codec(name, "w")
    except av.error.FFmpegError:
        return False
    return True


@pytest.fixture(scope="session")
def asset(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Path of an asset of `GOOD`, `BAD` or `DAMAGED` by name, rendered when first asked for."""

    @functools.cache
    def make(name: str) -> Path:
        if name in GOOD and not has_encoder(GOOD[name].codec):
            pytest.skip(f"this build of PyAV has no encoder {GOOD[name].codec}")
        maker = (GOOD.get(name) or BAD.get(name) or DAMAGED[name]).make
        return maker(tmp_path_factory.mktemp(name))

    return make


@pytest.fixture(scope="session")
def reference(asset: Callable[[str], Path]) -> Callable[[str], Reference]:
    """Plain sequential decode of an asset, kept for the session."""
    return functools.cache(lambda name: reference_frames(asset(name)))


REAL_VIDEOS = (
    "R6llTwEh07w.mp4",
    "RATRACE_wave_f_nm_np1_fr_goo_37.avi",
    "SchoolRulesHowTheyHelpUs_wave_f_nm_np1_ba_med_0.avi",
    "WUzgd7C1pWA.mp4",
    "hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi",
    "v_SoccerJuggling_g23_c01.avi",
)
# One file of each resolution and of each odd rate.
FIGHTS = (
    *("fight/fi001.mp4", "fight/fi005.mp4", "fight/fi019.mp4", "fight/fi043.mp4"),
    *("fight/fi051.mp4", "fight/fi065.mp4", "fight/fi075.mp4", "fight/fi077.mp4"),
    *("fight/fi082.mp4", "fight/fi089.mp4", "fight/fi093.mp4", "fight/fi099.mp4"),
    *("fight/fi109.mp4", "fight/fi113.mp4", "fight/fi122.mp4", "fight/fi124.mp4"),
    *("fight/fi150.mp4", "noFight/nofi062.mp4", "noFight/nofi077.mp4"),
)
