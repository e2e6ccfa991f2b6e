"""Copies within an index: pairs of videos with stretches that are nearly the same, and groups.

Every clip looks for its neighbours through an index, never through all clips: a copy is so near
that it stands in the same few lists. Pairs of clips with the same shift in time are joined into
stretches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import UsageError
from vidfeat.index.video_index import VideoIndex

# Below this, comparing everything takes less than a second and there is nothing to gain.
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
class SharedStretch:
    """The same seconds in two videos.

    Attributes:
        first: start and end seconds in the first video.
        second: start and end seconds in the second.
        score: mean cosine of its pairs of clips.
    """

    first: tuple[float, float]
    second: tuple[float, float]
    score: float


@dataclass(frozen=True)
class DuplicatePair:
    """Two videos that share something.

    Attributes:
        videos: their paths, in the order of the index.
        score: of the best stretch.
        stretches: what they share, the longest first.
    """

    videos: tuple[str, str]
    score: float
    stretches: tuple[SharedStretch, ...]


@dataclass(frozen=True)
class Duplicates:
    """All pairs, best first, and the groups that they make.

    Attributes:
        pairs: two videos each.
        groups: paths that are joined by pairs, the largest group first.
        comparisons: vectors that were compared, to be set against all with all.
        num_cut: clips with so many near neighbours that not all were listed; 0 where all pairs are
            there.
    """

    pairs: tuple[DuplicatePair, ...]
    groups: tuple[tuple[str, ...], ...]
    comparisons: int
    num_cut: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Pairs and groups, for JSON."""
        return {
            "pairs": [
                {
                    "videos": list(pair.videos),
                    "score": round(pair.score, 6),
                    "stretches": [
                        {
                            "first": [round(value, 6) for value in stretch.first],
                            "second": [round(value, 6) for value in stretch.second],
                            "score": round(stretch.score, 6),
                        }
                        for stretch in pair.stretches
                    ],
                }
                for pair in self.pairs
            ],
            "groups": [list(group) for group in self.groups],
            "clips_with_pairs_left_out": self.num_cut,
        }


def find_duplicates(
    index: VideoIndex,
    threshold: float = 0.95,
    *,
    report: Callable[[str], None] | None = None,
) -> Duplicates:
    """Pairs of videos with clips at least as near as a threshold, and their groups.

    Args:
        index: the index.
        threshold: least cosine of two clips that are called copies.
        report: is told of the progress.

    Raises:
        UsageError: a threshold that cannot be, or so low that nearly all is a copy.
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"threshold {threshold:g}: --threshold takes a cosine above 0, up to 1")
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
                "a --threshold nearer to 1, or build the index with --center"
            )
        if report and done % 20 == 19:
            report(f"looked at {min((done + 1) * _BLOCK, finder.num_rows)} of {finder.num_rows}")
    pairs = _pairs(index, parts)
    return Duplicates(pairs, _groups(index, pairs), finder.comparisons, finder.num_cut)


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
        """Every clip is compared with every other."""
        return self._lists is None and self.engine.head.kind == "flat"

    def _wants_lists(self) -> bool:
        return self.engine.head.kind == "flat" and self.num_rows > _COMPARE_ALL_ROWS

    def _make_lists(self) -> Any:
        """An index of inverted lists over the whole vectors, for this once."""
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
        """Rows, their neighbours, and cosines of at least the threshold."""
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
                    # A clip whose places are all taken asks for more.
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
            # A copy is so near that few lists and candidates hold it.
            search = {"candidates": max(4 * count, 100), "ef_search": 64}
            search["nprobe"] = min(_PROBES, self.engine.head.search.get("nprobe", _PROBES))
            answer = self.engine.nearest(vectors, count, keep=self.keep, search=search)
        else:
            answer = self._lists.search(vectors, count)
        self.comparisons += int(stats.ndis) - before
        return answer


# ---------------------------------------------------------------------- from clips to stretches


def _pairs(index: VideoIndex, parts: list[NDArray[Any]]) -> tuple[DuplicatePair, ...]:
    every = np.concatenate([np.empty(0, dtype=_CLIP_PAIR), *parts])
    if not len(every):
        return ()
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
    found = []

    @cache
    def hop_of(video: int) -> float:
        return _hop_seconds(clips["start_seconds"][index.videos.rows(video)])

    for part in np.split(np.arange(len(every)), edges):
        block = every[part]
        hop = min(hop_of(int(one[part[0]])), hop_of(int(two[part[0]])))
        stretches = shared_stretches(
            clips[block["first"]], clips[block["second"]], block["score"].astype(np.float64), hop
        )
        best = max(stretch.score for stretch in stretches)
        names = (paths[int(one[part[0]])], paths[int(two[part[0]])])
        found.append(DuplicatePair(names, best, tuple(stretches)))
    found.sort(key=lambda pair: (-pair.score, pair.videos))
    return tuple(found)


def shared_stretches(
    first: NDArray[Any],
    second: NDArray[Any],
    scores: NDArray[np.float64],
    hop_seconds: float,
) -> list[SharedStretch]:
    """Join pairs of clips with the same shift in time; the longest first, none inside a longer one.

    Args:
        first: (N,) times of the first video's clips.
        second: (N,) times of the second video's.
        scores: (N,) their cosines.
        hop_seconds: usual distance of two clips in a video, the smaller one of the two.
    """
    shift = second["start_seconds"] - first["start_seconds"]
    order = np.argsort(shift, kind="stable")
    breaks = np.flatnonzero(np.diff(shift[order]) > 0.51 * hop_seconds) + 1
    found: list[SharedStretch] = []
    for same in np.split(order, breaks):
        line = same[np.argsort(first["start_seconds"][same], kind="stable")]
        starts = first["start_seconds"][line]
        runs = np.split(line, np.flatnonzero(np.diff(starts) > 2.02 * hop_seconds) + 1)
        found += [
            SharedStretch(_span(first[run]), _span(second[run]), float(scores[run].mean()))
            for run in runs
        ]
    found.sort(key=lambda stretch: (stretch.first[0] - stretch.first[1], -stretch.score))
    kept: list[SharedStretch] = []
    for stretch in found:
        if not any(
            _inside(stretch.first, longer.first) and _inside(stretch.second, longer.second)
            for longer in kept[:64]
        ):
            kept.append(stretch)
    return kept


def _hop_seconds(starts: NDArray[np.float64]) -> float:
    """The usual distance of a video's clips; the last one may be nearer, as it ends with it."""
    steps = np.diff(np.unique(starts))
    return float(np.median(steps)) if len(steps) else 1.0


def _span(clips: NDArray[Any]) -> tuple[float, float]:
    return float(clips["start_seconds"].min()), float(clips["end_seconds"].max())


def _inside(one: tuple[float, float], other: tuple[float, float]) -> bool:
    overlap = min(one[1], other[1]) - max(one[0], other[0])
    return overlap > 0.5 * (one[1] - one[0])


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
