"""Writing a feature file: all at once or block by block, complete or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import DataError
from vidfeat.store.embeddings import Embeddings, FloatVectors
from vidfeat.store.reader import FORMAT, FORMAT_VERSION
from vidfeat.store.records import RunIdentity, VideoFailure, VideoRecord
from vidfeat.system.files import atomic_write, canonical_json
from vidfeat.system.hdf5_writing import PatientFile, new_hdf5
from vidfeat.version import __version__

# Small enough to read a few rows quickly, large enough that a million rows are few chunks.
CHUNK_BYTES = 256 << 10
_TEXT = h5py.string_dtype("utf-8")

VideoTable = Mapping[str, Sequence[Any]]
"""One list per field of `VideoRecord`."""


class StoreWriter:
    """An open feature file that takes as many rows as its videos have."""

    def __init__(
        self,
        handle: h5py.File,
        target: PatientFile,
        identity: RunIdentity,
        videos: VideoTable,
        counts: Sequence[int],
        failures: Sequence[VideoFailure],
    ) -> None:
        self._rows = int(sum(counts))
        self._next = 0
        self._target = target
        _write_attributes(handle, identity)
        _write_videos(handle.create_group("videos"), videos, counts)
        _write_errors(handle.create_group("errors"), failures)
        per_row = np.repeat(np.arange(len(counts), dtype=np.int64), np.asarray(counts, np.int64))
        handle.create_dataset("video", data=per_row)
        self._seconds = _Seconds(handle, self._rows)
        chunk = chunk_shape(self._rows, identity.dimension, identity.dtype)
        self._vectors = handle.create_dataset(
            "vectors", (self._rows, identity.dimension), identity.dtype, chunks=chunk
        )
        # Rows are buffered here until they fill a chunk, which then goes to the file as it is.
        self._direct = chunk is not None and chunk[1] == identity.dimension
        shape = chunk or (1, identity.dimension)
        self._waiting: NDArray[Any] = np.zeros(shape, dtype=identity.dtype)

    def append(self, vectors: FloatVectors, start: NDArray[Any], end: NDArray[Any]) -> None:
        """Add rows: vectors (n, D), seconds (n,).

        Raises:
            DataError: more rows than the videos have.
            OSError: a write failed.
        """
        self._target.check()
        count = len(vectors)
        if self._next + count > self._rows:
            raise DataError(f"more rows than the {self._rows} that the videos have")
        self._seconds.append(start, end)
        if not self._direct:
            self._vectors[self._next : self._next + count] = vectors
            self._next += count
            return
        size = len(self._waiting)
        done = 0
        while done < count:
            held = self._next % size
            take = min(count - done, size - held)
            block = vectors[done : done + take]
            if take == size and block.dtype == self._waiting.dtype and block.flags.c_contiguous:
                self._vectors.id.write_direct_chunk((self._next, 0), block)
            else:
                self._waiting[held : held + take] = block
                if held + take == size:
                    self._flush()
            self._next += take
            done += take

    def _flush(self) -> None:
        first = self._next - self._next % len(self._waiting)
        self._vectors.id.write_direct_chunk((first, 0), self._waiting)

    def finish(self) -> None:
        """Write the rest of the last chunk.

        Raises:
            DataError: rows are missing.
        """
        if self._next != self._rows:
            raise DataError(f"{self._next} rows were written, the videos have {self._rows}")
        self._seconds.flush()
        held = self._next % len(self._waiting)
        if self._direct and held:
            self._waiting[held:] = 0
            self._flush()


class _Seconds:
    """The columns of seconds, in blocks: a video has too few rows to be worth a write."""

    BLOCK = 1 << 16

    def __init__(self, handle: h5py.File, rows: int) -> None:
        self._columns = [
            handle.create_dataset(name, (rows,), "float64")
            for name in ("start_seconds", "end_seconds")
        ]
        self._blocks: list[tuple[NDArray[Any], NDArray[Any]]] = []
        self._held = self._next = 0

    def append(self, start: NDArray[Any], end: NDArray[Any]) -> None:
        self._blocks.append((np.array(start, dtype=np.float64), np.array(end, dtype=np.float64)))
        self._held += len(start)
        if self._held >= self.BLOCK:
            self.flush()

    def flush(self) -> None:
        if self._held:
            for column, blocks in zip(self._columns, zip(*self._blocks, strict=True), strict=True):
                column[self._next : self._next + self._held] = np.concatenate(blocks)
        self._next += self._held
        self._blocks.clear()
        self._held = 0


@contextmanager
def writing_store(
    path: Path,
    identity: RunIdentity,
    videos: Sequence[VideoRecord] | VideoTable,
    counts: Sequence[int],
    failures: Sequence[VideoFailure] = (),
) -> Iterator[StoreWriter]:
    """Open a new feature file for its rows; on success it replaces ``path``.

    Args:
        path: the feature file.
        identity: what all its rows share.
        videos: sorted by path, each once; as records or, if there are many, as columns.
        counts: rows of each video, in the same order.
        failures: for ``/errors``.

    Raises:
        DataError: the videos are not sorted, or rows are missing at the end.
        OSError: writing failed, on a full disk for example; ``path`` is as it was.
    """
    table = videos if isinstance(videos, Mapping) else _table_of(videos)
    paths = table["path"]
    for before, after in pairwise(paths):
        if before >= after:
            raise DataError(f"videos must be sorted by path, each once: {after!r} after {before!r}")
    with atomic_write(path) as temporary, new_hdf5(temporary, path) as (handle, target):
        writer = StoreWriter(handle, target, identity, table, counts, failures)
        yield writer
        writer.finish()


def write_store(
    path: Path,
    identity: RunIdentity,
    videos: Iterable[tuple[VideoRecord, Embeddings]],
    failures: Sequence[VideoFailure] = (),
) -> None:
    """Write a feature file whose contents fit in memory; the videos may come in any order.

    Raises:
        DataError: a path occurs twice, or vectors are of another dimension.
        OSError: writing failed; ``path`` is as it was.
    """
    ordered = sorted(videos, key=lambda video: video[0].path)
    for record, embeddings in ordered:
        if embeddings.vectors.shape[1] != identity.dimension:
            raise DataError(
                f"{record.path}: vectors of {embeddings.vectors.shape[1]} dimensions, expected "
                f"{identity.dimension}"
            )
    records = [record for record, _ in ordered]
    counts = [len(embeddings) for _, embeddings in ordered]
    with writing_store(path, identity, records, counts, failures) as writer:
        for _, embeddings in ordered:
            writer.append(embeddings.vectors, embeddings.start_seconds, embeddings.end_seconds)


def chunk_shape(rows: int, dimension: int, dtype: str) -> tuple[int, int] | None:
    """Chunks of about 256 KiB; None if there are no rows."""
    if rows == 0:
        return None
    item = np.dtype(dtype).itemsize
    columns = min(dimension, CHUNK_BYTES // item)
    return min(rows, max(1, CHUNK_BYTES // (columns * item))), columns


def _write_attributes(handle: h5py.File, identity: RunIdentity) -> None:
    handle.attrs["format"] = FORMAT
    handle.attrs["format_version"] = FORMAT_VERSION
    handle.attrs["encoder"] = canonical_json(identity.encoder)
    handle.attrs["space_fingerprint"] = identity.space_fingerprint
    handle.attrs["run_fingerprint"] = identity.run_fingerprint
    handle.attrs["source_root"] = identity.source_root
    if identity.shards:
        handle.attrs["shards"] = identity.shards
        handle.attrs["division"] = identity.division
    handle.attrs["vidfeat_version"] = __version__
    handle.attrs["created"] = datetime.now(UTC).isoformat(timespec="seconds")


def _table_of(records: Sequence[VideoRecord]) -> VideoTable:
    names = [field.name for field in fields(VideoRecord)]
    return {name: [getattr(record, name) for record in records] for name in names}


def _write_videos(group: h5py.Group, videos: VideoTable, counts: Sequence[int]) -> None:
    count = np.asarray(counts, dtype=np.int64)
    group.create_dataset("path", data=videos["path"], dtype=_TEXT)
    group.create_dataset("offset", data=np.cumsum(count) - count)
    group.create_dataset("count", data=count)
    for name in ("duration_seconds", "fps"):
        group.create_dataset(name, data=np.array(videos[name], dtype=np.float64))
    for name in ("width", "height", "num_frames", "size_bytes", "mtime_ns"):
        group.create_dataset(name, data=np.array(videos[name], dtype=np.int64))
    # Two short words: at a fixed length, they take no space in HDF5's heap of strings.
    sources = np.array(videos["num_frames_source"], dtype="S8")
    group.create_dataset("num_frames_source", data=sources)


def _write_errors(group: h5py.Group, failures: Sequence[VideoFailure]) -> None:
    ordered = sorted(failures, key=lambda failure: failure.path)
    for name in ("path", "message", "kind"):
        values = [getattr(failure, name) for failure in ordered]
        group.create_dataset(name, data=values, dtype=_TEXT)
    for name in ("size_bytes", "mtime_ns", "tries"):
        values = [getattr(failure, name) for failure in ordered]
        group.create_dataset(name, data=np.array(values, dtype=np.int64))
