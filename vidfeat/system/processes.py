"""What child processes share with their parent, and how they end with it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import tempfile


def nameless_memory(size: int = 0) -> int:
    """A descriptor of memory that vanishes with its last user; ``ftruncate`` resizes it."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("vidfeat-clips")
    else:
        with tempfile.TemporaryFile(buffering=0) as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor


def die_with_parent() -> None:
    """Ask Linux for SIGKILL when the parent dies, so that a hung decoder does not outlive it."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
