"""LanceDB: columns in files, on a disk or in object storage, with many readers and no server."""

from __future__ import annotations

import errno
import json
import os
import warnings
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

_FULL = os.strerror(errno.ENOSPC)
# Below this many rows, comparing with every vector is as quick as an index.
_INDEXED_ROWS = 100_000
_PROBES = (8, 16, 24, 32, 48, 64, 96, 128, 256, 512)
# Candidates for each result, compared by their own vectors: codes of 8 bits are slightly off.
_REFINE = 4
_MOST_ROWS = 1 << 31
_TEXT = ("path", "label")
_REAL = ("duration_seconds", "fps")


class LanceDatabase:
    """A folder with the tables ``clips``, ``videos`` and ``head``.

    Args:
        address: for messages.
        uri: the folder, or a place in object storage (``s3://...``, ``gs://...``, ``az://...``).

    Raises:
        MissingExtraError: lancedb is not installed.
        StoreError: the place cannot be reached.
    """

    kind = "lance"

    def __init__(self, address: str, uri: str) -> None:
        # By default, LanceDB's engine logs each table that it creates.
        os.environ.setdefault("LANCEDB_LOG", "error")
        try:
            import lancedb
        except ImportError as error:
            raise MissingExtraError("lance", "lancedb", f"{address}") from error
        self.address = address
        self.uri = uri
        local = "://" not in uri
        if local and Path(uri).is_file():
            raise StoreError(f"{address}: there is a file {uri}, expected a folder")
        with self._errors():
            self._db = lancedb.connect(uri)
        self._clips: Any = None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn errors of the database into one line with its address."""
        try:
            yield
        except (RuntimeError, ValueError, OSError) as error:
            text = " ".join(str(error).split())
            if _FULL in text:  # wrapped in messages of LanceDB's layers and source lines
                text = f"{_FULL}: make room and try again"
            raise StoreError(f"{self.address}: {text[:300] or type(error).__name__}") from error

    def _names(self) -> set[str]:
        return set(self._db.list_tables().tables)

    def _table(self, name: str) -> Any:
        if name == "clips":
            if self._clips is None:
                self._clips = self._db.open_table("clips")
            return self._clips
        return self._db.open_table(name)

    # ------------------------------------------------------------------ the head

    def read_head(self) -> dict[str, Any] | None:
        """The head last written by `write_head`; None for a new place."""
        with self._errors():
            if "head" not in self._names():
                return None
            table = self._table("head").to_arrow()
            if "text" not in table.column_names or len(table) != 1:
                return {}  # of another program
            return dict(json.loads(table["text"][0].as_py()))

    def write_head(self, head: Mapping[str, Any]) -> None:
        """Replace the head: a new version of its table, which appears atomically."""
        import pyarrow as pa

        with self._errors():
            table = pa.table({"text": [json.dumps(head, sort_keys=True)]})
            self._db.create_table("head", data=table, mode="overwrite")

    def create(self, dimension: int, num_rows: int) -> None:  # noqa: ARG002
        """Create empty tables, replacing existing ones."""
        import pyarrow as pa

        clips = pa.schema(
            [
                ("row", pa.int64()),
                ("clip_id", pa.string()),
                ("video", pa.int64()),
                ("path", pa.string()),
                ("label", pa.string()),
                ("start_seconds", pa.float64()),
                ("end_seconds", pa.float64()),
                ("vector", pa.list_(pa.float32(), dimension)),
            ]
        )
        kinds = {**dict.fromkeys(_TEXT, pa.string()), **dict.fromkeys(_REAL, pa.float64())}
        videos = pa.schema([(name, kinds.get(name, pa.int64())) for name in VIDEO_COLUMNS])
        with self._errors():
            names = self._names()
        if "head" not in names and {"clips", "videos"} & names:
            raise StoreError(
                f"{self.address} holds tables of another program: choose another place"
            )
        self.write_head(BEGUN)  # first, so that half-created tables count as ours and empty
        with self._errors():
            self._clips = self._db.create_table("clips", schema=clips, mode="overwrite")
            self._db.create_table("videos", schema=videos, mode="overwrite")

    # ------------------------------------------------------------------ changes

    def add_clips(self, block: ClipBlock) -> None:
        """Add rows, as one new version of the table."""
        import pyarrow as pa

        table = self._table("clips")
        flat = pa.array(np.ascontiguousarray(block.vector, dtype=np.float32).reshape(-1))
        data = pa.table(
            {
                "row": block.row,
                "clip_id": block.clip_id,
                "video": block.video,
                "path": block.path,
                "label": block.label,
                "start_seconds": block.start_seconds,
                "end_seconds": block.end_seconds,
                "vector": pa.FixedSizeListArray.from_arrays(flat, block.vector.shape[1]),
            }
        )
        with self._errors():
            table.add(data)

    def add_videos(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Add rows to the table of videos."""
        import pyarrow as pa

        with self._errors():
            table = self._table("videos")
            table.add(pa.table({name: columns[name] for name in VIDEO_COLUMNS}, table.schema))

    def videos(self) -> dict[str, list[Any]]:
        """The table of videos, in the order of their numbers."""
        with self._errors():
            found = self._table("videos").to_arrow().sort_by("video")
        return {name: found[name].to_pylist() for name in VIDEO_COLUMNS}

    def remove(self, videos: Sequence[int], spans: Sequence[Span]) -> None:
        """Delete videos and their clips."""
        with self._errors():
            for low in range(0, len(spans), 500):
                where = span_conditions(spans[low : low + 500], both=" AND ", either=" OR ")
                self._table("clips").delete(where)
            for low in range(0, len(videos), 10_000):
                part = number_list(videos[low : low + 10_000])
                self._table("videos").delete(f"video IN ({part})")

    def remove_from(self, row: int, video: int) -> None:
        """Delete everything from these numbers on."""
        with self._errors():
            self._table("clips").delete(f"row >= {row}")
            self._table("videos").delete(f"video >= {video}")

    def index_clips(self, num_rows: int) -> str:
        """Build IVF-SQ from 100,000 rows on, with one list per 500 rows; later only extend it."""
        from lancedb.index import BTree, IvfSq

        table = self._table("clips")
        with self._errors(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            names = {index.name for index in table.list_indices()}
            if num_rows >= _INDEXED_ROWS and "vector_idx" not in names:
                settings = IvfSq(
                    distance_type="dot",
                    num_partitions=_lists(num_rows),
                    max_iterations=10,
                    sample_rate=64,
                )
                table.create_index("vector", config=settings)
                table.create_index("row", config=BTree())
            table.optimize()
            names = {index.name for index in table.list_indices()}
        return "IVF-SQ, refined from the vectors" if "vector_idx" in names else "none, all compared"

    def ladder(self, num_rows: int) -> list[dict[str, int]]:
        """Numbers of lists to read, and of candidates to compare exactly for each result."""
        with self._errors():
            names = {index.name for index in self._table("clips").list_indices()}
        if "vector_idx" not in names:
            return []
        return [
            {"nprobes": probes, "refine_factor": _REFINE}
            for probes in _PROBES
            if probes <= _lists(num_rows)
        ]

    # ------------------------------------------------------------------ reading

    def rows(self, spans: Sequence[Span], *, vectors: bool) -> StoredRows:
        """The rows of some spans."""
        columns = ["row", "start_seconds", "end_seconds", *(["vector"] if vectors else [])]
        parts = []
        with self._errors():
            for low in range(0, len(spans), 500):
                where = span_conditions(spans[low : low + 500], both=" AND ", either=" OR ")
                query = self._table("clips").search().where(where).select(columns)
                parts.append(query.limit(_MOST_ROWS).to_arrow())
        import pyarrow as pa

        table = pa.concat_tables(parts).sort_by("row").combine_chunks()
        held = None
        if vectors:
            chunks = table["vector"].chunks
            flat = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in chunks]
            width = table.schema.field("vector").type.list_size
            held = np.concatenate([np.empty(0, np.float32), *flat]).reshape(-1, width)
        return StoredRows(
            table["row"].to_numpy(),
            table["start_seconds"].to_numpy(),
            table["end_seconds"].to_numpy(),
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
        """The nearest clips of each query."""
        where = conditions(spans, between_seconds, both=" AND ", either=" OR ")
        found = []
        table = self._table("clips")
        with self._errors():
            for query in queries:
                search = table.search(query, vector_column_name="vector").distance_type("dot")
                if where:
                    search = search.where(where, prefilter=True)
                if settings is None:
                    search = search.bypass_vector_index()
                else:
                    search = search.nprobes(settings["nprobes"])
                    search = search.refine_factor(settings["refine_factor"])
                answer = search.select(["row", "_distance"]).limit(count).to_arrow()
                # lancedb's dot distance is 1 minus the product
                found.append((1 - answer["_distance"].to_numpy(), answer["row"].to_numpy()))
        return padded_answers(found, count)

    def close(self) -> None:
        """Release the tables."""
        self._clips = None


def _lists(num_rows: int) -> int:
    """Number of lists for this many rows: one per 500, so that a search reads little."""
    return max(16, num_rows // 500)
