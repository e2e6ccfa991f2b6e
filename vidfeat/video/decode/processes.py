"""Starting decode processes, ahead of time where that helps.

An interpreter with av and numpy needs half a second to start. A command that is going to import
torch starts its processes first (:func:`start_ahead`), and the pool finds them ready.
"""

from __future__ import annotations

import atexit
import contextlib
import mmap
import os
import subprocess
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe

from vidfeat.system.children import child_environment, python_module
from vidfeat.system.processes import nameless_memory

_ADDRESS_LIMIT = 8 << 30  # of one decode process; generous: frames of 8192 x 8192 fit


@dataclass
class StartedProcess:
    """A process that waits for a source."""

    process: subprocess.Popen[bytes]
    channel: Connection
    memory_fd: int

    def memory(self, size: int) -> mmap.mmap:
        """Give its memory a size, once, and map it here."""
        try:
            os.ftruncate(self.memory_fd, size)
            return mmap.mmap(self.memory_fd, size)
        finally:
            os.close(self.memory_fd)
            self.memory_fd = -1

    def kill(self) -> None:
        """End the process, unused."""
        with contextlib.suppress(OSError):
            self.process.kill()
        self.process.wait()
        self.channel.close()
        if self.memory_fd >= 0:
            os.close(self.memory_fd)
            self.memory_fd = -1


_ahead: list[StartedProcess] = []


def start_ahead(count: int) -> None:
    """Start processes that decode on the CPU, for the next pool of this process."""
    if not _ahead:
        atexit.register(_end_ahead)
    _ahead.extend(_start(None) for _ in range(count))


def take_started(card: int | None) -> StartedProcess:
    """A process that was started ahead, or a new one; ``card`` for one that decodes on a GPU."""
    while card is None and _ahead:
        started = _ahead.pop(0)
        if started.process.poll() is None:
            return started
        started.kill()
    return _start(card)


def _start(card: int | None) -> StartedProcess:
    memory_fd = nameless_memory()
    ours, theirs = Pipe()
    device = -1 if card is None else card
    arguments = [theirs.fileno(), memory_fd, _ADDRESS_LIMIT, device]
    try:
        process = subprocess.Popen(
            [*python_module("vidfeat.video.decode.worker"), *map(str, arguments)],
            pass_fds=(theirs.fileno(), memory_fd),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=child_environment(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1"),
        )
    except BaseException:
        ours.close()
        os.close(memory_fd)
        raise
    finally:
        theirs.close()
    return StartedProcess(process, ours, memory_fd)


def _end_ahead() -> None:
    while _ahead:
        _ahead.pop().kill()
