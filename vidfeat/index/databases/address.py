"""Addresses of databases, and connecting to them."""

from __future__ import annotations

import os
import re

from vidfeat.errors import UsageError
from vidfeat.index.databases.base import Database

_ADDRESS = re.compile(r"^(lance|milvus)://(.+)$")
_LITE_FILE = re.compile(r"^(.+\.db)(?:/([A-Za-z_]\w*))?$")
_SERVER = re.compile(r"^((?:https?://)?[^/]+)/([A-Za-z_]\w*)$")


def is_address(text: str | os.PathLike[str]) -> bool:
    """Whether a text names a database, not a folder."""
    return _ADDRESS.match(os.fspath(text)) is not None


def connect(address: str) -> Database:
    """Connect to the database at an address; it may be empty.

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
