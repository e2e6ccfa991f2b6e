"""The picture of what is in videos: bars of the best classes, or time lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vidfeat.evaluation.plots import PALETTE, figure, label_bars, shorten, time_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vidfeat.heads.classify import VideoPrediction


@contextmanager
def classified(videos: Sequence[VideoPrediction]) -> Iterator[Figure]:
    """A figure of what is in videos: bars of the best classes, or time lines, one a row."""
    said = {segment.predictions[0].label for video in videos for segment in video.segments}
    colours = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(sorted(said))}
    heights = []
    for video in videos:
        lanes = len({segment.predictions[0].label for segment in video.segments})
        heights.append(0.55 + 0.28 * (min(lanes, 8) if video.segments else len(video.predictions)))
    with figure(7.0, sum(heights) + 0.45 * len(videos), rows=len(videos)) as (made, axes):
        grid = axes[0].get_gridspec()
        assert grid is not None  # axes made by add_subplot have one
        grid.set_height_ratios(heights)
        for one, video in zip(axes, videos, strict=True):
            one.set_title(shorten(video.path, 70).replace("$", r"\$"))
            if video.segments:
                time_line(
                    one,
                    [segment.start_seconds for segment in video.segments],
                    [segment.end_seconds for segment in video.segments],
                    [segment.predictions[0].label for segment in video.segments],
                    [segment.predictions[0].score for segment in video.segments],
                    colours,
                )
            else:
                label_bars(
                    one,
                    [prediction.label for prediction in video.predictions],
                    [prediction.score for prediction in video.predictions],
                )
        yield made
