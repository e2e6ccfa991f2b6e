"""Ending a run cleanly on request: finished work is written first."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from vidfeat.system.callbacks import Report

_LOOK_SECONDS = 1.0


class Stop:
    """Whether a run was asked to end; it checks at batch boundaries."""

    def __init__(self) -> None:
        self.signal_number = 0

    @property
    def asked(self) -> bool:
        """Whether the run was asked to end."""
        return self.signal_number != 0

    def ask(self, signal_number: int = signal.SIGINT) -> None:
        """Ask the run to end at the next batch boundary."""
        self.signal_number = signal_number


class StopFile(Stop):
    """A stop that is requested by a file, which another machine writes to a shared file system."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file
        self._looked = -_LOOK_SECONDS

    @property
    def asked(self) -> bool:
        """Whether the file exists."""
        now = time.monotonic()
        if not self.signal_number and now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            if self._file.exists():
                self.ask()
        return super().asked


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Leave the handlers of signals as they are, whatever a library sets meanwhile."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # one that was not set from Python cannot be set again
                signal.signal(number, handler)


@contextmanager
def stop_on_signals(report: Report) -> Iterator[Stop]:
    """Let Ctrl-C (SIGINT) and SIGTERM ask the run to end; a second signal ends the process at once.

    Outside the main thread, where no handler can be set, signals keep their effect.

    Args:
        report: called with the line to show when a signal arrives.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        for other in numbers:
            signal.signal(other, signal.SIG_DFL)
        stop.ask(number)
        with suppress(RuntimeError):  # the signal arrived while something was being printed
            report("stopping: writing what is finished; Ctrl-C again ends at once")

    for number in numbers:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
