"""The nearest clips of a query: FAISS finds candidates, the vectors themselves give the order.

Rows number the clips: first those of the first part, as in FAISS, then those added since, which are
few and compared exactly.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import StoreError
from vidfeat.index.choose import COMPRESSED
from vidfeat.index.compare import compare_all, in_order, padded
from vidfeat.index.folder import IndexHeader
from vidfeat.index.ondisk import attach_lists

# Limits for reading a FAISS file: larger sizes are refused, not allocated.
_MOST_VECTOR_BYTES = 1 << 38
_MOST_LOOPS = 1 << 28

# The settings of an index are tuned for the recall of this many nearest rows.
TUNED_NEIGHBOURS = 10
# Up to this many allowed rows are compared one by one, as in a tail of that size.
_FEW_ROWS = 20_000
# A filter that keeps at least this share of the rows counts as none.
_MOSTLY = 0.99
# In an index up to this size, all codes are searched if the filter leaves out what is near.
_SCANNED_ROWS = 4_000_000
_MOST_EF_SEARCH = 4096
_SHORT = -2


def read_faiss(path: Path, head: IndexHeader) -> Any:
    """Open a FAISS file mapped, and check that it is the index that ``index.json`` describes.

    FAISS parses files in C++: all of its limits are set, by the file's own size where possible.

    Raises:
        StoreError: the file is damaged, or another index.
    """
    import faiss

    # The lists stay mapped: tables that speed up their search slightly cost memory on opening.
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
        raise StoreError(f"{path} is damaged: {reason[-200:]}; rebuild the index") from None
    if "lists" in head.files:
        _check_faiss(index, path, head, num_rows=0)
        lists, table = (path.with_name(head.files[role].name) for role in ("lists", "list_table"))
        attach_lists(index, lists, table, head.num_base)
    else:
        _check_faiss(index, path, head, num_rows=head.num_base)
    return index


def _table_bytes(head: IndexHeader) -> int:
    """Bytes that FAISS's check counts for a table that is never built, by the factory."""
    found = re.fullmatch(r"(?:OPQ\d+_\d+,)?IVF(\d+)(?:_HNSW32)?,PQ(\d+)(x4fs)?", head.factory)
    if found is None:
        return 0
    lists = min(int(found[1]), head.num_base)
    return lists * min(int(found[2]), head.dimension) * (16 if found[3] else 256) * 4


@contextmanager
def _limits(file_bytes: int) -> Iterator[None]:
    """Limit arrays to the size of the file that they are read from; FAISS's limits are global."""
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


def _check_faiss(index: Any, path: Path, head: IndexHeader, *, num_rows: int) -> None:
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
            f"kind {head.kind!r}: rebuild the index"
        )


class SearchEngine:
    """Candidates from FAISS and from the tail, in the order of their exact cosines.

    Args:
        head: the index's head.
        faiss_index: the first part.
        vectors: (num_base, D), mapped.
        tail: (num_tail, D), mapped.
    """

    def __init__(
        self, head: IndexHeader, faiss_index: Any, vectors: NDArray[Any], tail: NDArray[Any]
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
        compare_few: bool = True,
        results: int = TUNED_NEIGHBOURS,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The nearest rows of each query: ``count`` of them if that many may be found.

        Args:
            queries: (Q, D) normalised.
            count: maximum number of rows per query.
            keep: (num_rows,) rows that may be found; None for all.
            exact: compare with every vector.
            search: other settings than the index's own.
            compare_few: if few rows may be found, compare with each; False to measure FAISS.
            results: number of results that the caller makes of these rows. The settings were tuned
                for the nearest 10; for more, the search is broader.

        Returns:
            Cosines (Q, n) in descending order, and rows (Q, n); a row of -1 stands for none.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        settings = self.head.search if search is None else search
        if results > TUNED_NEIGHBOURS:
            settings = self._broader(settings, results / TUNED_NEIGHBOURS)
        parts: list[tuple[NDArray[np.float32], NDArray[np.int64]]] = []
        if self.num_base:
            kept = None if keep is None else keep[: self.num_base]
            if exact and self.head.kind != "flat":
                parts.append(compare_all(queries, self.vectors, count, kept))
            elif kept is None or kept.any():
                parts.append(self._base(queries, count, kept, settings, compare_few))
        if len(self.tail):
            kept = None if keep is None else keep[self.num_base :]
            scores, rows = compare_all(queries, self.tail, count, kept)
            parts.append((scores, np.where(rows >= 0, rows + self.num_base, -1)))
        if not parts:
            empty = np.empty((len(queries), 0))
            return empty.astype(np.float32), empty.astype(np.int64)
        if len(parts) == 1:
            return parts[0]
        scores = np.concatenate([part[0] for part in parts], axis=1)
        rows = np.concatenate([part[1] for part in parts], axis=1)
        return in_order(scores, rows, count)

    def _broader(self, settings: dict[str, int], breadth: float) -> dict[str, int]:
        """Settings for more neighbours than they were tuned for.

        Candidates compete with each other, so their number grows in proportion. The number of lists
        depends on the distance of the farthest neighbour, and grows more slowly.
        """
        factors = {"candidates": breadth, "nprobe": math.sqrt(breadth)}
        return {name: math.ceil(value * factors.get(name, 1.0)) for name, value in settings.items()}

    def _base(
        self,
        queries: NDArray[np.float32],
        count: int,
        keep: NDArray[np.bool_] | None,
        settings: dict[str, int],
        compare_few: bool,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        kind = self.head.kind
        kept = self.num_base if keep is None else int(np.count_nonzero(keep))
        if kept == self.num_base:
            keep = None
        if kind == "flat":
            return self._whole(queries, count, keep)
        if keep is not None and kept <= _FEW_ROWS and compare_few:
            return compare_all(queries, self.vectors, count, keep)
        if kind == "hnsw":
            return self._graph(queries, count, keep, kept, settings)
        return self._lists(queries, count, keep, kept, settings)

    def _ask(
        self, queries: NDArray[np.float32], count: int, params: Any
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        scores, rows = self.faiss_index.search(queries, count, params=params)
        return scores, rows

    def _whole(
        self, queries: NDArray[np.float32], count: int, keep: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        import faiss

        selector, bits = _selector(keep)
        params = None if selector is None else faiss.SearchParameters(sel=selector)
        answer = self._ask(queries, min(count, self.num_base), params)
        del bits
        return answer

    def _graph(
        self,
        queries: NDArray[np.float32],
        count: int,
        keep: NDArray[np.bool_] | None,
        kept: int,
        settings: dict[str, int],
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Walk the graph; compare all allowed rows if the walk meets too few of them."""
        import faiss

        wanted = min(count, self.num_base)
        size = max(settings.get("ef_search", 64), wanted)
        if keep is not None:
            size = max(size, min(size * self.num_base // kept, _MOST_EF_SEARCH))
        selector, bits = _selector(keep)
        params = faiss.SearchParametersHNSW(efSearch=size, sel=selector)
        scores, rows = self._ask(queries, wanted, params)
        del bits
        short = np.flatnonzero(np.count_nonzero(rows >= 0, axis=1) < min(wanted, kept))
        if len(short):
            found = compare_all(queries[short], self.vectors, wanted, keep)
            scores[short], rows[short] = padded(*found, wanted)
        return scores, rows

    def _lists(
        self,
        queries: NDArray[np.float32],
        count: int,
        keep: NDArray[np.bool_] | None,
        kept: int,
        settings: dict[str, int],
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Search inverted lists, and more of them if they hold few allowed rows.

        For the same recall, a search with a filter must find about as many allowed rows as a search
        without one covers. If a filter leaves out just what is near the query, all other rows are
        about equally far and may be in any list: then all lists are searched.
        """
        wanted = min(max(count, settings.get("candidates", 0)), self.num_base)
        lists = self._num_lists
        probes = min(settings.get("nprobe", 8), lists)
        goal = min(count, kept)
        # Leaving out a query's own video is no reason to search further: the settings were tuned
        # that way.
        if kept < _MOSTLY * self.num_base:
            looked_at = probes * self.num_base // lists
            goal = max(goal, min(wanted, kept, looked_at))
            probes = min(-(-probes * self.num_base // kept), lists)
        selector, bits = _selector(keep)
        scores, rows = self._ranked(queries, wanted, count, goal, probes, selector)
        short = np.flatnonzero(rows[:, 0] == _SHORT)
        while len(short):
            probes = min(4 * probes, lists)
            if keep is not None:
                probes = lists if self.num_base <= _SCANNED_ROWS else probes
                wanted = min(max(wanted, 4 * settings.get("candidates", 0)), self.num_base)
            least = goal if probes < lists else 0
            again = self._ranked(queries[short], wanted, count, least, probes, selector)
            scores[short], rows[short] = again
            short = short[again[1][:, 0] == _SHORT]
        del bits
        # FAISS may skip rows whose code is NaN: compare them as well.
        lost = np.flatnonzero(np.count_nonzero(rows >= 0, axis=1) < min(count, kept))
        if len(lost):
            found = compare_all(queries[lost], self.vectors, count, keep)
            scores[lost], rows[lost] = padded(*found, rows.shape[1])
        return scores, rows

    def _ranked(
        self,
        queries: NDArray[np.float32],
        wanted: int,
        count: int,
        least: int,
        probes: int,
        selector: Any,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The candidates of some lists by their exact cosines, ``count`` per query.

        For a query with fewer than ``least`` candidates, the first row is ``_SHORT``.
        """
        import faiss

        params = faiss.SearchParametersIVF(nprobe=probes, sel=selector)
        inner = params
        if self.head.kind == "opq":
            params = faiss.SearchParametersPreTransform(index_params=inner)
        _, rows = self._ask(queries, wanted, params)
        exact = np.full(rows.shape, -np.inf, dtype=np.float32)
        short = np.zeros(len(rows), dtype=bool)
        for number, query in enumerate(queries):
            found = rows[number]
            held = found if found[-1] >= 0 else found[found >= 0]
            if len(held) < least:
                short[number] = True
                continue
            exact[number, : len(held)] = np.asarray(self.vectors[held], dtype=np.float32) @ query
            if len(held) < len(found):
                rows[number] = np.concatenate(
                    [held, np.full(len(found) - len(held), -1, dtype=np.int64)]
                )
        exact, rows = padded(*in_order(exact, rows, count), min(count, self.num_base))
        rows[short] = _SHORT
        return exact, rows

    @cached_property
    def _num_lists(self) -> int:
        import faiss

        return int(faiss.extract_index_ivf(self.faiss_index).nlist)


def _selector(keep: NDArray[np.bool_] | None) -> tuple[Any, NDArray[np.uint8] | None]:
    """A FAISS filter of rows, and its bits, which must outlive it."""
    import faiss

    if keep is None:
        return None, None
    bits = np.packbits(keep, bitorder="little")
    return faiss.IDSelectorBitmap(bits), bits
