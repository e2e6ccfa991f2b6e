"""The folder of finished parts next to a feature file that is being made.

``features.h5.parts/`` holds ``run.json`` (what all parts share) and one file per part, written by
temporary name, fsync and rename: a part is complete or absent. A part is a JSON header and the raw
arrays, because that is as fast as the disk; HDF5 is written once, at the merge::

    magic (8 bytes) | length of the header, its CRC-32 (8 bytes each) | header, padded to 64 bytes
    vectors (n, D) | start_seconds (n,) | end_seconds (n,)           all little-endian
    carried frames (m, O)                                            see carried.py; mostly none

The rows of a video are one or more segments, in several parts if the video is long.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import DataError, StoreError
from vidfeat.store.carried import CarriedAt, CarriedFrames
from vidfeat.store.embeddings import Embeddings
from vidfeat.store.records import RunIdentity, VideoFailure, VideoRecord, require_same_run
from vidfeat.system.files import (
    atomic_write,
    beside,
    is_temporary_of,
    leave_cache,
    temporary_name,
    write_json,
)

_MAGIC = b"VIDFPART"
_PREAMBLE = struct.Struct("<8sQQ")
_VERSION = 1
_ALIGNMENT = 64
_SUFFIX = ".part"
RUN_FILE = "run.json"

ABOUT = tuple(field.name for field in fields(VideoRecord) if field.name != "path")
"""Fields of a `VideoRecord`, except its path."""
_SEGMENT_FIELDS = ("path", "attempt", "first_clip", "count", "complete")
_FAILURE_FIELDS = tuple(field.name for field in fields(VideoFailure))


@dataclass(frozen=True, slots=True)
class VideoSlice:
    """Consecutive clips of one video, as one part holds them.

    Raises:
        DataError: the numbers are invalid, or the record is of another video.
    """

    path: str
    attempt: str
    """Segments of one attempt make one video; a video that is planned again gets a new attempt."""
    first_clip: int
    """Number of the first clip of the segment in the video."""
    count: int
    complete: bool
    """Whether the video ends with this segment."""
    record: VideoRecord

    def __post_init__(self) -> None:
        if self.first_clip < 0 or self.count < 0:
            raise DataError(f"{self.path}: {self.count} clips from {self.first_clip} on")
        if self.record.path != self.path:
            raise DataError(f"a segment of {self.path!r} with the record of {self.record.path!r}")


@dataclass(frozen=True, eq=False)
class Part:
    """Rows, the segments that they form (in order), and failures.

    The failure of a video that broke midway is in the part of its complete slice or in a
    later one: an older failure counts as fixed.

    Raises:
        DataError: the segments do not add up to the number of rows.
    """

    embeddings: Embeddings
    segments: Sequence[VideoSlice]
    failures: Sequence[VideoFailure] = ()
    carried: CarriedFrames | None = None
    """Frames of the last segment's video that its later clips need."""
    inputs: int | None = None
    """Number of network inputs for it; None if equal to the number of rows."""

    def __post_init__(self) -> None:
        counted = sum(segment.count for segment in self.segments)
        if counted != len(self.embeddings):
            raise DataError(f"segments of {counted} rows for {len(self.embeddings)} vectors")


@dataclass(frozen=True, slots=True)
class PartHeader:
    """What a part holds, and where in its file."""

    file: Path
    number: int
    rows: int
    dimension: int
    dtype: str
    vectors_at: int
    """Byte of the file at which the vectors begin."""
    columns: Mapping[str, Sequence[Any]]
    """The segments as one list per field: of a million videos, most are never accessed."""
    failures: tuple[VideoFailure, ...]
    not_finite: tuple[int, ...] = ()
    """Rows whose vectors hold NaN or infinity, in order: they do not go into the feature file."""
    carried: CarriedAt | None = None
    inputs: int = 0
    """Number of network inputs for it: clips, or frames."""

    @property
    def seconds_at(self) -> int:
        """Byte of the file at which the seconds begin."""
        return self.vectors_at + self.rows * self.dimension * np.dtype(self.dtype).itemsize

    @property
    def size_bytes(self) -> int:
        """Size of the complete file."""
        return self.carried_from + (0 if self.carried is None else self.carried.size_bytes)

    @property
    def carried_from(self) -> int:
        """Byte of the file at which carried frames begin."""
        return self.seconds_at + self.rows * 16

    @property
    def segments(self) -> tuple[VideoSlice, ...]:
        """The segments, in the order of their rows."""
        return tuple(self.segment(index) for index in range(len(self.columns["path"])))

    def segment(self, index: int) -> VideoSlice:
        """One of the segments."""
        own = {name: self.columns[name][index] for name in _SEGMENT_FIELDS}
        return VideoSlice(**own, record=self.record(index))

    def record(self, index: int) -> VideoRecord:
        """The video of one of the segments."""
        return VideoRecord(self.columns["path"][index], *self.about(index))

    def about(self, index: int) -> tuple[Any, ...]:
        """Like :meth:`record`, as values without the path, in the order of `ABOUT`."""
        return tuple([self.columns[name][index] for name in ABOUT])


class DamagedPartError(StoreError):
    """A part's file was cut short or changed."""


def parts_folder(output: str | os.PathLike[str]) -> Path:
    """The folder of the parts of a feature file."""
    output = Path(output)
    return beside(output, ".parts")


def open_parts(
    output: str | os.PathLike[str], identity: RunIdentity, *, overwrite: bool = False
) -> Path:
    """Create the folder of the parts, or continue with the existing one. Hold `OutputLock` first.

    Args:
        output: the feature file.
        identity: what all parts share.
        overwrite: delete existing parts.

    Returns:
        The folder.

    Raises:
        FingerprintError: existing parts were made with other settings; the message says which.
        StoreError: something else has the name of the folder.
    """
    output = Path(output)
    folder = parts_folder(output)
    sweep_leftovers(output)
    if overwrite:
        remove_parts(folder)
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder} is not a folder: move it away, or choose another output")
    folder.mkdir(exist_ok=True)
    described = folder / RUN_FILE
    if described.exists():
        require_same_run(read_run(folder), identity, str(folder))
    elif any(file.suffix == _SUFFIX for file in folder.iterdir()):
        raise StoreError(
            f"{folder} has parts, but no {RUN_FILE} that says what made them: give "
            "overwrite=True to start again, or another output"
        )
    write_json(described, identity.to_dict())
    return folder


def read_run(folder: Path) -> RunIdentity:
    """What the parts of a folder share.

    Raises:
        StoreError: the folder does not record it.
    """
    try:
        return RunIdentity.from_dict(json.loads((folder / RUN_FILE).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{folder / RUN_FILE} cannot be read ({error}): give overwrite=True to start again, or "
            "choose another output"
        ) from error


def sweep_leftovers(output: Path) -> None:
    """Remove what killed runs left next to the output; only for the holder of its lock."""
    for path in (output, parts_folder(output)):
        for file in output.parent.iterdir():
            if is_temporary_of(file, path):
                _remove(file)


def remove_parts(folder: Path) -> None:
    """Remove a folder of parts: rename it first, so that half of it never counts as complete."""
    if not folder.is_dir():
        return
    aside = temporary_name(folder)
    _remove(aside)
    folder.rename(aside)
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


# ---------------------------------------------------------------------- one part


def write_part(folder: Path, part: Part, number: int, name: str | None = None) -> Path:
    """Write a part completely or not at all; when this returns, it is on the disk.

    Args:
        folder: folder of the parts.
        part: what to write.
        number: its place in time: of two parts with the same video, the higher one counts.
        name: name of the file; by default the number. A file of that name is replaced.

    Returns:
        The file.

    Raises:
        OSError: writing failed, on a full disk for example; nothing is left of the part.
    """
    vectors = part.embeddings.vectors
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist()
    header = json.dumps(
        {
            "version": _VERSION,
            "number": number,
            "rows": len(vectors),
            "dimension": vectors.shape[1],
            "dtype": vectors.dtype.name,
            "segments": segments_to_columns(part.segments),
            "failures": _to_columns(part.failures, _FAILURE_FIELDS),
            **({"not_finite": bad} if bad else {}),
            **({} if part.inputs is None else {"inputs": part.inputs}),
            **({} if part.carried is None else {"carried": part.carried.at.to_dict()}),
        },
        separators=(",", ":"),
    ).encode()
    file = part_file(folder, number, name)
    at = _vectors_at(len(header))
    with atomic_write(file) as temporary, temporary.open("wb", buffering=0) as target:
        head = _PREAMBLE.pack(_MAGIC, len(header), zlib.crc32(header)) + header
        _write_all(target, memoryview(head.ljust(at, b"\0")))
        little = vectors.dtype.newbyteorder("<")
        _write_all(target, _bytes_of(vectors.astype(little, order="C", copy=False)))
        for seconds in (part.embeddings.start_seconds, part.embeddings.end_seconds):
            _write_all(target, _bytes_of(seconds.astype("<f8", order="C", copy=False)))
        if part.carried is not None:
            outputs = part.carried.outputs.astype("<f4", order="C", copy=False)
            _write_all(target, _bytes_of(outputs))
    # It is read once, hours later, or never: the videos need the memory more.
    with file.open("rb") as written:
        leave_cache(written.fileno())
    return file


def part_file(folder: Path, number: int, name: str | None = None) -> Path:
    """The file of a part: see `write_part`."""
    return folder / f"part-{f'{number:08d}' if name is None else name}{_SUFFIX}"


def _write_all(target: Any, data: memoryview) -> None:
    while data:
        data = data[target.write(data) :]


def _bytes_of(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _vectors_at(header_length: int) -> int:
    end = _PREAMBLE.size + header_length
    return end + -end % _ALIGNMENT


def read_header(file: Path) -> PartHeader:
    """What a part holds, without its arrays.

    Raises:
        DamagedPartError: the file was cut short or changed.
        OSError: it cannot be read.
    """
    with file.open("rb") as source:
        size = os.fstat(source.fileno()).st_size
        preamble = source.read(_PREAMBLE.size)
        if len(preamble) < _PREAMBLE.size:
            raise DamagedPartError(f"{file} is cut short")
        magic, length, checksum = _PREAMBLE.unpack(preamble)
        if magic != _MAGIC or length > size:
            raise DamagedPartError(f"{file} is not a part of a feature file, or damaged")
        text = source.read(length)
    if len(text) < length or zlib.crc32(text) != checksum:
        raise DamagedPartError(f"{file} is damaged in its header")
    try:
        values = json.loads(text)
        if values["version"] != _VERSION:
            raise DamagedPartError(f"{file} has version {values['version']}, expected {_VERSION}")
        header = PartHeader(
            file=file,
            number=int(values["number"]),
            rows=int(values["rows"]),
            dimension=int(values["dimension"]),
            dtype=str(values["dtype"]),
            vectors_at=_vectors_at(length),
            columns=_checked_columns(values["segments"]),
            failures=tuple(VideoFailure(**row) for row in _rows_of(values["failures"])),
            not_finite=tuple(int(row) for row in values.get("not_finite", ())),
            carried=CarriedAt.from_dict(values["carried"]) if "carried" in values else None,
            inputs=int(values.get("inputs", values["rows"])),
        )
        counted = sum(header.columns["count"])
        whole = header.dtype in ("float32", "float16") and counted == header.rows
    except (ValueError, KeyError, TypeError, DataError) as error:
        raise DamagedPartError(f"{file} is damaged in its header: {error}") from error
    if not whole:
        raise DamagedPartError(f"{file} is damaged in its header")
    if size != header.size_bytes:
        raise DamagedPartError(f"{file} has {size} bytes, expected {header.size_bytes}")
    return header


def read_carried(header: PartHeader) -> CarriedFrames:
    """The frames that a part carries over.

    Raises:
        DamagedPartError: the file was cut short.
        OSError: it cannot be read.
    """
    assert header.carried is not None
    outputs = np.empty((len(header.carried.positions), header.carried.width), "<f4")
    with header.file.open("rb") as source:
        source.seek(header.carried_from)
        if source.readinto(_bytes_of(outputs)) != outputs.nbytes:
            raise DamagedPartError(f"{header.file} is cut short")
    return CarriedFrames(header.carried, outputs.astype(np.float32, copy=False))


def _to_columns(rows: Sequence[Any], names: Sequence[str]) -> dict[str, list[Any]]:
    """One list per field: shorter than one object per row, and faster to write and read."""
    return {name: [getattr(row, name) for row in rows] for name in names}


def _rows_of(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    names = list(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def segments_to_columns(segments: Sequence[VideoSlice]) -> dict[str, list[Any]]:
    """Segments as `PartHeader` holds them."""
    records = [segment.record for segment in segments]
    return _to_columns(segments, _SEGMENT_FIELDS) | _to_columns(records, ABOUT)


def _checked_columns(columns: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """The columns that are known, all of one length, with valid numbers."""
    known = {name: columns[name] for name in (*_SEGMENT_FIELDS, *ABOUT)}
    if len({len(column) for column in known.values()}) != 1:
        raise ValueError("columns of unequal length")
    if min(known["count"], default=0) < 0 or min(known["first_clip"], default=0) < 0:
        raise ValueError("a negative number of clips")
    return known


class PartReader:
    """An open part, for reading its rows."""

    def __init__(self, header: PartHeader) -> None:
        self.header = header
        self._source = header.file.open("rb", buffering=0)
        self._seconds: NDArray[np.float64] | None = None

    def close(self) -> None:
        """Close the file."""
        if not self._source.closed:
            leave_cache(self._source.fileno())
        self._source.close()

    def read(self, first: int, count: int) -> Embeddings:
        """Rows ``first`` to ``first + count``.

        Raises:
            DamagedPartError: the file ends before them.
        """
        header = self.header
        if self._seconds is None:  # small next to the vectors, and needed for every video
            seconds = np.empty((2, header.rows), dtype="<f8")
            self._fill(seconds, header.seconds_at)
            self._seconds = seconds.astype(np.float64, copy=False)
        vectors = np.empty(
            (count, header.dimension), dtype=np.dtype(header.dtype).newbyteorder("<")
        )
        row_bytes = header.dimension * vectors.dtype.itemsize
        self._fill(vectors, header.vectors_at + first * row_bytes)
        start, end = self._seconds[:, first : first + count]
        return Embeddings(vectors.astype(header.dtype, copy=False), start, end)

    def _fill(self, array: NDArray[Any], at: int) -> None:
        self._source.seek(at)
        target = _bytes_of(array)
        while target:
            got = self._source.readinto(target)
            if not got:
                raise DamagedPartError(f"{self.header.file} is cut short")
            target = target[got:]
