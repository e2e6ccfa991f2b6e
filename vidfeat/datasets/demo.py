"""The videos of the tour: rendered here, so that it needs no download and no real footage."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vidfeat.datasets.motion_pairs import write_video
from vidfeat.datasets.synthetic_motion import ScenePlan, render_clip
from vidfeat.system.files import atomic_write

CLASSES = ("fall", "jacks", "jump", "walk", "wave")
"""What the figures do; each video looks different."""

PER_CLASS = 16
LONG = 3
NUM_VIDEOS = len(CLASSES) * PER_CLASS + LONG
"""Number of videos in the tour."""

FPS = 10  # the rate of rendered scenes, and of the bundled network's clips
_FRAMES = 24
_SIZE = 144
_SEED = 20


def render_demo(
    folder: Path,
    *,
    per_class: int = PER_CLASS,
    long: int = LONG,
    progress: Callable[[], None] | None = None,
) -> list[Path]:
    """Render one folder per class, and a few longer videos in which one action follows another.

    Existing videos are kept. ``labels.csv`` is written next to the folders.

    Args:
        folder: where to write.
        per_class: videos of each class.
        long: videos of about twelve seconds.
        progress: called after each video.

    Returns:
        All videos.
    """
    made: list[Path] = []
    rows: list[tuple[str, str]] = []
    for number, name in enumerate(CLASSES):
        for index in range(per_class):
            file = folder / name / f"{name}-{index + 1}.mp4"
            made.append(file)
            rows.append((f"{name}/{file.name}", name))
            if not file.is_file():
                write_video(file, _scene(name, (_SEED, number, index)), fps=FPS)
            if progress is not None:
                progress()
    for index in range(long):
        file = folder / "long" / f"long-{index + 1}.mp4"
        made.append(file)
        if not file.is_file():
            order = np.random.default_rng((_SEED, index)).permutation(len(CLASSES))
            scenes = [
                _scene(CLASSES[number], (_SEED, 100 + index, place))
                for place, number in enumerate(order.tolist())
            ]
            write_video(file, np.concatenate(scenes), fps=FPS)
        if progress is not None:
            progress()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "label"))
    writer.writerows(sorted(rows))
    with atomic_write(folder / "labels.csv") as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
    return made


def _scene(name: str, seed: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    plan = ScenePlan("still", "steady", "normal", actions=(name,))
    return render_clip(plan, seed, frames=_FRAMES, size=_SIZE)
