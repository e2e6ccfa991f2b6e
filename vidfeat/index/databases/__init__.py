"""An index in a database of vectors, for collections that outgrow one machine.

``lance://PATH`` is LanceDB: files on a local disk or in object storage (``lance://s3://bucket/a``),
read by many processes, without a server. ``milvus://HOST:PORT/COLLECTION`` is Milvus, a cluster;
``milvus://FILE.db`` is milvus-lite, the same client over a local file, for one process.

A database holds what an index holds: the head, the videos, and one row per clip with its vector.
Everything above it, from queries to answers, is the same code as for a FAISS index.
"""

from __future__ import annotations

import os

from vidfeat.errors import StoreError
from vidfeat.index.databases.address import is_address
from vidfeat.index.video_index import VideoIndex


def open_index(path: str | os.PathLike[str]) -> VideoIndex:
    """Open an index by its folder or by the address of a database.

    Raises:
        StoreError: there is no index.
        MissingExtraError: the database's package is not installed.
    """
    text = os.fspath(path)
    if not is_address(text):
        if "://" in text:
            raise StoreError(
                f"{text!r} is not an index: give a folder, lance://PATH, "
                "milvus://HOST:PORT/COLLECTION or milvus://FILE.db"
            )
        return VideoIndex(path)
    from vidfeat.index.databases.opened import DatabaseIndex

    return DatabaseIndex(text)
