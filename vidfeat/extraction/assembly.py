"""From events to parts: batches of clips through the network, rows and their owners to the disk.

Threads share the work. The caller's copies decoded clips into batches; one for each replica of
the network runs it; the last puts results back into order and writes. Short queues between them
let decoding, network and writing overlap, and hold back whoever is ahead.

Which clips make a batch, and which batches make a part, follows from the order of the clips alone:
a part is ``part_clips`` consecutive clips, wherever one video ends and the next begins, and only
the last of a run is smaller. A run that resumes after a kill therefore makes the same batches as
one that was never disturbed.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.encoders.engines.batches import ClipBatch, Feed
from vidfeat.errors import VidfeatError
from vidfeat.store.embeddings import Embeddings
from vidfeat.store.parts import Part, VideoSlice, write_part
from vidfeat.store.records import VectorType, VideoFailure, VideoRecord
from vidfeat.video.clips import Clip
from vidfeat.video.decode.tasks import attempt_of
from vidfeat.video.reader import VideoInfo

_JOURNAL = "encoded.log"


@dataclass
class AssemblyStats:
    """Where the time of network and disk went."""

    clips_encoded: int = 0
    clips_padded: int = 0
    """Empty places of last batches, filled up so that every batch has the same size."""
    batches: int = 0
    parts: int = 0
    network_seconds: float = 0.0
    """Of all threads that run batches side by side together."""
    network_waited_seconds: float = 0.0
    """The network had no batch to work on; of several threads the mean."""
    blocked_seconds: float = 0.0
    """Decoded clips waited for the network."""


@dataclass
class _Owner:
    """The video whose clips are coming."""

    record: VideoRecord
    attempt: str
    first: int
    count: int = 0


@dataclass
class _OpenPart:
    segments: list[VideoSlice] = field(default_factory=list)
    failures: list[VideoFailure] = field(default_factory=list)
    start: list[float] = field(default_factory=list)
    end: list[float] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.segments or self.failures)


class Assembly:
    """Takes the events of a run in order and writes its parts.

    Args:
        feed: makes the batches and embeds them, from as many threads as it says.
        folder: of the parts.
        dimension: D.
        dtype: of the vectors on disk.
        batch_size: B; the last batch of a part is padded to it.
        part_clips: clips of a part, a multiple of ``batch_size``.
        first_number: of the first part to write.
        name: of the parts' files, with the place of each in this run; None takes their numbers.
    """

    def __init__(
        self,
        feed: Feed,
        folder: Path,
        *,
        dimension: int,
        dtype: VectorType,
        batch_size: int,
        part_clips: int,
        first_number: int,
        name: str | None = None,
    ) -> None:
        assert part_clips % batch_size == 0
        self.stats = AssemblyStats()
        self._feed = feed
        self._sequence = 0  # of batches and part ends, in the order of the run
        self._lock = threading.Lock()
        self._folder = folder
        self._dimension = dimension
        self._dtype = np.dtype(dtype)
        self._batch_size = batch_size
        self._part_clips = part_clips
        self._number = first_number
        self._name = name
        self._part = _OpenPart()
        self._owner: _Owner | None = None
        self._batch: ClipBatch | None = None
        self._filled = 0
        self._to_network: queue.Queue[Any] = queue.Queue(maxsize=2)
        self._to_disk: queue.Queue[Any] = queue.Queue(maxsize=2 * feed.threads)
        self._failure: BaseException | None = None
        journal = folder / _journal(name)
        self._journal = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        works: list[tuple[str, Callable[[], None]]] = [
            (f"network-{runner}", partial(self._run_network, runner))
            for runner in range(feed.threads)
        ]
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
            for name, work in [*works, ("disk", self._run_disk)]
        ]
        for thread in self._threads:
            thread.start()

    # -- events, in the caller's thread --------------------------------------------------------

    def start(self, identity: str, info: VideoInfo, first: int) -> None:
        """A video begins, or starts again, with its clip ``first``."""
        self._end_segment(complete=False)
        record = VideoRecord(
            path=identity,
            duration_seconds=info.duration_seconds,
            fps=float(info.fps),
            width=info.width,
            height=info.height,
            num_frames=info.num_frames,
            num_frames_source=info.num_frames_source,
            size_bytes=info.size_bytes,
            mtime_ns=info.mtime_ns,
        )
        self._owner = _Owner(record, attempt_of(info), first)

    def clip(self, clip: Clip) -> None:
        """The next clip; it is released once its frames are copied."""
        assert self._owner is not None
        if len(self._part.start) == self._part_clips:
            self._close_part()
        if self._batch is None:
            self._batch = self._feed.new_batch()
        self._batch.put(self._filled, clip.frames, clip.release)
        self._filled += 1
        self._owner.count += 1
        self._part.start.append(clip.start_seconds)
        self._part.end.append(clip.end_seconds)
        if self._filled == self._batch_size:
            self._send_batch()

    @property
    def at_batch_boundary(self) -> bool:
        """Every clip that came is in a full batch: a run that ends here loses none of them."""
        return self._batch is None

    def finish(self, failure: VideoFailure | None = None, *, keep: bool = True) -> None:
        """The video is over: ``keep`` says whether its clips count."""
        self._end_segment(complete=keep)
        self._owner = None
        if failure is not None:
            self._part.failures.append(failure)

    def close(self) -> None:
        """Write what is left and wait for the disk.

        Raises:
            Exception: what the network or the disk raised.
        """
        self._end_segment(complete=False)
        if self._part:
            self._close_part()
        for _ in range(self._feed.threads):
            self._put(self._to_network, None)
        for thread in self._threads:
            thread.join()
        self._release()
        self._raise()

    def abort(self) -> None:
        """Stop without writing what is unfinished."""
        self._failure = self._failure or VidfeatError("stopped")
        for thread in self._threads:
            thread.join()
        self._release()

    def _release(self) -> None:
        self._feed.close()
        if self._journal >= 0:
            os.close(self._journal)
            self._journal = -1

    def _end_segment(self, *, complete: bool) -> None:
        """Note the clips since the last note as one segment of the open part."""
        owner = self._owner
        if owner is None or (owner.count == 0 and not complete):
            return
        segment = VideoSlice(
            owner.record.path, owner.attempt, owner.first, owner.count, complete, owner.record
        )
        self._part.segments.append(segment)
        owner.first += owner.count
        owner.count = 0

    def _send_batch(self) -> None:
        if self._batch is None:
            return
        self._batch.complete(self._filled)
        began = time.monotonic()
        self._put(self._to_network, (self._next(), self._batch, self._filled))
        self.stats.blocked_seconds += time.monotonic() - began
        self._batch, self._filled = None, 0

    def _close_part(self) -> None:
        self._end_segment(complete=False)
        if self._batch is not None:
            self.stats.clips_padded += self._batch_size - self._filled
        self._send_batch()
        self._put(self._to_disk, (self._next(), self._part))
        self._part = _OpenPart()

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence - 1

    # -- the other threads ---------------------------------------------------------------------

    def _put(self, target: queue.Queue[Any], item: Any) -> None:
        """Put, unless a thread behind the queue has failed: then raise its error."""
        while True:
            self._raise()
            try:
                target.put(item, timeout=0.2)
            except queue.Full:
                continue
            return

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _get(self, source: queue.Queue[Any]) -> Any:
        while self._failure is None:
            try:
                return source.get(timeout=0.2)
            except queue.Empty:
                continue
        return None

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._failure = self._failure or error

    def _run_network(self, runner: int) -> None:
        if runner == 0:
            self._feed.warm_up()
        while True:
            began = time.monotonic()
            item = self._get(self._to_network)
            waited = time.monotonic() - began
            if item is None:
                self._put(self._to_disk, None)
                return
            number, batch, filled = item
            began = time.monotonic()
            with np.errstate(over="ignore"):  # infinity is reported by name: see write_part
                vectors = self._feed.embed(batch, runner)[:filled].astype(self._dtype)
            seconds = time.monotonic() - began
            with self._lock:
                self.stats.network_waited_seconds += waited / self._feed.threads
                self.stats.network_seconds += seconds
                self.stats.clips_encoded += filled
                self.stats.batches += 1
            os.write(self._journal, b"%d\n" % filled)
            self._put(self._to_disk, (number, vectors))

    def _run_disk(self) -> None:
        """Take results as they come, put them back into order, write a part at each end of one."""
        early: dict[int, Any] = {}
        following = 0
        running = self._feed.threads
        vectors: list[NDArray[Any]] = []
        while running or following in early:
            if following not in early:
                item = self._get(self._to_disk)
                if item is None:
                    running -= 1
                    if self._failure is not None:
                        return
                else:
                    early[item[0]] = item[1]
                continue
            result = early.pop(following)
            following += 1
            if isinstance(result, _OpenPart):
                self._write(result, vectors)
                vectors = []
            else:
                vectors.append(result)

    def _write(self, part: _OpenPart, vectors: list[NDArray[Any]]) -> None:
        rows = np.concatenate(vectors) if vectors else np.empty((0, self._dimension), self._dtype)
        seconds = np.array(part.start, np.float64), np.array(part.end, np.float64)
        finished = Part(Embeddings(rows, *seconds), part.segments, part.failures)
        name = None if self._name is None else place_name(self._name, self.stats.parts)
        write_part(self._folder, finished, self._number, name)
        self._number += 1
        self.stats.parts += 1


def place_name(name: str, place: int) -> str:
    """Name of a part by its place in a run whose parts have a name."""
    return f"{name}-{place:04d}"


def _journal(name: str | None) -> str:
    """Where clips are counted: runs side by side, on several machines, must not share a file."""
    return _JOURNAL if name is None else f"{socket.gethostname()}-{os.getpid()}-{_JOURNAL}"


def clips_in_journal(folder: Path) -> int:
    """How many clips all runs on this folder have encoded so far, those lost to kills included."""
    lines: list[bytes] = []
    for file in folder.glob(f"*{_JOURNAL}"):
        with suppress(OSError):
            lines += file.read_bytes().split()
    return sum(int(line) for line in lines if line.isdigit())
