"""Labelled samples: the rows of a feature file that belong to each label."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vidfeat.datasets.label_rows import LabelRow, describe_row, group_of
from vidfeat.datasets.matching import LabelTable, match_rows, no_match
from vidfeat.datasets.part_names import part_of
from vidfeat.errors import DataError
from vidfeat.system.wording import counted

if TYPE_CHECKING:
    from vidfeat.store.reader import FeatureStore

ROWS_AT_ONCE = 16384


@dataclass(frozen=True)
class Samples:
    """Labelled videos or segments with their clip vectors.

    Sample ``i`` has the clips ``first[i]`` to ``first[i + 1]``. S samples, N clips, D dimensions.

    Attributes:
        vectors: float32 (N, D), one row per clip.
        first: int64 (S + 1,), where each sample's clips begin.
        store_rows: int64 (N,), the clip's row in the feature file.
        start_seconds: float64 (N,), what each clip covers.
        end_seconds: float64 (N,).
        rows: the label of each sample.
        classes: all classes, in index order.
        y: int64 (S,), index of each sample's class.
        has_groups: samples have groups that folds must keep together.
        unlabelled: videos of the feature file that no label names.
        missing: names of labels whose video or segment has no clips in the feature file.
        num_by_name: labels that found their video by its file name alone.
        parts: if vectors of several networks are joined, the dimension of each.
    """

    vectors: NDArray[np.float32] = field(repr=False)
    first: NDArray[np.int64] = field(repr=False)
    store_rows: NDArray[np.int64] = field(repr=False)
    start_seconds: NDArray[np.float64] = field(repr=False)
    end_seconds: NDArray[np.float64] = field(repr=False)
    rows: tuple[LabelRow, ...] = field(repr=False)
    classes: tuple[str, ...]
    y: NDArray[np.int64] = field(repr=False)
    has_groups: bool
    unlabelled: tuple[str, ...] = field(default=(), repr=False)
    missing: tuple[str, ...] = field(default=(), repr=False)
    num_by_name: int = 0
    parts: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def dimension(self) -> int:
        """Length D of a vector."""
        return int(self.vectors.shape[1])

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many clips each sample has (S,)."""
        return np.diff(self.first)

    @property
    def sample_of_clip(self) -> NDArray[np.int64]:
        """The sample of each clip (N,)."""
        return np.repeat(np.arange(len(self)), self.counts)

    @property
    def groups(self) -> NDArray[np.int64]:
        """A number per sample (S,), the same for samples that must stay together."""
        names = [group_of(row) for row in self.rows]
        return np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)

    @property
    def num_groups(self) -> int:
        """Number of groups; the number of samples if none are given."""
        return len(set(self.groups.tolist()))

    def labels(self) -> NDArray[np.str_]:
        """The class name of each sample (S,): ``y`` for any scikit-learn estimator."""
        return np.array([row.label for row in self.rows], dtype=np.str_)

    def group_names(self) -> NDArray[np.str_]:
        """The group of each sample (S,): ``groups`` for any scikit-learn splitter."""
        return np.array([group_of(row) for row in self.rows], dtype=np.str_)

    def pooled(self) -> NDArray[np.float32]:
        """The mean of each sample's clip vectors, float32 (S, D)."""
        if len(self.vectors) == len(self):
            return self.vectors
        total = np.add.reduceat(self.vectors, self.first[:-1], axis=0, dtype=np.float64)
        return (total / self.counts[:, None]).astype(np.float32)

    def one_row_each(self) -> Samples:
        """The same samples with their mean vector as the only clip, from first to last second."""
        if len(self.vectors) == len(self):
            return self
        begin, end = self.first[:-1], self.first[1:] - 1
        return replace(
            self,
            vectors=self.pooled(),
            first=np.arange(len(self) + 1, dtype=np.int64),
            store_rows=self.store_rows[begin],
            start_seconds=self.start_seconds[begin],
            end_seconds=self.end_seconds[end],
        )

    def take(self, chosen: NDArray[np.int64] | Sequence[int]) -> Samples:
        """The samples ``chosen``, in that order, with their clips."""
        index = np.asarray(chosen, dtype=np.int64)
        clips = self.clips_of(index)
        return replace(
            self,
            vectors=self.vectors[clips],
            first=np.concatenate([[0], np.cumsum(self.counts[index])]).astype(np.int64),
            store_rows=self.store_rows[clips],
            start_seconds=self.start_seconds[clips],
            end_seconds=self.end_seconds[clips],
            rows=tuple(self.rows[i] for i in index),
            y=self.y[index],
        )

    def with_classes(self, classes: tuple[str, ...]) -> Samples:
        """The same samples with another list of classes, which must hold every sample's own.

        Raises:
            KeyError: it does not.
        """
        index = {label: i for i, label in enumerate(classes)}
        y = np.array([index[row.label] for row in self.rows], dtype=np.int64)
        return replace(self, classes=classes, y=y)

    def clips_of(self, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of ``vectors`` that belong to the chosen samples, sample after sample."""
        if len(chosen) == 0:
            return np.zeros(0, dtype=np.int64)
        counts = self.counts[chosen]
        begin = np.repeat(
            self.first[chosen] - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts
        )
        result: NDArray[np.int64] = begin + np.arange(counts.sum())
        return result

    def part(self, *names: str) -> NDArray[np.int64]:
        """Indexes of the samples in one of the parts: ``train``, ``val`` or ``test``."""
        return np.flatnonzero([part_of(row.split) in names for row in self.rows])


def require_videos(store: FeatureStore) -> None:
    """Refuse a feature file without a single clip.

    Raises:
        DataError: it has none.
    """
    if not store.paths or store.num_clips == 0:
        name = os.fspath(store.path)
        raise DataError(f"{name} holds no videos: vidfeat info {name} lists what could not be read")


def collect(store: FeatureStore, labels: LabelTable, *, skip_bad_rows: bool = False) -> Samples:
    """Match labels with the clips of a feature file.

    A clip belongs to a labelled segment when its middle lies in it.

    Args:
        store: the feature file.
        labels: of its videos.
        skip_bad_rows: leave out clips whose vectors are not finite, instead of refusing them.

    Raises:
        DataError: the file has no videos, no label fits one, labels contradict each other, or
            vectors are not finite.
    """
    require_videos(store)
    name = os.fspath(store.path)
    paths = list(store.paths)
    found = match_rows(
        paths, labels, store.source_root, failed={failure.path for failure in store.errors}
    )
    matched, missing = found.pairs, list(found.missing)
    if not matched:
        raise no_match(name, paths, labels)
    read = _read_labelled(store, matched)
    kept, empty = _clips_of_rows(read, matched)
    missing += empty
    if not kept:
        raise DataError(
            f"{labels.source}: no clip of {name} lies in a labelled segment: extract it again with "
            "segments and this file, or with a smaller hop_seconds",
            field=("segments", "hop_seconds"),
        )
    kept = _finite(read.vectors, kept, name, skip_bad_rows)
    clips = np.concatenate([clips for _, clips in kept])
    rows = tuple(row for row, _ in kept)
    present = {row.label for row in rows}
    classes = tuple(label for label in labels.classes if label in present)
    index = {label: i for i, label in enumerate(classes)}
    known = {paths[video] for video, _ in matched}
    repeated = len({row.path for row in rows}) < len(rows)
    whole = np.array_equal(clips, np.arange(len(read.vectors)))
    return Samples(
        vectors=read.vectors if whole else read.vectors[clips],
        first=np.concatenate([[0], np.cumsum([len(c) for _, c in kept])]).astype(np.int64),
        store_rows=read.store_rows[clips],
        start_seconds=read.start_seconds[clips],
        end_seconds=read.end_seconds[clips],
        rows=rows,
        classes=classes,
        y=np.array([index[row.label] for row in rows], dtype=np.int64),
        has_groups=repeated or any(row.group for row in rows),
        unlabelled=tuple(path for path in paths if path not in known),
        missing=(*labels.missing, *(describe_row(row) for row in missing)),
        num_by_name=found.num_by_name,
        parts=tuple(int(part["dimension"]) for part in store.encoder.get("joined", ())),
    )


@dataclass(frozen=True)
class _Read:
    """The clips of all labelled videos, video after video; ``rows`` says where each video's are."""

    vectors: NDArray[np.float32]
    store_rows: NDArray[np.int64]
    start_seconds: NDArray[np.float64]
    end_seconds: NDArray[np.float64]
    rows: dict[int, tuple[int, int]]


def _read_labelled(store: FeatureStore, matched: list[tuple[int, LabelRow]]) -> _Read:
    """Read the labelled videos once, from the start of the file to its end."""
    offset, count = store.videos["offset"], store.videos["count"]
    videos = sorted({video for video, _ in matched})
    rows: dict[int, tuple[int, int]] = {}
    total = 0
    for video in videos:
        rows[video] = (total, total + int(count[video]))
        total += int(count[video])
    vectors = np.empty((total, store.dimension), dtype=np.float32)
    store_rows = np.empty(total, dtype=np.int64)
    starts, ends = np.empty(total), np.empty(total)
    at = 0
    while at < len(videos):
        # Adjacent labelled videos are read together, up to a gap or to enough rows.
        last = at
        begin = int(offset[videos[at]])
        while (
            last + 1 < len(videos)
            and offset[videos[last + 1]] == offset[videos[last]] + count[videos[last]]
            and offset[videos[last + 1]] - begin < ROWS_AT_ONCE
        ):
            last += 1
        end = int(offset[videos[last]] + count[videos[last]])
        where = slice(rows[videos[at]][0], rows[videos[last]][1])
        block = store.read_rows(slice(begin, end))
        vectors[where] = block.vectors
        store_rows[where] = np.arange(begin, end)
        starts[where], ends[where] = block.start_seconds, block.end_seconds
        at = last + 1
    return _Read(vectors, store_rows, starts, ends, rows)


def _clips_of_rows(
    read: _Read, matched: list[tuple[int, LabelRow]]
) -> tuple[list[tuple[LabelRow, NDArray[np.int64]]], list[LabelRow]]:
    """Each label with its clips, and the labels that have none."""
    middle = (read.start_seconds + read.end_seconds) / 2
    kept: list[tuple[LabelRow, NDArray[np.int64]]] = []
    empty: list[LabelRow] = []
    for video, row in matched:
        clips = np.arange(*read.rows[video], dtype=np.int64)
        if row.start_seconds is not None:
            clips = clips[middle[clips] >= row.start_seconds]
        if row.end_seconds is not None:
            clips = clips[middle[clips] < row.end_seconds]
        if len(clips):
            kept.append((row, clips))
        else:
            empty.append(row)
    return kept, empty


def _finite(
    vectors: NDArray[np.float32],
    kept: list[tuple[LabelRow, NDArray[np.int64]]],
    name: str,
    skip_bad_rows: bool,
) -> list[tuple[LabelRow, NDArray[np.int64]]]:
    """Refuse vectors that are not finite, or leave them out."""
    good = np.asarray(np.isfinite(vectors).all(axis=1))
    broken = sorted({row.path for row, clips in kept if not good[clips].all()})
    if not broken:
        return kept
    count = len({clip for _, clips in kept for clip in clips[~good[clips]].tolist()})
    if not skip_bad_rows:
        raise DataError(
            f"{name}: {counted(count, 'vector')} of {counted(len(broken), 'video')} "
            f"{'holds' if count == 1 else 'hold'} NaN or infinity (first: {broken[0]}): "
            "extract these again with precision fp32, or leave the clips out with skip_bad_rows",
            field=("precision", "skip_bad_rows"),
        )
    left = [(row, clips[good[clips]]) for row, clips in kept]
    left = [(row, clips) for row, clips in left if len(clips)]
    if not left:
        raise DataError(f"{name}: no labelled vector is finite: extract it again")
    return left


def summary(samples: Samples, *, names: int = 5) -> list[str]:
    """Summary lines: what could be used, what had no label, what had no video."""
    per_class = Counter(name for row in samples.rows for name in row.labels or (row.label,))
    least, most = min(per_class.values()), max(per_class.values())
    several = f"{least} to {most} samples" if least != most else counted(least, "sample")
    lines = [
        f"{counted(len(samples), 'labelled sample')}, {counted(len(samples.vectors), 'clip')}, "
        f"{counted(len(per_class), 'class', 'classes')} of {several}"
        + (f", {counted(samples.num_groups, 'group')}" if samples.has_groups else "")
    ]
    if samples.num_by_name:
        by_name = counted(samples.num_by_name, "label names", "labels name")
        lines.append(f"{by_name} a file without its folder: matched by file name alone")
    for one, several, missing in (
        ("video without a label", "videos without a label", list(samples.unlabelled)),
        ("label without a video", "labels without a video", list(samples.missing)),
    ):
        if missing:
            more = f" and {len(missing) - names} more" if len(missing) > names else ""
            told = counted(len(missing), one, several)
            lines.append(f"{told}: {', '.join(missing[:names])}{more}")
    return lines
