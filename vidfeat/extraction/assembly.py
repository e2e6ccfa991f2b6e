"""From decode events to parts: runs batches of clips through the network, writes rows to disk.

Threads share the work. The caller's thread copies decoded clips into batches; one thread for each
replica of the network runs it; the last thread puts results back into order and writes them. Short
queues between them let decoding, network and writing overlap, and hold back whichever is ahead.

Which inputs of the network make a batch, and which batches make a part, follows from their order
alone: a part is ``part_inputs`` consecutive inputs, wherever one video ends and the next begins,
and only the last part of a run is smaller. A run that resumes after a kill therefore makes the same
batches as one that was never interrupted. If the inputs are frames, which several clips may share,
a part carries over the frames that clips of the next part need.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.encoders.engines.batches import ClipBatch, Feed
from vidfeat.encoders.rows import RowLayout
from vidfeat.errors import VidfeatError
from vidfeat.extraction.joining import ClipsOfFrames
from vidfeat.extraction.journal import journal_name
from vidfeat.extraction.part_writing import OpenPart, PartsTarget, PartWriter
from vidfeat.store.carried import CarriedAt
from vidfeat.store.parts import PartHeader, VideoSlice, read_carried
from vidfeat.store.records import VideoFailure, VideoRecord
from vidfeat.video.clip_plan import PlannedClip
from vidfeat.video.clips import Clip, nothing_to_release
from vidfeat.video.decode.tasks import Started, attempt_of


@dataclass
class AssemblyStats:
    """Counts and times of a run's network and disk."""

    clips_encoded: int = 0
    frames_encoded: int = 0
    """Frames that went through the network; each crop counts as one."""
    clips_padded: int = 0
    """Empty places in last batches, padded so that every batch has the same size."""
    batches: int = 0
    parts: int = 0
    network_seconds: float = 0.0
    """The sum over all threads that run batches."""
    network_waited_seconds: float = 0.0
    """Time in which the network had no batch to work on; the mean over several threads."""
    blocked_seconds: float = 0.0
    """Time in which decoded clips waited for the network."""


@dataclass
class _Owner:
    """The video whose clips are arriving."""

    record: VideoRecord
    attempt: str
    first: int
    """Number of its first row that is not yet in a segment."""
    count: int = 0
    frames: ClipsOfFrames | None = None
    """Set if frames arrive instead of clips."""


@dataclass(frozen=True)
class _Found:
    """Frames that an earlier run has encoded, by number."""

    outputs: dict[int, NDArray[np.float32]]


class Assembly:
    """Takes the events of a run in order and writes its parts.

    Args:
        feed: makes the batches and embeds them, from as many threads as it allows.
        target: where parts go.
        rows: how the network's outputs become rows.
        batch_size: B, in inputs; the last batch of a part is padded to it.
        part_inputs: inputs per part, a multiple of ``batch_size``.
        frames_per_input: T of a clip; 1 for frames.
    """

    def __init__(
        self,
        feed: Feed,
        target: PartsTarget,
        rows: RowLayout,
        *,
        batch_size: int,
        part_inputs: int,
        frames_per_input: int,
    ) -> None:
        assert part_inputs % batch_size == 0
        self.stats = AssemblyStats()
        self._feed = feed
        self._sequence = 0  # of batches and part ends, in the order of the run
        self._lock = threading.Lock()
        self._target = target
        self._rows = rows
        self._batch_size = batch_size
        self._frames_per_input = frames_per_input
        self._part_inputs = max(part_inputs, rows.crops)
        self._writer = PartWriter(target, rows)
        self._frame_number = 0  # of the next single frame; frames of earlier runs are below 0
        self._found_number = 0
        self._part = OpenPart(0)
        self._owner: _Owner | None = None
        self._batch: ClipBatch | None = None
        self._filled = 0
        self._clips_in_batch = 0
        self._to_network: queue.Queue[Any] = queue.Queue(maxsize=2)
        self._to_disk: queue.Queue[Any] = queue.Queue(maxsize=2 * feed.threads)
        self._failure: BaseException | None = None
        journal = target.folder / journal_name(target.name)
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

    def start(self, identity: str, started: Started, carrier: PartHeader | None = None) -> None:
        """Begin a video, start it again, or continue it.

        Args:
            identity: its path in the file.
            started: what is known about it.
            carrier: the part with frames of it that an earlier run encoded.
        """
        attempt, owner = attempt_of(started.info), self._owner
        frames = None if owner is None else owner.frames
        goes_on = (
            owner is not None
            and frames is not None
            and (owner.record.path, owner.attempt) == (identity, attempt)
            and frames.frames_done == started.first_clip
        )
        if goes_on:
            return
        self._end_segment(complete=False)
        info = started.info
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
        if self._rows.aggregate is None:
            first = started.first_clip * self._rows.rows_per_clip
            self._owner = _Owner(record, attempt, first)
            return
        clips_done = 0
        waiting: dict[int, int] = {}
        if started.first_clip:
            assert carrier is not None
            clips_done, waiting = self._found(carrier)
        frames = ClipsOfFrames(started.clips, started.first_clip, clips_done, waiting)
        first = clips_done * self._rows.rows_per_clip
        self._owner = _Owner(record, attempt, first, frames=frames)

    def _found(self, carrier: PartHeader) -> tuple[int, dict[int, int]]:
        """Pass frames of an earlier run to the disk thread; clips done, and position -> number.

        Raises:
            DamagedPartError: the part has been cut short since.
        """
        carried = read_carried(carrier)
        waiting = {}
        for position in carried.at.positions:
            self._found_number -= 1
            waiting[position] = self._found_number
        outputs = dict(zip(waiting.values(), carried.outputs, strict=True))
        self._put(self._to_disk, (self._next(), _Found(outputs)))
        return carried.at.next_clip // self._rows.rows_per_clip, waiting

    def clip(self, clip: Clip) -> None:
        """Take the next clip, or frame; it is released once its pixels are copied."""
        owner = self._owner
        assert owner is not None
        if self._part.inputs + self._rows.crops > self._part_inputs:
            self._close_part()
        crops = [clip.frames] if self._rows.crops == 1 else list(clip.frames_THWC)
        self._part.inputs += len(crops)
        for left, frames in enumerate(crops, 1 - len(crops)):
            if self._batch is None:
                self._batch = self._feed.new_batch()
            self._batch.put(self._filled, frames, nothing_to_release if left else clip.release)
            self._filled += 1
            if left == 0:
                self._take_rows(owner, clip)
            if self._filled == self._batch_size:
                self._send_batch()

    def _take_rows(self, owner: _Owner, clip: Clip) -> None:
        """Record the rows of a clip, or of the clips that a frame completes."""
        if owner.frames is None:
            self._add_rows(owner, clip)
            return
        for complete, numbers in owner.frames.add(self._frame_number):
            self._part.frames_NT.append(numbers)
            self._add_rows(owner, complete)
        self._frame_number += 1

    def _add_rows(self, owner: _Owner, clip: Clip | PlannedClip) -> None:
        for start, end in self._rows.seconds(clip):
            self._part.start.append(start)
            self._part.end.append(end)
            owner.count += 1
        self._clips_in_batch += 1

    @property
    def at_batch_boundary(self) -> bool:
        """Whether every clip so far is in a full batch: a run that ends here loses none of them."""
        return self._batch is None

    def finish(self, failure: VideoFailure | None = None, *, keep: bool = True) -> None:
        """End the video; ``keep`` says whether its clips count."""
        self._end_segment(complete=keep)
        self._owner = None
        if failure is not None:
            self._part.failures.append(failure)

    def close(self) -> None:
        """Write what is left and wait for the disk.

        Raises:
            Exception: raised by the network or the disk.
        """
        if self._part or self._part.inputs or (self._owner and self._owner.count):
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

    def _end_segment(self, *, complete: bool, part_ends: bool = False) -> None:
        """Record the rows since the last call as one segment of the open part."""
        owner = self._owner
        if owner is None:
            return
        carries = part_ends and owner.frames is not None
        if owner.count == 0 and not complete and not carries:
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
        item = self._next(), self._batch, self._filled, self._clips_in_batch
        self._put(self._to_network, item)
        self.stats.blocked_seconds += time.monotonic() - began
        self._batch, self._filled, self._clips_in_batch = None, 0, 0

    def _close_part(self) -> None:
        self._end_segment(complete=False, part_ends=True)
        owner, part = self._owner, self._part
        if owner is not None and owner.frames is not None:
            frames = owner.frames
            positions = tuple(sorted(frames.waiting))
            part.kept = tuple(frames.waiting[position] for position in positions)
            path, attempt = owner.record.path, owner.attempt
            width = self._target.frame_width(self._rows)
            part.carried = CarriedAt(
                path, attempt, owner.first, frames.frames_done, positions, width
            )
        if self._batch is not None:
            self.stats.clips_padded += self._batch_size - self._filled
        self._send_batch()
        self._put(self._to_disk, (self._next(), part))
        self._part = OpenPart(self._frame_number)

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence - 1

    # -- the other threads ---------------------------------------------------------------------

    def _put(self, target: queue.Queue[Any], item: Any) -> None:
        """Put an item, or raise the error of a thread behind the queue that has failed."""
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
            number, batch, filled, clips = item
            began = time.monotonic()
            outputs = self._feed.embed(batch, runner)[:filled]
            seconds = time.monotonic() - began
            with self._lock:
                self.stats.network_waited_seconds += waited / self._feed.threads
                self.stats.network_seconds += seconds
                self.stats.clips_encoded += clips
                self.stats.frames_encoded += filled * self._frames_per_input
                self.stats.batches += 1
            os.write(self._journal, b"%d\n" % filled)
            self._put(self._to_disk, (number, outputs))

    def _run_disk(self) -> None:
        """Take results as they arrive, put them back into order, and write each part at its end."""
        early: dict[int, Any] = {}
        following = 0
        running = self._feed.threads
        outputs: list[NDArray[np.float32]] = []
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
            if isinstance(result, OpenPart):
                self._writer.write(result, outputs)
                self.stats.parts = self._writer.parts
                outputs = []
            elif isinstance(result, _Found):
                self._writer.found(result.outputs)
            else:
                outputs.append(result)
