"""Opening a feature file without trusting it: its claims are checked before use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import StoreError
from vidfeat.store.schema import ERROR_COLUMNS, FORMAT, FORMAT_VERSION, ROW_COLUMNS, VIDEO_COLUMNS
from vidfeat.system.hdf5_reading import in_use_reason, open_hdf5

# Deflate, the strongest of the common filters, cannot compress better: a column that claims more
# values for its bytes was never written, and would only fill memory.
_BEST_COMPRESSION = 1100

_TEXT = ("encoder", "space_fingerprint", "run_fingerprint")
_TEXT_OPTIONAL = ("source_root", "shards", "division", "vidfeat_version", "created")


class _RefusedError(Exception):
    """Why a file is refused."""


def open_checked(path: Path) -> tuple[h5py.File, dict[str, Any]]:
    """Open a feature file for reading, and return it with its root attributes.

    Raises:
        StoreError: not a feature file of a known version, damaged, or with links to other files or
            values stored in them.
    """
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise StoreError(f"{path} {what}: give a feature file, as vidfeat extract writes it")
    try:
        handle = open_hdf5(path)
    except PermissionError as error:
        raise StoreError(f"{path} cannot be read: permission denied") from error
    except Exception as error:  # h5py raises whatever HDF5 runs into
        reason = in_use_reason(error)
        if reason:
            raise StoreError(f"{path} {reason}") from error
        raise StoreError(
            f"{path} is not an HDF5 file, or was cut short: give a feature file, as "
            "vidfeat extract writes it"
        ) from error
    try:
        return handle, _check(handle)
    except _RefusedError as error:
        handle.close()
        raise StoreError(f"{path} {error}") from None
    except Exception as error:
        handle.close()
        raise StoreError(f"{path} is a damaged feature file: {error}; make it again") from error


def _check(handle: h5py.File) -> dict[str, Any]:
    head = {
        key: _plain(handle.attrs[key])
        for key in ("format", "format_version")
        if key in handle.attrs
    }
    if head.get("format") != FORMAT:
        raise _RefusedError(
            f"is an HDF5 file, but not a feature file: its attribute format is "
            f"{head.get('format')!r}, expected {FORMAT!r}"
        )
    version = head.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise _RefusedError(f"has the format_version {version!r}, expected {FORMAT_VERSION}")
    if version > FORMAT_VERSION:
        raise _RefusedError(
            f"has format version {version}, and this vidfeat knows {FORMAT_VERSION}: "
            "update vidfeat to read it"
        )
    for key in (*_TEXT, *_TEXT_OPTIONAL):
        value = _plain(handle.attrs[key]) if key in handle.attrs else None
        if value is None and key in _TEXT_OPTIONAL:
            value = ""
        if not isinstance(value, str):
            raise _RefusedError(f"is damaged: its attribute {key} is {value!r}, expected text")
        head[key] = value
    if not isinstance(json.loads(head["encoder"]), dict):
        raise _RefusedError("is damaged: its attribute encoder is not a JSON object")

    vectors = _dataset(handle, "vectors")
    if vectors.ndim != 2 or vectors.dtype not in (np.float32, np.float16):
        raise _RefusedError(
            f"has /vectors of shape {vectors.shape} and type {vectors.dtype}, expected "
            "(clips, dimensions) of float32 or float16"
        )
    rows = int(vectors.shape[0])
    for name, kind in ROW_COLUMNS.items():
        _column(handle, name, kind, rows)
    for name in ("videos", "errors"):
        _hard(handle, name)
        if not isinstance(handle[name], h5py.Group):
            raise _RefusedError(f"is damaged: /{name} is not a group")
    videos = int(_dataset(handle, "videos/path").shape[0])
    for name, kind in VIDEO_COLUMNS.items():
        _column(handle, f"videos/{name}", kind, videos)
    failures = int(_dataset(handle, "errors/path").shape[0])
    for name, kind in ERROR_COLUMNS.items():
        _column(handle, f"errors/{name}", kind, failures)
    if "tries" in handle["errors"]:
        _column(handle, "errors/tries", "i", failures)

    offset, count = handle["videos/offset"][:], handle["videos/count"][:]
    # Compared without a sum, which could overflow.
    if ((count < 0) | (offset < 0) | (offset > rows) | (count > rows - offset)).any():
        raise _RefusedError(f"is damaged: a video has rows outside /vectors, which has {rows}")
    return head


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return value.item() if isinstance(value, np.generic) else value


def _hard(handle: h5py.File, name: str) -> None:
    """Refuse a path that is missing, or is a link to another place."""
    link = handle.get(name, getlink=True)
    if link is None:
        raise _RefusedError(f"is damaged: it has no /{name}")
    if not isinstance(link, h5py.HardLink):
        raise _RefusedError(
            f"is refused: /{name} is a link to another place, which no feature file has"
        )


def _dataset(handle: h5py.File, name: str) -> h5py.Dataset:
    _hard(handle, name)
    dataset = handle[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None or not dataset.shape:
        raise _RefusedError(f"is damaged: /{name} is not a column")
    if dataset.external or dataset.is_virtual:
        raise _RefusedError(
            f"is refused: /{name} has its values in another file, which no feature file has"
        )
    claimed = dataset.size * dataset.dtype.itemsize
    filtered = dataset.id.get_create_plist().get_nfilters() > 0
    if dataset.id.get_storage_size() * (_BEST_COMPRESSION if filtered else 1) < claimed:
        raise _RefusedError(
            f"is damaged: /{name} claims {dataset.size} values that are not in the file"
        )
    return dataset


def _column(handle: h5py.File, name: str, kind: str, length: int) -> None:
    dataset = _dataset(handle, name)
    if dataset.shape != (length,):
        raise _RefusedError(f"is damaged: /{name} has shape {dataset.shape}, expected ({length},)")
    expected = {"f": "float64", "i": "int64", "s": "strings"}[kind]
    found = "strings" if h5py.check_string_dtype(dataset.dtype) else dataset.dtype.name
    if found != expected:
        raise _RefusedError(f"has /{name} of type {found}, expected {expected}")


def read_column(dataset: h5py.Dataset) -> NDArray[Any]:
    """A whole column; strings as an object array of str."""
    values = dataset[:]
    if h5py.check_string_dtype(dataset.dtype):
        column = np.empty(len(values), dtype=object)
        column[:] = [value.decode("utf-8") for value in values.tolist()]
        return column
    return np.asarray(values)
