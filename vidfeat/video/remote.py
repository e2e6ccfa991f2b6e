"""A URL as a file for FFmpeg: blocks are fetched on demand, and a bounded number is kept.

A connection may be cut at any byte: what has arrived is kept, and the rest is requested again.
FFmpeg treats a failed read as the end of the file, which would silently shorten the video.
Therefore a failure is stored, and :meth:`RemoteFile.check` raises it before any result is used.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeVar

from vidfeat.errors import VideoError
from vidfeat.system.urls import shown_path
from vidfeat.video.remote_stores import Cut, State, Store, changed, open_store

BLOCK_BYTES = 1 << 16
MOST_BLOCKS = 256  # kept: 16 MB
MOST_BLOCKS_AT_ONCE = 64  # in one request, when reading sequentially
ATTEMPTS = 5
PAUSE_SECONDS = 0.25  # before the second attempt; doubled before each later one
_FAST_SECONDS, _SLOW_SECONDS = 1.0, 4.0  # faster requests grow, slower ones shrink
_PROGRESS_BYTES = 1 << 12  # an attempt with this many bytes does not count as failed

T = TypeVar("T")


class Traffic:
    """What this process has fetched in total, for reports.

    Attributes:
        bytes_fetched: bytes received, including failed attempts.
    """

    bytes_fetched = 0


def persistently(attempt: Callable[[], T], alive: Callable[[], None] | None = None) -> T:
    """Repeat an attempt that is cut off, with growing pauses.

    Args:
        attempt: what to do.
        alive: called before each pause.

    Raises:
        VideoError: kind ``network`` after the last attempt; or whatever the attempt raises.
    """
    for number in range(ATTEMPTS):
        try:
            return attempt()
        except Cut as cut:
            reason = str(cut)
            if number + 1 < ATTEMPTS:
                _pause(number, cut.pause_seconds, alive)
    raise _given_up(reason)


def _given_up(reason: str) -> VideoError:
    return VideoError(f"gave up after {ATTEMPTS} attempts: {reason}", kind="network")


def _pause(failures: int, at_least: float, alive: Callable[[], None] | None) -> None:
    if alive is not None:
        alive()
    time.sleep(max(at_least, PAUSE_SECONDS * 2**failures))


class RemoteFile:
    """A URL that is read by position. Use :func:`open_remote`.

    Attributes:
        shown: the URL without secrets.
        state: size and stamp.
        bytes_fetched: bytes received, including failed attempts.
        failure: why reading failed; see :meth:`check`.
    """

    def __init__(self, url: str, alive: Callable[[], None] | None = None) -> None:
        self.shown = shown_path(url)
        self._alive = alive
        self._store: Store = persistently(lambda: open_store(url, BLOCK_BYTES), alive)
        self.state: State = self._store.state
        self._begun = self._store.begun
        self.bytes_fetched = len(self._begun)
        Traffic.bytes_fetched += len(self._begun)
        self.failure: VideoError | None = None
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._ahead = 1  # blocks of the next sequential request
        self._next = -1  # the block after the last one fetched

    @property
    def size_bytes(self) -> int:
        """Size of the whole file."""
        return self.state.size_bytes

    def check(self) -> None:
        """Raise the stored failure, if reading has failed.

        Raises:
            VideoError: what looked like the end of the file to FFmpeg was a failed read.
        """
        if self.failure is not None:
            raise self.failure

    def require(self, state: tuple[int, int]) -> None:
        """Check that the file still has this size and stamp.

        Raises:
            VideoError: it has changed.
        """
        if tuple(self.state) != state:
            raise self._named(changed())

    def check_unchanged(self) -> None:
        """Check that everything read belongs to one version of the file.

        Raises:
            VideoError: it has changed, or the server no longer answers.
        """
        self.check()
        try:
            persistently(self._store.check_unchanged, self._alive)
        except VideoError as error:
            self.failure = self._named(error)
            raise

    def read_at(self, position: int, count: int) -> bytes:
        """Up to ``count`` bytes from a position; none at the end or after a failure."""
        count = min(count, self.size_bytes - position)
        if count <= 0 or self.failure is not None:
            return b""
        number, begin = divmod(position, BLOCK_BYTES)
        block = self._blocks.get(number)
        if block is None:
            try:
                block = self._load(number)
            except VideoError as error:
                self.failure = self._named(error)
                return b""
        else:
            self._blocks.move_to_end(number)
        return block[begin : begin + count]

    def _load(self, number: int) -> bytes:
        """Fetch a block, and following ones if the file is being read sequentially."""
        in_order = number == self._next
        blocks = min(self._ahead, MOST_BLOCKS_AT_ONCE) if in_order else 1
        last = -(-self.size_bytes // BLOCK_BYTES)
        stop = number + 1
        while stop < min(number + blocks, last) and stop not in self._blocks:
            stop += 1
        began = time.monotonic()
        data = self._fetch(number * BLOCK_BYTES, min(stop * BLOCK_BYTES, self.size_bytes))
        took = time.monotonic() - began
        if took < _FAST_SECONDS:
            self._ahead = min(2 * blocks, MOST_BLOCKS_AT_ONCE)
        elif took > _SLOW_SECONDS:
            self._ahead = max(1, blocks // 2)
        self._next = stop
        for place, block in enumerate(range(number, stop)):
            self._blocks[block] = data[place * BLOCK_BYTES : (place + 1) * BLOCK_BYTES]
        while len(self._blocks) > MOST_BLOCKS:
            self._blocks.popitem(last=False)
        return self._blocks[number]

    def _fetch(self, start: int, end: int) -> bytes:
        """All bytes of a range, over as many connections as necessary.

        Raises:
            VideoError: kind ``network`` after several attempts in a row with almost no bytes; or
                whatever the store raises.
        """
        data = bytearray()
        if start == 0:
            data += self._begun[:end]
            self._begun = b""
        failures = 0
        while len(data) < end - start:
            if self._alive is not None:
                self._alive()
            had, pause, reason = len(data), 0.0, "the connection was cut"
            try:
                self._store.fetch(start + had, end, data)
                whole = len(data) > had
            except Cut as cut:
                whole, pause, reason = False, cut.pause_seconds, str(cut)
            finally:
                self.bytes_fetched += len(data) - had
                Traffic.bytes_fetched += len(data) - had
            if whole or len(data) - had >= _PROGRESS_BYTES:
                failures = 0
                continue
            failures += 1
            if failures == ATTEMPTS:
                raise _given_up(reason)
            _pause(failures - 1, pause, self._alive)
        return bytes(data)

    def _named(self, error: VideoError) -> VideoError:
        error.path = error.path or self.shown
        return error

    def cursor(self, left_out: Sequence[tuple[int, int]] = ()) -> Cursor:
        """A file object for FFmpeg; several can share the file.

        Args:
            left_out: ascending (start, end) byte ranges that are not fetched but read as zeros.
        """
        return Cursor(self, left_out)

    def close(self) -> None:
        """Close the connection and free the blocks; idempotent."""
        self._blocks.clear()
        self._store.close()


class Cursor:
    """A position in a remote file, with the methods that PyAV calls."""

    def __init__(self, file: RemoteFile, left_out: Sequence[tuple[int, int]] = ()) -> None:
        self.name = file.shown.rpartition("/")[2]
        """FFmpeg looks at its suffix."""
        self._file = file
        self._position = 0
        self.leave_out(left_out)

    def leave_out(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Read these byte ranges as zeros from now on: see :meth:`RemoteFile.cursor`."""
        self._starts = [start for start, _ in ranges]
        self._ends = [end for _, end in ranges]

    def read(self, count: int = -1) -> bytes:
        """Some bytes, none at the end."""
        here = self._position
        left = max(0, self._file.size_bytes - here)
        count = left if count < 0 else min(count, left)
        place = bisect_right(self._starts, here)
        if place and here < self._ends[place - 1]:
            data = bytes(min(count, self._ends[place - 1] - here))
        else:
            if place < len(self._starts):
                count = min(count, self._starts[place] - here)
            data = self._file.read_at(here, count)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move, like a file object."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._file.size_bytes}
        self._position = max(0, base[whence] + offset)
        return self._position

    def tell(self) -> int:
        """The position in bytes."""
        return self._position

    def seekable(self) -> bool:
        """True."""
        return True

    def readable(self) -> bool:
        """True."""
        return True

    def writable(self) -> bool:
        """False."""
        return False


def open_remote(url: str, alive: Callable[[], None] | None = None) -> RemoteFile:
    """Open a URL and read its size and version.

    Args:
        url: the URL of one file.
        alive: called now and then while waiting for the server.

    Raises:
        VideoError: it does not exist, access is denied, or the server does not answer.
        UsageError: the protocol is unknown, or its package is missing.
    """
    try:
        return RemoteFile(url, alive)
    except VideoError as error:
        error.path = error.path or shown_path(url)
        raise
