"""The feature file: vectors of clips, the seconds that each covers, and the videos they are from.

One HDF5 file of flat columns (``docs/format.md`` lists them). Videos are sorted by path, and the
rows of one video are adjacent and in time order, so that a video is a slice::

    with FeatureStore("features.h5") as store:
        embeddings = store.read("class/video.mp4")      # vectors (N, D), start and end seconds
        for path, embeddings in store: ...
        X, y, groups = store.to_arrays(labels)

Nothing is read before it is needed. Open only HDF5 files that you trust: the parser has had memory
bugs. What can be checked is checked, and links to other files are refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import DataError, StoreError
from vidfeat.store.embeddings import Embeddings, FloatVectors
from vidfeat.store.records import RunIdentity, VectorType, VideoFailure, VideoRecord
from vidfeat.store.schema import ERROR_COLUMNS, FORMAT, FORMAT_VERSION, VIDEO_COLUMNS
from vidfeat.system.identities import Names
from vidfeat.system.urls import local_place, place_of

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "Embeddings",
    "FeatureStore",
    "FloatVectors",
    "RunIdentity",
    "VideoFailure",
    "VideoRecord",
]


T = TypeVar("T")


class VideoColumns(Mapping[str, NDArray[Any]]):
    """The columns of ``/videos`` by name, each read on first use."""

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self._columns: dict[str, NDArray[Any]] = {}

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in VIDEO_COLUMNS:
            raise KeyError(name)
        if name not in self._columns:
            column = self._store.read_column(f"videos/{name}")
            column.flags.writeable = False
            self._columns[name] = column
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(VIDEO_COLUMNS)

    def __len__(self) -> int:
        return len(VIDEO_COLUMNS)


class FeatureStore:
    """A feature file, open for reading.

    The file is opened once in each process: an object that reached another process by fork or by
    pickle opens it again there.

    Args:
        path: the file.

    Raises:
        StoreError: the file does not exist, is not a feature file, is of a newer version, is
            damaged, or points to other files.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._handle: Any = None
        self._owner = -1
        self._closed = False
        self._open()

    # ------------------------------------------------------------------ open and close

    def _open(self) -> None:
        from vidfeat.store.checks import open_checked

        if self._handle is not None:  # inherited by fork: another process's
            self._handle.close()
        self._index: dict[bytes, int] | None = None
        self._paths: list[str] | None = None
        self._names: Names | None = None
        self._head: dict[str, Any]
        self._handle, self._head = open_checked(self.path)
        self._owner = os.getpid()
        self._vectors = self._handle["vectors"]
        self._start = self._handle["start_seconds"]
        self._end = self._handle["end_seconds"]
        self.videos: Mapping[str, NDArray[Any]] = VideoColumns(self)
        self.num_clips, self.dimension = (int(size) for size in self._vectors.shape)
        self.num_videos = int(self._handle["videos/path"].shape[0])

    def _here(self) -> None:
        """Make sure that the file is open in this process."""
        if self._closed:
            raise StoreError(f"{self.path} is closed: read from it inside the with block")
        if self._owner != os.getpid():
            self._open()

    def close(self) -> None:
        """Close the file; idempotent."""
        self._closed = True
        if self._handle is not None and self._owner == os.getpid():
            self._handle.close()
        self._handle = None

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

    def __repr__(self) -> str:
        made = "closed" if self._closed else f"by {self.encoder.get('model', 'an unknown network')}"
        return (
            f"FeatureStore({str(self.path)!r}: {self.num_videos} videos, {self.num_clips} clips "
            f"of {self.dimension} dimensions, {made})"
        )

    # ------------------------------------------------------------------ what is in it

    @property
    def dtype(self) -> VectorType:
        """Type of the vectors on disk."""
        return cast(VectorType, np.dtype(self._vectors.dtype).name)

    @property
    def encoder(self) -> dict[str, Any]:
        """What made the vectors: model, weights, plan, preprocessing, layer, pooling, engine."""
        return dict(json.loads(self._head["encoder"]))

    @property
    def space_fingerprint(self) -> str:
        """Equal for vectors that can be compared."""
        return str(self._head["space_fingerprint"])

    @property
    def run_fingerprint(self) -> str:
        """Equal for vectors that may share a file."""
        return str(self._head["run_fingerprint"])

    @property
    def source_root(self) -> str:
        """Absolute path of the folder of the videos when they were read, escaped: a hint only."""
        return str(self._head["source_root"])

    @property
    def shards(self) -> str:
        """Which shards of the videos the file holds, as ``2/4``; empty for all videos."""
        return str(self._head["shards"])

    @property
    def division(self) -> str:
        """Digest of the list that the shards divide; empty if unknown."""
        return str(self._head["division"])

    @property
    def vidfeat_version(self) -> str:
        """The version that wrote the file."""
        return str(self._head["vidfeat_version"])

    @property
    def created(self) -> str:
        """When the file was written, ISO 8601 in UTC."""
        return str(self._head["created"])

    @property
    def identity(self) -> RunIdentity:
        """The encoder and the form of the vectors."""
        return RunIdentity(
            encoder=self.encoder,
            space_fingerprint=self.space_fingerprint,
            run_fingerprint=self.run_fingerprint,
            dimension=self.dimension,
            dtype=self.dtype,
            source_root=self.source_root,
            shards=self.shards,
            division=self.division,
        )

    @property
    def paths(self) -> list[str]:
        """Identities of the videos, in the order of their rows."""
        if self._paths is None:
            self._paths = [key.decode("utf-8") for key in self._by_path()]
        return self._paths

    @property
    def errors(self) -> list[VideoFailure]:
        """Videos that could not be read, or not to their end, and why."""
        names = list(ERROR_COLUMNS)
        columns = [self.read_column(f"errors/{name}").tolist() for name in names]
        self._here()
        if "tries" in self._handle["errors"]:
            names.append("tries")
            columns.append(self.read_column("errors/tries").tolist())
        try:
            return [
                VideoFailure(**dict(zip(names, row, strict=True)))
                for row in zip(*columns, strict=True)
            ]
        except DataError as error:
            raise StoreError(f"{self.path}: /errors is damaged: {error}") from error

    def local_path(self, path: str, root: str | os.PathLike[str] | None = None) -> Path:
        """Where the file of a video should be: below ``root``, or else below the recorded root.

        Raises:
            StoreError: the identity points out of the root, or the root is a URL.
        """
        return local_place(self.place(path, root))

    def place(self, path: str, root: str | os.PathLike[str] | None = None) -> str:
        """Like :meth:`local_path`, as text: a path, or a URL if ``root`` is one.

        Raises:
            StoreError: the identity points out of the root, or the root is a URL that was not
                given.
        """
        return place_of(path, self.source_root, root, str(self.path))

    # ------------------------------------------------------------------ a video

    def _by_path(self) -> dict[bytes, int]:
        """Row of each video, by its path as it is on disk: UTF-8 bytes, not decoded."""
        if self._index is None:
            self._here()
            keys = self._read(lambda: self._handle["videos/path"][:].tolist())
            self._index = dict(zip(keys, range(len(keys)), strict=True))
            if len(self._index) != self.num_videos:
                raise StoreError(f"{self.path} is damaged: a path occurs twice in /videos/path")
        return self._index

    def index(self, path: str) -> int:
        """Row of ``/videos`` of a video, by its identity.

        Raises:
            StoreError: there is no such video in the file.
        """
        row = self._find(path)
        if row is None:
            if path in {failure.path for failure in self.errors}:
                raise StoreError(f"{self.path}: {path!r} could not be read, see its /errors")
            example = f", such as {self.paths[0]!r}" if self.num_videos else ""
            raise StoreError(
                f"{self.path} has no video {path!r}: paths are relative to the root of the "
                f"videos{example}"
            )
        return row

    def _find(self, path: str) -> int | None:
        try:
            row = self._by_path().get(path.encode("utf-8"))
        except UnicodeEncodeError:
            return None
        if row is None and not path.isascii():
            if self._names is None:
                self._names = Names(self.paths)
            stored = self._names.find(path)
            row = None if stored is None else self._by_path()[stored.encode("utf-8")]
        return row

    def __len__(self) -> int:
        """The number of videos."""
        return self.num_videos

    def __getitem__(self, path: str) -> Embeddings:
        """The embeddings of a video: ``store["run/a.mp4"]``.

        Raises:
            StoreError: there is no such video in the file, or the file is damaged there.
        """
        return self.read(path)

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and self._find(path) is not None

    def rows(self, path: str) -> slice:
        """The rows of a video in ``/vectors``.

        Raises:
            StoreError: there is no such video in the file.
        """
        return self._rows(self.index(path))

    def _rows(self, video: int) -> slice:
        start = int(self.videos["offset"][video])
        return slice(start, start + int(self.videos["count"][video]))

    def read(self, path: str) -> Embeddings:
        """The embeddings of a video.

        Raises:
            StoreError: there is no such video in the file, or the file is damaged there.
        """
        return self.read_rows(self.rows(path))

    def read_rows(self, rows: slice) -> Embeddings:
        """The embeddings of some consecutive rows, whatever video they are of."""
        self._here()
        return self._read(
            lambda: Embeddings(self._vectors[rows], self._start[rows], self._end[rows])
        )

    def read_seconds(self, rows: slice) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Start and end seconds of some consecutive rows; no vector is read."""
        self._here()
        return self._read(lambda: (self._start[rows], self._end[rows]))

    def read_videos(self, rows: slice) -> NDArray[np.int64]:
        """The row of ``/videos`` of some consecutive rows of ``/vectors``."""
        self._here()
        return self._read(lambda: np.asarray(self._handle["video"][rows], dtype=np.int64))

    def __iter__(self) -> Iterator[tuple[str, Embeddings]]:
        """Every video with its embeddings, in the order of the file."""
        block = Embeddings(np.empty((0, self.dimension), np.float32), np.empty(0), np.empty(0))
        first = 0
        for video, path in enumerate(self.paths):
            rows = self._rows(video)
            if rows.start < first or rows.stop > first + len(block):
                # Several videos per read: a read costs more than the few rows of a video.
                first = rows.start
                block = self.read_rows(slice(first, max(rows.stop, first + self.block_rows())))
            inside = slice(rows.start - first, rows.stop - first)
            yield (
                path,
                Embeddings(
                    block.vectors[inside].copy(),
                    block.start_seconds[inside].copy(),
                    block.end_seconds[inside].copy(),
                ),
            )

    def records(self) -> list[VideoRecord]:
        """Every row of ``/videos`` as an object, in the order of the file."""
        names = [name for name in VIDEO_COLUMNS if name not in ("path", "offset", "count")]
        columns = [self.videos[name].tolist() for name in names]
        try:
            return [
                VideoRecord(path, **dict(zip(names, row, strict=True)))
                for path, *row in zip(self.paths, *columns, strict=True)
            ]
        except DataError as error:
            raise StoreError(f"{self.path}: /videos is damaged: {error}") from error

    # ------------------------------------------------------------------ many rows

    def block_rows(self) -> int:
        """The number of rows in about 8 MiB."""
        row_bytes = self.dimension * np.dtype(self.dtype).itemsize
        return max(1, (8 << 20) // row_bytes)

    def iter_chunks(self, rows: int | None = None) -> Iterator[tuple[int, FloatVectors]]:
        """All vectors in blocks: the first row of each, and (rows, D) as they are on disk.

        Args:
            rows: rows per block; None for about 8 MiB.
        """
        size = self.block_rows() if rows is None else rows
        if size < 1:
            raise DataError(f"blocks of {rows} rows, expected at least 1")
        for start in range(0, self.num_clips, size):
            yield start, self.read_vectors(slice(start, start + size))

    def read_vectors(self, rows: slice) -> FloatVectors:
        """Vectors of consecutive rows, in the type they are stored in."""
        self._here()
        return self._read(lambda: cast(FloatVectors, self._vectors[rows]))

    def to_arrays(
        self, labels: Any = None, *, pooled: Literal["mean"] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[Any] | None, NDArray[Any]]:
        """Arrays as scikit-learn takes them: ``X (N, D) float32, y (N,) or None, groups (N,)``.

        Args:
            labels: None for all rows and no ``y``; a mapping from path to label; or an object with
                ``resolve(store)``, see `vidfeat.store.arrays.LabelSource`. Rows without a label
                are left out.
            pooled: ``"mean"`` for one row per video, the mean over its rows.

        Returns:
            ``groups`` is the row of ``/videos`` (so that clips of one video are never on both
            sides of a split), or the group that ``labels`` gives.

        Raises:
            DataError: no row has a label, or the clips of a video that is pooled have several.
        """
        from vidfeat.store.arrays import to_arrays

        return to_arrays(self, labels, pooled)

    def to_pandas(self, *, vectors: bool = True) -> Any:
        """A pandas DataFrame, one row per clip: path, start_seconds, end_seconds and the vector.

        Args:
            vectors: include the vectors, in columns ``v0`` to ``v(D-1)``.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        from vidfeat.store.arrays import to_pandas

        return to_pandas(self, vectors=vectors)

    # ------------------------------------------------------------------ guarded reading

    def read_column(self, name: str) -> NDArray[Any]:
        """A whole column; strings as an object array of str."""
        from vidfeat.store.checks import read_column as read_dataset

        self._here()
        return self._read(lambda: read_dataset(self._handle[name]))

    def _read(self, read: Callable[[], T]) -> T:
        """Do a read; HDF5's errors on a damaged file become one line that names the file."""
        try:
            return read()
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise StoreError(f"{self.path} is damaged: {error}; make it again") from error
