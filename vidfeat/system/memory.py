"""Keeping large blocks of memory between batches."""

from __future__ import annotations

import contextlib
import ctypes
import sys

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_LARGEST = 2**31 - 1


def keep_large_blocks() -> None:
    """Let the C library keep blocks above 32 MB when they are freed, as it keeps smaller ones.

    By default each goes back to the system and comes again zeroed, page by page: on a CPU a quarter
    of the time of these networks, whose maps have that size. Arenas of further threads cannot hold
    such blocks at all, and extract runs its network in one: so all threads share the first arena.
    Peak memory stays what it is. Only glibc knows the settings; elsewhere nothing happens.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        library.mallopt(_M_TRIM_THRESHOLD, _LARGEST)
        library.mallopt(_M_ARENA_MAX, 1)
