"""Small feature files and parts with numbers that tell where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from vidfeat.store.embeddings import Embeddings
from vidfeat.store.parts import Part, VideoSlice
from vidfeat.store.records import RunIdentity, VideoFailure, VideoRecord
from vidfeat.store.writer import write_store

DIMENSION = 6
ENCODER = {
    "model": "r2plus1d_18",
    "weights": "random",
    "plan": {"frames": 16, "stride": 1, "hop_frames": 16},
    "pool": ["mean"],
    "precision": "fp32",
}


def identity_of(**changes: Any) -> RunIdentity:
    """A run; give ``run_fingerprint="other"`` and the like for another one."""
    values: dict[str, Any] = {
        "encoder": ENCODER,
        "space_fingerprint": "space",
        "run_fingerprint": "run",
        "dimension": DIMENSION,
        "source_root": "/videos",
    }
    return RunIdentity(**(values | changes))


def record_of(path: str, size: int = 1000, mtime: int = 5) -> VideoRecord:
    return VideoRecord(path, 4.0, 25.0, 320, 240, 100, "packets", size, mtime)


def failure_of(path: str, size: int = 1000, mtime: int = 5, **changes: Any) -> VideoFailure:
    values = {"message": f"{path} is broken", "kind": "damaged"} | changes
    return VideoFailure(path=path, size_bytes=size, mtime_ns=mtime, **values)


def rows_of(path: str, count: int, first: int = 0, seed: int = 0) -> Embeddings:
    """Clips ``first`` to ``first + count`` of a video: the same numbers for the same clip."""
    key = [seed, *path.encode("utf-8", "surrogateescape")]
    all_clips = np.random.default_rng(key).standard_normal((first + count, DIMENSION))
    start = np.arange(first, first + count, dtype=np.float64) * 0.5
    return Embeddings(all_clips[first:].astype(np.float32), start, start + 0.5)


def joined(*parts: Embeddings) -> Embeddings:
    return Embeddings(
        np.concatenate([part.vectors for part in parts]),
        np.concatenate([part.start_seconds for part in parts]),
        np.concatenate([part.end_seconds for part in parts]),
    )


def segment_of(path: str, count: int, first: int = 0, **changes: Any) -> VideoSlice:
    values: dict[str, Any] = {"attempt": "1", "complete": True, "record": record_of(path)}
    return VideoSlice(path=path, first_clip=first, count=count, **(values | changes))


def part_of(*segments: VideoSlice, failures: tuple[VideoFailure, ...] = (), seed: int = 0) -> Part:
    """A part whose rows are those of its segments."""
    rows = [rows_of(s.path, s.count, s.first_clip, seed) for s in segments]
    empty = rows_of("", 0)
    return Part(joined(empty, *rows), segments, failures)


def make_store(
    path: Path,
    counts: Mapping[str, int],
    failures: tuple[VideoFailure, ...] = (),
    seed: int = 0,
    **changes: Any,
) -> Path:
    """A feature file of videos with so many clips each."""
    videos = [(record_of(name), rows_of(name, count, 0, seed)) for name, count in counts.items()]
    write_store(path, identity_of(**changes), videos, failures)
    return path


def datasets_of(path: Path) -> dict[str, Any]:
    """Everything in a feature file but the date, by plain h5py: equal files give equal values."""
    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = (str(item.dtype), item.shape, item[()].tolist())

    with h5py.File(path, "r") as file:
        file.visititems(visit)
        found["attributes"] = {k: v for k, v in file.attrs.items() if k != "created"}
    return found


def arrays_of(path: Path) -> dict[str, Any]:
    """All datasets of a feature file as arrays, by plain h5py."""
    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[...]

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return found
