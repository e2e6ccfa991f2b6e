"""Writing HDF5 so that a full disk is an error and not a crash.

HDF5 cannot close a file whose last writes failed: it leaves objects behind that crash the process
later, often at its end. Therefore it never learns of a failure here. It writes through a file
object that remembers the first error, keeps later writes in memory, and lets the file be closed;
then the error is raised.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py

from vidfeat.system.files import leave_cache

_SYNC_BYTES = 16 << 20
# A larger file is dropped from memory as it is written.
_CACHED_BYTES = 256 << 20


def _sync(descriptor: int, *, leave: bool) -> None:
    os.fsync(descriptor)
    if leave:
        leave_cache(descriptor)


class PatientFile:
    """The file object for h5py, whose writes never fail.

    Args:
        path: the file.
        name: the name of the file in errors.
    """

    def __init__(self, path: Path, name: Path | None = None) -> None:
        self._name = name or path
        self._file = path.open("w+b", buffering=0)
        self._at = 0
        self._end = 0
        self._kept: list[tuple[int, bytes]] = []
        self.error: OSError | None = None
        self._disk = ThreadPoolExecutor(1, "vidfeat-sync")
        self._syncing: Future[None] | None = None
        self._unsynced = 0

    def check(self) -> None:
        """Raise the first error of the writes so far.

        Raises:
            OSError: the system's error.
        """
        if self.error is not None:
            number = self.error.errno or 0
            raise OSError(number, os.strerror(number), str(self._name)) from self.error

    def finish(self) -> None:
        """Wait for the disk, and raise the first error there was.

        Raises:
            OSError: the system's error.
        """
        if self._syncing is not None:
            wait([self._syncing])
        self._note_sync()
        self.check()

    def close(self) -> None:
        """Close the file; whatever HDF5 still writes is discarded."""
        self._disk.shutdown()
        self._note_sync()
        self.error = self.error or OSError(errno.EBADF, os.strerror(errno.EBADF))
        self._file.close()

    def _sync_beside(self) -> None:
        """Flush what was written, in the background."""
        if self._unsynced < _SYNC_BYTES or (self._syncing and not self._syncing.done()):
            return
        self._note_sync()
        self._unsynced = 0
        leave = self._end > _CACHED_BYTES
        self._syncing = self._disk.submit(_sync, self._file.fileno(), leave=leave)

    def _note_sync(self) -> None:
        """Keep the error of a flush: the system reports a disk error only once."""
        if self._syncing is not None and self._syncing.done():
            error = self._syncing.exception()
            if self.error is None and isinstance(error, OSError):
                self.error = error

    # ------------------------------------------------------------------ called by h5py

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, relative to the start or the end only: h5py uses nothing else."""
        self._at = offset + (self._end if whence == io.SEEK_END else 0)
        return self._at

    def tell(self) -> int:
        """Position of the next read or write."""
        return self._at

    def write(self, data: Any) -> int:
        """Write everything, or keep it in memory."""
        view = memoryview(data).cast("B")
        at = self._at
        self._at += len(view)
        self._end = max(self._end, self._at)
        if self.error is None:
            try:
                done = 0
                self._file.seek(at)
                while done < len(view):
                    done += self._file.write(view[done:])
                self._unsynced += done
                self._sync_beside()
            except OSError as error:
                self.error = error
        if self.error is not None:
            self._kept.append((at, bytes(view)))
        return len(view)

    def readinto(self, target: Any) -> int:
        """Read what was written; gaps are zeros."""
        view = memoryview(target).cast("B")
        at, size = self._at, max(0, min(len(view), self._end - self._at))
        self._at += size
        got = 0
        if not self._file.closed:
            self._file.seek(at)
            while got < size and (more := self._file.readinto(view[got:size])):
                got += more
        view[got:size] = bytes(size - got)
        for start, data in self._kept:
            low, high = max(start, at), min(start + len(data), at + size)
            if low < high:
                view[low - at : high - at] = data[low - start : high - start]
        return size

    def read(self, size: int) -> bytes:
        """Like :meth:`readinto`, as bytes; h5py accepts no file object without this method."""
        data = bytearray(size)
        return bytes(data[: self.readinto(data)])

    def truncate(self, size: int) -> int:
        """Set the length of the file."""
        self._end = size
        if self.error is None:
            try:
                self._file.truncate(size)
            except OSError as error:
                self.error = error
        return size

    def flush(self) -> None:
        """Do nothing: nothing is buffered here."""


@contextmanager
def new_hdf5(path: Path, name: Path | None = None) -> Iterator[tuple[h5py.File, PatientFile]]:
    """A new HDF5 file and its file object, whose ``check()`` reports errors early.

    Args:
        path: the file.
        name: the name in errors: that of the file it will replace.

    Raises:
        OSError: a write failed; raised at the latest when the file is closed.
    """
    target = PatientFile(path, name)
    try:
        handle = h5py.File(target, "w")
        try:
            yield handle, target
            handle.close()
        except BaseException:
            with suppress(Exception):  # the first error is the one that counts
                handle.close()
            raise
        target.finish()
    finally:
        target.close()
