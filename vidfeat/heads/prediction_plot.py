"""Predictions of videos as a picture and as a table: bars of the best classes, or timelines."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vidfeat.evaluation.plots import (
    MOST_LANES,
    class_colours,
    figure,
    label_bars,
    shorten,
    time_line,
)
from vidfeat.system.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vidfeat.heads.classify import VideoPrediction


@contextmanager
def classified(videos: Sequence[VideoPrediction]) -> Iterator[Figure]:
    """A figure of predictions: bars of the best classes, or timelines, one per row."""
    heights = []
    for video in videos:
        lanes = min(len(video.classes), MOST_LANES) if video.segments else len(video.predictions)
        heights.append(0.55 + 0.28 * lanes)
    with figure(7.0, sum(heights) + 0.45 * len(videos), rows=len(videos)) as (made, axes):
        grid = axes[0].get_gridspec()
        assert grid is not None  # axes made by add_subplot have one
        grid.set_height_ratios(heights)
        for one, video in zip(axes, videos, strict=True):
            one.set_title(shorten(video.path, 70).replace("$", r"\$"))
            if video.segments:
                edges = [segment.start_seconds for segment in video.segments]
                time_line(
                    one,
                    [*edges, video.segments[-1].end_seconds],
                    np.stack([segment.scores for segment in video.segments]),
                    video.classes,
                    class_colours(video.classes),
                )
            else:
                label_bars(
                    one,
                    [prediction.label for prediction in video.predictions],
                    [prediction.score for prediction in video.predictions],
                )
        yield made


def write_csv(path: Path, videos: Sequence[VideoPrediction]) -> None:
    """Write the scores of all classes: one line per segment, or per video without a timeline."""
    with (
        atomic_write(path) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        classes = videos[0].classes
        writer.writerow(["path", "start_seconds", "end_seconds", "best", *classes])
        for video in videos:
            rows: list[tuple[float | str, float | str, NDArray[np.float64]]]
            rows = [
                (round(s.start_seconds, 6), round(s.end_seconds, 6), s.scores)
                for s in video.segments
            ]
            for start, end, scores in rows or [("", "", video.scores)]:
                best = classes[int(scores.argmax())]
                writer.writerow([video.path, start, end, best, *(f"{s:.6f}" for s in scores)])
