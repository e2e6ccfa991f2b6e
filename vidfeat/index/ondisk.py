"""Inverted lists larger than memory: built in parts, merged into one file, opened mapped.

FAISS supports this, but its index file names the lists by an absolute path, which breaks on copying
and could be forged. Here the FAISS file holds the trained index with empty lists, ``lists.lists``
the codes and ids, and ``list_table.npy`` the position of each list in it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import StoreError
from vidfeat.index.arrays import save_npy, write_faiss

_BLOCK_ROWS = 16_384
_PART_BYTES = 1 << 30
_ID_BYTES = 8


def add_on_disk(
    index: Any,
    vectors: NDArray[Any],
    lists_path: Path,
    table_path: Path,
    report: Callable[[str], None],
) -> None:
    """Add all vectors to a trained, empty index whose lists go to a file; the index stays empty.

    Args:
        index: trained, of an IVF kind.
        vectors: (N, D), mapped.
        lists_path: codes and ids, written here.
        table_path: (lists, 3) int64: size, capacity, offset in bytes.
        report: called with a line on each step.
    """
    import faiss

    ivf = faiss.extract_index_ivf(index)
    rows = max(_BLOCK_ROWS, min(2_000_000, _PART_BYTES // max(int(ivf.code_size), 1)))
    parts: list[Path] = []
    for low in range(0, len(vectors), rows):
        part = faiss.clone_index(index)
        high = min(low + rows, len(vectors))
        for inner in range(low, high, _BLOCK_ROWS):
            stop = min(inner + _BLOCK_ROWS, high)
            block = np.ascontiguousarray(vectors[inner:stop], dtype=np.float32)
            part.add_with_ids(block, np.arange(inner, stop))
        parts.append(lists_path.with_name(f"part-{len(parts) + 1}.faiss"))
        write_faiss(part, parts[-1])
        del part
        report(f"added {high} of {len(vectors)} clips")
    table = _merge(parts, int(ivf.nlist), int(ivf.code_size), lists_path)
    for path in parts:
        path.unlink()
    if table[:, 0].sum() != len(vectors):
        raise StoreError(f"{lists_path} holds {table[:, 0].sum()} of {len(vectors)} clips")
    save_npy(table_path, table)


def _merge(parts: list[Path], lists: int, code_size: int, target: Path) -> NDArray[np.int64]:
    """Write the codes, then the ids of each list; return size, capacity and offset of each."""
    import faiss

    flags = faiss.IO_FLAG_MMAP | faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE
    opened = [faiss.read_index(str(path), flags) for path in parts]
    sources = [faiss.extract_index_ivf(part).invlists for part in opened]
    table = np.zeros((lists, 3), dtype=np.int64)
    with target.open("wb") as file:
        for number in range(lists):
            sizes = [int(source.list_size(number)) for source in sources]
            table[number] = sum(sizes), sum(sizes), file.tell()
            held = [(source, size) for source, size in zip(sources, sizes, strict=True) if size]
            for source, size in held:
                codes = faiss.rev_swig_ptr(source.get_codes(number), size * code_size)
                file.write(np.asarray(codes, dtype=np.uint8).tobytes())
            for source, size in held:
                ids = faiss.rev_swig_ptr(source.get_ids(number), size)
                file.write(np.asarray(ids, dtype=np.int64).tobytes())
    return table


def attach_lists(index: Any, lists_path: Path, table_path: Path, num_rows: int) -> None:
    """Give an empty index its lists, mapped from their file.

    Raises:
        StoreError: the table does not fit the file or the index.
    """
    import faiss

    ivf = faiss.extract_index_ivf(index)
    bytes_there = lists_path.stat().st_size
    try:
        table = np.load(table_path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise StoreError(f"{table_path} is damaged: {error}; rebuild the index") from None
    entry_bytes = int(ivf.code_size) + _ID_BYTES
    sound = table.shape == (ivf.nlist, 3) and table.dtype == np.int64
    if sound:
        size, capacity, offset = table.T
        # Bounds that cannot overflow come first.
        sound = bool(
            (table >= 0).all()
            and (size <= capacity).all()
            and (capacity <= bytes_there // entry_bytes).all()
            and (offset <= bytes_there).all()
            and (offset + capacity * entry_bytes <= bytes_there).all()
            and int(size.sum()) == num_rows
        )
    if not sound:
        raise StoreError(f"{table_path} does not fit {lists_path}: rebuild the index")
    lists = faiss.OnDiskInvertedLists(ivf.nlist, ivf.code_size, str(lists_path))
    lists.read_only = True
    lists.totsize = bytes_there
    places = faiss.OnDiskOneListVector()
    entry = faiss.OnDiskOneList()
    for one_size, one_capacity, one_offset in table.tolist():
        entry.size, entry.capacity, entry.offset = one_size, one_capacity, one_offset
        places.push_back(entry)
    lists.lists = places
    if bytes_there:
        lists.do_mmap()
    ivf.replace_invlists(lists, True)  # noqa: FBT003
    lists.this.disown()
    index.ntotal = ivf.ntotal = num_rows
