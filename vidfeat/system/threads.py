"""Number of threads for small matrix products."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

BYTES_FOR_THREADS = 64 << 20


def threads_for(size_bytes: int) -> AbstractContextManager[Any]:
    """One thread for small products; the libraries' own number for large ones.

    Threads gain nothing on small products, and wait for each other by spinning: if another program
    uses one of the processors, a fit takes more than ten times as long.

    Args:
        size_bytes: size of the vectors that are multiplied at a time.
    """
    if size_bytes > BYTES_FOR_THREADS:
        return nullcontext()
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    limits: AbstractContextManager[Any] = threadpool_limits(1)
    return limits
