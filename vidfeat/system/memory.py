"""Keeping large blocks of memory between batches."""

from __future__ import annotations

import contextlib
import ctypes
import sys

# Memory of a network's activations, as a multiple of its input in float32: 12 for a stem of 64
# channels at half the size, in and out of its convolution, normalisation and activation; 13 were
# measured for V-JEPA 2 ViT-L (tokens, queries, keys, values and twice the hidden layer).
_MAPS_PER_INPUT = 14
_USABLE_SHARE = 0.9
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_LARGEST = 2**31 - 1


def available_bytes() -> int | None:
    """Memory that programs can still get without swapping; None if the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) << 10
    except (OSError, ValueError):
        pass
    return None


def clips_that_fit(clip_values: int) -> int:
    """Clips that a network can process at a time in the available memory; a rough estimate.

    Args:
        clip_values: numbers per clip.
    """
    available = available_bytes()
    if available is None:
        return 1 << 30
    return max(1, int(available * _USABLE_SHARE / (clip_values * 4 * _MAPS_PER_INPUT)))


def keep_large_blocks() -> None:
    """Let the C library keep freed blocks above 32 MB, as it keeps smaller ones.

    By default each is returned to the system and comes back zeroed, page by page. On a CPU, that is
    a quarter of the run time of these networks, whose activations have that size. Arenas of other
    threads cannot hold such blocks at all, and extract runs its network in such a thread, so all
    threads share the first arena. Peak memory does not change. Only glibc has these settings;
    elsewhere nothing happens.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        library.mallopt(_M_TRIM_THRESHOLD, _LARGEST)
        library.mallopt(_M_ARENA_MAX, 1)
