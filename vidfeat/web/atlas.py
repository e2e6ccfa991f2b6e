"""The map: every clip as a point in the plane, similar clips close together.

A sample of the clips is laid out by t-SNE; every other clip is placed among its nearest clips of
the sample. A screen cannot show many more than 50,000 points.
"""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import StoreError
from vidfeat.evaluation.projection import project
from vidfeat.index import VideoIndex
from vidfeat.web.cache import Cache

MOST_POINTS = 50_000
_LANDMARKS = 1000
_NEAREST = 4
_SEED = 11


def map_points(
    index: VideoIndex, most: int = MOST_POINTS
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows of the index and their positions on the map, (P, 2) within -1 to 1.

    Args:
        index: the index.
        most: maximum number of points; of more clips, a seeded sample is used.
    """
    searcher = index.searcher
    rows = np.arange(searcher.engine.num_rows)
    if searcher.alive_rows is not None:
        rows = rows[searcher.alive_rows]
    rng = np.random.default_rng(_SEED)
    if len(rows) > most:
        rows = np.sort(rng.choice(rows, most, replace=False))
    marks = rows
    if len(rows) > _LANDMARKS:
        marks = np.sort(rng.choice(rows, _LANDMARKS, replace=False))
    vectors = searcher.engine.take(marks)
    places = _spread(project(vectors, method="tsne", seed=_SEED))
    if len(marks) == len(rows):
        return rows, places
    found = np.empty((len(rows), 2), dtype=np.float32)
    gap = 0.6 / np.sqrt(len(marks))
    for low in range(0, len(rows), 8192):
        block = searcher.engine.take(rows[low : low + 8192])
        found[low : low + len(block)] = _among(block, vectors, places)
    # Clips at the same position would hide each other: each is moved slightly.
    jitter = rng.standard_normal(found.shape).astype(np.float32) * gap * 0.5
    at = np.searchsorted(marks, rows).clip(max=len(marks) - 1)
    is_mark = marks[at] == rows
    found += jitter
    found[is_mark] = places[at[is_mark]]
    return rows, _spread(found)


def _among(
    vectors: NDArray[np.float32], marks: NDArray[np.float32], places: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Means of the positions of the nearest sample clips, weighted by nearness."""
    scores = vectors @ marks.T
    count = min(_NEAREST, len(marks))
    near = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    distance = np.sqrt(np.maximum(2 - 2 * np.take_along_axis(scores, near, axis=1), 1e-9))
    weight = 1 / (distance**2 + 1e-6)
    weight /= weight.sum(axis=1, keepdims=True)
    found = np.sum(weight[..., None] * places[near], axis=1)
    return np.asarray(found, dtype=np.float32)


def _spread(places: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale positions to -1 to 1, the same on both axes; outliers are moved inwards."""
    if not len(places):
        return places
    low, high = np.percentile(places, [4, 96], axis=0)
    scale = float((high - low).max()) or float(np.ptp(places, axis=0).max()) or 1.0
    moved = (places - (low + high) / 2) * (1.3 / scale)
    far = np.abs(moved)
    bent = np.where(far > 0.65, 0.65 + 0.35 * np.tanh((far - 0.65) / 0.35), far)
    return np.asarray(np.sign(moved) * bent, dtype=np.float32)


class MapMaker:
    """The map of an index, made in the background when it is first requested, and cached."""

    def __init__(self, index: VideoIndex, cache: Cache) -> None:
        self.index = index
        self.cache = cache
        self._key = f"map\0{index.state_key}"
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._path: Path | None = None
        self._error: Exception | None = None

    def path(self, wait_seconds: float) -> Path | None:
        """The map's file, None while it is being made.

        Raises:
            OSError: it could not be written; the next call tries again.
            StoreError: it could not be made.
        """
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True, name="map")
                self._thread.start()
            thread = self._thread
        thread.join(wait_seconds)
        error = self._error
        if isinstance(error, OSError):
            with self._lock:  # a full disk may have room later: try again at the next request
                self._thread = self._error = None
            raise error
        if error is not None:
            raise StoreError(f"the map could not be made: {self._error}")
        return self._path

    def _work(self) -> None:
        try:
            self._path = self.cache.get(self._key, ".map", lambda path: write_map(self.index, path))
        except Exception as error:  # reported by the next request
            self._error = error


def write_map(index: VideoIndex, path: Path, most: int = MOST_POINTS) -> None:
    """Write the map as the page reads it: a count, then columns, all little-endian.

    uint32 count; float32 x, y; uint32 video; float32 start and end seconds.
    """
    rows, places = map_points(index, most)
    clips: NDArray[Any] = index.searcher.clips[rows]
    out = io.BytesIO()
    out.write(np.uint32(len(rows)).tobytes())
    for column in (
        places[:, 0].astype("<f4"),
        places[:, 1].astype("<f4"),
        clips["video"].astype("<u4"),
        clips["start_seconds"].astype("<f4"),
        clips["end_seconds"].astype("<f4"),
    ):
        out.write(np.ascontiguousarray(column).tobytes())
    path.write_bytes(out.getvalue())
