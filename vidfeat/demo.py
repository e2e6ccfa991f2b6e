"""The videos of the tour: rendered here, so that it runs anywhere and shows nobody's footage."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vidfeat.datasets.motion_pairs import PAIRS, render_scene, write_video
from vidfeat.files import atomic_write

FPS = 15
_FRAMES = 40
_HEIGHT, _WIDTH = 120, 160
_SEED = 20


def render_demo(
    folder: Path, *, per_class: int = 10, long: int = 3, progress: Callable[[], None] | None = None
) -> list[Path]:
    """Render a folder a class, and a few longer videos in which one motion follows another.

    The eight classes come in pairs: each scene is shown forwards in one class and backwards in the
    other, so that no single frame tells which. Looks differ from scene to scene.

    Videos that are there already are kept. Beside the folders stands ``labels.csv``, which names
    the scene of a video as its group.

    Args:
        folder: where to.
        per_class: videos of each of the eight classes.
        long: videos of some twenty seconds.
        progress: called after each scene.

    Returns:
        All videos.
    """
    made: list[Path] = []
    rows: list[tuple[str, str, str]] = []
    for number, (pair, directions) in enumerate(PAIRS.items()):
        for index in range(per_class):
            files = [folder / name / f"{name}-{index + 1}.mp4" for name in directions]
            rows += [
                (f"{name}/{file.name}", name, f"{pair}-{index + 1}")
                for name, file in zip(directions, files, strict=True)
            ]
            made += files
            if not all(file.is_file() for file in files):
                scene = _scene(pair, (_SEED, number, index))
                for file, frames in zip(files, (scene, scene[::-1]), strict=True):
                    write_video(file, frames, fps=FPS)
            if progress is not None:
                progress()
    for index in range(long):
        file = folder / "long" / f"long-{index + 1}.mp4"
        made.append(file)
        if not file.is_file():
            scenes = [
                _scene(pair, (_SEED, 100 + index, number))[:: 1 if number % 2 else -1]
                for number, pair in enumerate([*PAIRS, *PAIRS][: 7 + index])
            ]
            write_video(file, np.concatenate(scenes), fps=FPS)
        if progress is not None:
            progress()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "label", "group"))
    writer.writerows(sorted(rows))
    with atomic_write(folder / "labels.csv") as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
    return made


def _scene(pair: str, seed: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    rng = np.random.default_rng(seed)
    return render_scene(pair, rng, frames=_FRAMES, height=_HEIGHT, width=_WIDTH)
