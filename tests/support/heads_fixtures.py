"""Feature files with known classes, for the tests of heads and of what is built on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vidfeat.store.reader import Embeddings
from vidfeat.store.records import RunIdentity, VideoRecord
from vidfeat.store.writer import write_store

ENCODER = {
    "model": "r2plus1d_18",
    "weights": "random",
    "seed": 0,
    "plan": {"frames": 16, "stride": 1, "fps": None, "clips": 4},
    "precision": "fp32",
}


def identity(
    dimension: int, *, space: str = "space-a", run: str = "run-a", **changes
) -> RunIdentity:
    return RunIdentity(
        encoder={**ENCODER, **changes},
        space_fingerprint=space,
        run_fingerprint=run,
        dimension=dimension,
    )


def record(path: str, seconds: float = 8.0) -> VideoRecord:
    return VideoRecord(
        path=path,
        duration_seconds=seconds,
        fps=25.0,
        width=320,
        height=240,
        num_frames=int(seconds * 25),
        num_frames_source="packets",
        size_bytes=1000,
        mtime_ns=1,
    )


def embeddings(vectors: np.ndarray, clip_seconds: float = 2.0) -> Embeddings:
    start = np.arange(len(vectors)) * clip_seconds
    return Embeddings(vectors.astype(np.float32), start, start + clip_seconds)


def write_features(
    path: Path,
    names: Sequence[str],
    classes: Sequence[int],
    *,
    clips: int = 4,
    dimension: int = 16,
    distance: float = 3.0,
    seed: int = 0,
    of: RunIdentity | None = None,
    spoil: Callable[[str, np.ndarray], None] | None = None,
) -> Path:
    """A feature file whose vectors lie around one centre a class, ``distance`` from the origin."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(max(classes, default=0) + 1, dimension))
    centres *= distance / np.linalg.norm(centres, axis=1, keepdims=True)
    videos = []
    for name, label in zip(names, classes, strict=True):
        middle = centres[label] + 0.7 * random.normal(size=dimension)
        vectors = middle + 0.5 * random.normal(size=(clips, dimension))
        if spoil:
            spoil(name, vectors)
        videos.append((record(name, 2.0 * clips), embeddings(vectors)))
    write_store(path, of or identity(dimension), videos)
    return path


def names_of(classes: Sequence[str], videos: int) -> tuple[list[str], list[int]]:
    """``class/video_00.mp4`` names and class numbers."""
    pairs = [
        (f"{name}/video_{i:02d}.mp4", c) for c, name in enumerate(classes) for i in range(videos)
    ]
    return [name for name, _ in pairs], [c for _, c in pairs]


def three_classes(folder: Path) -> Path:
    """Three classes of twelve videos, four clips of sixteen numbers each."""
    names, classes = names_of(["jump", "run", "walk"], 12)
    return write_features(folder / "features.h5", names, classes)
