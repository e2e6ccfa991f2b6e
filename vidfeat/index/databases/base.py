"""The interface of a database of vectors, and the rows that go in and out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Span = tuple[int, int]
"""Rows from the first number (included) to the second (excluded)."""

FORMAT = "vidfeat-database"
BEGUN = {"format": FORMAT, "begun": True}
"""The head of tables that are being created."""

VIDEO_COLUMNS = (
    "video",
    "path",
    "label",
    "offset",
    "count",
    "duration_seconds",
    "fps",
    "width",
    "height",
    "size_bytes",
    "mtime_ns",
)
"""Columns of the table of videos: the number of each, and what an index knows about it."""


@dataclass(frozen=True, eq=False)
class ClipBlock:
    """Consecutive rows to be added, a list or array of n per column."""

    row: NDArray[np.int64]
    clip_id: list[str]
    video: NDArray[np.int64]
    path: list[str]
    label: list[str]
    start_seconds: NDArray[np.float64]
    end_seconds: NDArray[np.float64]
    vector: NDArray[np.float32]
    """(n, D) of length one."""


@dataclass(frozen=True, eq=False)
class StoredRows:
    """The requested rows, in the order of their numbers; deleted ones are missing."""

    row: NDArray[np.int64]
    start_seconds: NDArray[np.float64]
    end_seconds: NDArray[np.float64]
    vector: NDArray[np.float32] | None = None


class Database(Protocol):
    """Three tables: clips, videos, and a head that describes them."""

    address: str
    kind: str
    """``lance`` or ``milvus``."""

    def read_head(self) -> dict[str, Any] | None:
        """The head last written by `write_head`; None for a new place, {} if not ours."""
        ...

    def write_head(self, head: Mapping[str, Any]) -> None:
        """Replace the head: others then see the new state."""
        ...

    def create(self, dimension: int, num_rows: int) -> None:
        """Create empty tables for about this many rows, replacing ours, with the head `BEGUN`.

        Raises:
            StoreError: there are tables of another program.
        """
        ...

    def add_clips(self, block: ClipBlock) -> None:
        """Add rows."""
        ...

    def add_videos(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Add rows to the table of videos: `VIDEO_COLUMNS`."""
        ...

    def videos(self) -> dict[str, list[Any]]:
        """The table of videos, in the order of their numbers."""
        ...

    def remove(self, videos: Sequence[int], spans: Sequence[Span]) -> None:
        """Delete videos, and their clips in the given spans."""
        ...

    def remove_from(self, row: int, video: int) -> None:
        """Delete clips and videos with these numbers or higher: leftovers of a killed writer."""
        ...

    def index_clips(self, num_rows: int) -> str:
        """Build or extend the index of the vectors if that pays off; return its description."""
        ...

    def ladder(self, num_rows: int) -> list[dict[str, int]]:
        """Settings of a search, from quick to thorough; empty where every search is exact."""
        ...

    def rows(self, spans: Sequence[Span], *, vectors: bool) -> StoredRows:
        """The rows of some spans."""
        ...

    def nearest(
        self,
        queries: NDArray[np.float32],
        count: int,
        spans: Sequence[Span] | None,
        settings: Mapping[str, int] | None,
        between_seconds: tuple[float, float] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Cosines and rows (Q, count) of the nearest clips, best first; a row of -1 for none.

        Args:
            queries: (Q, D) of length one.
            count: rows per query.
            spans: rows that may be found; None for all.
            settings: one of `ladder`; None compares with every vector.
            between_seconds: only clips that lie between these seconds of their videos.
        """
        ...

    def close(self) -> None:
        """Release files and connections."""
        ...


def span_conditions(spans: Sequence[Span], *, both: str, either: str) -> str:
    """Rows of spans as a condition, with the operators of a query language."""
    return either.join(f"(row >= {low}{both}row < {high})" for low, high in spans)


def conditions(
    spans: Sequence[Span] | None,
    between_seconds: tuple[float, float] | None,
    *,
    both: str,
    either: str,
) -> str:
    """Rows of spans, and between two seconds, as a condition; empty for all rows."""
    told = []
    if spans is not None:
        told.append(f"({span_conditions(spans, both=both, either=either)})")
    if between_seconds is not None:
        low, high = between_seconds
        told.append(f"(start_seconds >= {low - 1e-6!r}{both}end_seconds <= {high + 1e-6!r})")
    return both.join(told)


def number_list(numbers: Sequence[int]) -> str:
    """Numbers separated by commas: ``1, 2, 3``."""
    return ", ".join(map(str, numbers))


def padded_answers(
    found: Sequence[tuple[Sequence[float], Sequence[int]]], count: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Results of several queries as arrays, each line padded with rows of -1."""
    scores = np.full((len(found), count), -np.inf, dtype=np.float32)
    rows = np.full((len(found), count), -1, dtype=np.int64)
    for line, (values, numbers) in enumerate(found):
        held = min(len(numbers), count)
        scores[line, :held] = values[:held]
        rows[line, :held] = numbers[:held]
    return scores, rows
