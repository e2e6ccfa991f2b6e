"""SIGTERM, a scheduler's warning: a run ends after the current step, with a checkpoint."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def on_sigterm(stop: threading.Event) -> Iterator[None]:
    """Set an event on SIGTERM within the context; only the main thread receives signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        yield
    finally:
        # None is a handler that was not set from Python: it cannot be set again
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
