"""Write npy and FAISS files so that a full disk always raises an error.

On a full disk, writing to a mapped file kills the process with SIGBUS, ``numpy.save`` hides the
system's reason, and FAISS does not notice. Here all files are written block by block instead.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vidfeat.system.files import named_errors

_WRITTEN_BYTES = 1 << 20


class RowWriter:
    """An npy file that rows are appended to; the number of rows is set at the end.

    Args:
        path: the file to write.
        dtype: of its values.
        row_shape: shape of one row.

    Raises:
        OSError: the disk is full, for example; the error names the file.
    """

    def __init__(self, path: Path, dtype: DTypeLike, row_shape: tuple[int, ...]) -> None:
        self.path = path
        self.dtype = np.dtype(dtype)
        self.row_shape = row_shape
        self.num_rows = 0

    def __enter__(self) -> RowWriter:
        self._file = self.path.open("wb")
        self._write_header()
        return self

    def append(self, rows: NDArray[Any]) -> None:
        """Append rows, converted to the file's type."""
        data = np.ascontiguousarray(rows, dtype=self.dtype)
        with named_errors(self.path):
            self._file.write(data.tobytes())
        self.num_rows += len(data)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with named_errors(self.path), self._file:
            if kind is None:
                self._file.seek(0)
                self._write_header()

    def _write_header(self) -> None:
        # numpy leaves room for a larger first axis: the header keeps its length.
        shape = (self.num_rows, *self.row_shape)
        descr = np.lib.format.dtype_to_descr(self.dtype)
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        with named_errors(self.path):
            np.lib.format.write_array_header_1_0(self._file, header)


def save_npy(path: Path, values: NDArray[Any]) -> None:
    """Write an array as an npy file.

    Raises:
        OSError: the disk is full, for example; the error names the file.
    """
    values = np.asarray(values)
    with RowWriter(path, values.dtype, values.shape[1:]) as writer:
        writer.append(values)


def write_faiss(index: Any, path: Path) -> None:
    """Write a FAISS index.

    FAISS's own writer does not check whether the last block was written: on a full disk it silently
    leaves a truncated file.

    Raises:
        OSError: the disk is full, for example; the error names the file.
    """
    import faiss

    with named_errors(path), path.open("wb") as file:

        def write(block: bytes) -> None:
            file.write(block)

        faiss.write_index(index, faiss.PyCallbackIOWriter(write, _WRITTEN_BYTES))
