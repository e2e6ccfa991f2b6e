"""``DatabaseIndex``: an index in a database, open for searching."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from vidfeat.errors import StoreError
from vidfeat.index.databases.address import connect
from vidfeat.index.databases.base import FORMAT
from vidfeat.index.databases.engine import ClipColumns, DatabaseEngine, DatabaseSearcher
from vidfeat.index.databases.state import State, read_state, read_videos
from vidfeat.index.folder import origin_of
from vidfeat.index.vectors import Normalisation
from vidfeat.index.video_index import VideoIndex


class DatabaseIndex(VideoIndex):
    """An index in a database; searched like any other, see :class:`VideoIndex`.

    Args:
        address: ``lance://PATH``, ``milvus://HOST:PORT/COLLECTION`` or ``milvus://FILE.db``.

    Raises:
        StoreError: there is no index, or one of a newer version.
        MissingExtraError: the database's package is not installed.
    """

    def __init__(self, address: str | os.PathLike[str]) -> None:
        self.address = os.fspath(address)
        self.path = Path(self.address)
        self.where = self.address
        self.database = connect(self.address)
        state = read_state(self.database)
        if state is None:
            raise StoreError(
                f"{self.address} holds no index: push features there first with vidfeat push"
            )
        self._set(state)

    def _set(self, state: State) -> None:
        self.head = head = state.head
        self.videos, labels = read_videos(self.database, state.next_video)
        self.labels = {
            path: label for path, row in self.videos.row_of.items() if (label := labels[row])
        }
        self.normalisation = Normalisation()
        engine = DatabaseEngine(head, self.database, self.videos)
        self.searcher = DatabaseSearcher(
            cast("Any", engine), cast("Any", ClipColumns(engine)), self.videos
        )

    @property
    def name(self) -> str:
        """Name of the index, the title of the page."""
        return self.address.rstrip("/").rpartition("/")[2]

    @property
    def state_key(self) -> str:
        """A key that changes with the state of the database."""
        return f"{self.address}\0{self.head.generation}\0{self.head.created}"

    def __repr__(self) -> str:
        return (
            f"DatabaseIndex({self.address!r}: {self.head.num_videos} videos, "
            f"{self.head.num_clips} clips of {self.head.dimension} dimensions)"
        )

    def close(self) -> None:
        """Release the database's files and connections."""
        self.database.close()

    def add(self, features: str | os.PathLike[str], *, skip_bad_rows: bool = False) -> Any:
        """Add the videos of a feature file, replacing those with the same path."""
        from vidfeat.index.databases.push import push_into

        change = push_into(self.database, Path(features), skip_bad_rows=skip_bad_rows)
        self._reopen()
        return change

    def remove(self, paths: Sequence[str]) -> Any:
        """Remove videos by path, folder (with a slash at its end) or pattern."""
        from vidfeat.index.databases.push import push_into

        change = push_into(self.database, None, remove=paths)
        self._reopen()
        return change

    def _reopen(self) -> None:
        state = read_state(self.database)
        assert state is not None
        self._set(state)


def describe_database(address: str) -> dict[str, Any]:
    """Describe a database, for display, without reading its vectors.

    Raises:
        StoreError: as :class:`DatabaseIndex`.
    """
    database = connect(address)
    try:
        state = read_state(database)
    finally:
        database.close()
    if state is None:
        raise StoreError(f"{address} holds no index: push features there first with vidfeat push")
    head = state.head
    return {
        "format": FORMAT,
        "database": head.kind,
        "vector_index": head.factory,
        "videos": head.num_videos,
        "clips": head.num_clips,
        "dimension": head.dimension,
        "search": dict(head.search),
        "recall": dict(head.recall),
        **origin_of(head),
    }
