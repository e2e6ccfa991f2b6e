"""Milvus: a cluster, or milvus-lite over a local file; one client for both.

Credentials are not part of an address: ``MILVUS_TOKEN`` holds them, ``user:password`` or a key.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import MissingExtraError, StoreError
from vidfeat.index.databases.base import (
    BEGUN,
    VIDEO_COLUMNS,
    ClipBlock,
    Span,
    StoredRows,
    conditions,
    number_list,
    padded_answers,
    span_conditions,
)

# Milvus returns at most 16,384 rows of a search or query, and accepts messages of 64 MB.
_MOST_ANSWERS = 16_384
_MESSAGE_BYTES = 16 << 20
_PROBES = (4, 8, 16, 32, 64, 128, 256)
_LONGEST_PATH = 65_535
_HEAD = -1
# So many rows are read by their keys: milvus-lite takes 1 ms for ten, and 400 ms for a condition,
# which it checks for every row.
_MOST_BY_KEY = 16_000
_KEYS, _KEYS_WITH_VECTORS = 4000, 1000
# Below this many rows, all lists are searched.
_EXACT_ROWS = 20_000

_open_files: Counter[str] = Counter()
"""How many databases of this process use a file of milvus-lite."""


class MilvusDatabase:
    """The collections ``NAME`` (clips) and ``NAME_videos``; the head is the latter's row -1.

    Args:
        address: for messages.
        uri: ``http://HOST:PORT``, or the file of milvus-lite.
        name: of the collection.

    Raises:
        MissingExtraError: pymilvus, or milvus-lite for a file, is not installed.
        StoreError: the server cannot be reached, or the file is in use.
    """

    kind = "milvus"

    def __init__(self, address: str, uri: str, name: str) -> None:
        self.address = address
        self.name = name
        self.lite = "://" not in uri
        try:
            import pymilvus
        except ImportError as error:
            raise MissingExtraError("milvus", "pymilvus", f"{address}") from error
        if self.lite:
            try:
                import milvus_lite  # noqa: F401
            except ImportError as error:
                raise MissingExtraError("milvus", "milvus-lite", f"{address}") from error
            if not Path(uri).absolute().parent.is_dir():
                raise StoreError(f"{address}: there is no folder {Path(uri).parent}")
            # They log each call that the in-process server does not support, and every error.
            for logger in ("grpc._server", "milvus_lite"):
                logging.getLogger(logger).setLevel(logging.CRITICAL)
            logging.getLogger("pymilvus").setLevel(logging.ERROR)
        token = "" if self.lite else os.environ.get("MILVUS_TOKEN", "")
        with self._errors():
            self._client: Any = pymilvus.MilvusClient(uri, token=token)
        self._file = os.path.abspath(uri) if self.lite else None  # noqa: PTH100 (as milvus-lite)
        if self._file is not None:
            _open_files[self._file] += 1

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn errors of the database into one line with its address."""
        import pymilvus

        try:
            yield
        except (pymilvus.MilvusException, OSError, ValueError) as error:
            text = " ".join(str(error).split())
            hint = ""
            # pymilvus does not say why it cannot open a file.
            if self.lite and ("lock" in text.lower() or "open local milvus failed" in text.lower()):
                hint = ": it may be in use; milvus-lite keeps a file open in one process at a time"
            raise StoreError(f"{self.address}: {text[:300]}{hint}") from error

    @property
    def _videos(self) -> str:
        return f"{self.name}_videos"

    # ------------------------------------------------------------------ the head

    def read_head(self) -> dict[str, Any] | None:
        """The head last written by `write_head`; None for a new place."""
        with self._errors():
            if not self._client.has_collection(self._videos):
                return None
            if not self._client.has_collection(self.name):
                return dict(BEGUN)
            for name in (self.name, self._videos):
                self._client.load_collection(name)
            found = self._client.query(
                self._videos, filter=f"video == {_HEAD}", output_fields=["about"]
            )
        return dict(found[0]["about"]["head"]) if found else None

    def write_head(self, head: Mapping[str, Any]) -> None:
        """Replace the head, in one upsert."""
        with self._errors():
            self._client.upsert(self._videos, [_head_row(head)])
            self._flush(self._videos)

    def create(self, dimension: int, num_rows: int) -> None:
        """Create empty collections for about this many rows, replacing existing ones."""
        from pymilvus import DataType

        with self._errors():
            there = [self._client.has_collection(name) for name in (self.name, self._videos)]
        if there == [True, False]:
            raise StoreError(
                f"{self.address}: the collection {self.name} is another program's: choose another "
                "name"
            )
        with self._errors():
            # In this order, so that a kill leaves nothing that looks like another program's.
            for name in (self.name, self._videos):
                if self._client.has_collection(name):
                    self._client.drop_collection(name)
            videos = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
            videos.add_field("video", DataType.INT64, is_primary=True)
            videos.add_field("about", DataType.JSON)
            # A collection must have a vector column.
            videos.add_field("nothing", DataType.FLOAT_VECTOR, dim=2)
            self._client.create_collection(self._videos, schema=videos, consistency_level="Strong")
            self._index(self._videos, "nothing", "FLAT", "L2", {})
            self._client.upsert(self._videos, [_head_row(BEGUN)])
            clips = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
            clips.add_field("row", DataType.INT64, is_primary=True)
            clips.add_field("clip_id", DataType.VARCHAR, max_length=32)
            clips.add_field("video", DataType.INT64)
            clips.add_field("path", DataType.VARCHAR, max_length=_LONGEST_PATH)
            clips.add_field("label", DataType.VARCHAR, max_length=_LONGEST_PATH)
            clips.add_field("start_seconds", DataType.DOUBLE)
            clips.add_field("end_seconds", DataType.DOUBLE)
            clips.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
            self._client.create_collection(self.name, schema=clips, consistency_level="Strong")
            self._index_vectors(_lists(num_rows))

    def _index(self, name: str, field: str, kind: str, metric: str, params: dict[str, int]) -> None:
        asked = self._client.prepare_index_params()
        asked.add_index(field, index_type=kind, metric_type=metric, params=params)
        self._client.create_index(name, asked)
        self._client.load_collection(name)

    def _index_vectors(self, lists: int) -> None:
        # milvus-lite compares with every vector, which is quick enough for what fits one process.
        kind, params = ("FLAT", {}) if self.lite else ("IVF_FLAT", {"nlist": lists})
        self._index(self.name, "vector", kind, "IP", params)

    def _flush(self, name: str) -> None:
        self._client.flush(name)

    # ------------------------------------------------------------------ changes

    def add_clips(self, block: ClipBlock) -> None:
        """Add rows, in messages of a size that Milvus accepts."""
        step = max(1, min(5000, _MESSAGE_BYTES // (4 * block.vector.shape[1] + 500)))
        columns = {
            "row": block.row.tolist(),
            "clip_id": block.clip_id,
            "video": block.video.tolist(),
            "path": block.path,
            "label": block.label,
            "start_seconds": block.start_seconds.tolist(),
            "end_seconds": block.end_seconds.tolist(),
            "vector": list(block.vector.astype(np.float32, copy=False)),
        }
        with self._errors():
            for low in range(0, len(block.row), step):
                part = [columns[name][low : low + step] for name in columns]
                rows = [dict(zip(columns, row, strict=True)) for row in zip(*part, strict=True)]
                self._client.insert(self.name, rows)

    def add_videos(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Add rows to the table of videos."""
        names = [name for name in VIDEO_COLUMNS if name != "video"]
        count = len(columns["video"])
        with self._errors():
            for low in range(0, count, 2000):
                rows = [
                    {
                        "video": columns["video"][at],
                        "about": {name: columns[name][at] for name in names},
                        "nothing": [0.0, 0.0],
                    }
                    for at in range(low, min(low + 2000, count))
                ]
                self._client.insert(self._videos, rows)

    def videos(self) -> dict[str, list[Any]]:
        """The table of videos, in the order of their numbers."""
        found = self._all(self._videos, "video >= 0", "video", ["about"])
        table: dict[str, list[Any]] = {"video": [row["video"] for row in found]}
        for name in VIDEO_COLUMNS[1:]:
            table[name] = [row["about"][name] for row in found]
        return table

    def _all(self, name: str, where: str, key: str, columns: list[str]) -> list[dict[str, Any]]:
        """All rows that satisfy a condition, in the order of their key, in batches."""
        found: list[dict[str, Any]] = []
        with self._errors():
            pages = self._client.query_iterator(
                name, filter=where, output_fields=[key, *columns], batch_size=4000
            )
            while page := pages.next():
                found += page
            pages.close()
        return sorted(found, key=lambda row: row[key])

    def remove(self, videos: Sequence[int], spans: Sequence[Span]) -> None:
        """Delete videos and their clips."""
        with self._errors():
            for low in range(0, len(spans), 200):
                where = span_conditions(spans[low : low + 200], both=" and ", either=" or ")
                self._client.delete(self.name, filter=where)
            for low in range(0, len(videos), 5000):
                part = number_list(videos[low : low + 5000])
                self._client.delete(self._videos, filter=f"video in [{part}]")

    def remove_from(self, row: int, video: int) -> None:
        """Delete everything from these numbers on."""
        with self._errors():
            self._client.delete(self.name, filter=f"row >= {row}")
            self._client.delete(self._videos, filter=f"video >= {video}")

    def index_clips(self, num_rows: int) -> str:
        """Maintain IVF-Flat: Milvus extends it; it is rebuilt when its lists are too long."""
        lists = self._num_lists()
        with self._errors():
            self._flush(self.name)
            if 0 < 4 * lists < _lists(num_rows):
                lists = _lists(num_rows)
                self._client.release_collection(self.name)
                self._client.drop_index(self.name, "vector")
                self._index_vectors(lists)
        return f"IVF-Flat, {lists} lists" if lists else "none, all compared"

    def _num_lists(self) -> int:
        """Number of lists of the index; 0 if there are none."""
        if self.lite:
            return 0
        with self._errors():
            told = self._client.describe_index(self.name, "vector")
        return int(told["nlist"])

    def ladder(self, num_rows: int) -> list[dict[str, int]]:
        """Numbers of lists to search; empty if every search covers all."""
        lists = self._num_lists()
        if num_rows < _EXACT_ROWS:
            return []
        return [{"nprobe": probes} for probes in _PROBES if probes < lists]

    # ------------------------------------------------------------------ reading

    def rows(self, spans: Sequence[Span], *, vectors: bool) -> StoredRows:
        """The rows of some spans."""
        columns = ["start_seconds", "end_seconds", *(["vector"] if vectors else [])]
        found: list[dict[str, Any]] = []
        if sum(high - low for low, high in spans) <= _MOST_BY_KEY:
            wanted = [row for span in spans for row in range(*span)]
            step = _KEYS_WITH_VECTORS if vectors else _KEYS
            with self._errors():
                for low in range(0, len(wanted), step):
                    found += self._client.get(
                        self.name, wanted[low : low + step], output_fields=["row", *columns]
                    )
        else:
            for low in range(0, len(spans), 200):
                where = span_conditions(spans[low : low + 200], both=" and ", either=" or ")
                found += self._all(self.name, where, "row", columns)
        found.sort(key=lambda row: row["row"])
        held = None
        if vectors:
            held = np.array([row["vector"] for row in found], dtype=np.float32)
            held = held.reshape(len(found), -1)
        return StoredRows(
            np.array([row["row"] for row in found], dtype=np.int64),
            np.array([row["start_seconds"] for row in found], dtype=np.float64),
            np.array([row["end_seconds"] for row in found], dtype=np.float64),
            held,
        )

    def nearest(
        self,
        queries: NDArray[np.float32],
        count: int,
        spans: Sequence[Span] | None,
        settings: Mapping[str, int] | None,
        between_seconds: tuple[float, float] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The nearest clips of each query, 16,384 at most."""
        where = conditions(spans, between_seconds, both=" and ", either=" or ")
        probes = self._num_lists() if settings is None else settings["nprobe"]
        with self._errors():
            answers = self._client.search(
                self.name,
                data=list(queries),
                anns_field="vector",
                filter=where,
                limit=min(count, _MOST_ANSWERS),
                search_params={
                    "metric_type": "IP",
                    "params": {"nprobe": probes} if probes else {},
                },
            )
        found = [
            ([hit["distance"] for hit in line], [hit["row"] for hit in line]) for line in answers
        ]
        return padded_answers(found, count)

    def close(self) -> None:
        """Close the connection, or the file, so that other processes can open it."""
        self._client.close()
        file, self._file = self._file, None
        if file is None:
            return
        _open_files[file] -= 1
        if not _open_files[file]:
            # The client's own close leaves the server of milvus-lite running, which holds the lock.
            from milvus_lite.server_manager import server_manager_instance

            server_manager_instance.release_server(file)


def _head_row(head: Mapping[str, Any]) -> dict[str, Any]:
    return {"video": _HEAD, "about": {"head": dict(head)}, "nothing": [0.0, 0.0]}


def _lists(num_rows: int) -> int:
    """Number of lists for this many rows: 4 sqrt(N), with 40 rows or more in each."""
    return max(1, min(int(4 * num_rows**0.5), num_rows // 40, 65_536))
