"""The clips of a query: a segment of a stored video, embeddings, or an array."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import UsageError
from vidfeat.index.match import Query
from vidfeat.store.embeddings import Embeddings


def clips_in_segment(
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    start_seconds: float | None,
    end_seconds: float | None,
    video: str,
) -> NDArray[np.int64]:
    """The clips of a video that a segment of it selects.

    Raises:
        UsageError: an empty segment, or one outside of the video.
    """
    if start_seconds is None and end_seconds is None:
        return np.arange(len(start))
    low = 0.0 if start_seconds is None else start_seconds
    high = np.inf if end_seconds is None else end_seconds
    if not low < high or high <= 0:
        raise UsageError(
            f"the segment from {low:g} to {high:g} s is empty: start_seconds must lie before "
            "end_seconds",
            field=("start_seconds", "end_seconds"),
        )
    if not len(start) or low >= end.max() or high <= start.min():
        raise UsageError(
            f"the segment from {low:g} s lies outside of {video}, which has clips from "
            f"{start.min(initial=0):g} to {end.max(initial=0):g} s"
        )
    slack = 0.51 * float(np.median(np.diff(start))) if len(start) > 1 else 0.0
    inside = np.flatnonzero((start >= low - slack) & (end <= high + slack))
    if len(inside):
        return inside
    middle = (low + min(high, float(end.max()))) / 2
    return np.array([int(np.abs((start + end) / 2 - middle).argmin())])


def as_query(value: Embeddings | NDArray[Any] | Query) -> Query:
    """Turn vectors into a query; those of an array get no seconds."""
    if isinstance(value, Query):
        return value
    if isinstance(value, Embeddings):
        return Query(
            np.asarray(value.vectors, dtype=np.float32), value.start_seconds, value.end_seconds
        )
    vectors = np.atleast_2d(np.asarray(value, dtype=np.float32))
    zeros = np.zeros(len(vectors))
    return Query(vectors, zeros, zeros)
