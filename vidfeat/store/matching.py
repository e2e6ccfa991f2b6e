"""Which rows of two feature files cover the same seconds of a video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from vidfeat.store.reader import FeatureStore

Match = Literal["span", "start", "centre"]
MATCHES: tuple[Match, ...] = get_args(Match)
# Seconds are sums of floats.
_HAIR = 1e-6


class Spans(NamedTuple):
    """The seconds that the rows of one video cover, in the order of the file."""

    first: int
    """The video's first row in its file."""
    start: NDArray[np.float64]
    end: NDArray[np.float64]


class SpanReader:
    """The seconds of an input's rows, read in blocks as its videos are requested in order."""

    BLOCK = 1 << 18

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self._offset, self._count = store.videos["offset"], store.videos["count"]
        self._first = 0
        self._start = self._end = np.empty(0)

    def of(self, video: int) -> Spans:
        """The rows of a video, given its row in ``/videos``."""
        first, count = int(self._offset[video]), int(self._count[video])
        if first < self._first or first + count > self._first + len(self._start):
            self._first = first
            stop = first + max(count, self.BLOCK)
            self._start, self._end = self._store.read_seconds(slice(first, stop))
        inside = slice(first - self._first, first - self._first + count)
        return Spans(first, self._start[inside], self._end[inside])


def match_rows(spans: Sequence[Spans], match: Match, tolerance_seconds: float) -> NDArray[np.int64]:
    """Rows of one video that are partners, in time order.

    Partners are nearest to each other, both ways, and within the tolerance. Rows of equal spans
    (several views of one clip) are paired in order.

    Args:
        spans: spans of the same video in each of F files; rows are numbered from 0 in each.
        match: what has to agree: the whole span, the start or the centre.
        tolerance_seconds: how much it may differ.

    Returns:
        (F, n) row numbers; column i holds partners.
    """
    keys = [_keys(span, match) for span in spans]
    tolerance = tolerance_seconds + _HAIR
    rows = np.arange(len(keys[0]), dtype=np.int64)[None]
    for other in keys[1:]:
        mine, theirs = _pairs(keys[0][rows[0]], other, tolerance)
        rows = np.concatenate([rows[:, mine], theirs[None]])
    return rows


def _keys(span: Spans, match: Match) -> NDArray[np.float64]:
    """(n, 1 or 2) seconds that have to agree."""
    if match == "start":
        return span.start[:, None]
    if match == "centre":
        return (span.start[:, None] + span.end[:, None]) / 2
    return np.stack([span.start, span.end], axis=1)


def _pairs(
    left: NDArray[np.float64], right: NDArray[np.float64], tolerance: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions in two lists of keys that agree, each used once, in the order of the left one."""
    every = np.arange(len(left), dtype=np.int64)
    if not len(left) or not len(right):
        return every[:0], every[:0]
    if len(left) == len(right) and bool((np.abs(left - right) <= _HAIR).all()):
        return every, every
    from scipy.spatial import KDTree

    # Nearest both ways: otherwise one missing row would shift all rows behind it by one.
    keys, of_left, num_left = np.unique(left, axis=0, return_inverse=True, return_counts=True)
    others, of_right, num_right = np.unique(right, axis=0, return_inverse=True, return_counts=True)
    distance, forth = KDTree(others).query(keys, p=np.inf)
    _, back = KDTree(keys).query(others, p=np.inf)
    agree = np.flatnonzero((distance <= tolerance) & (back[forth] == np.arange(len(keys))))
    # Equal keys are adjacent in both orders: the k-th is paired with the k-th.
    left_order, right_order = (np.argsort(of.ravel(), kind="stable") for of in (of_left, of_right))
    left_first, right_first = (np.cumsum(num) - num for num in (num_left, num_right))
    mine, theirs = [every[:0]], [every[:0]]
    for key in agree.tolist():
        other = int(forth[key])
        both = min(int(num_left[key]), int(num_right[other]))
        mine.append(left_order[left_first[key] : left_first[key] + both])
        theirs.append(right_order[right_first[other] : right_first[other] + both])
    found, partners = np.concatenate(mine), np.concatenate(theirs)
    order = np.argsort(found, kind="stable")
    return found[order], partners[order]


def spacing(store: FeatureStore, videos: NDArray[np.int64]) -> str:
    """How the clips of some videos are laid, in words: ``a row every 0.640 s, 0.640 s long``."""
    for video in videos.tolist():
        first, count = (int(store.videos[name][video]) for name in ("offset", "count"))
        if count > 1:
            start, end = store.read_seconds(slice(first, first + count))
            hop, length = np.median(np.diff(start)), np.median(end - start)
            return f"a row every {hop:.3f} s, {length:.3f} s long"
    return "one row per video"
