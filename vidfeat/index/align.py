"""Find the segments of a video that align with a query in time, from a matrix of cosines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Pairs of clips whose shift in time is tried: trying more never changed a result.
_TRIED_PAIRS = 24
# A segment continues while pairs exceed their level by this fraction of the best pair's excess;
# this many pairs in between may fall short (a cut, a flash, a moment out of sync).
_NEARER = 0.1
_BRIDGED = 2


@dataclass(frozen=True)
class Aligned:
    """A segment of a video, aligned with a segment of the query.

    Attributes:
        best: score of the best pair of clips.
        clips: the query's clips, in order of time.
        rows: the row aligned with each.
        mean: mean score of the pairs.
    """

    best: float
    clips: tuple[int, ...]
    rows: tuple[int, ...]
    mean: float


def align(
    scores: NDArray[np.float32],
    query_start: NDArray[np.float64],
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    levels: NDArray[np.float32],
    *,
    first_row: int = 0,
    most: int = 1,
) -> list[Aligned]:
    """The best segments of a video, none overlapping a better one, best first.

    A shift in time pairs each clip of the query with the clip of the video that starts nearest to
    its shifted start. The best shift is the one whose pairs stand out most above ``levels``; from
    its best pair, the segment grows in both directions while pairs stay above the background.

    Args:
        scores: (Q, N) of the query's clips with the video's.
        query_start: (Q,) seconds, ascending.
        start: (N,) seconds, ascending.
        end: (N,) seconds.
        levels: (Q,) background score of each query clip.
        first_row: row of the video's first clip.
        most: maximum number of segments.
    """
    scores = scores.copy()
    found: list[Aligned] = []
    while len(found) < most:
        row = int(scores.argmax())
        if not np.isfinite(scores.flat[row]):
            break
        best = _best_shift(scores, query_start, start, levels)
        found.append(_as_rows(best, first_row))
        low = start[best.rows[0]]
        high = end[best.rows[-1]]
        scores[:, (start < high) & (end > low)] = -np.inf
    return found


def _as_rows(aligned: Aligned, first_row: int) -> Aligned:
    rows = tuple(first_row + row for row in aligned.rows)
    return Aligned(aligned.best, aligned.clips, rows, aligned.mean)


def _best_shift(
    scores: NDArray[np.float32],
    query_start: NDArray[np.float64],
    start: NDArray[np.float64],
    levels: NDArray[np.float32],
) -> Aligned:
    top = int(scores.argmax())
    best = float(scores.flat[top])
    clip, row = divmod(top, scores.shape[1])
    if len(query_start) == 1:
        return Aligned(best, (0,), (row,), best)
    hop = _hop(start)
    count = min(_TRIED_PAIRS, scores.size)
    tried = np.argpartition(-scores, count - 1, axis=None)[:count]
    tried = tried[np.argsort(-scores.flat[tried], kind="stable")]
    floor = (best + float(levels[clip])) / 2
    chosen: tuple[float, float] | None = None
    for pair in tried.tolist():
        if scores.flat[pair] < floor:
            break
        one, other = divmod(pair, scores.shape[1])
        shift = float(start[other] - query_start[one])
        clips, rows = _pairs(query_start + shift, start, hop)
        stands_out = float((scores[clips, rows] - levels[clips]).clip(min=0).sum())
        if chosen is None or stands_out > chosen[0] * (1 + 1e-6):
            chosen = (stands_out, shift)
    shift = float(start[row] - query_start[clip]) if chosen is None else chosen[1]
    clips, rows = _pairs(query_start + shift, start, hop)
    return _grow(scores, clips, rows, levels, best)


def _hop(start: NDArray[np.float64]) -> float:
    return float(np.median(np.diff(start))) if len(start) > 1 else np.inf


def _pairs(
    wanted: NDArray[np.float64], start: NDArray[np.float64], hop: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The clips of the query with a clip of the video within about half a hop, and that clip."""
    after = np.searchsorted(start, wanted).clip(1, max(len(start) - 1, 1))
    before = after - 1
    after = after.clip(max=len(start) - 1)
    near = np.where(np.abs(start[after] - wanted) < np.abs(start[before] - wanted), after, before)
    held = np.abs(start[near] - wanted) <= 0.51 * hop
    return np.flatnonzero(held), near[held]


def _grow(
    scores: NDArray[np.float32],
    clips: NDArray[np.int64],
    rows: NDArray[np.int64],
    levels: NDArray[np.float32],
    best: float,
) -> Aligned:
    values = scores[clips, rows]
    middle = int(values.argmax())
    least = levels[clips] + _NEARER * (values[middle] - levels[clips])
    good = np.flatnonzero(np.isfinite(values) & (values >= least))
    low = high = middle
    for place in good[good < middle][::-1].tolist():
        if low - place > 1 + _BRIDGED:
            break
        low = place
    for place in good[good > middle].tolist():
        if place - high > 1 + _BRIDGED:
            break
        high = place
    held = slice(low, high + 1)
    return Aligned(
        best=max(best, float(values[middle])),
        clips=tuple(clips[held].tolist()),
        rows=tuple(rows[held].tolist()),
        mean=float(values[held].mean()),
    )
