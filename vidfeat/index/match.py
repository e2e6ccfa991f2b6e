"""The options and results of a search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import UsageError


@dataclass(frozen=True)
class Match:
    """A segment of a video that matches a query.

    Attributes:
        video: path of the video, as in the index.
        start_seconds: where the segment starts.
        end_seconds: where it ends.
        score: similarity: the mean over the query's clips of each one's best cosine with a clip of
            the video, or the best of all (``rank_by``); minus the background's if requested.
        query_start_seconds: where in the query the matching part starts.
        query_end_seconds: where it ends.
        query: number of the query that it matches, if there are several.
        video_id: row of the video in the index's table.
    """

    video: str
    start_seconds: float
    end_seconds: float
    score: float
    query_start_seconds: float = 0.0
    query_end_seconds: float = 0.0
    query: int = 0
    video_id: int = -1

    def __repr__(self) -> str:
        of = f", query {self.query}" if self.query else ""
        return (
            f"Match({self.video!r}, {self.start_seconds:.2f} to {self.end_seconds:.2f} s, "
            f"score {self.score:.3f}{of})"
        )

    def to_dict(self) -> dict[str, str | float]:
        """The four values of ``search --json``."""
        return {
            "video": self.video,
            "start_seconds": round(self.start_seconds, 6),
            "end_seconds": round(self.end_seconds, 6),
            "score": round(self.score, 6),
        }


@dataclass(frozen=True)
class SearchOptions:
    """How to search.

    Attributes:
        k: number of results.
        clips: return every near clip, not videos.
        per_video: maximum number of segments of one video; overlapping ones are joined.
        exact: compare with every vector, whatever the kind of the index.
        normalize_scores: subtract from each query clip's cosines their mean with a background
            sample of the index, so that scores of different queries can be compared.
        rank_by: ``mean`` ranks videos by the mean over the query's clips of each one's best cosine
            with a clip of the video, so that all of the query counts; ``best`` by the best pair of
            clips, which finds videos that share one scene. Both are the same for a query of one
            clip.
        between_seconds: find only clips that lie between these two seconds of their videos.
    """

    k: int = 10
    clips: bool = False
    per_video: int = 1
    exact: bool = False
    normalize_scores: bool = False
    rank_by: Literal["mean", "best"] = "mean"
    between_seconds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.k < 1:
            raise UsageError(f"k is {self.k}, expected 1 or more", field="k")
        if self.per_video < 1:
            raise UsageError(
                f"per_video is {self.per_video}, expected 1 or more", field="per_video"
            )
        if self.rank_by not in ("mean", "best"):
            raise UsageError(f"rank_by is {self.rank_by!r}, expected mean or best", field="rank_by")
        if self.between_seconds is not None and not (
            0 <= self.between_seconds[0] < self.between_seconds[1]
        ):
            raise UsageError(
                f"between_seconds is {self.between_seconds[0]:g} to {self.between_seconds[1]:g}, "
                "expected a start of 0 or more and an end after it",
                field="between_seconds",
            )

    def inside(
        self, start_seconds: NDArray[np.float64], end_seconds: NDArray[np.float64]
    ) -> NDArray[np.bool_] | None:
        """Which clips lie between the requested seconds; None for all."""
        if self.between_seconds is None:
            return None
        low, high = self.between_seconds
        return (start_seconds >= low - 1e-6) & (end_seconds <= high + 1e-6)


@dataclass(frozen=True, eq=False)
class Query:
    """The clips to search with.

    Attributes:
        vectors: (Q, D), as the encoder returned them, or normalised by the index.
        start_seconds: (Q,)
        end_seconds: (Q,)
        name: name in messages and results.
        normalised: whether the vectors are normalised by the index.
        video_id: row of the stored video that the clips are from; -1 for others.
        text: the phrase, if it is one; empty for clips.
        file: the file that the clips were read from, if it is not a stored video.
        scale: factor of scores, if ``vectors`` stand for several examples.
        positive: the examples that it was made of, if there are several.
        negative: the negative examples.
    """

    vectors: NDArray[np.float32]
    start_seconds: NDArray[np.float64]
    end_seconds: NDArray[np.float64]
    name: str = "the query"
    normalised: bool = False
    video_id: int = -1
    text: str = ""
    file: str = ""
    scale: float = 1.0
    positive: tuple[Query, ...] = ()
    negative: tuple[Query, ...] = ()

    @property
    def lies_apart(self) -> bool:
        """Whether it may be far from all clips: it has a phrase, or a negative example."""
        return bool(self.text or self.negative) or any(one.lies_apart for one in self.positive)

    @property
    def video_ids(self) -> list[int]:
        """Rows of the stored videos that the query or its examples are from."""
        examples = (*self.positive, *self.negative)
        rows = {self.video_id, *(row for example in examples for row in example.video_ids)}
        return sorted(rows - {-1})
