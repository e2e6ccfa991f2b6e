"""The tables of an index: its videos, and the video and seconds of each clip.

``videos.npz`` holds one row per video; a removed video keeps its row, with ``alive`` false, until
the index is rebuilt, so that the numbers in ``clips.npy`` stay valid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import StoreError
from vidfeat.system.identities import Names

CLIP = np.dtype([("video", "<i4"), ("start_seconds", "<f8"), ("end_seconds", "<f8")])

# facts about a video, other than its path and rows
FACTS: dict[str, str] = {
    "duration_seconds": "<f8",
    "fps": "<f8",
    "width": "<i4",
    "height": "<i4",
    "size_bytes": "<i8",
    "mtime_ns": "<i8",
}
COLUMNS: dict[str, str] = {"offset": "<i8", "count": "<i8", "alive": "|b1", **FACTS}


@dataclass(frozen=True, eq=False)
class Videos:
    """Columns of equal length; row numbers are what ``clips["video"]`` holds.

    Attributes:
        paths: identities, relative to the root of the videos.
        columns: ``offset`` and ``count`` (its clips), ``alive``, and the facts of the feature file.
    """

    paths: list[str]
    columns: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row by path, for the videos that were not removed."""
        alive = self.columns["alive"].tolist()
        return {path: row for row, path in enumerate(self.paths) if alive[row]}

    @cached_property
    def names(self) -> Names:
        """Paths of these videos, found in any Unicode form."""
        return Names(self.row_of)

    def rows(self, video: int) -> slice:
        """The rows of a video's clips."""
        start = int(self.columns["offset"][video])
        return slice(start, start + int(self.columns["count"][video]))

    def without(self, removed: Sequence[int]) -> Videos:
        """The same table with some videos marked as removed."""
        alive = self.columns["alive"].copy()
        alive[list(removed)] = False
        return Videos(self.paths, {**self.columns, "alive": alive})

    def extended(self, other: Videos) -> Videos:
        """The rows of another table after those of this one."""
        columns = {
            name: np.concatenate([self.columns[name], other.columns[name]]) for name in COLUMNS
        }
        return Videos([*self.paths, *other.paths], columns)

    def save(self, path: Path) -> None:
        """Write ``videos.npz``; paths are stored as UTF-8 bytes with the end of each."""
        encoded = [text.encode("utf-8") for text in self.paths]
        ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
        arrays: dict[str, Any] = {
            name: self.columns[name].astype(kind) for name, kind in COLUMNS.items()
        }
        arrays["path_bytes"] = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        arrays["path_ends"] = ends
        with path.open("wb") as file:
            np.savez(file, **arrays)


def make_videos(paths: Sequence[str], facts: dict[str, Any], counts: Any, first: int) -> Videos:
    """A table of new videos whose clips are adjacent, from row ``first`` on."""
    number = np.asarray(counts, dtype=np.int64)
    columns: dict[str, NDArray[Any]] = {
        "offset": first + np.cumsum(number) - number,
        "count": number,
        "alive": np.ones(len(number), dtype=bool),
    }
    for name, kind in FACTS.items():
        columns[name] = np.asarray(facts[name]).astype(kind)
    return Videos(list(paths), columns)


def load_videos(path: Path, num_rows: int) -> Videos:
    """Read ``videos.npz``.

    Args:
        path: the file.
        num_rows: clips of the index, to check the table against.

    Raises:
        StoreError: not a table of videos, or its columns do not fit each other.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            text = file["path_bytes"].tobytes()
            ends = file["path_ends"].astype(np.int64).tolist()
            columns = {name: file[name].astype(kind) for name, kind in COLUMNS.items()}
        starts = [0, *ends[:-1]]
        paths = [text[a:b].decode("utf-8") for a, b in zip(starts, ends, strict=True)]
    except (OSError, ValueError, KeyError, EOFError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise StoreError(f"{path} is not a table of videos: {error}; rebuild the index") from error
    sound = all(column.shape == (len(paths),) for column in columns.values())
    if sound and len(paths):
        offset, count = columns["offset"], columns["count"]
        held = columns["alive"]
        sound = bool(
            (count >= 0).all()
            and (offset >= 0).all()
            and (offset[held] + count[held] <= num_rows).all()
        )
    if not sound:
        raise StoreError(f"{path} does not fit its index: rebuild the index")
    return Videos(paths, columns)
