"""A database in place of FAISS and its mapped files: nearest clips, vectors and seconds by row.

Row numbers of clips never change: those of a video are adjacent, deleted ones leave a gap. Only 4
bytes per clip and the table of videos are kept in memory; vectors stay in the database.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from copy import copy
from dataclasses import replace
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from vidfeat.index.compare import compare_all, in_order, padded
from vidfeat.index.databases.base import Database, Span, StoredRows
from vidfeat.index.engine import TUNED_NEIGHBOURS
from vidfeat.index.folder import IndexHeader
from vidfeat.index.match import Match, Query, SearchOptions
from vidfeat.index.recall import sample_rows
from vidfeat.index.search import BACKGROUND_ROWS, Searcher
from vidfeat.index.videos import CLIP, Videos

# Up to this many rows are fetched and compared here, which is exact.
_FEW_ROWS = 2000
# Spans in one condition; beyond that, more results are requested and filtered here.
_MOST_SPANS = 200
_MOST_ASKED = 16_000
_KEPT_VIDEOS = 256


class DatabaseEngine:
    """`vidfeat.index.engine.SearchEngine` on a database.

    Args:
        head: the database's head.
        database: an open database.
        videos: its table of videos.
    """

    def __init__(self, head: IndexHeader, database: Database, videos: Videos) -> None:
        self.head = head
        self.database = database
        self.videos = videos
        self.num_rows = self.num_base = head.num_base
        self._held: OrderedDict[Span, StoredRows] = OrderedDict()
        self._lock = threading.Lock()  # a page searches in several threads
        self.between_seconds: tuple[float, float] | None = None

    def between(self, seconds: tuple[float, float]) -> DatabaseEngine:
        """A copy of this engine that finds only clips between two seconds of their videos."""
        limited = copy(self)
        limited.between_seconds = seconds
        return limited

    def _ask(
        self,
        queries: NDArray[np.float32],
        count: int,
        spans: list[Span] | None,
        settings: dict[str, int] | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        return self.database.nearest(queries, count, spans, settings, self.between_seconds)

    @cached_property
    def video_of(self) -> NDArray[np.int32]:
        """The video of each row, (num_rows,); -1 for deleted rows."""
        found = np.full(self.num_rows, -1, dtype=np.int32)
        alive = np.flatnonzero(self.videos["alive"])
        offset, count = self.videos["offset"][alive], self.videos["count"][alive]
        ends = np.cumsum(count)
        rows = np.arange(int(count.sum())) + np.repeat(offset - (ends - count), count)
        found[rows] = np.repeat(alive, count)
        return found

    # ------------------------------------------------------------------ rows

    def span(self, rows: slice) -> StoredRows:
        """Consecutive rows with their vectors; recently used ones are cached."""
        key = (rows.start, rows.stop)
        with self._lock:
            found = self._held.pop(key, None)
        if found is None:
            found = self.database.rows([key], vectors=True)
        with self._lock:
            self._held[key] = found
            if len(self._held) > _KEPT_VIDEOS:
                self._held.popitem(last=False)
        return found

    def take_slice(self, rows: slice) -> NDArray[np.float32]:
        """Vectors of consecutive rows, all of one video."""
        return self._in_place(self.span(rows), np.arange(rows.start, rows.stop))

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors of rows, (len(rows), D) float32; zeros for rows that were deleted."""
        spans = spans_of(np.unique(rows))
        return self._in_place(self.database.rows(spans, vectors=True), np.asarray(rows))

    def _in_place(self, found: StoredRows, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        out = np.zeros((len(rows), self.head.dimension), dtype=np.float32)
        at, held = _where(found.row, rows)
        assert found.vector is not None
        out[held] = found.vector[at[held]]
        return out

    def seconds(self, rows: NDArray[np.int64]) -> NDArray[np.void]:
        """Video, start and end of rows."""
        rows = np.asarray(rows, dtype=np.int64)
        out = np.zeros(len(rows), dtype=CLIP)
        out["video"] = self.video_of[rows]
        missing = np.ones(len(rows), dtype=bool)
        with self._lock:
            held = list(self._held.items())
        for (low, high), kept in held:
            inside = np.flatnonzero(missing & (rows >= low) & (rows < high))
            self._fill(out, inside, rows, kept)
            missing[inside] = False
        left = np.flatnonzero(missing)
        if len(left):
            # Whole videos: the other clips of a result's video are needed next.
            found = self.database.rows(spans_of(np.unique(rows[left])), vectors=False)
            self._fill(out, left, rows, found)
        return out

    def _fill(
        self,
        out: NDArray[np.void],
        which: NDArray[np.int64],
        rows: NDArray[np.int64],
        found: StoredRows,
    ) -> None:
        at, held = _where(found.row, rows[which])
        out["start_seconds"][which[held]] = found.start_seconds[at[held]]
        out["end_seconds"][which[held]] = found.end_seconds[at[held]]

    # ------------------------------------------------------------------ nearest

    def nearest(
        self,
        queries: NDArray[np.float32],
        count: int,
        *,
        keep: NDArray[np.bool_] | None = None,
        exact: bool = False,
        search: dict[str, int] | None = None,
        compare_few: bool = True,
        results: int = TUNED_NEIGHBOURS,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The nearest rows of each query; see `vidfeat.index.engine.SearchEngine.nearest`."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        settings = self.head.search if search is None else search
        if exact or not settings:
            chosen: dict[str, int] | None = None
        else:
            breadth = max(1.0, results / TUNED_NEIGHBOURS) ** 0.5
            chosen = {
                name: int(np.ceil(value * (breadth if "probe" in name else 1)))
                for name, value in settings.items()
            }
        there = self.video_of >= 0
        wanted = there if keep is None else keep & there
        kept = int(np.count_nonzero(wanted))
        count = min(count, kept)
        if not count:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        if kept == self.head.num_clips:
            return self._sifted(queries, count, there, chosen)
        if kept <= _FEW_ROWS and compare_few and self.between_seconds is None:
            rows = np.flatnonzero(wanted)
            scores, at = compare_all(queries, self.take(rows), count, None)
            return scores, np.where(at >= 0, rows[at], -1)
        spans = spans_of(np.flatnonzero(wanted))
        if len(spans) <= _MOST_SPANS:
            return self._ask(queries, count, spans, chosen)
        if kept * 20 > self.num_rows:  # so many that some are among the overall nearest
            return self._sifted(queries, count, wanted, chosen, spans)
        return self._in_parts(queries, count, spans, chosen)

    def _sifted(
        self,
        queries: NDArray[np.float32],
        count: int,
        wanted: NDArray[np.bool_],
        settings: dict[str, int] | None,
        spans: list[Span] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Request the overall nearest rows, and more if too few of them are wanted."""
        asked = count if spans is None else 4 * count
        while True:
            scores, rows = self._ask(queries, asked, None, settings)
            # Rows beyond those of the opened state belong to another writer.
            good = (rows >= 0) & (rows < self.num_rows)
            good[good] = wanted[rows[good]]
            scores, rows = np.where(good, scores, -np.inf), np.where(good, rows, -1)
            scores, rows = in_order(scores, rows, count)
            short = np.count_nonzero(rows >= 0, axis=1).min() < count
            if self.between_seconds is not None and spans is None:
                short = False  # the database returned all of its rows
            if not short or asked >= min(self.num_rows, _MOST_ASKED):
                break
            asked = min(4 * asked, _MOST_ASKED)
        if short and spans is not None:
            return self._in_parts(queries, count, spans, settings)
        return scores.astype(np.float32), rows

    def _in_parts(
        self,
        queries: NDArray[np.float32],
        count: int,
        spans: list[Span],
        settings: dict[str, int] | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Search some spans at a time, and keep the best of all results."""
        best = np.empty((len(queries), 0), dtype=np.float32)
        rows = np.empty((len(queries), 0), dtype=np.int64)
        for low in range(0, len(spans), _MOST_SPANS):
            found = self._ask(queries, count, spans[low : low + _MOST_SPANS], settings)
            best = np.concatenate([best, found[0]], axis=1)
            rows = np.concatenate([rows, found[1]], axis=1)
            best, rows = in_order(best, rows, count)
        return padded(best, rows, count)


class ClipColumns:
    """The counterpart of ``clips.npy``: video, start and end of rows, read on demand."""

    def __init__(self, engine: DatabaseEngine) -> None:
        self._engine = engine

    @overload
    def __getitem__(self, key: str) -> Any: ...
    @overload
    def __getitem__(self, key: slice | NDArray[np.int64] | list[int]) -> NDArray[np.void]: ...
    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self._engine.video_of if key == "video" else _Column(self._engine, key)
        if isinstance(key, slice):
            self._engine.span(key)
            key = np.arange(key.start, key.stop)
        return self._engine.seconds(np.asarray(key))

    def __len__(self) -> int:
        return int(self._engine.num_rows)


class _Column:
    def __init__(self, engine: DatabaseEngine, name: str) -> None:
        self._clips = ClipColumns(engine)
        self._name = name

    def __getitem__(self, key: slice | NDArray[np.int64] | list[int]) -> NDArray[np.float64]:
        values: NDArray[np.float64] = self._clips[key][self._name]
        return values


class DatabaseSearcher(Searcher):
    """Searches an index in a database."""

    scans = False

    @cached_property
    def alive_rows(self) -> NDArray[np.bool_] | None:
        """Rows of existing clips; None for all."""
        engine: Any = self.engine
        there: NDArray[np.bool_] = engine.video_of >= 0
        return None if there.all() else there

    def search(
        self, query: Query, options: SearchOptions, allowed: NDArray[np.bool_] | None = None
    ) -> list[Match]:
        """Search, and return the results, best first; the database filters clips by seconds."""
        if options.between_seconds is None:
            return super().search(query, options, allowed)
        engine: Any = self.engine
        limited = replace(self, engine=engine.between(options.between_seconds))
        return Searcher.search(limited, query, options, allowed)

    def _inside(self, options: SearchOptions) -> NDArray[np.bool_] | None:  # noqa: ARG002
        return None

    def rows_of(self, allowed: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
        """Rows that may be found."""
        if allowed is None:
            return self.alive_rows
        engine: Any = self.engine
        video_of: NDArray[np.int32] = engine.video_of
        if not len(video_of):
            return None
        rows: NDArray[np.bool_] = (allowed & self.videos["alive"])[video_of]
        return rows & (video_of >= 0)

    @cached_property
    def background(self) -> NDArray[np.float32]:
        """Vectors of a seeded sample of the existing clips, (B, D)."""
        engine: Any = self.engine
        rows = np.flatnonzero(engine.video_of >= 0)
        return self.engine.take(rows[sample_rows(len(rows), BACKGROUND_ROWS)])


def spans_of(rows: NDArray[np.int64]) -> list[Span]:
    """Group ascending rows into spans of consecutive ones."""
    if not len(rows):
        return []
    breaks = np.flatnonzero(np.diff(rows) != 1)
    first = rows[np.concatenate([[0], breaks + 1])]
    last = rows[np.concatenate([breaks, [len(rows) - 1]])]
    return list(zip(first.tolist(), (last + 1).tolist(), strict=True))


def _where(
    held: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Position of each row in ``held``, and whether it is there."""
    if not len(held):
        return np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=bool)
    at = np.searchsorted(held, rows).clip(max=len(held) - 1)
    return at, held[at] == rows
