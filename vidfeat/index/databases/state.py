"""What a database records about its index: the state, and the table of videos."""

from __future__ import annotations

import dataclasses
from itertools import compress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import StoreError
from vidfeat.index.databases.base import FORMAT, Database
from vidfeat.index.folder import FORMAT_VERSION, IndexHeader
from vidfeat.index.videos import COLUMNS, Videos


class State(NamedTuple):
    """State of the index in a database."""

    head: IndexHeader
    """``num_base`` is the number that the next row gets, ``factory`` the index of the vectors."""
    next_video: int
    """Number that the next video gets."""
    finished: bool = True
    """Whether the push that wrote it had indexed, counted, and deleted old clips."""

    def to_dict(self) -> dict[str, Any]:
        """The head of a database, for JSON."""
        return {
            **self.head.to_dict(),
            "next_video": self.next_video,
            "finished": self.finished,
        }


def read_state(database: Database) -> State | None:
    """State of the index in a database; None if there is none.

    Raises:
        StoreError: the tables are another program's, or of a newer version.
    """
    values = database.read_head()
    if values is None:
        return None
    if values.get("format") != FORMAT:
        raise StoreError(f"{database.address} holds the tables of another program")
    if values.get("begun"):
        return None
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
        database: an open database.
        size: number of videos that the state knows; later ones belong to another writer.
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
    # Of two videos with the same path, the later one replaced the other in a push that was killed
    # before its end.
    last = {path: number for number, path in zip(numbers.tolist(), table["path"], strict=True)}
    for number in numbers.tolist():
        columns["alive"][number] = last[paths[number]] == number
    return Videos(paths, columns), labels
