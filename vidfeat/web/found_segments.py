"""Segments that a head finds in a collection: runs of clips that it assigns to a class."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidfeat.web.label_book import seconds


@dataclass(frozen=True)
class FoundSegment:
    """A segment of a video that shows a class.

    Attributes:
        video: row of the video in the index.
        start_seconds: where its first clip starts.
        end_seconds: where its last clip ends.
        score: the mean over its clips.
        best_seconds: the middle of the clip with the highest score.
        clips: number of clips.
    """

    video: int
    start_seconds: float
    end_seconds: float
    score: float
    best_seconds: float
    clips: int


def find_segments(
    scores: NDArray[np.float32],
    video: NDArray[np.int64],
    start_seconds: NDArray[np.float64],
    end_seconds: NDArray[np.float64],
    *,
    allowed: NDArray[np.bool_],
    threshold: float,
) -> list[FoundSegment]:
    """Segments whose clips all score at least the threshold, highest score first.

    Args:
        scores: (N,) scores of the class; the clips of a video are consecutive.
        video: (N,) row of each clip's video.
        start_seconds: (N,) of the clips.
        end_seconds: (N,).
        allowed: (N,) clips that may be found.
        threshold: minimum score.
    """
    taken = (scores >= threshold) & allowed
    # A run begins if the clip before is not taken, or belongs to another video.
    before = np.concatenate([[False], taken[:-1]])
    other = np.concatenate([[True], video[1:] != video[:-1]])
    begins = np.flatnonzero(taken & (~before | other))
    if not len(begins):
        return []
    run = np.cumsum(taken & (~before | other)) - 1
    rows = np.flatnonzero(taken)
    counts = np.bincount(run[rows], minlength=len(begins))
    sums = np.bincount(run[rows], weights=scores[rows], minlength=len(begins))
    ends = begins + counts - 1
    means = sums / counts
    found = []
    for place in np.argsort(-means, kind="stable").tolist():
        first, last = int(begins[place]), int(ends[place])
        best = first + int(np.argmax(scores[first : last + 1]))
        found.append(
            FoundSegment(
                video=int(video[first]),
                start_seconds=float(start_seconds[first]),
                end_seconds=float(end_seconds[first : last + 1].max()),
                score=float(means[place]),
                best_seconds=float(start_seconds[best] + end_seconds[best]) / 2,
                clips=int(counts[place]),
            )
        )
    return found


def segments_csv(segments: Iterable[tuple[str, str, FoundSegment]]) -> str:
    """A table of path, class and segment, for spreadsheets and `read_labels`."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["path", "start_seconds", "end_seconds", "label", "score", "clips"])
    for path, name, one in segments:
        row = [path, seconds(one.start_seconds), seconds(one.end_seconds), name]
        writer.writerow([*row, f"{one.score:.4f}", one.clips])
    return out.getvalue()
