"""From pairs of near clips to the segments that two videos share, and which of them count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.index.search import Searcher

# Clips of a still picture are about as near to each other as a copy is to its original: identical
# if the copy is exact and, if both have grain, up to twice as far apart.
_STILL_COSINE = 0.999
_LEAST_STILL_COSINE = 0.97
_STILL_SHARE = 0.5
# Bars, black and a title in a row form a leader; more still pictures are, for example, slides.
_MOST_STILLS = 3
_STILL_SAMPLE = 32


@dataclass(frozen=True)
class SharedSegment:
    """The same seconds in two videos.

    Attributes:
        first: start and end seconds in the first video.
        second: start and end seconds in the second.
        score: mean cosine of its pairs of clips.
    """

    first: tuple[float, float]
    second: tuple[float, float]
    score: float

    def seconds(self, side: int) -> float:
        """Length in the first video (0) or the second (1)."""
        start, end = (self.first, self.second)[side]
        return end - start


def shared_segments(
    first: NDArray[Any],
    second: NDArray[Any],
    scores: NDArray[np.float64],
    hop_seconds: float,
) -> list[SharedSegment]:
    """Join pairs of clips with the same shift in time; the longest first, none inside a longer one.

    Args:
        first: (N,) times of the first video's clips.
        second: (N,) times of the second video's.
        scores: (N,) their cosines.
        hop_seconds: usual hop of the clips of a video, the smaller one of the two.
    """
    shift = second["start_seconds"] - first["start_seconds"]
    order = np.argsort(shift, kind="stable")
    breaks = np.flatnonzero(np.diff(shift[order]) > 0.51 * hop_seconds) + 1
    found: list[SharedSegment] = []
    for same in np.split(order, breaks):
        line = same[np.argsort(first["start_seconds"][same], kind="stable")]
        starts = first["start_seconds"][line]
        runs = np.split(line, np.flatnonzero(np.diff(starts) > 2.02 * hop_seconds) + 1)
        found += [
            SharedSegment(_span(first[run]), _span(second[run]), float(scores[run].mean()))
            for run in runs
        ]
    found.sort(key=lambda segment: (segment.first[0] - segment.first[1], -segment.score))
    kept: list[SharedSegment] = []
    for segment in found:
        if not any(
            _inside(segment.first, longer.first) and _inside(segment.second, longer.second)
            for longer in kept[:64]
        ):
            kept.append(segment)
    return kept


def usual_hop_seconds(starts: NDArray[np.float64]) -> float:
    """The usual hop of a video's clips; the last hop may be shorter, to end with the video."""
    steps = np.diff(np.unique(starts))
    return float(np.median(steps)) if len(steps) else 1.0


def distinctive_segments(
    searcher: Searcher,
    videos: tuple[int, int],
    segments: list[SharedSegment],
    min_share: float | None,
) -> list[SharedSegment]:
    """The segments that make two videos copies.

    Args:
        searcher: of the index.
        videos: rows of the two videos.
        segments: the segments that they share.
        min_share: minimum share of the shorter video that all segments cover together, otherwise
            none of them counts. None leaves out still segments (black, a title card) that are
            shorter than half of the shorter video: unrelated videos have these in common.
    """
    clips = [searcher.clips[searcher.videos.rows(video)] for video in videos]
    lengths = [float(one["end_seconds"].max() - one["start_seconds"].min()) for one in clips]
    side = int(lengths[1] < lengths[0])
    shorter = lengths[side]
    if min_share is not None:
        covered = _covered([(segment.first, segment.second)[side] for segment in segments])
        return segments if covered >= min_share * shorter - 1e-6 else []
    return [
        segment
        for segment in segments
        if segment.seconds(side) >= _STILL_SHARE * shorter - 1e-6
        or not _is_still(searcher, videos[side], segment, side)
    ]


def _is_still(searcher: Searcher, video: int, segment: SharedSegment, side: int) -> bool:
    """Whether most clips of a segment show up to three still pictures, or it is a single clip.

    Clips of black, a title card or colour bars match each other as well as they match the other
    video. Clips at a cut, at the start and at the end may show something else too.
    """
    rows = searcher.videos.rows(video)
    clips = searcher.clips[rows]
    start, end = (segment.first, segment.second)[side]
    inside = np.flatnonzero(
        (clips["start_seconds"] >= start - 1e-6) & (clips["end_seconds"] <= end + 1e-6)
    )
    if len(inside) < 2:
        return True
    vectors = searcher.engine.take(rows.start + inside)
    level = max(_STILL_COSINE - 2 * max(0.0, 1 - segment.score), _LEAST_STILL_COSINE)
    alike = np.einsum("nd,nd->n", vectors[1:], vectors[:-1]) >= level
    runs = np.split(np.arange(len(vectors)), np.flatnonzero(~alike) + 1)
    stills = [run for run in runs if len(run) > 1]
    if len(stills) > _MOST_STILLS or 2 * sum(map(len, stills)) <= len(vectors):
        return False
    return all(_mean_cosine(vectors[run]) >= level for run in stills)


def _mean_cosine(vectors: NDArray[np.float32]) -> float:
    """Mean over all pairs of a sample of a run, which shows slow movement; neighbours do not."""
    taken = np.linspace(0, len(vectors) - 1, min(len(vectors), _STILL_SAMPLE)).astype(int)
    cosines = vectors[taken] @ vectors[taken].T
    return float(cosines[np.triu_indices(len(taken), 1)].mean())


def _covered(spans: list[tuple[float, float]]) -> float:
    """Seconds that are covered by the union of spans."""
    total, reached = 0.0, -np.inf
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return float(total)


def _span(clips: NDArray[Any]) -> tuple[float, float]:
    return float(clips["start_seconds"].min()), float(clips["end_seconds"].max())


def _inside(one: tuple[float, float], other: tuple[float, float]) -> bool:
    overlap = min(one[1], other[1]) - max(one[0], other[0])
    return overlap > 0.5 * (one[1] - one[0])
