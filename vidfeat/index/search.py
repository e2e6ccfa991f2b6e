"""From near clips to results: the best clip of each video, extended to the segment that matches.

Each clip of the query has a best cosine with a video; the video's score is their mean (or the best
of them). If the query has several clips, the result is the segment of the video that aligns with it
in time, as far as it stays above the background.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vidfeat.index.align import Aligned, align
from vidfeat.index.engine import SearchEngine
from vidfeat.index.match import Match, Query, SearchOptions
from vidfeat.index.recall import sample_rows
from vidfeat.index.videos import Videos

BACKGROUND_ROWS = 512
_QUERY_BLOCK = 128
_LONG_QUERY = 64
_EXACT_ROWS = 65_536
# If a search leaves out no more videos than this, they are skipped one by one.
_FEW_VIDEOS = 64
# Cosines held at a time (64 MB), and hits per round: limits for long queries.
_MOST_SCORES = 1 << 24
_MOST_HITS = 1 << 20
# The settings of an index are tuned for queries that lie among its clips. Phrases are far from all
# clips, where the nearest lists say less. Up to this many pairs of query and clip they are compared
# exactly (about a second); above that, with this many times more lists and candidates.
_APART_EXACT_PAIRS = 1_000_000
_APART_BREADTH = 16


@dataclass(eq=False)
class Searcher:
    """Searches over an open index.

    Attributes:
        engine: finds clips.
        clips: (N,) video, start and end of every row.
        videos: the table of videos.
    """

    scans: ClassVar[bool] = True
    """Whether an exact search may read all vectors, since they are on this machine."""

    engine: SearchEngine
    clips: NDArray[np.void]
    videos: Videos

    @cached_property
    def alive_rows(self) -> NDArray[np.bool_] | None:
        """Rows of videos that were not removed; None for all."""
        alive = self.videos["alive"]
        return None if alive.all() else alive[self.clips["video"]]

    @cached_property
    def background(self) -> NDArray[np.float32]:
        """Vectors of a seeded sample of the index, (B, D)."""
        return self.engine.take(sample_rows(self.engine.num_rows, BACKGROUND_ROWS))

    def rows_of(self, allowed: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
        """Rows that may be found: those of allowed videos that are alive."""
        if allowed is None:
            return self.alive_rows
        alive = self.videos["alive"]
        left_out = np.flatnonzero(alive & ~allowed)
        if len(left_out) > _FEW_VIDEOS:
            return (allowed & alive)[self.clips["video"]]  # type: ignore[no-any-return]
        # Looking up the video of every row can take longer than the search.
        if self.alive_rows is None:
            rows = np.ones(len(self.clips), dtype=bool)
        else:
            rows = self.alive_rows.copy()
        for video in left_out.tolist():
            rows[self.videos.rows(video)] = False
        return rows

    def search(
        self, query: Query, options: SearchOptions, allowed: NDArray[np.bool_] | None = None
    ) -> list[Match]:
        """Search, and return the results, best first.

        Args:
            query: with normalised vectors.
            options: how to search.
            allowed: (V,) videos that may be found; None for all.
        """
        keep = self.rows_of(allowed)
        inside = self._inside(options)
        if inside is not None:
            keep = inside if keep is None else keep & inside
        if keep is not None and not keep.any():
            return []
        if query.lies_apart and len(query.vectors) * self.engine.num_rows <= _APART_EXACT_PAIRS:
            options = replace(options, exact=True)
        found = (self._clips if options.clips else self._videos)(query, options, keep)
        if query.scale == 1.0:
            return found
        return [replace(match, score=match.score * query.scale) for match in found]

    def _inside(self, options: SearchOptions) -> NDArray[np.bool_] | None:
        """Rows between the requested seconds; None for all."""
        if options.between_seconds is None:
            return None
        return options.inside(self.clips["start_seconds"], self.clips["end_seconds"])

    # ------------------------------------------------------------------ clips

    def _clips(
        self, query: Query, options: SearchOptions, keep: NDArray[np.bool_] | None
    ) -> list[Match]:
        scores, rows, who = self._hits(query, options, keep, options.k)
        found: dict[int, Aligned] = {}
        for score, row, clip in zip(scores.tolist(), rows.tolist(), who.tolist(), strict=True):
            if row not in found:
                found[row] = Aligned(score, (clip,), (row,), score)
                if len(found) == options.k:
                    break
        return self._matches_of_clips(query, list(found.values()))

    def _matches_of_clips(self, query: Query, found: list[Aligned]) -> list[Match]:
        """The results for single clips; a database is asked once for all of their seconds."""
        held = self.clips[[aligned.rows[0] for aligned in found]]
        return [self._match(query, aligned, held[at : at + 1]) for at, aligned in enumerate(found)]

    def _hits(
        self,
        query: Query,
        options: SearchOptions,
        keep: NDArray[np.bool_] | None,
        count: int,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
        """All hits of all query clips, best first: score, row, clip of the query."""
        parts = []
        for low in range(0, len(query.vectors), _QUERY_BLOCK):
            block = query.vectors[low : low + _QUERY_BLOCK]
            scores, rows = self.engine.nearest(
                block,
                count,
                keep=keep,
                exact=options.exact,
                search=self._apart_settings() if query.lies_apart else None,
                results=options.k,
            )
            if options.normalize_scores:
                scores = scores - self._levels(block)[:, None]
            who = np.broadcast_to(np.arange(low, low + len(block))[:, None], rows.shape)
            held = rows >= 0
            parts.append((scores[held], rows[held], who[held]))
        scores, rows, who = (
            np.concatenate([part[column] for part in parts]) for column in range(3)
        )
        order = np.argsort(-scores, kind="stable")
        return scores[order], rows[order], who[order]

    def _apart_settings(self) -> dict[str, int]:
        """The index's settings for queries that are far from its clips."""
        return {name: _APART_BREADTH * value for name, value in self.engine.head.search.items()}

    def _levels(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mean cosine of each query clip with the background, (Q,)."""
        levels: NDArray[np.float32] = (vectors @ self.background.T).mean(axis=1)
        return levels

    # ------------------------------------------------------------------ videos

    def _videos(
        self, query: Query, options: SearchOptions, keep: NDArray[np.bool_] | None
    ) -> list[Match]:
        alone = len(query.vectors) == 1
        # A flat index would compare everything too, and a long query would need too many hits.
        long = len(query.vectors) >= _LONG_QUERY and self.engine.head.kind == "flat"
        if (options.exact and self.scans) or long:
            chosen = self._rank(query, options, self._all_videos(keep))
        else:
            scores, rows, chosen = self._near_videos(query, options, keep)
            if alone and options.per_video == 1:
                return self._matches_of_clips(
                    query,
                    [
                        Aligned(score, (0,), (row,), score)
                        for score, row in zip(scores.tolist(), rows.tolist(), strict=True)
                    ],
                )
            if len(chosen) > options.k:
                chosen = self._rank(query, options, chosen)
        levels = self._levels(query.vectors)
        found: list[tuple[float, Aligned]] = []
        for video in chosen.tolist():
            found += self._segments(query, options, int(video), levels)
        found.sort(key=lambda entry: -entry[0])
        return [
            self._match(query, aligned, self.clips[list(aligned.rows)], rank)
            for rank, aligned in found[: options.k]
        ]

    def _all_videos(self, keep: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        videos = np.flatnonzero(self.videos["alive"] & (self.videos["count"] > 0))
        if keep is None:
            return videos
        found = np.zeros(len(self.videos), dtype=bool)
        found[self.clips["video"][keep]] = True
        return videos[found[videos]]

    def _near_videos(
        self, query: Query, options: SearchOptions, keep: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
        """The videos of the nearest clips: best score, its row, and the video; best first."""
        wanted = options.k
        if len(query.vectors) > 1 and options.rank_by == "mean":
            wanted = 4 * options.k + 16  # the mean needs all of the query's clips
        count = min(max(4 * wanted, 64), self.engine.num_rows)
        count = min(count, max(_MOST_HITS // len(query.vectors), 16))
        scores, rows, videos = self._best_of_videos(query, options, keep, count)
        while len(videos) < wanted:
            every = self._all_videos(keep)
            if len(videos) == len(every):
                break
            # A few videos have most of the hits: search again without those found.
            left = np.zeros(len(self.videos), dtype=bool)
            left[every] = True
            left[videos] = False
            rows_left = left[self.clips["video"]]
            if keep is not None:
                rows_left &= keep
            more = self._best_of_videos(query, options, rows_left, count)
            if not len(more[1]):
                break  # the others have no clip that may be found
            scores = np.concatenate([scores, more[0]])
            rows = np.concatenate([rows, more[1]])
            videos = np.concatenate([videos, more[2]])
        order = np.argsort(-scores, kind="stable")[:wanted]
        return scores[order], rows[order], videos[order]

    def _best_of_videos(
        self, query: Query, options: SearchOptions, keep: NDArray[np.bool_] | None, count: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
        """The best hit of each video among the nearest ``count`` rows of each query clip."""
        scores, rows, _ = self._hits(query, options, keep, count)
        videos, first = np.unique(self.clips["video"][rows], return_index=True)
        return scores[first], rows[first], videos.astype(np.int64)

    def _rank(
        self, query: Query, options: SearchOptions, videos: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """The best of some videos, by all of their clips, in blocks of whole videos."""
        count = self.videos["count"][videos]
        most = max(min(_EXACT_ROWS, _MOST_SCORES // len(query.vectors)), 1)
        block = np.cumsum(count) // most
        best = np.empty(len(videos), dtype=np.float32)
        levels = self._levels(query.vectors)[:, None] if options.normalize_scores else 0
        for part in np.split(np.arange(len(videos)), np.flatnonzero(np.diff(block)) + 1):
            if not len(part):
                continue
            starts = np.cumsum(count[part]) - count[part]
            scores = query.vectors @ self._take_videos(videos[part], starts).T - levels
            self._shut_out(scores, videos[part], options)
            nearest = np.maximum.reduceat(scores, starts, axis=1)
            best[part] = nearest.max(axis=0) if options.rank_by == "best" else nearest.mean(axis=0)
        return videos[np.argsort(-best, kind="stable")[: options.k]]

    def _shut_out(
        self, scores: NDArray[np.float32], videos: NDArray[np.int64], options: SearchOptions
    ) -> None:
        """Set the scores of clips outside the requested seconds to minus infinity."""
        if options.between_seconds is None:
            return
        clips = [self.clips[self.videos.rows(video)] for video in videos.tolist()]
        start, end = (
            np.concatenate([part[name] for part in clips])
            for name in ("start_seconds", "end_seconds")
        )
        scores[:, ~_all_of(options.inside(start, end), len(start))] = -np.inf

    def _take_videos(
        self, videos: NDArray[np.int64], starts: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Vectors of all clips of some videos; not copied if they are adjacent."""
        offset, count = self.videos["offset"][videos], self.videos["count"][videos]
        first, total = int(offset[0]), int(count.sum())
        if np.array_equal(offset - first, starts) and (
            first >= self.engine.num_base or first + total <= self.engine.num_base
        ):
            return self.engine.take_slice(slice(first, first + total))
        return self.engine.take(np.repeat(offset - starts, count) + np.arange(total))

    def _segments(
        self, query: Query, options: SearchOptions, video: int, levels: NDArray[np.float32]
    ) -> list[tuple[float, Aligned]]:
        """The best segments of a video and their scores, best first."""
        span = self.videos.rows(video)
        scores = query.vectors @ self.engine.take_slice(span).T
        if options.normalize_scores:
            scores -= levels[:, None]
            levels = np.zeros_like(levels)
        held = self.clips[span]
        start, end = held["start_seconds"], held["end_seconds"]
        rows = np.arange(span.start, span.stop)
        inside = options.inside(start, end)
        if inside is not None:
            scores, start, end, rows = scores[:, inside], start[inside], end[inside], rows[inside]
        found = [
            replace(aligned, rows=tuple(rows[list(aligned.rows)].tolist()))
            for aligned in align(
                scores, query.start_seconds, start, end, levels, first_row=0, most=options.per_video
            )
        ]
        if options.rank_by == "best":
            return [(aligned.best, aligned) for aligned in found]
        whole = float(scores.max(axis=1).mean())
        # Further segments of a video cannot score higher than the whole video.
        return [
            (whole if number == 0 else min(whole, aligned.mean), aligned)
            for number, aligned in enumerate(found)
        ]

    def _match(
        self,
        query: Query,
        aligned: Aligned,
        held: NDArray[np.void],
        score: float | None = None,
    ) -> Match:
        """The result for a segment, whose clips are ``held``."""
        clips = list(aligned.clips)
        video = int(held["video"][0])
        return Match(
            video=self.videos.paths[video],
            start_seconds=float(held["start_seconds"].min()),
            end_seconds=float(held["end_seconds"].max()),
            score=float(aligned.best if score is None else score),
            query_start_seconds=float(query.start_seconds[clips].min()),
            query_end_seconds=float(query.end_seconds[clips].max()),
            video_id=video,
        )


def _all_of(which: NDArray[np.bool_] | None, count: int) -> NDArray[np.bool_]:
    return np.ones(count, dtype=bool) if which is None else which
