"""Features as other files: one npy per video, or parquet tables."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import StoreError
from vidfeat.store.file_names import file_names
from vidfeat.store.pca import PCA
from vidfeat.store.reader import FeatureStore
from vidfeat.system.callbacks import Progress
from vidfeat.system.files import atomic_folder, write_json
from vidfeat.system.identities import text_to_path

INDEX_CSV = "index.csv"
INDEX_JSON = "index.json"
_EXPORT_FORMAT = "vidfeat-npy-per-video"


# ---------------------------------------------------------------------- npy


def export_npy(
    features: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    keep_extensions: bool = False,
    pca: PCA | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write ``<folder>/<path of the video without its extension>.npy`` (n, D) for every video.

    ``index.csv`` in the folder has one line per clip (path, file, row, start_seconds, end_seconds)
    and ``index.json`` says what made the vectors. The folder appears only when complete.

    Args:
        features: the feature file.
        folder: must be empty or not exist.
        keep_extensions: ``a.mp4.npy`` for ``a.mp4``.
        pca: projects the rows first.
        overwrite: replace an earlier export.
        progress: called with the number of videos done, and of all videos.

    Returns:
        How many videos were written.

    Raises:
        StoreError: a path of the feature file leads out of the folder, two videos would share a
            name, or the folder has other files in it.
        FingerprintError: the PCA is for another network.
        OSError: writing failed; the folder is as it was.
    """
    folder = Path(folder)
    with FeatureStore(features) as store:
        if pca is not None:
            pca.check(store)
        names = file_names(
            store.paths,
            str(store.path),
            keep_extensions=keep_extensions,
            reserved=(INDEX_CSV, INDEX_JSON),
        )
        make_room(folder, overwrite=overwrite, format_name=_EXPORT_FORMAT)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(folder) as temporary:
            with (temporary / INDEX_CSV).open("w", encoding="utf-8", newline="") as index:
                table = csv.writer(index)
                table.writerow(["path", "file", "row", "start_seconds", "end_seconds"])
                for done, (path, rows) in enumerate(store, 1):
                    name = names[path]
                    file = temporary / text_to_path(name)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    vectors = rows.vectors if pca is None else pca.apply(rows.vectors)
                    np.save(file, vectors, allow_pickle=False)
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


def projected(vectors: NDArray[Any], pca: PCA | None) -> NDArray[np.float32]:
    """Rows as float32, projected if a PCA is given."""
    return np.asarray(vectors, dtype=np.float32) if pca is None else pca.apply(vectors)


def make_room(folder: Path, *, overwrite: bool, format_name: str) -> None:
    """Refuse a folder with files that are not from an export of this kind.

    Raises:
        StoreError: it has other files in it, or an export that is not to be replaced.
    """
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir():
        raise StoreError(f"{folder} is not a folder: choose another one")
    if not any(folder.iterdir()):
        return
    index = folder / INDEX_JSON
    ours = index.is_file() and f'"format": "{format_name}"' in index.read_text("utf-8", "replace")
    if not ours:
        raise StoreError(f"{folder} has other files in it: choose a new or an empty folder")
    if not overwrite:
        raise StoreError(f"{folder} already has an export: give overwrite=True to replace it")
