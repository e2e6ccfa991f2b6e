"""The child: decodes videos into shared memory, one at a time; it may die at any time.

Started as ``python -m vidfeat.video.decode.worker CHANNEL MEMORY BYTES`` with two inherited file
descriptors: no fork (torch's threads would not survive one), and no re-import of the caller's main
module, as in multiprocessing's spawn. The memory has no name, so nothing is left behind whichever
process is killed.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import VideoError
from vidfeat.system.processes import die_with_parent
from vidfeat.video.clips import Clip, stream_clips
from vidfeat.video.decode.events import video_events
from vidfeat.video.decode.tasks import ClipSource, Making, Piece, Started, VideoTask, check_there
from vidfeat.video.frame_folder import open_frames_or_video
from vidfeat.video.nvdec import DecodingCard, Refused, open_video_on_card
from vidfeat.video.packing import Packer, PlanePacker
from vidfeat.video.plane_tables import PlaneCut
from vidfeat.video.planes import PlaneClip
from vidfeat.video.reader import Known, Recounted, VideoReader
from vidfeat.video.remote import Traffic

if TYPE_CHECKING:
    import av

    from vidfeat.video.nvcuvid import Picture

_HEARTBEAT_SECONDS = 1.0


class Worker:
    """One decode process; ``serve`` runs until the parent closes the channel."""

    def __init__(
        self, channel: Connection, memory_fd: int, limit: int, card: DecodingCard | None = None
    ) -> None:
        self._channel = channel
        self._memory_fd, self._limit = memory_fd, limit
        self._free: deque[int] = deque()
        self._slots: NDArray[np.uint8] | None = None
        self._source: ClipSource | None = None
        self._packer: Packer[Any] | None = None
        self._cuts: dict[PlaneCut, int] = {}
        self._split_clips = 0
        self._told = time.monotonic()
        self._fetched = 0
        self._card = card

    def serve(self) -> None:
        """Answer tasks until there are no more."""
        while True:
            message = self._receive()
            if message[0] == "source":
                self._set_source(*message[1:])
            elif message[0] == "video":
                self._guard(lambda task=message[1]: self._video(task))
            elif message[0] == "piece":
                self._guard(lambda path=message[1], piece=message[2]: self._piece(path, piece))
            elif message[0] == "recount":
                self._guard(lambda task=message[1]: self._video(task, count=True))

    def _set_source(self, source: ClipSource, slots: int, split_clips: int, size: int) -> None:
        shared = mmap.mmap(self._memory_fd, size)
        os.close(self._memory_fd)
        if self._limit:
            _limit_memory(self._limit + size)
        self._source = source
        self._split_clips = split_clips
        self._packer = source.packer()
        count = slots * source.clip_bytes
        memory = np.frombuffer(shared, np.uint8, count=count)
        self._slots = memory.reshape(slots, source.clip_bytes)
        self._free = deque(range(slots))

    # -- channel -------------------------------------------------------------------------------

    def _receive(self) -> Any:
        """The next message that is not about slots; those given back are noted on the way."""
        while True:
            message = self._channel.recv()
            if message[0] != "free":
                return message
            self._free.extend(message[1])

    def _send(self, *message: Any) -> None:
        self._told = time.monotonic()
        if message[0] in ("done", "split", "recounted") and Traffic.bytes_fetched > self._fetched:
            self._channel.send(("fetched", Traffic.bytes_fetched - self._fetched))
            self._fetched = Traffic.bytes_fetched
        self._channel.send(message)

    def _alive(self) -> None:
        if time.monotonic() - self._told > _HEARTBEAT_SECONDS:
            self._send("alive")

    def _slot(self) -> int:
        while not self._free or self._channel.poll():
            message = self._channel.recv()
            assert message[0] == "free", message[0]
            self._free.extend(message[1])
        return self._free.popleft()

    # -- work ----------------------------------------------------------------------------------

    def _guard(self, work: Any) -> None:
        try:
            work()
        except Refused:
            self._send("refused")  # by the card: the CPU takes over after the last clip sent
        except VideoError as error:
            self._send("done", error, None)
        except MemoryError:
            self._send("done", VideoError("out of memory while decoding", kind="memory"), None)
        except OSError as error:
            reason = error.strerror or str(error)
            self._send("done", VideoError(f"cannot be read: {reason}", kind="unreadable"), None)

    def _open(
        self, path: str, known: Known | None, *, count: bool = False
    ) -> AbstractContextManager[VideoReader]:
        assert self._source is not None
        if self._card is not None and not os.path.isdir(path):  # noqa: PTH112
            make = self._take_picture if isinstance(self._packer, PlanePacker) else None
            limits = self._source.limits
            return open_video_on_card(
                path, self._card, limits, known, self._alive, make, self._source.plan.stream
            )
        return open_frames_or_video(
            path,
            self._source.limits,
            known,
            self._alive,
            count=count,
            stream=self._source.plan.stream,
            frames_fps=self._source.plan.frames_fps,
        )

    def _take_picture(self, picture: Picture, like: av.VideoFrame) -> Any:
        """The part of a card's picture that clips need, copied while its memory is valid."""
        assert isinstance(self._packer, PlanePacker)
        assert picture.luma is not None
        assert picture.chroma is not None
        taken = self._packer.take_picture(
            picture.luma.view(np.uint8), picture.chroma.view(np.uint8), like
        )
        if taken is None:
            raise Refused("its planes cannot be used on a device")
        return taken

    def _video(self, task: VideoTask, *, count: bool = False) -> None:
        """Decode a whole video, or, if it is long and can be cut, send what is needed to cut it."""
        assert self._source is not None
        if task.making is not None:
            self._make(task.making)
            return
        check_there(task.path)
        with self._open(task.path, None, count=count) as video:
            assert self._packer is not None
            slot_of: dict[int, int] = {}
            events = video_events(
                video,
                self._source,
                task,
                self._packer,
                out=partial(self._memory_for, slot_of),
                split_above=self._split_clips,
            )
            for event in events:
                if isinstance(event, Clip):
                    self._send_clip(event, slot_of.pop(event.index, None))
                elif isinstance(event, Started):
                    self._send("started", *vars(event).values())
                elif isinstance(event, Piece):
                    self._send("split", event.known, event.clips, event.first)
                else:
                    self._send("done", event.error, event.damage)

    def _make(self, making: Making) -> None:
        """Send clips that come from no file."""
        for index, frames in enumerate(making.make()):
            self._send_clip(Clip(index, frames, 0.0, 0.0), None)
        self._send("done", None, None)

    def _piece(self, path: str, piece: Piece) -> None:
        """Decode a piece of a long video; the parent starts over if it is not as announced."""
        with self._open(path, piece.known) as video:
            assert self._packer is not None
            slot_of: dict[int, int] = {}
            out = partial(self._memory_for, slot_of)
            try:
                for clip in stream_clips(video, piece.clips, self._packer, out, piece.first):
                    self._send_clip(clip, slot_of.pop(clip.index))
            except Recounted:
                self._send("recounted")
                return
            self._send("done", None, video.damage)

    def _memory_for(self, slot_of: dict[int, int], index: int) -> NDArray[np.uint8]:
        """The slot that a clip is to be packed into."""
        assert self._slots is not None
        slot_of[index] = self._slot()
        memory: NDArray[np.uint8] = self._slots[slot_of[index]]
        return memory

    def _send_clip(self, clip: Clip, slot: int | None) -> None:
        """Send a clip; one that was not packed into a slot is copied into one."""
        if slot is None:
            assert self._slots is not None
            slot = self._slot()
            pixels = clip.frames_THWC
            self._slots[slot, : pixels.size] = pixels.reshape(-1)
        planes = clip.frames if isinstance(clip.frames, PlaneClip) else None
        cut = None if planes is None else self._number_of(planes.cut)
        seconds = clip.start_seconds, clip.end_seconds
        self._send("clip", clip.index, slot, seconds, cut, clip.step_seconds, clip.new_frames)

    def _number_of(self, cut: PlaneCut) -> int:
        """The number of a cut in messages to the parent; a new one is announced first."""
        number = self._cuts.get(cut)
        if number is None:
            number = self._cuts[cut] = len(self._cuts)
            self._send("cut", number, cut)
        return number


def _limit_memory(limit: int) -> None:
    """Cap the address space: a hostile file then gets a MemoryError, not the whole machine."""
    if limit and sys.platform == "linux":
        import resource

        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main(arguments: Sequence[str]) -> None:
    """Serve the parent on inherited descriptors: channel, memory; address limit, card.

    The card is a number, or -1 for a process that decodes on the CPU.
    """
    channel_fd, memory_fd, limit, device = map(int, arguments)
    die_with_parent()
    # Ctrl-C reaches the whole process group, and so does SIGTERM when a session ends: the parent
    # decides about its children, and they end with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    import av.logging

    av.logging.set_level(None)  # FFmpeg's messages about a damaged stream are in the error rows
    channel = Connection(channel_fd)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        card = None
        if device >= 0:
            limit = 0  # CUDA reserves far more addresses than there is memory
            from vidfeat.video.nvcuvid import Card, CardError

            try:
                card = Card(device)
            except CardError as error:
                channel.send(("no_card", str(error)))
                return
        Worker(channel, memory_fd, limit, card).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # nothing to clean up: skip the interpreter's teardown
