"""An index in a database of vectors, for collections that outgrow one machine.

``lance://PATH`` is LanceDB: files on a local disk or in object storage (``lance://s3://bucket/a``),
read by many processes, no server. ``milvus://HOST:PORT/COLLECTION`` is Milvus, a cluster;
``milvus://FILE.db`` is milvus-lite, the same client over a local file, for one process.

A database holds what an index holds: the head, the videos, and one row per clip with its vector.
What is above it, from queries to answers, is the code that searches a FAISS index.
"""

from __future__ import annotations

import os
import re

from vidfeat.errors import StoreError, UsageError
from vidfeat.index.databases.base import Database
from vidfeat.index.video_index import VideoIndex

_ADDRESS = re.compile(r"^(lance|milvus)://(.+)$")
_LITE_FILE = re.compile(r"^(.+\.db)(?:/([A-Za-z_]\w*))?$")
_SERVER = re.compile(r"^((?:https?://)?[^/]+)/([A-Za-z_]\w*)$")


def is_address(text: str | os.PathLike[str]) -> bool:
    """Whether a text names a database, not a folder."""
    return _ADDRESS.match(os.fspath(text)) is not None


def connect(address: str) -> Database:
    """A database by its address; nothing need be in it yet.

    Raises:
        UsageError: not an address.
        MissingExtraError: the database's package is not installed.
        StoreError: it cannot be reached.
    """
    found = _ADDRESS.match(address)
    if found is None:
        raise UsageError(
            f"{address!r} is not the address of a database: give lance://PATH, "
            "milvus://HOST:PORT/COLLECTION or milvus://FILE.db"
        )
    kind, rest = found.groups()
    if kind == "lance":
        from vidfeat.index.databases.lance import LanceDatabase

        return LanceDatabase(address, rest)
    from vidfeat.index.databases.milvus import MilvusDatabase

    lite = _LITE_FILE.match(rest)
    if lite is not None:
        return MilvusDatabase(address, lite[1], lite[2] or "vidfeat")
    server = _SERVER.match(rest)
    if server is None:
        raise UsageError(
            f"{address!r} names no collection: give milvus://HOST:PORT/COLLECTION, with letters, "
            "digits and underscores, or milvus://FILE.db"
        )
    uri = server[1] if "://" in server[1] else f"http://{server[1]}"
    return MilvusDatabase(address, uri, server[2])


def open_index(path: str | os.PathLike[str]) -> VideoIndex:
    """An index by its folder or by the address of a database.

    Raises:
        StoreError: there is no index.
        MissingExtraError: the database's package is not installed.
    """
    text = os.fspath(path)
    if not is_address(text):
        if "://" in text:
            raise StoreError(
                f"{text!r} is no index: give a folder, lance://PATH, "
                "milvus://HOST:PORT/COLLECTION or milvus://FILE.db"
            )
        return VideoIndex(path)
    from vidfeat.index.databases.opened import DatabaseIndex

    return DatabaseIndex(text)
