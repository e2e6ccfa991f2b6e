"""From a feature file to arrays for scikit-learn: rows, labels, groups."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import DataError, MissingExtraError, UsageError


class StoreColumns(Protocol):
    """The required part of an open feature file: see :class:`vidfeat.store.FeatureStore`."""

    path: Path

    @property
    def paths(self) -> list[str]: ...  # noqa: D102
    @property
    def videos(self) -> Mapping[str, NDArray[Any]]: ...  # noqa: D102
    @property
    def num_videos(self) -> int: ...  # noqa: D102
    @property
    def num_clips(self) -> int: ...  # noqa: D102
    @property
    def dimension(self) -> int: ...  # noqa: D102
    def read_column(self, name: str) -> NDArray[Any]: ...  # noqa: D102
    def block_rows(self) -> int: ...  # noqa: D102
    def read_vectors(self, rows: slice) -> NDArray[Any]: ...  # noqa: D102


class RowLabels(NamedTuple):
    """The labelled rows, and their labels."""

    rows: NDArray[np.int64]
    """(M,) rows of ``/vectors``, ascending."""
    labels: NDArray[Any]
    """(M,)"""
    groups: NDArray[Any] | None = None
    """(M,) groups that stay together in a split; None for the video."""


@runtime_checkable
class LabelSource(Protocol):
    """Labels that know their rows: a table with segments, splits or groups."""

    def resolve(self, store: Any) -> RowLabels:
        """The labelled rows of a feature file."""
        ...


def label_videos(store: StoreColumns, labels: Mapping[str, Any]) -> RowLabels:
    """The rows of every video that has a label.

    Raises:
        DataError: no video has one.
    """
    chosen = [(video, labels[path]) for video, path in enumerate(store.paths) if path in labels]
    if not chosen:
        have = f", the file has {store.paths[0]!r}" if store.num_videos else ""
        given = f" such as {next(iter(labels))!r}" if labels else ""
        raise DataError(
            f"none of the {len(labels)} labelled paths{given} is in {store.path}{have}: "
            "paths are relative to the root of the videos"
        )
    videos = np.array([video for video, _ in chosen], dtype=np.int64)
    counts = store.videos["count"][videos]
    rows = _ranges(store.videos["offset"][videos], counts)
    return RowLabels(rows, np.repeat(np.array([label for _, label in chosen]), counts))


def to_arrays(
    store: StoreColumns, labels: Any, pooled: Literal["mean"] | None
) -> tuple[NDArray[np.float32], NDArray[Any] | None, NDArray[Any]]:
    """See `FeatureStore.to_arrays`."""
    if pooled not in (None, "mean"):
        raise UsageError(f"pooled is {pooled!r}: it takes 'mean' or None")
    if labels is None:
        rows = _ranges(store.videos["offset"], store.videos["count"])
        found = RowLabels(rows, np.empty(0))
    elif isinstance(labels, Mapping):
        found = label_videos(store, labels)
    elif isinstance(labels, LabelSource):
        found = labels.resolve(store)
    else:
        raise DataError(
            f"labels of type {type(labels).__name__}, expected a mapping from path to label, or "
            "an object with resolve(store)"
        )
    rows = np.asarray(found.rows, dtype=np.int64)
    videos = _videos_of(store, rows)
    groups = videos if found.groups is None else np.asarray(found.groups)
    y = None if labels is None else np.asarray(found.labels)
    for name, values in (("labels", y), ("groups", groups)):
        if values is not None and len(values) != len(rows):
            raise DataError(f"{len(values)} {name} for {len(rows)} rows, expected one per row")
    if pooled is None:
        return gather_rows(store, rows), y, groups
    return _pooled(store, rows, videos, y, groups)


def to_pandas(store: StoreColumns, *, vectors: bool) -> Any:
    """See `FeatureStore.to_pandas`."""
    try:
        import pandas as pd
    except ImportError:
        raise MissingExtraError("pandas", "pandas", "to_pandas") from None
    rows = _ranges(store.videos["offset"], store.videos["count"])
    paths = np.repeat(np.array(store.paths, dtype=object), store.videos["count"])
    table = pd.DataFrame(
        {
            "path": paths,
            "start_seconds": store.read_column("start_seconds")[rows],
            "end_seconds": store.read_column("end_seconds")[rows],
        }
    )
    if not vectors:
        return table
    names = [f"v{number}" for number in range(store.dimension)]
    return pd.concat([table, pd.DataFrame(gather_rows(store, rows), columns=names)], axis=1)


def _pooled(
    store: StoreColumns,
    rows: NDArray[np.int64],
    videos: NDArray[np.int64],
    y: NDArray[Any] | None,
    groups: NDArray[Any],
) -> tuple[NDArray[np.float32], NDArray[Any] | None, NDArray[Any]]:
    """The mean over the labelled rows of each video."""
    names, first, which = np.unique(videos, return_index=True, return_inverse=True)
    for values, what in ((y, "labels"), (groups, "groups")):
        if values is None:
            continue
        differs = np.flatnonzero(values != values[first][which])
        if len(differs):
            path = store.paths[int(videos[differs[0]])]
            raise DataError(
                f"the clips of {path!r} have several {what}, so they have no common mean: leave "
                "pooled out to use every clip separately"
            )
    sums = np.zeros((len(names), store.dimension), dtype=np.float64)
    step = max(1, (32 << 20) // (4 * store.dimension))
    for start in range(0, len(rows), step):
        block = slice(start, start + step)
        np.add.at(sums, which[block], gather_rows(store, rows[block]))
    means = (sums / np.bincount(which, minlength=len(names))[:, None]).astype(np.float32)
    return means, None if y is None else y[first], groups[first]


def _ranges(offset: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.int64]:
    """``[o, o + 1, ... o + c - 1]`` of every pair, one after the other."""
    ends = np.cumsum(count)
    steps = np.arange(int(count.sum()), dtype=np.int64)
    return np.asarray(steps + np.repeat(offset - (ends - count), count), dtype=np.int64)


def _videos_of(store: StoreColumns, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Row of ``/videos`` of each row of ``/vectors``."""
    outside = (rows < 0) | (rows >= store.num_clips)
    if outside.any():
        raise DataError(
            f"row {int(rows[outside][0])} was requested, but {store.path} has {store.num_clips}"
        )
    return np.asarray(store.read_column("video")[rows], dtype=np.int64)


def gather_rows(store: StoreColumns, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Rows of ``/vectors``, (n, D) float32; the file is read in its own order, in large blocks."""
    X = np.empty((len(rows), store.dimension), dtype=np.float32)
    if not len(rows):
        return X
    order = None if (np.diff(rows) > 0).all() else np.argsort(rows, kind="stable")
    ascending = rows if order is None else rows[order]
    # Gaps of a few rows are read as well; a longer one starts another read.
    breaks = np.flatnonzero(np.diff(ascending) > 256) + 1
    edges = [0, *breaks.tolist(), len(rows)]
    step = store.block_rows()
    for low, high in pairwise(edges):
        at = low
        while at < high:
            first = int(ascending[at])
            stop = int(np.searchsorted(ascending[at:high], first + step)) + at
            block = store.read_vectors(slice(first, int(ascending[stop - 1]) + 1))
            target = slice(at, stop) if order is None else order[at:stop]
            X[target] = block[ascending[at:stop] - first]
            at = stop
    return X
