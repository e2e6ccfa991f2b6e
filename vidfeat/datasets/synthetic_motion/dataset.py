"""Rendered scenes as a dataset: samples without files, and clips of them on request.

A sample is a plan; its clips are rendered where videos would be decoded. Each showing looks
different, so that a run never sees the same clip twice, however long it lasts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from vidfeat.datasets.base import Sample, VideoDataset
from vidfeat.datasets.part_names import DatasetPart
from vidfeat.datasets.synthetic_motion.looks import Frames
from vidfeat.datasets.synthetic_motion.render import plan_of, render_clip
from vidfeat.datasets.synthetic_motion.vocabulary import CLASSES

NAME = "synthetic_motion"
TRAIN_SCENES = 16_384
VAL_SCENES = 256

_PARTS: tuple[tuple[DatasetPart, int], ...] = (("train", TRAIN_SCENES), ("val", VAL_SCENES))
_NUMBERS = {"train": 0, "val": 1}


@lru_cache(maxsize=1)
def read_scenes() -> VideoDataset:
    """All scenes, as a dataset without a folder."""
    samples = tuple(
        Sample(path, plan_of(scene_of(path)).labels, part)
        for part, count in _PARTS
        for path in (f"{part}/{index:05d}" for index in range(count))
    )
    return VideoDataset(NAME, Path(), CLASSES, samples, notes=("rendered when they are needed",))


def scene_of(path: str) -> tuple[int, int]:
    """The numbers of a sample's plan: its part and its index."""
    part, _, index = path.partition("/")
    return _NUMBERS[part], int(index)


@dataclass(frozen=True)
class SceneRequest:
    """Clips of one scene, each with different looks: a ``Making`` for a decode process."""

    scene: tuple[int, int]
    showings: tuple[tuple[int, ...], ...]
    """The numbers that decide the looks of each clip."""
    frames: int
    size: int

    def make(self) -> Iterator[Frames]:
        """Yield the clips: uint8 (T, size, size, 3)."""
        plan = plan_of(self.scene)
        for numbers in self.showings:
            yield render_clip(plan, numbers, frames=self.frames, size=self.size)


def evaluation_request(path: str, clips: int, frames: int, size: int) -> SceneRequest:
    """The clips of a scene for evaluation, always the same ones."""
    scene = scene_of(path)
    return SceneRequest(scene, tuple((*scene, 3, clip) for clip in range(clips)), frames, size)


def training_request(path: str, numbers: Sequence[int], frames: int, size: int) -> SceneRequest:
    """One clip of a scene, whose looks ``numbers`` determine."""
    scene = scene_of(path)
    return SceneRequest(scene, ((*scene, 4, *numbers),), frames, size)
