"""Opening HDF5 files, and explaining why an intact one cannot be opened."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import h5py

# The errors of file systems without locks (Lustre, some network mounts).
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
_BUSY = (errno.EAGAIN, errno.EACCES)


def open_hdf5(path: Path) -> h5py.File:
    """Open a file for reading, without a lock if its file system has none.

    Raises:
        OSError: as h5py raises it.
    """
    try:
        return h5py.File(path, "r", locking="best-effort")
    except OSError as error:
        if error.errno not in _NO_LOCKS and not any(
            os.strerror(number) in str(error) for number in _NO_LOCKS
        ):
            raise
    return h5py.File(path, "r", locking=False)


def in_use_reason(error: Exception) -> str:
    """Why an intact file cannot be opened, to follow its name; empty for other errors."""
    text = str(error)
    if "unable to lock file" in text and (
        getattr(error, "errno", None) in _BUSY or any(os.strerror(n) in text for n in _BUSY)
    ):
        return (
            "is open in another program that writes to it: close it there, or wait; the file "
            "itself is not damaged by this"
        )
    if "consistency flag" in text or "already open for write" in text:
        return (
            "is open for writing in another program, or one was killed while it wrote: if none has "
            "it open, clear its flag with h5clear -s FILE (one of the HDF5 tools) and try again"
        )
    return ""
