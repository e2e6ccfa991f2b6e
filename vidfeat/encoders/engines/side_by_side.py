"""Runs clips in parallel on the threads of a processor, one clip per thread.

No thread waits for another within a clip, and the maps of a clip stay close to one core.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

Given = TypeVar("Given")
Found = TypeVar("Found")

# torch's number of threads is partly a setting of the process, partly of the thread: while clips
# run on one thread each, nothing else should set it.
_setting = threading.Lock()


def busy_batch(threads: int) -> int:
    """Clips per batch that keep every thread busy; at least four."""
    return threads * -(-4 // threads)


class SideBySide:
    """A pool of threads, in each of which torch uses one thread.

    Args:
        threads: None takes as many as torch does now (``OMP_NUM_THREADS``).
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or torch.get_num_threads()
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="vidfeat-clip")

    def fills(self, clips: int) -> bool:
        """Whether this many clips keep more than half of the threads busy."""
        return 2 * clips > self.threads

    def map(self, work: Callable[[Given], Found], clips: Iterable[Given]) -> list[Found]:
        """The result of the work for each clip, in order; without gradients."""

        def alone(clip: Given) -> Found:
            torch.set_num_threads(1)
            with torch.inference_mode():
                return work(clip)

        with _setting:
            before = torch.get_num_threads()
            running = [self._pool.submit(alone, clip) for clip in clips]
            try:
                return [one.result() for one in running]
            finally:
                for one in running:
                    one.cancel()
                wait(running)  # a clip still running would set it again
                torch.set_num_threads(before)
