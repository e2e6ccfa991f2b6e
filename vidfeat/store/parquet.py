"""Features as parquet tables, for autofaiss and Spark: one file, or a folder of several."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vidfeat.errors import MissingExtraError, StoreError, UsageError
from vidfeat.store.clip_ids import ClipIds
from vidfeat.store.pca import PCA
from vidfeat.store.reader import FeatureStore
from vidfeat.system.callbacks import Progress
from vidfeat.system.files import atomic_folder, atomic_write, canonical_json

_ROW_GROUP_BYTES = 32 << 20


def export_parquet(
    features: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    rows_per_file: int | None = None,
    pca: PCA | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write a table with one row per clip: clip_id, path, start_seconds, end_seconds, vector.

    ``vector`` is a list of fixed size, D float32. A clip's ``clip_id`` is the same in every
    export: see `vidfeat.store.clip_ids`. The schema's metadata says what made the vectors,
    as JSON texts under ``vidfeat.encoder`` and the names of the fingerprints.

    Args:
        features: the feature file.
        target: the table; with ``rows_per_file``, a folder of ``part-00000.parquet`` and so on.
        rows_per_file: rows per file, so that many readers can share the work.
        pca: projects the rows first.
        overwrite: replace an existing target.
        progress: see `Progress`.

    Returns:
        How many clips were written.

    Raises:
        MissingExtraError: pyarrow is not installed.
        FingerprintError: the PCA is for another network.
        StoreError: the target already exists, or is a folder with other files in it.
        OSError: writing failed; the target is as it was.
    """
    try:
        import pyarrow as pa  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("parquet", "pyarrow", "writing parquet") from error

    if rows_per_file is not None and rows_per_file < 1:
        raise UsageError(
            f"rows_per_file is {rows_per_file}, expected 1 or more", field="rows_per_file"
        )
    target = Path(target)
    with FeatureStore(features) as store:
        if pca is not None:
            pca.check(store)
        _check_target(target, folder=rows_per_file is not None, overwrite=overwrite)
        rows = _Rows(store, pca, progress)
        if rows_per_file is None:
            with atomic_write(target) as temporary:
                rows.write(temporary, 0, store.num_clips)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_folder(target) as folder:
                for number, first in enumerate(range(0, max(store.num_clips, 1), rows_per_file)):
                    stop = min(first + rows_per_file, store.num_clips)
                    rows.write(folder / f"part-{number:05d}.parquet", first, stop)
        return store.num_clips


def _check_target(target: Path, *, folder: bool, overwrite: bool) -> None:
    if not target.exists():
        return
    if target.is_dir() != folder:
        what = "a folder" if target.is_dir() else "a file"
        raise StoreError(
            f"{target} is {what}: several files (rows_per_file) go into a folder, a table into a "
            "file"
        )
    if folder:
        names = [file.name for file in target.iterdir()]
        if any(not (name.startswith("part-") and name.endswith(".parquet")) for name in names):
            raise StoreError(f"{target} has other files in it: choose a new or an empty folder")
        if not names:
            return
    if not overwrite:
        raise StoreError(f"{target} already exists: give overwrite=True to replace it")


def arrow_schema(store: FeatureStore, dimension: int) -> Any:
    """The columns, with what made the vectors as metadata."""
    import pyarrow as pa

    return pa.schema(
        [
            ("clip_id", pa.string()),
            ("path", pa.string()),
            ("start_seconds", pa.float64()),
            ("end_seconds", pa.float64()),
            ("vector", pa.list_(pa.float32(), dimension)),
        ],
        metadata={
            "vidfeat.encoder": canonical_json(store.encoder),
            "vidfeat.space_fingerprint": store.space_fingerprint,
            "vidfeat.run_fingerprint": store.run_fingerprint,
            "vidfeat.source_root": store.source_root,
        },
    )


class _Rows:
    """Writes ranges of a feature file's rows, one after the other."""

    def __init__(self, store: FeatureStore, pca: PCA | None, progress: Progress | None) -> None:
        self.store = store
        self.pca = pca
        self.progress = progress
        self.dimension = store.dimension if pca is None else pca.dimension
        self.schema = arrow_schema(store, self.dimension)
        self.ids = ClipIds()

    def write(self, file: Path, first: int, stop: int) -> None:
        """Write some consecutive rows to a file of their own."""
        with _table(file, self.schema) as write:
            step = max(1, _ROW_GROUP_BYTES // (4 * self.dimension))
            for low in range(first, stop, step):
                high = min(low + step, stop)
                write(self._block(low, high))
                if self.progress is not None:
                    self.progress(high, self.store.num_clips)

    def _block(self, first: int, stop: int) -> Any:
        import pyarrow as pa

        rows = self.store.read_rows(slice(first, stop))
        videos = self.store.read_videos(slice(first, stop)).tolist()
        paths = [self.store.paths[video] for video in videos]
        start, end = rows.start_seconds, rows.end_seconds
        vectors = rows.vectors if self.pca is None else self.pca.apply(rows.vectors)
        flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
        columns = [
            pa.array(self.ids.of(paths, start.tolist(), end.tolist()), pa.string()),
            pa.array(paths, pa.string()),
            pa.array(start),
            pa.array(end),
            pa.FixedSizeListArray.from_arrays(flat, self.dimension),
        ]
        return pa.Table.from_arrays(columns, schema=self.schema)


@contextmanager
def _table(file: Path, schema: Any) -> Iterator[Callable[[Any], None]]:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(file, schema, use_dictionary=["path"]) as writer:
        yield writer.write_table
