"""Clips in parallel on the threads of a processor, one each.

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

# How many threads an operation of torch takes is partly the process's, partly the thread's: while
# some run clips on one each, nobody else should set it.
_setting = threading.Lock()


def busy_batch(threads: int) -> int:
    """Clips at a time that keep every thread busy with one each; at least four."""
    return threads * -(-4 // threads)


class SideBySide:
    """A pool of threads, on each of which torch takes one.

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
                wait(running)  # one that still ran would set it again
                torch.set_num_threads(before)
