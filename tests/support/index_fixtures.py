"""Feature files for the tests of retrieval: videos whose clips drift around a direction."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidfeat.store.reader import Embeddings
from vidfeat.store.records import RunIdentity, VideoRecord
from vidfeat.store.writer import write_store

HOP_SECONDS = 0.5
CLIP_SECONDS = 1.0


def identity(
    dimension: int, *, space: str = "space-1", run: str = "run-1", root: str = "/videos"
) -> RunIdentity:
    return RunIdentity(
        encoder={"model": "r2plus1d_18", "weights": "random"},
        space_fingerprint=space,
        run_fingerprint=run,
        dimension=dimension,
        dtype="float32",
        source_root=root,
    )


def video_vectors(seed: int, clips: int, dimension: int) -> NDArray[np.float32]:
    """Clips that walk slowly away from where the video starts: neighbours in time are near."""
    rng = np.random.default_rng(seed)
    start = rng.standard_normal(dimension)
    steps = rng.standard_normal((clips, dimension)) * 0.35
    return (start + np.cumsum(steps, axis=0)).astype(np.float32)


def embeddings(vectors: NDArray[np.float32]) -> Embeddings:
    start = np.arange(len(vectors)) * HOP_SECONDS
    return Embeddings(vectors, start, start + CLIP_SECONDS)


def record(path: str, clips: int) -> VideoRecord:
    return VideoRecord(
        path, (clips - 1) * HOP_SECONDS + CLIP_SECONDS, 25.0, 320, 240, 100, "packets", 1000, 7
    )


def write_features(
    path: Path,
    videos: int | Sequence[str] = 40,
    *,
    clips: int = 6,
    dimension: int = 32,
    first_seed: int = 0,
    replace: dict[str, NDArray[np.float32]] | None = None,
    mtime_ns: int = 7,
    **of_identity: str,
) -> Path:
    """A feature file of videos ``a/v000.mp4``, ...; seeds are numbers of their own."""
    names = (
        [f"{'abcd'[n % 4]}/v{n:03d}.mp4" for n in range(videos)]
        if isinstance(videos, int)
        else list(videos)
    )
    rows = []
    for number, name in enumerate(names):
        vectors = video_vectors(first_seed + number, clips, dimension)
        if replace and name in replace:
            vectors = replace[name]
        about = dataclasses.replace(record(name, len(vectors)), mtime_ns=mtime_ns)
        rows.append((about, embeddings(vectors)))
    write_store(path, identity(dimension, **of_identity), rows)
    return path
