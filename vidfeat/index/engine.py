"""The nearest clips of a query: FAISS for candidates, the vectors themselves for the order.

Rows number the clips: those of the first part as FAISS knows them, then those added since, which
are few and compared exactly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import StoreError
from vidfeat.index.choose import COMPRESSED
from vidfeat.index.folder import Head
from vidfeat.index.ondisk import attach_lists

# What a FAISS file may ask for when it is read: sizes beyond these are refused, not allocated.
_MOST_VECTOR_BYTES = 1 << 38
_MOST_LOOPS = 1 << 28


def read_faiss(path: Path, head: Head) -> Any:
    """Open a FAISS file mapped, and check that it is the index that ``index.json`` describes.

    FAISS parses files in C++: what can be limited is limited, by the file's own size first.

    Raises:
        StoreError: not such an index.
    """
    import faiss

    # The lists stay mapped: tables that speed up their search by a little cost memory at opening.
    flags = faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE
    if head.kind in ("ivfsq", "opq"):
        flags |= faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY
    else:
        flags |= faiss.IO_FLAG_MMAP_IFC
    try:
        with _limits(path.stat().st_size + _table_bytes(head)):
            index = faiss.read_index(str(path), flags)
    except (RuntimeError, MemoryError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise StoreError(f"{path} is damaged: {reason[-200:]}; build the index anew") from None
    if "lists" in head.files:
        _check_faiss(index, path, head, num_rows=0)
        lists, table = (path.with_name(head.files[role].name) for role in ("lists", "list_table"))
        attach_lists(index, lists, table, head.num_base)
    else:
        _check_faiss(index, path, head, num_rows=head.num_base)
    return index


def _table_bytes(head: Head) -> int:
    """What FAISS's check sets aside for a table that is never made, by the kind's factory."""
    found = re.fullmatch(r"(?:OPQ\d+_\d+,)?IVF(\d+)(?:_HNSW32)?,PQ(\d+)(x4fs)?", head.factory)
    if found is None:
        return 0
    lists = min(int(found[1]), head.num_base)
    return lists * min(int(found[2]), head.dimension) * (16 if found[3] else 256) * 4


@contextmanager
def _limits(file_bytes: int) -> Iterator[None]:
    """No array may be larger than the file that it is read from; FAISS's limits are global."""
    import faiss

    most = max(file_bytes, 1 << 20)
    before = (
        faiss.get_deserialization_vector_byte_limit(),
        faiss.get_deserialization_loop_limit(),
    )
    faiss.set_deserialization_vector_byte_limit(min(most, _MOST_VECTOR_BYTES))
    faiss.set_deserialization_loop_limit(min(most, _MOST_LOOPS))
    try:
        yield
    finally:
        faiss.set_deserialization_vector_byte_limit(before[0])
        faiss.set_deserialization_loop_limit(before[1])


def _check_faiss(index: Any, path: Path, head: Head, *, num_rows: int) -> None:
    found = (int(index.d), int(index.ntotal), int(index.metric_type))
    wanted = (head.dimension, num_rows, int(head.kind in COMPRESSED))
    expected = {
        "flat": "IndexFlat",
        "hnsw": "IndexHNSW",
        "ivfsq": "IndexIVFScalarQuantizer",
        "ivfpq": "IndexIVFPQFastScan",
        "opq": "IndexPreTransform",
    }
    if found != wanted or not type(index).__name__.startswith(expected.get(head.kind, "?")):
        raise StoreError(
            f"{path} holds {found[1]} vectors of {found[0]} dimensions in an "
            f"{type(index).__name__}, its index.json says {wanted[1]} of {wanted[0]} in one of "
            f"kind {head.kind!r}: build the index anew"
        )


class Engine:
    """Candidates from FAISS and from the tail, in the order of their exact cosines.

    Args:
        head: what the index says of itself.
        faiss_index: the first part.
        vectors: (num_base, D), mapped.
        tail: (num_tail, D), mapped.
    """

    def __init__(
        self, head: Head, faiss_index: Any, vectors: NDArray[Any], tail: NDArray[Any]
    ) -> None:
        self.head = head
        self.faiss_index = faiss_index
        self.vectors = vectors
        self.tail = tail
        self.num_base = len(vectors)
        self.num_rows = len(vectors) + len(tail)

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors of rows, (len(rows), D) float32."""
        if not len(self.tail) or int(rows.max(initial=0)) < self.num_base:
            return self.vectors[rows].astype(np.float32, copy=False)
        out = np.empty((len(rows), self.head.dimension), dtype=np.float32)
        late = rows >= self.num_base
        out[~late] = self.vectors[rows[~late]]
        out[late] = self.tail[rows[late] - self.num_base]
        return out

    def take_slice(self, rows: slice) -> NDArray[np.float32]:
        """Vectors of consecutive rows, all of one part."""
        if rows.start >= self.num_base:
            part = self.tail[rows.start - self.num_base : rows.stop - self.num_base]
        else:
            part = self.vectors[rows]
        return np.asarray(part, dtype=np.float32)

    def nearest(
        self,
        queries: NDArray[np.float32],
        count: int,
        *,
        keep: NDArray[np.bool_] | None = None,
        exact: bool = False,
        search: dict[str, int] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The nearest rows of each query.

        Args:
            queries: (Q, D) normalised.
            count: rows a query at most.
            keep: (num_rows,) rows that may be found; None for all.
            exact: compare with every vector.
            search: other settings than the index's own.

        Returns:
            Cosines (Q, n) in falling order, and rows (Q, n); a row of -1 stands for none.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        settings = self.head.search if search is None else search
        parts: list[tuple[NDArray[np.float32], NDArray[np.int64]]] = []
        if self.num_base:
            kept = None if keep is None else keep[: self.num_base]
            if exact and self.head.kind != "flat":
                parts.append(_compare_all(queries, self.vectors, count, kept))
            elif kept is None or kept.any():
                parts.append(self._base(queries, count, kept, settings))
        if len(self.tail):
            kept = None if keep is None else keep[self.num_base :]
            scores, rows = _compare_all(queries, self.tail, count, kept)
            parts.append((scores, np.where(rows >= 0, rows + self.num_base, -1)))
        if not parts:
            empty = np.empty((len(queries), 0))
            return empty.astype(np.float32), empty.astype(np.int64)
        if len(parts) == 1:
            return parts[0]
        scores = np.concatenate([part[0] for part in parts], axis=1)
        rows = np.concatenate([part[1] for part in parts], axis=1)
        return _in_order(scores, rows, count)

    def _base(
        self,
        queries: NDArray[np.float32],
        count: int,
        keep: NDArray[np.bool_] | None,
        settings: dict[str, int],
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        kind = self.head.kind
        compressed = kind in COMPRESSED
        wanted = max(count, settings.get("candidates", 0)) if compressed else count
        wanted = min(wanted, self.num_base)
        params = self._params(settings, keep, wanted)
        scores, rows = self.faiss_index.search(queries, wanted, params=params)
        if not compressed:
            return scores, rows
        exact = np.full(scores.shape, -np.inf, dtype=np.float32)
        for number, query in enumerate(queries):
            found = rows[number]
            held = found if found[-1] >= 0 else found[found >= 0]
            exact[number, : len(held)] = np.asarray(self.vectors[held], dtype=np.float32) @ query
            if len(held) < len(found):
                rows[number] = np.concatenate(
                    [held, np.full(len(found) - len(held), -1, dtype=np.int64)]
                )
        return _in_order(exact, rows, count)

    def _params(self, settings: dict[str, int], keep: NDArray[np.bool_] | None, wanted: int) -> Any:
        import faiss

        kind = self.head.kind
        selector = None
        if keep is not None and not keep.all():
            bits = np.packbits(keep, bitorder="little")
            selector = faiss.IDSelectorBitmap(bits)
        if kind == "flat":
            params = faiss.SearchParameters(sel=selector) if selector else None
        elif kind == "hnsw":
            params = faiss.SearchParametersHNSW(
                efSearch=max(settings.get("ef_search", 64), wanted), sel=selector
            )
        else:
            params = faiss.SearchParametersIVF(nprobe=settings.get("nprobe", 8), sel=selector)
            if kind == "opq":
                inner = params
                params = faiss.SearchParametersPreTransform(index_params=inner)
        return params


def _compare_all(
    queries: NDArray[np.float32],
    vectors: NDArray[Any],
    count: int,
    keep: NDArray[np.bool_] | None,
    block: int = 65_536,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Exact nearest rows by comparing with every vector, a block at a time."""
    best = np.full((len(queries), 0), -np.inf, dtype=np.float32)
    rows = np.full((len(queries), 0), -1, dtype=np.int64)
    for start in range(0, len(vectors), block):
        part = np.asarray(vectors[start : start + block], dtype=np.float32)
        scores = queries @ part.T
        numbers = np.broadcast_to(np.arange(start, start + len(part)), scores.shape)
        if keep is not None:
            held = keep[start : start + block]
            scores[:, ~held] = -np.inf
            numbers = np.where(held, numbers, -1)
        if scores.shape[1] > count:
            chosen = np.argpartition(-scores, count - 1, axis=1)[:, :count]
            scores = np.take_along_axis(scores, chosen, axis=1)
            numbers = np.take_along_axis(numbers, chosen, axis=1)
        best = np.concatenate([best, scores], axis=1)
        rows = np.concatenate([rows, numbers], axis=1)
        best, rows = _in_order(best, rows, count)
    return best, rows


def _in_order(
    scores: NDArray[np.float32], rows: NDArray[np.int64], count: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The best ``count`` of each line, best first."""
    if scores.shape[1] > 4 * count:
        chosen = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        scores = np.take_along_axis(scores, chosen, axis=1)
        rows = np.take_along_axis(rows, chosen, axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)
