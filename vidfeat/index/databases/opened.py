"""``DatabaseIndex``: an index in a database, open for searching."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import StoreError
from vidfeat.index.databases import connect
from vidfeat.index.databases.base import Database
from vidfeat.index.databases.engine import ClipColumns, DatabaseEngine, DatabaseSearcher
from vidfeat.index.folder import FORMAT_VERSION, IndexHeader
from vidfeat.index.vectors import Normalisation
from vidfeat.index.video_index import VideoIndex
from vidfeat.index.videos import COLUMNS, Videos

FORMAT = "vidfeat-database"


class DatabaseIndex(VideoIndex):
    """An index in a database; searched like any other, see :class:`VideoIndex`.

    Args:
        address: ``lance://PATH``, ``milvus://HOST:PORT/COLLECTION`` or ``milvus://FILE.db``.

    Raises:
        StoreError: there is none, or a newer version.
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
        """What the page is titled with."""
        return self.address.rstrip("/").rpartition("/")[2]

    @property
    def state_key(self) -> str:
        """Another state of the database has another one."""
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
        """Add the videos of a feature file, replacing those of the same path."""
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
    """What is in a database, for people: no vector is read.

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
        "encoder": head.encoder,
        "space_fingerprint": head.space_fingerprint,
        "run_fingerprint": head.run_fingerprint,
        "source_root": head.source_root,
        "created": head.created,
        "vidfeat_version": head.vidfeat_version,
        "generation": head.generation,
    }


class State(NamedTuple):
    """What a database says of its index."""

    head: IndexHeader
    """``num_base`` is the number that the next row gets, ``factory`` the index of the vectors."""
    next_video: int
    """Number that the next video gets."""
    finished: bool = True
    """Whether the push that wrote it came to its end: indexed, counted, old clips deleted."""

    def to_dict(self) -> dict[str, Any]:
        """The text of a database's head."""
        return {
            **self.head.to_dict(),
            "next_video": self.next_video,
            "finished": self.finished,
        }


def read_state(database: Database) -> State | None:
    """What a database says of its index; None where there is none.

    Raises:
        StoreError: another program's tables, or those of a newer version.
    """
    values = database.read_head()
    if values is None:
        return None
    if values.get("format") != FORMAT:
        raise StoreError(f"{database.address} holds the tables of another program")
    if int(values.get("format_version", 0)) > FORMAT_VERSION:
        raise StoreError(
            f"{database.address} was written by a newer vidfeat "
            f"({values.get('vidfeat_version', '?')}): update vidfeat to read it"
        )
    known = {field.name for field in dataclasses.fields(IndexHeader)}
    try:
        head = IndexHeader(**{name: value for name, value in values.items() if name in known})
        return State(head, int(values["next_video"]), bool(values["finished"]))
    except (TypeError, KeyError, ValueError) as error:
        raise StoreError(f"{database.address} is damaged: {error}; push it again") from error


def read_videos(database: Database, size: int) -> tuple[Videos, NDArray[np.object_]]:
    """The table of videos, by their numbers; removed ones leave rows that are not alive.

    Args:
        database: open.
        size: numbers that the state knows; what stands behind them is another writer's.
    """
    table = database.videos()
    known = [number < size for number in table["video"]]
    table = {name: list(compress(column, known)) for name, column in table.items()}
    numbers = np.array(table["video"], dtype=np.int64)
    paths = [""] * size
    labels = np.full(size, "", dtype=object)
    for number, path, label in zip(table["video"], table["path"], table["label"], strict=True):
        paths[number] = path
        labels[number] = label
    columns: dict[str, NDArray[Any]] = {}
    for name, kind in COLUMNS.items():
        column = np.zeros(size, dtype=kind)
        column[numbers] = name == "alive" or np.array(table[name])
        columns[name] = column
    # Of two with one path, the later one replaced the other, whose push was killed before its end.
    last = {path: number for number, path in zip(numbers.tolist(), table["path"], strict=True)}
    for number in numbers.tolist():
        columns["alive"][number] = last[paths[number]] == number
    return Videos(paths, columns), labels
