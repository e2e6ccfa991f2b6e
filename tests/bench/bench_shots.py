"""Shots: our frame differences and PySceneDetect's detectors on edits whose cuts are known.

    pip install --no-deps --target scenedetect/ scenedetect      # vidfeat[flow] brings cv2
    PYTHONPATH=scenedetect python tests/bench/bench_shots.py

Scenes of rendered motion (vidfeat.datasets.synthetic_motion), edited together; a third of the
transitions are dissolves, which do not count as cuts, and a third of the scenes have a flash. A cut
counts as found within a frame of its place.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.edited_videos import dissolve, flash
from vidfeat.datasets.motion_pairs import write_video
from vidfeat.datasets.synthetic_motion import plan_of, render_clip
from vidfeat.video.reader import open_video
from vidfeat.video.shots import ShotRule, find_shots

SIZE = 144


class Row(NamedTuple):
    """One line of the table."""

    name: str
    figure: float
    target: str


def edit(path: Path, seed: int, scenes: int = 5) -> list[int]:
    """Write a video; returns the frames that begin a shot after a cut."""
    rng = np.random.default_rng(seed)
    cuts: list[int] = []
    made = None
    for place in range(scenes):
        frames = int(rng.integers(16, 40))
        plan = plan_of((seed, place, 9))
        scene = render_clip(plan, (seed, place), frames=frames, size=SIZE)
        if rng.random() < 1 / 3:
            scene = flash(scene, int(rng.integers(5, frames - 6)), int(rng.integers(1, 3)))
        if made is None:
            made = scene
        elif rng.random() < 1 / 3:
            made = dissolve(made, scene, 8)
        else:
            cuts.append(len(made))
            made = np.concatenate([made, scene])
    assert made is not None
    write_video(path, made, fps=25)
    return cuts


def ours(path: Path) -> list[int]:
    """The cuts that vidfeat finds."""
    with open_video(path) as video:
        shots = video.settled(lambda: find_shots(video, ShotRule()))
    return [round(shot.start_seconds * 25) for shot in shots[1:]]


def others() -> dict[str, Callable[[Path], list[int]]]:
    """PySceneDetect's detectors, if it is installed."""
    try:
        import scenedetect
    except ImportError:
        return {}

    def by(make: Callable[[], object]) -> Callable[[Path], list[int]]:
        def find(path: Path) -> list[int]:
            scenes = scenedetect.detect(str(path), make())
            return [round(scene[0].seconds * 25) for scene in scenes[1:]]

        return find

    return {
        "ContentDetector": by(lambda: scenedetect.ContentDetector(min_scene_len=6)),
        "AdaptiveDetector": by(lambda: scenedetect.AdaptiveDetector(min_scene_len=6)),
    }


def main() -> list[Row]:
    """Print the table and return its rows."""
    rows = []
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    with tempfile.TemporaryDirectory() as folder:
        videos = {Path(folder) / f"{seed}.mp4": seed for seed in range(count)}
        truth = {path: edit(path, seed) for path, seed in videos.items()}
        for name, find in {"frame differences": ours, **others()}.items():
            hits = false = 0
            begun = time.perf_counter()
            for path, cuts in truth.items():
                left = list(cuts)
                for cut in find(path):
                    near = [other for other in left if abs(other - cut) <= 1]
                    hits += bool(near)
                    false += not near
                    left = [other for other in left if other not in near[:1]]
            seconds = time.perf_counter() - begun
            total = sum(map(len, truth.values()))
            precision, recall = hits / max(1, hits + false), hits / total
            score = 2 * precision * recall / max(1e-9, precision + recall)
            print(
                f"{name:20} precision {precision:.1%}  recall {recall:.1%}  F1 {score:.3f}  of "
                f"{total} cuts  {seconds:.1f} s",
                flush=True,
            )
            rows.append(Row(f"shots, F1: {name}", score, "at least 0.95"))
    return rows


if __name__ == "__main__":
    main()
