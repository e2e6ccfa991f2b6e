"""The parent: a pool of decode processes that answers in the order of the tasks.

Work is handed out in order and answered in order, whichever process was quicker: the batches of a
run, and so its numbers, depend only on the list of videos. Each process writes into its own slots
in shared memory; all slots together are the memory that decoding ahead may take. The process that
works on the first unit in the order always gets its slots back, so nothing can stall.

A long video comes back from its first process as a plan, which is cut into pieces that go to the
front of the queue. If a process dies or falls silent, the video that it was working on fails, and
the process is replaced.
"""

from __future__ import annotations

import contextlib
import mmap
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import VideoError
from vidfeat.video.clips import Clip
from vidfeat.video.decode.processes import take_started
from vidfeat.video.decode.tasks import (
    ClipSource,
    Event,
    Finished,
    Piece,
    Started,
    VideoTask,
    attempt_of,
    cut_at_keys,
    with_path,
)
from vidfeat.video.plane_tables import PlaneCut
from vidfeat.video.planes import ClipFrames, PlaneClip

DEFAULT_TIMEOUT_SECONDS = 120.0
BUFFER_BYTES_PER_PROCESS = 32 << 20  # some 50 clips of 16 x 112 x 112
BUFFER_BYTES_PER_PROCESS_PLANES = 64 << 20  # 16 such clips as planes
_PIECE_CLIPS = 64  # of a long video: some seconds of decoding, and at most half the slots
_CARD_LOSSES = 3  # card processes that may die before the card is given up
_START_SECONDS = 120.0  # for the first answer of a new process, on a busy machine
# While the consumer takes clips, a process that has finished gets its next video after this long.
_IDLE_SECONDS = 0.002


@dataclass
class PoolStats:
    """What a run reports about decoding."""

    processes_lost: int = 0
    card_videos: int = 0
    """Videos, and pieces of long ones, that a card's decoders were given."""
    card_refused: int = 0
    """Of these, those that the CPU took over, entirely or from some clip on."""
    card_trouble: str = ""
    """Why a card was given up for the rest of the run."""
    bytes_fetched: int = 0
    """Bytes of remote videos received over the network."""
    waited_seconds: float = 0.0
    """Seconds in which the consumer only waited for clips."""


@dataclass
class _Unit:
    """A piece of work for one process, with its answers until their turn comes."""

    task: VideoTask
    piece: Piece | None = None
    count: bool = False
    worker: _Child | None = None
    answers: deque[tuple[Any, ...]] = field(default_factory=deque)
    over: bool = False
    last_of_video: bool = True
    on_processors: bool = False
    """A card has refused it."""
    attempt: str = ""
    next_clip: int = 0
    """What has arrived so far: the clips before this one, of this attempt (see ``attempt_of``)."""

    def go_on_elsewhere(self) -> None:
        """Leave the rest to the CPU; what has arrived is exact and is kept."""
        self.worker = None
        self.on_processors = True

    def start_over(self) -> None:
        """Discard what has arrived, none of which has been consumed."""
        self.worker = None
        self.attempt, self.next_clip = "", 0
        self.forget_answers()

    def forget_answers(self) -> None:
        """Release the slots of what has arrived."""
        for answer in self.answers:
            if answer[0] == "clip":
                answer[1].release()
        self.answers.clear()

    def rest(self) -> tuple[Any, ...]:
        """The message that asks a process for what is still missing."""
        if self.piece is not None:
            done = max(0, self.next_clip - self.piece.first)
            clips = self.piece.clips[done:]
            return "piece", self.task.path, Piece(self.piece.known, clips, self.piece.first + done)
        if self.count:
            return "recount", self.task
        if not self.attempt:
            return "video", self.task
        return "video", replace(self.task, first_clip=self.next_clip, first_attempt=self.attempt)


class _WaitingClip:
    """A decoded clip that waits for its turn: in a slot, or moved out of it."""

    def __init__(self, child: _Child, answer: tuple[Any, ...]) -> None:
        index, slot, seconds, cut, step_seconds, new_frames = answer
        self._child: _Child | None = child
        self._slot: int = slot
        self.index: int = index
        self.seconds: tuple[float, float] = seconds
        self.step_seconds: tuple[tuple[float, float], ...] = step_seconds
        self.new_frames: int = new_frames
        self.frames: ClipFrames = child.clip_in(slot, cut)

    def release(self) -> None:
        """Give the slot back, once."""
        child, self._child = self._child, None
        if child is not None:
            child.release(self._slot)

    def move_out(self) -> None:
        """Copy the frames, so that the slot is free for something more urgent."""
        self.frames = self.frames.copy()
        self.release()

    def is_of(self, child: _Child) -> bool:
        """Whether it fills a slot of this process."""
        return self._child is child


class _Child:
    """A decode process, its channel and its slots."""

    def __init__(
        self,
        source: ClipSource,
        slots: int,
        split_clips: int,
        card: int | None,
        pin: Callable[[NDArray[np.uint8]], Callable[[], None]] | None,
    ) -> None:
        self.card = card
        clip_bytes = source.clip_bytes
        size = max(mmap.PAGESIZE, slots * clip_bytes)
        started = take_started(card)
        self.process, self.channel = started.process, started.channel
        try:
            self._memory = started.memory(size)
        except BaseException:
            started.kill()
            raise
        view = np.frombuffer(self._memory, np.uint8, count=slots * clip_bytes)
        self.slots: NDArray[np.uint8] = view.reshape(slots, clip_bytes)
        self._unpin: Callable[[], None] | None = None
        self._clip_shape, self._clip_frames = source.clip_shape, source.clip_frames
        self._freed: list[int] = []
        self.cuts: dict[int, PlaneCut] = {}
        self._pin = pin
        self.unit: _Unit | None = None
        self.held: set[int] = set()  # slots with clips that wait for their turn
        self.heard = time.monotonic()
        self.started = False
        with contextlib.suppress(OSError):  # the pool notices a child that died at once
            self.channel.send(("source", source, slots, split_clips, size))

    def clip_in(self, slot: int, cut: int | None) -> ClipFrames:
        """The clip in a slot: pixels, or planes of a cut that the process has announced."""
        if self._pin is not None:  # only now, at its first clip: most of its startup is over
            self._unpin, self._pin = self._pin(self.slots.reshape(-1)), None
        memory = self.slots[slot]
        if cut is None:
            pixels: NDArray[np.uint8] = memory[: int(np.prod(self._clip_shape))]
            return pixels.reshape(self._clip_shape)
        frames, of = self._clip_frames, self.cuts[cut]
        return PlaneClip(of, memory[: frames * of.nbytes].reshape(frames, of.nbytes))

    @property
    def waits_for_us(self) -> bool:
        """Whether all of its slots are held here, so that it cannot continue: not a hang."""
        return len(self.held) >= len(self.slots) - 1

    def give(self, unit: _Unit) -> None:
        """Send it a unit of work."""
        self.unit, unit.worker = unit, self
        self.heard = time.monotonic()
        with contextlib.suppress(OSError):
            self.channel.send(unit.rest())

    def can_do(self, unit: _Unit) -> bool:
        """Whether this process can do a unit: a card's cannot do what is left to the CPU."""
        return self.card is None or not (unit.on_processors or unit.count)

    def release(self, slot: int) -> None:
        """Give a slot back; harmless if the process has died meanwhile."""
        if slot in self.held:
            self.held.discard(slot)
            self.heard = max(self.heard, time.monotonic())
            self._freed.append(slot)
            if 4 * len(self._freed) >= len(self.slots):
                self.flush()

    def flush(self) -> None:
        """Return slots to the process, several at once because messages are costly."""
        if self._freed:
            freed, self._freed = self._freed, []
            with contextlib.suppress(OSError):
                self.channel.send(("free", freed))

    def kill(self) -> None:
        """Kill the process and release its memory."""
        with contextlib.suppress(OSError):
            self.process.kill()
        self.process.wait()
        self.channel.close()
        if self._unpin is not None:
            self._unpin()
            self._unpin = None


class DecodePool:
    """A pool of decode processes; use as a context manager.

    Args:
        source: plan, preprocessing and limits of the run.
        workers: number of processes that decode on the CPU.
        cards: for each process that decodes on a card, the number of that card.
        buffer_bytes: memory for clips decoded ahead, for all processes together; None for 32 MB
            each, or 64 MB with planes.
        timeout_seconds: a process that is silent for this long, although it has slots to write
            into, counts as hung.
        pin: prepares the memory of a process for copies to a device, and returns a function that
            undoes it.
    """

    def __init__(
        self,
        source: ClipSource,
        workers: int,
        *,
        cards: Sequence[int] = (),
        buffer_bytes: int | None = None,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        pin: Callable[[NDArray[np.uint8]], Callable[[], None]] | None = None,
    ) -> None:
        clip_bytes = source.clip_bytes
        if buffer_bytes is None:
            each = BUFFER_BYTES_PER_PROCESS_PLANES if source.planes else BUFFER_BYTES_PER_PROCESS
            buffer_bytes = each * (workers + len(cards))
        # a clip of planes may be on its way to a device while others are decoded
        least = 4 if source.planes else 2
        self.slots = max(least, min(512, buffer_bytes // ((workers + len(cards)) * clip_bytes)))
        self.stats = PoolStats()
        self._source = source
        self._timeout = timeout_seconds
        most = _PIECE_CLIPS * (source.plan.frames if source.frame_by_frame else 1)
        self._piece_clips = max(1, min(most, self.slots // 2))
        self._cards: list[int | None] = [*[None] * workers, *cards]
        self._card_losses = 0
        self._pin = pin
        self._selector = selectors.DefaultSelector()
        self._children: list[_Child] = []
        self._units: deque[_Unit] = deque()  # all that is not yet consumed, in order
        self._tasks: Iterator[VideoTask] = iter(())
        self._heard_at = time.monotonic()

    def __enter__(self) -> DecodePool:
        # All at once: their interpreters start in parallel, while the network is loaded.
        while len(self._children) < len(self._cards):
            self._children.append(self._new_child(self._cards[len(self._children)]))
        return self

    def __exit__(self, *exception: object) -> None:
        for child in self._children:
            self._end(child)
        self._children.clear()
        self._selector.close()

    def _new_child(self, card: int | None) -> _Child:
        split_clips = self._piece_clips + self._piece_clips // 2
        child = _Child(self._source, self.slots, split_clips, card, self._pin)
        self._selector.register(child.channel, selectors.EVENT_READ, child)
        return child

    def _end(self, child: _Child) -> None:
        self._selector.unregister(child.channel)
        child.kill()

    # -- the order of things -------------------------------------------------------------------

    def run(self, tasks: Iterable[VideoTask]) -> Iterator[tuple[VideoTask, Event]]:
        """Decode videos; events come task by task, in the order of the tasks.

        For each task: ``Started``, its clips in order, ``Finished``. A second ``Started`` means
        that the video was planned again and what came before is void.
        """
        self._tasks = iter(tasks)
        self._units.clear()
        self._hand_out()
        while self._units:
            head = self._units[0]
            while head.answers:
                yield from self._answer(head, head.answers.popleft())
                if self._units and self._units[0] is not head:
                    break
                if time.monotonic() - self._heard_at > _IDLE_SECONDS:
                    self._hear_all(self._selector.select(0))
                    self._hand_out()
            else:
                if head.over:
                    self._units.popleft()
                    self._hand_out()
                else:
                    self._listen()

    def _answer(self, unit: _Unit, answer: tuple[Any, ...]) -> Iterator[tuple[VideoTask, Event]]:
        """Turn one answer of the head into events."""
        kind = answer[0]
        if kind == "started":
            yield unit.task, Started(*answer[1:])
        elif kind == "clip":
            held: _WaitingClip = answer[1]
            yield (
                unit.task,
                Clip(
                    held.index,
                    held.frames,
                    *held.seconds,
                    held.release,
                    step_seconds=held.step_seconds,
                    new_frames=held.new_frames,
                ),
            )
        elif kind == "split":
            pass  # its pieces replace it
        elif kind == "recounted":
            # The frames of this piece are not what the packets announced: drop all pieces of the
            # video and decode it as a whole.
            while self._units and self._units[0].task is unit.task:
                self._drop(self._units.popleft())
            self._units.appendleft(_Unit(unit.task, count=True))
            self._hand_out()
        elif kind == "done":
            error, damage = answer[1:]
            if error is not None:
                while len(self._units) > 1 and self._units[1].task is unit.task:
                    later = self._units[1]
                    del self._units[1]
                    self._drop(later)
                unit.last_of_video = True
                yield unit.task, Finished(with_path(error, unit.task.path))
            elif unit.last_of_video:
                yield unit.task, Finished(None, damage)

    def _drop(self, unit: _Unit) -> None:
        """Drop a unit: give back its slots, and end the process that still works on it."""
        unit.forget_answers()
        child = unit.worker
        if child is not None and child.unit is unit and not unit.over:
            self._replace(child)
        unit.over = True

    def _hand_out(self) -> None:
        """Give idle processes the next units, and fetch new tasks for those left idle."""
        for child in self._children:
            if child.unit is not None:
                continue
            waiting = (u for u in self._units if u.worker is None and not u.over)
            unit = next((u for u in waiting if child.can_do(u)), None)
            if unit is None:
                task = next(self._tasks, None)
                if task is None:
                    continue  # another process may be able to do a waiting unit
                unit = _Unit(task)
                self._units.append(unit)
            self._make_room(child, unit)
            child.give(unit)
            self.stats.card_videos += child.card is not None
        head = self._units[0] if self._units else None
        if head is not None and head.worker is None and not head.over:
            self._preempt(head)

    def _able(self, unit: _Unit) -> list[_Child]:
        return [child for child in self._children if child.can_do(unit)]

    def _make_room(self, child: _Child, unit: _Unit) -> None:
        """Make sure that a process has slots for a unit, even if clips of later ones fill them.

        Those are copied out of their slots; otherwise the two would wait for each other forever.
        """
        for later in reversed(self._units):
            if later is unit:
                return
            for answer in later.answers:
                if answer[0] == "clip" and answer[1].is_of(child):
                    if len(child.held) <= len(child.slots) // 2:
                        return
                    answer[1].move_out()

    def _preempt(self, head: _Unit) -> None:
        """Reassign the process that works farthest ahead to the first unit in the order.

        This is rare: a video had to be started over while all processes work on later, long ones,
        which they cannot finish before it is done. The interrupted video is started over later. A
        unit that a card has refused, which is less rare, waits while a CPU process may become free.
        """
        able = self._able(head)
        if head.on_processors and not all(child.waits_for_us for child in able):
            return
        for later in reversed(self._units):
            child = later.worker
            if child in able and child.unit is later and not later.over:
                later.start_over()
                self._replace(child)
                self._children[-1].give(head)
                return

    # -- answers of the processes ---------------------------------------------------------------

    def _listen(self) -> None:
        began = time.monotonic()
        for child in self._children:
            child.flush()
        ready = self._selector.select(0.5)
        self.stats.waited_seconds += time.monotonic() - began
        self._hear_all(ready)
        now = time.monotonic()
        for child in list(self._children):
            if child.unit is None or child.waits_for_us:
                continue
            allowed = self._timeout if child.started else max(self._timeout, _START_SECONDS)
            if now - child.heard > allowed:
                self._lost(
                    child,
                    VideoError(
                        f"no frame for {allowed:.0f} s: given up (video_timeout)", kind="timeout"
                    ),
                )
        self._hand_out()

    def _hear_all(self, ready: list[tuple[selectors.SelectorKey, int]]) -> None:
        """Hear all messages that have arrived."""
        while ready:
            for key, _ in ready:
                child = key.data
                if child.channel.closed:
                    continue
                try:
                    self._hear(child, child.channel.recv())
                except (EOFError, OSError):
                    self._lost(child, None)
            ready = self._selector.select(0)
        self._heard_at = time.monotonic()

    def _hear(self, child: _Child, message: tuple[Any, ...]) -> None:
        child.heard = time.monotonic()
        child.started = True
        unit = child.unit
        if message[0] == "no_card":
            self._give_card_up(child, message[1])
            return
        if message[0] == "fetched":
            self.stats.bytes_fetched += message[1]
            return
        if message[0] == "alive" or unit is None:
            return
        if message[0] == "cut":
            child.cuts[message[1]] = message[2]
            return
        if message[0] == "refused":
            self.stats.card_refused += 1
            unit.go_on_elsewhere()
            child.unit = None
            return
        if message[0] == "started":
            unit.attempt, unit.next_clip = attempt_of(message[1]), message[3]
        if message[0] == "clip":
            unit.next_clip = message[1] + 1
            child.held.add(message[2])
            unit.answers.append(("clip", _WaitingClip(child, message[1:])))
            return
        if message[0] == "split":
            known, clips, first = message[1:]
            pieces = cut_at_keys(known, clips, first, self._piece_clips)
            place = self._units.index(unit)
            units = [_Unit(unit.task, piece, last_of_video=False) for piece in pieces]
            units[-1].last_of_video = True
            for offset, later in enumerate(units):
                self._units.insert(place + 1 + offset, later)
        unit.answers.append(message)
        if message[0] in ("done", "split", "recounted"):
            unit.over = True
            child.unit = None

    def _lost(self, child: _Child, error: VideoError | None) -> None:
        """Handle a process that died or hangs: its video fails, and the process is replaced."""
        unit = child.unit
        if child.card is not None:
            self._card_losses += 1
            self.stats.processes_lost += 1
            if self._card_losses > _CARD_LOSSES:
                self._give_card_up(child, "its processes kept dying")
                return
            self._replace(child)
            if unit is not None and not unit.over:
                self.stats.card_refused += 1
                unit.go_on_elsewhere()
            return
        if error is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(timeout=5)
            error = _death(child.process.returncode)
        self.stats.processes_lost += 1
        self._replace(child)
        if unit is not None and not unit.over:
            unit.over = True
            unit.answers.append(("done", error, None))

    def _replace(self, child: _Child) -> None:
        """End a process and start another, which goes to the end of the list."""
        self._end(child)
        child.unit = None
        self._children.remove(child)
        self._children.append(self._new_child(child.card))

    def _give_card_up(self, child: _Child, why: str) -> None:
        """Do without a card's process; the CPU takes over its video."""
        unit = child.unit
        self._end(child)
        child.unit = None
        self._children.remove(child)
        self.stats.card_trouble = why
        if unit is not None and not unit.over:
            unit.go_on_elsewhere()


def _death(status: int | None) -> VideoError:
    """The error for a process that ended unexpectedly."""
    if status is not None and status < 0:
        name = signal.Signals(-status).name
        hint = " (often because the system ran out of memory)" if name == "SIGKILL" else ""
        return VideoError(f"its decode process was ended by {name}{hint}", kind="crashed")
    return VideoError(f"its decode process ended with status {status}", kind="crashed")
