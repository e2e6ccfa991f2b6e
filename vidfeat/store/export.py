"""Features for tools that want other files: one npy a video, or one parquet table."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vidfeat.errors import MissingExtraError, StoreError
from vidfeat.store.reader import FeatureStore
from vidfeat.system.callbacks import Progress
from vidfeat.system.files import atomic_folder, atomic_write, write_json

INDEX_CSV = "index.csv"
INDEX_JSON = "index.json"
_EXPORT_FORMAT = "vidfeat-npy-per-video"
_LONGEST_NAME = 255  # bytes of a file's name in the file systems of today
_ROW_GROUP_BYTES = 32 << 20

"""Called with what is done and what there is to do: videos or clips."""


# ---------------------------------------------------------------------- npy


def export_npy(
    features: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write ``<folder>/<path of the video>.npy`` (n, D) for every video.

    ``index.csv`` in the folder has a line a clip (path, file, row, start_seconds, end_seconds) and
    ``index.json`` what made the vectors. The folder is there when all of it is.

    Args:
        features: the feature file.
        folder: must not exist or be empty.
        overwrite: replace an earlier export.
        progress: see `Progress`.

    Returns:
        How many videos were written.

    Raises:
        StoreError: a path of the feature file leads out of the folder, or the folder has other
            things in it.
        OSError: as writing does; the folder is then as it was.
    """
    folder = Path(folder)
    with FeatureStore(features) as store:
        names = npy_names(store.paths, str(store.path))
        _make_room(folder, overwrite)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(folder) as temporary:
            with (temporary / INDEX_CSV).open("w", encoding="utf-8", newline="") as index:
                table = csv.writer(index)
                table.writerow(["path", "file", "row", "start_seconds", "end_seconds"])
                for done, (path, rows) in enumerate(store, 1):
                    name = names[path]
                    file = temporary / name
                    file.parent.mkdir(parents=True, exist_ok=True)
                    np.save(file, rows.vectors, allow_pickle=False)
                    seconds = zip(
                        rows.start_seconds.tolist(), rows.end_seconds.tolist(), strict=True
                    )
                    table.writerows(
                        [path, name, row, start, end] for row, (start, end) in enumerate(seconds)
                    )
                    if progress is not None:
                        progress(done, store.num_videos)
            write_json(temporary / INDEX_JSON, _about(store))
        return store.num_videos


def _about(store: FeatureStore) -> dict[str, Any]:
    return {
        "format": _EXPORT_FORMAT,
        "videos": store.num_videos,
        "clips": store.num_clips,
        **store.identity.to_dict(),
    }


def npy_names(paths: list[str], where: str) -> dict[str, str]:
    """The file of each video below the folder, with ``/``: its path and ``.npy``.

    A name that is too long for a file system, or that another video needs for a folder, is
    shortened and gets a hash of the path.

    Raises:
        StoreError: a path is absolute or leads upwards.
    """
    folders: set[str] = set()
    for path in paths:
        parts = PurePosixPath(path).parts
        if not parts or path != "/".join(parts) or not _is_below(path):
            raise StoreError(
                f"{where}: the path {path!r} leads out of the folder of the export; only paths "
                "below the root are written"
            )
        if any(len(part.encode()) > _LONGEST_NAME for part in parts[:-1]):
            raise StoreError(f"{where}: a folder in the path {path!r} has too long a name")
        if len(parts) > 1 and parts[0] in (INDEX_CSV, INDEX_JSON):
            raise StoreError(f"{where}: the path {path!r} needs a folder {parts[0]}, our own file")
        folders |= {str(folder) for folder in PurePosixPath(path).parents}
    names = {}
    for path in paths:
        name = f"{path}.npy"
        if name in folders or len(PurePosixPath(name).name.encode()) > _LONGEST_NAME:
            parent, _, last = path.rpartition("/")
            short = last.encode()[:160].decode("utf-8", "ignore")
            mark = hashlib.sha256(path.encode()).hexdigest()[:32]
            name = f"{parent}/{short}~{mark}.npy" if parent else f"{short}~{mark}.npy"
        names[path] = name
    return names


def _is_below(path: str) -> bool:
    """Whether a path stays below a folder, on the systems of today."""
    parts = re.split(r"[/\\]" if os.sep == "\\" else "/", path)
    drive = os.sep == "\\" and ":" in path
    return not drive and all(part not in ("", ".", "..") for part in parts)


def _make_room(folder: Path, overwrite: bool) -> None:
    """Refuse a folder with things in it that no export made."""
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir():
        raise StoreError(f"{folder} is no folder: choose another one")
    if not any(folder.iterdir()):
        return
    index = folder / INDEX_JSON
    ours = index.is_file() and f'"format": "{_EXPORT_FORMAT}"' in index.read_text(
        "utf-8", "replace"
    )
    if not ours:
        raise StoreError(f"{folder} has other files in it: choose a new or an empty folder")
    if not overwrite:
        raise StoreError(f"{folder} has an export already: give --overwrite to replace it")


# ---------------------------------------------------------------------- parquet


def export_parquet(
    features: str | os.PathLike[str],
    file: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write a table with a row a clip: path, start_seconds, end_seconds, vector.

    ``vector`` is a list of D float32. What made the vectors stands in the schema's metadata, as
    JSON texts under ``vidfeat.encoder`` and the names of the fingerprints.

    Args:
        features: the feature file.
        file: the table.
        overwrite: replace a file that is there.
        progress: see `Progress`.

    Returns:
        How many clips were written.

    Raises:
        MissingExtraError: pyarrow is not installed.
        StoreError: the file is there already.
        OSError: as writing does; the file is then as it was.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("parquet", "pyarrow", "writing parquet") from error
    from vidfeat.system.files import canonical_json

    file = Path(file)
    with FeatureStore(features) as store:
        if file.exists() and not overwrite:
            raise StoreError(f"{file} is there already: give --overwrite to replace it")
        metadata = {
            "vidfeat.encoder": canonical_json(store.encoder),
            "vidfeat.space_fingerprint": store.space_fingerprint,
            "vidfeat.run_fingerprint": store.run_fingerprint,
            "vidfeat.source_root": store.source_root,
        }
        schema = pa.schema(
            [
                ("path", pa.string()),
                ("start_seconds", pa.float64()),
                ("end_seconds", pa.float64()),
                ("vector", pa.list_(pa.float32(), store.dimension)),
            ],
            metadata=metadata,
        )
        with (
            atomic_write(file) as temporary,
            pq.ParquetWriter(temporary, schema, use_dictionary=["path"]) as table,
        ):
            for first, count in _row_groups(store):
                rows = store.read_rows(slice(first, first + count))
                videos = store.read_videos(slice(first, first + count))
                vectors = pa.array(rows.vectors.astype(np.float32, copy=False).reshape(-1))
                columns = [
                    pa.array([store.paths[video] for video in videos.tolist()], pa.string()),
                    pa.array(rows.start_seconds),
                    pa.array(rows.end_seconds),
                    pa.FixedSizeListArray.from_arrays(vectors, store.dimension),
                ]
                table.write_table(pa.Table.from_arrays(columns, schema=schema))
                if progress is not None:
                    progress(first + count, store.num_clips)
        return store.num_clips


def _row_groups(store: FeatureStore) -> Iterator[tuple[int, int]]:
    step = max(1, _ROW_GROUP_BYTES // (4 * store.dimension))
    for first in range(0, store.num_clips, step):
        yield first, min(step, store.num_clips - first)
