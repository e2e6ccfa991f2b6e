"""Copies within an index: pairs of videos that share segments, and the groups they form.

The neighbours of every clip are searched with an index, not among all clips: a copy is so near that
it is in the same few lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import UsageError
from vidfeat.index.shared_segments import (
    SharedSegment,
    distinctive_segments,
    shared_segments,
    usual_hop_seconds,
)
from vidfeat.index.video_index import VideoIndex

# Below this, comparing everything takes less than a second.
_COMPARE_ALL_ROWS = 4096
_BLOCK = 1024
_NEIGHBOURS = 32
_MOST_NEIGHBOURS = 16_384
_MOST_CLIP_PAIRS = 30_000_000
_MOST_ANSWERS = 1 << 22
_PROBES = 8
_SEED = 99
_CLIP_PAIR = np.dtype([("first", "<i8"), ("second", "<i8"), ("score", "<f4")])


@dataclass(frozen=True)
class DuplicatePair:
    """Two videos that share segments.

    Attributes:
        videos: their paths, in the order of the index.
        score: of the best segment.
        segments: shared segments, the longest first.
    """

    videos: tuple[str, str]
    score: float
    segments: tuple[SharedSegment, ...]


@dataclass(frozen=True)
class Duplicates:
    """All pairs, best first, and the groups that they form.

    Attributes:
        pairs: two videos each.
        groups: paths that are connected by pairs, the largest group first.
        comparisons: number of vector comparisons that were made.
        num_cut: clips with too many near neighbours to list; 0 if all pairs are listed.
        num_left_out: pairs that share too little to be copies, such as a black leader.
    """

    pairs: tuple[DuplicatePair, ...]
    groups: tuple[tuple[str, ...], ...]
    comparisons: int
    num_cut: int = 0
    num_left_out: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Pairs and groups, for JSON."""
        return {
            "pairs": [
                {
                    "videos": list(pair.videos),
                    "score": round(pair.score, 6),
                    "segments": [
                        {
                            "first": [round(value, 6) for value in segment.first],
                            "second": [round(value, 6) for value in segment.second],
                            "score": round(segment.score, 6),
                        }
                        for segment in pair.segments
                    ],
                }
                for pair in self.pairs
            ],
            "groups": [list(group) for group in self.groups],
            "clips_with_pairs_left_out": self.num_cut,
            "pairs_left_out": self.num_left_out,
        }


def find_duplicates(
    index: VideoIndex,
    threshold: float = 0.95,
    *,
    min_share: float | None = None,
    report: Callable[[str], None] | None = None,
) -> Duplicates:
    """Pairs of videos with clips at least as near as a threshold, and their groups.

    Args:
        index: the index.
        threshold: minimum cosine similarity of two clips that count as copies.
        min_share: minimum share of the shorter video that a pair has in common. None accepts every
            moving segment, and a still one (black, a title card) that covers half of the shorter
            video.
        report: called with lines that describe the progress.

    Raises:
        UsageError: an invalid threshold or share, or a threshold so low that nearly everything is a
            copy.
    """
    if not 0 < threshold <= 1:
        raise UsageError(
            f"threshold is {threshold:g}, expected a cosine above 0, up to 1", field="threshold"
        )
    if min_share is not None and not 0 <= min_share <= 1:
        raise UsageError(f"min_share is {min_share:g}, expected 0 to 1", field="min_share")
    finder = _Finder(index)
    parts: list[NDArray[Any]] = []
    total = 0
    for done, (rows, others, scores) in enumerate(finder.blocks(threshold)):
        video = finder.video_of
        held = video[rows] != video[others]
        rows, others, scores = rows[held], others[held], scores[held]
        swap = video[rows] > video[others]
        first, second = np.where(swap, others, rows), np.where(swap, rows, others)
        block = np.empty(len(first), dtype=_CLIP_PAIR)
        block["first"], block["second"], block["score"] = first, second, scores
        if finder.is_exact:
            block = block[~swap]  # each pair is found from both of its clips
        parts.append(block)
        total += len(block)
        if total > _MOST_CLIP_PAIRS:
            raise UsageError(
                f"more than {_MOST_CLIP_PAIRS} pairs of clips are nearer than {threshold:g}: give "
                "a threshold nearer to 1, or build the index with center",
                field=("threshold", "center"),
            )
        if report and done % 20 == 19:
            report(f"looked at {min((done + 1) * _BLOCK, finder.num_rows)} of {finder.num_rows}")
    pairs, left_out = _pairs(index, parts, min_share)
    return Duplicates(pairs, _groups(index, pairs), finder.comparisons, finder.num_cut, left_out)


class _Finder:
    """Neighbours of every clip, a block of clips at a time."""

    def __init__(self, index: VideoIndex) -> None:
        searcher = index.searcher
        self.engine = searcher.engine
        self.keep = searcher.alive_rows
        self.video_of = searcher.clips["video"]
        every = np.arange(self.engine.num_rows)
        self.rows = every if self.keep is None else every[self.keep]
        self.num_rows = len(self.rows)
        self.comparisons = 0
        self.num_cut = 0
        self._lists = self._make_lists() if self._wants_lists() else None

    @property
    def is_exact(self) -> bool:
        """Whether every clip is compared with every other."""
        return self._lists is None and self.engine.head.kind == "flat"

    def _wants_lists(self) -> bool:
        return self.engine.head.kind == "flat" and self.num_rows > _COMPARE_ALL_ROWS

    def _make_lists(self) -> Any:
        """A temporary index of inverted lists over the uncompressed vectors."""
        import faiss

        dimension = self.engine.head.dimension
        lists = int(2 * np.sqrt(self.num_rows))
        coarse = faiss.IndexFlatIP(dimension)
        index = faiss.IndexIVFFlat(coarse, dimension, lists, faiss.METRIC_INNER_PRODUCT)
        index.cp.seed = _SEED
        index.cp.niter = 8
        index.cp.min_points_per_centroid = 1
        sample = self.rows
        if self.num_rows > 50 * lists:
            rng = np.random.default_rng(_SEED)
            sample = np.sort(rng.choice(self.rows, 50 * lists, replace=False))
        index.train(self.engine.take(sample))
        for low in range(0, self.num_rows, 16_384):
            rows = self.rows[low : low + 16_384]
            index.add_with_ids(self.engine.take(rows), rows)
        index.nprobe = min(_PROBES, lists)
        return index

    def blocks(
        self, threshold: float
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
        """Pairs of rows and neighbours whose cosine is at least the threshold, with the cosine."""
        for low in range(0, self.num_rows, _BLOCK):
            rows = self.rows[low : low + _BLOCK]
            count = min(_NEIGHBOURS, self.num_rows)
            found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
            most = min(_MOST_NEIGHBOURS, self.num_rows)
            while len(rows):
                full = np.zeros(len(rows), dtype=bool)
                step = max(_MOST_ANSWERS // count, 1)
                for first in range(0, len(rows), step):
                    asked = rows[first : first + step]
                    scores, others = self._nearest(self.engine.take(asked), count)
                    near = (scores >= threshold) & (others >= 0)
                    # A clip whose neighbours fill all places is searched again for more.
                    more = near[:, -1] if near.shape[1] else np.zeros(len(asked), dtype=bool)
                    if count >= most:
                        self.num_cut += int(more.sum()) if most < self.num_rows else 0
                        more = np.zeros(len(asked), dtype=bool)
                    at, place = np.nonzero(near & ~more[:, None])
                    found.append((asked[at], others[at, place], scores[at, place]))
                    full[first : first + step] = more
                rows = rows[full]
                count = min(4 * count, most)
            yield (
                np.concatenate([part[0] for part in found]),
                np.concatenate([part[1] for part in found]),
                np.concatenate([part[2] for part in found]),
            )

    def _nearest(
        self, vectors: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        import faiss

        if self._lists is None and self.engine.head.kind == "flat":
            self.comparisons += len(vectors) * self.num_rows
            return self.engine.nearest(vectors, count, keep=self.keep)
        stats = faiss.cvar.indexIVF_stats
        before = int(stats.ndis)
        if self._lists is None:
            # A copy is so near that few lists and candidates suffice.
            search = {"candidates": max(4 * count, 100), "ef_search": 64}
            search["nprobe"] = min(_PROBES, self.engine.head.search.get("nprobe", _PROBES))
            answer = self.engine.nearest(vectors, count, keep=self.keep, search=search)
        else:
            answer = self._lists.search(vectors, count)
        self.comparisons += int(stats.ndis) - before
        return answer


# ---------------------------------------------------------------------- from clips to videos


def _pairs(
    index: VideoIndex, parts: list[NDArray[Any]], min_share: float | None
) -> tuple[tuple[DuplicatePair, ...], int]:
    """Pairs of videos, best first, and the number of pairs left out."""
    every = np.concatenate([np.empty(0, dtype=_CLIP_PAIR), *parts])
    if not len(every):
        return (), 0
    clips, paths = index.searcher.clips, index.videos.paths
    one, two = clips["video"][every["first"]], clips["video"][every["second"]]
    order = np.lexsort((every["second"], every["first"], two, one))
    every, one, two = every[order], one[order], two[order]
    same = (every["first"][1:] == every["first"][:-1]) & (
        every["second"][1:] == every["second"][:-1]
    )
    kept = np.concatenate([[True], ~same])
    every, one, two = every[kept], one[kept], two[kept]
    edges = np.flatnonzero((one[1:] != one[:-1]) | (two[1:] != two[:-1])) + 1
    found: list[DuplicatePair] = []
    left_out = 0

    @cache
    def hop_of(video: int) -> float:
        return usual_hop_seconds(clips["start_seconds"][index.videos.rows(video)])

    for part in np.split(np.arange(len(every)), edges):
        block = every[part]
        videos = int(one[part[0]]), int(two[part[0]])
        segments = shared_segments(
            clips[block["first"]],
            clips[block["second"]],
            block["score"].astype(np.float64),
            min(map(hop_of, videos)),
        )
        segments = distinctive_segments(index.searcher, videos, segments, min_share)
        if not segments:
            left_out += 1
            continue
        best = max(segment.score for segment in segments)
        names = (paths[videos[0]], paths[videos[1]])
        found.append(DuplicatePair(names, best, tuple(segments)))
    found.sort(key=lambda pair: (-pair.score, pair.videos))
    return tuple(found), left_out


def _groups(index: VideoIndex, pairs: tuple[DuplicatePair, ...]) -> tuple[tuple[str, ...], ...]:
    leader: dict[str, str] = {}

    def find(path: str) -> str:
        while leader.setdefault(path, path) != path:
            leader[path] = leader[leader[path]]
            path = leader[path]
        return path

    for pair in pairs:
        one, two = (find(path) for path in pair.videos)
        leader[two] = one
    row_of = index.videos.row_of
    groups: dict[str, list[str]] = {}
    for path in sorted(leader, key=lambda path: row_of[path]):
        groups.setdefault(find(path), []).append(path)
    return tuple(tuple(group) for group in sorted(groups.values(), key=lambda group: -len(group)))
