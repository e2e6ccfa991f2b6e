"""Frame-exact reading of video: the frame at a position is the one that sequential decoding gives.

A frame is reached in one of two ways. *By packets*: if the packets leave no doubt about the frames
(see ``packets.py``), a reader seeks to the key before the wanted frame and decodes forward,
strictly: it stops at the first sign of damage or of a frame that was not announced. *By decoding*:
everything else is decoded from the start, as plain PyAV does, up to the first error. A video for
which the first way fails is counted by decoding and read the second way (``Recounted``).
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import UsageError, VideoError
from vidfeat.system.urls import is_url
from vidfeat.system.wording import counted
from vidfeat.video.clock import Clock, Timing, clock_from_ticks
from vidfeat.video.containers import StreamChoice, has_timestamps, open_chosen, reason_of
from vidfeat.video.orientation import orientation_of
from vidfeat.video.packets import PacketIndex, Scan, samples_behind_end, scan_packets
from vidfeat.video.remote import RemoteFile, open_remote
from vidfeat.video.sparse import scan_sparsely
from vidfeat.video.timeline import Timeline

if TYPE_CHECKING:
    import av
    import av.container
    import av.packet
    import av.video.reformatter
    import av.video.stream

# Decoded frames of a video counted by decoding are kept up to this size, so that the short clips
# of UCF101 and HMDB51 are decoded once and not twice.
_KEEP_BYTES = 64 << 20
# Seeking costs a flush and a few packets: closer frames are reached by decoding further.
_SEEK_GAIN_FRAMES = 4
_UNLIKELY_RATE = 300  # in a header; recorders of variable rate write 1000 or 90000


T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """The pixels, frames and seconds that a file may have before it is refused."""

    max_pixels: int = 8192 * 8192
    """Width times height of a frame."""
    max_frames: int = 20_000_000
    """Frames of a video."""
    max_seconds: float = 7 * 24 * 3600.0
    """Duration of a video."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise UsageError(f"{name} must be above 0, not {value}", field=name)


@dataclass(frozen=True)
class VideoInfo:
    """What a video shows, measured on its frames and not taken from its header."""

    path: str
    duration_seconds: float
    fps: Fraction
    """Constant rate, or the average of a variable one."""
    width: int
    """As shown: after rotation."""
    height: int
    num_frames: int
    num_frames_source: Literal["packets", "decoding"]
    codec: str
    container: str
    rotation: int
    """Degrees by which frames are turned counter-clockwise to stand upright: 0, 90, 180, 270."""
    timing: Timing
    """Disordered: timestamps out of order, so that only their index identifies frames."""
    size_bytes: int
    mtime_ns: int
    mirrored: bool = False
    """Left and right are swapped, before the rotation."""
    repaired_timestamps: int = 0
    """Timestamps that were missing, repeated or out of order, and were replaced."""
    stream: int = 0
    """Which of the file's video streams this is, counted from 0 (``v:N`` of FFmpeg)."""
    num_streams: int = 1
    """Video streams in the file, cover pictures left out."""
    pauses: int = 0
    """Places where one frame stays for a minute or more; no clip is laid there."""

    assumed_rate: bool = False
    """A raw stream without a rate: FFmpeg's default of 25 frames per second is used."""

    missing_frames: tuple[int, int] = (0, 0)
    """For a folder of frames: how many numbers are missing, and after which the first one is."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is unusual about the video and how it is treated, one phrase each."""
        found = []
        if self.repaired_timestamps:
            found.append(
                f"{self.repaired_timestamps} of {counted(self.num_frames, 'timestamp')} "
                f"{'was' if self.repaired_timestamps == 1 else 'were'} wrong and repaired"
            )
        if self.timing == "disordered" and self.fps > _UNLIKELY_RATE:
            found.append(
                f"its timestamps are unusable, and at its header's {float(self.fps):g} frames/s it "
                f"lasts {self.duration_seconds:.2f} s"
            )
        count, first = self.missing_frames
        if count:
            found.append(
                f"{counted(count, 'frame is', 'frames are')} missing, the first after number "
                f"{first}: later frames are shown too early"
            )
        if self.assumed_rate:
            found.append(f"a raw stream without a frame rate: {self.fps} frames/s are assumed")
        if self.num_streams > 1:
            found.append(f"{self.num_streams} video streams: number {self.stream} is used")
        if self.pauses:
            places = f"{self.pauses} places" if self.pauses > 1 else "one place"
            found.append(f"in {places} one frame stays for over a minute: no clips are laid there")
        return tuple(found)


@dataclass(frozen=True)
class Damage:
    """Where a video broke; the frames before that are good."""

    message: str
    at_seconds: float


@dataclass(frozen=True)
class Known:
    """What is known about a video, to be sent to another process that reads it too."""

    info: VideoInfo
    timeline: Timeline
    index: PacketIndex | None
    damage: Damage | None


class Recounted(Exception):  # noqa: N818 (control flow, not an error)
    """The frames are not what the packets announced. The reader has counted them: plan again."""


class VideoReader:
    """An open video. Use :func:`open_video`."""

    def __init__(
        self,
        path: str,
        limits: Limits,
        known: Known | None = None,
        progress: Callable[[], None] | None = None,
        *,
        count: bool = False,
        stream: int | None = None,
    ) -> None:
        self._remote: RemoteFile | None = None
        if is_url(path):
            self._remote = open_remote(path, progress)
            path = self._remote.shown
        self.path = path
        self._number = stream if known is None else known.info.stream
        self._choice = StreamChoice()
        self.limits = limits
        self._progress = progress or (lambda: None)
        self._state = self._look(known)
        self._container: av.container.InputContainer | None = None
        self._stream: av.video.stream.VideoStream | None = None
        self._frames: Iterator[av.VideoFrame] | None = None
        self._next = 0  # position of the frame that self._frames gives next
        self._kept: list[av.VideoFrame] | None = None
        self._first: av.VideoFrame | None = None
        self._assumed_rate = False
        self.damage: Damage | None = None
        self.index: PacketIndex | None = None
        try:
            if count:
                self._count()
            elif known is None:
                self._examine()
            else:
                self.info, self.timeline = known.info, known.timeline
                self.index, self.damage = known.index, known.damage
        except BaseException:
            self.close()
            self.let_go()
            raise

    def _look(self, known: Known | None) -> tuple[int, int]:
        """Size and modification time, or the stamp of a URL.

        Raises:
            VideoError: a URL has changed since it was examined.
        """
        if self._remote is not None:
            if known is not None:
                self._remote.require((known.info.size_bytes, known.info.mtime_ns))
            return self._remote.state
        if not os.path.exists(self.path):  # noqa: PTH110
            return -1, -1  # opening it raises the error
        status = os.stat(self.path)  # noqa: PTH116
        return status.st_size, status.st_mtime_ns

    def _check_remote(self) -> None:
        """Raise if reading a URL has failed: FFmpeg treats that as the end of the file."""
        if self._remote is not None:
            self._remote.check()

    def let_go(self) -> None:
        """Close the URL; idempotent."""
        if self._remote is not None:
            self._remote.close()

    # -- what is in it -------------------------------------------------------------------------

    @property
    def known(self) -> Known:
        """All that is known, in a form that can be sent to another process."""
        return Known(self.info, self.timeline, self.index, self.damage)

    def _examine(self) -> None:
        container, stream = self._open(strict=True)
        missing = samples_behind_end(container, stream)
        scan = self._scan(container, stream)
        self._progress()
        if scan.index is None:
            self._count()
        else:
            self.index = scan.index
            clock = self._clock(scan.index.pts.tolist(), scan.last_duration)
            try:
                self._seek(0)
                assert self._frames is not None
                self._first = self._pull()
            except Recounted:
                self._count()
            else:
                self._describe(self._first, clock, "packets")
        if self.damage is None and missing:
            self._set_damage(f"the file ends early: {missing} of its frames lie past its end")

    def _scan(
        self, container: av.container.InputContainer, stream: av.video.stream.VideoStream
    ) -> Scan:
        scan = None
        if self._remote is not None:
            scan = scan_sparsely(self._remote, container, stream)
        if scan is None:
            scan = scan_packets(container, stream)
        self._check_remote()
        return scan

    def _describe(
        self, first: av.VideoFrame, clock: Clock, source: Literal["packets", "decoding"]
    ) -> None:
        assert self._stream is not None
        assert self._container is not None
        orientation = orientation_of(first)
        height, width = orientation.shown(first.height, first.width)
        self.timeline = clock.timeline
        duration = clock.timeline.duration_seconds
        if duration > self.limits.max_seconds:
            raise self._limit(
                f"{duration:.0f} seconds", f"{self.limits.max_seconds:.0f}", "max_seconds"
            )
        self.info = VideoInfo(
            path=self.path,
            duration_seconds=duration,
            fps=clock.timeline.rate,
            width=width,
            height=height,
            num_frames=clock.timeline.num_frames,
            num_frames_source=source,
            codec=self._stream.codec_context.name,
            container=self._container.format.name.split(",")[0],
            rotation=90 * orientation.turns,
            timing=clock.timing,
            size_bytes=self._state[0],
            mtime_ns=self._state[1],
            mirrored=orientation.mirrored,
            repaired_timestamps=clock.repaired,
            stream=self._choice.number,
            num_streams=self._choice.count,
            pauses=len(clock.timeline.pauses),
            assumed_rate=self._assumed_rate,
        )

    def _clock(
        self,
        ticks: Sequence[int | None],
        last_duration: int,
        decode_ticks: Sequence[int | None] = (),
    ) -> Clock:
        assert self._stream is not None
        assert self._container is not None
        if len(ticks) > self.limits.max_frames:
            raise self._limit(f"{len(ticks)} frames", str(self.limits.max_frames), "max_frames")
        stream = self._stream
        rates = [stream.average_rate, stream.guessed_rate, stream.base_rate]
        time_base = stream.time_base or Fraction(1, 1000)
        if not has_timestamps(self._container):
            # FFmpeg sometimes invents timestamps, and an average rate from 25 frames/s; only the
            # stream's own headers give the rate, if anything does.
            ticks = [None] * len(ticks)
            rates = [stream.guessed_rate, *rates]
            self._assumed_rate = not stream.codec_context.framerate
        return clock_from_ticks(ticks, time_base, rates, last_duration, decode_ticks)

    def _limit(self, found: str, limit: str, field: str) -> VideoError:
        return VideoError(
            f"{found}: more than the limit {field} of {limit}",
            kind="limit",
            path=self.path,
        )

    def _set_damage(self, message: str) -> None:
        at = self.timeline.duration_seconds
        self.damage = Damage(f"broke at {at:.2f} s: {message}", at)

    # -- opening and decoding ------------------------------------------------------------------

    def _open(
        self, *, strict: bool
    ) -> tuple[av.container.InputContainer, av.video.stream.VideoStream]:
        container, stream, self._choice = open_chosen(self.path, self._number, self._remote)
        self._number = self._choice.number  # once chosen, it stays
        self._container, self._stream = container, stream
        context = stream.codec_context
        self._check_pixels(context.width, context.height)
        # FFmpeg counts padding too: its own limit is set higher, the exact check is ours.
        options = {"max_pixels": str(2 * self.limits.max_pixels + (1 << 20))}
        if strict:
            # Which errors a lenient decoder conceals depends on where it began: if it reports them,
            # a frame reached by seeking is the one that sequential decoding gives, or none.
            options["err_detect"] = "explode"
        context.options = options
        return container, stream

    def _check_pixels(self, width: int, height: int) -> None:
        if width * height > self.limits.max_pixels:
            raise self._limit(
                f"{width} x {height} pixels", str(self.limits.max_pixels), "max_pixels"
            )

    def _seek(self, entry: int) -> None:
        """Make the decoder begin at a key of the index."""
        assert self.index is not None
        if self._container is None:
            self._open(strict=True)
        assert self._container is not None
        assert self._stream is not None
        self._frames = self._decode_from(self._container, self._stream, entry)
        self._next = int(self.index.keys[entry])

    def _decode_from(
        self,
        container: av.container.InputContainer,
        stream: av.video.stream.VideoStream,
        entry: int,
    ) -> Iterator[av.VideoFrame]:
        """Frames from a key on, in display order, without those shown before the key.

        Raises:
            Recounted: the frames are not those that the packets announced.
        """
        import av.error

        assert self.index is not None
        key_pts = int(self.index.key_pts[entry])
        try:
            for packet in self._packets_from(container, stream, entry):
                for frame in packet.decode():
                    if frame.pts is not None and frame.pts >= key_pts:
                        yield frame
        except (av.error.FFmpegError, EOFError):
            self._check_remote()
            raise Recounted from None

    def _packets_from(
        self,
        container: av.container.InputContainer,
        stream: av.video.stream.VideoStream,
        entry: int,
    ) -> Iterator[av.packet.Packet[av.video.stream.VideoStream]]:
        """Packets from a key on; the last is the empty one that ends the decoding.

        Raises:
            Recounted: the key is not there.
        """
        assert self.index is not None
        key_pts = int(self.index.key_pts[entry])
        key_dts = int(self.index.key_dts[entry])
        # The demuxer may land too early (packets up to the key are passed over) or, with a broken
        # index, too late: then the next try begins further back.
        moments = [int(self.index.key_dts[attempt]) for attempt in (entry, max(0, entry - 1), 0)]
        if self._remote is not None:
            # MP4's demuxer expects a presentation time: given the decoding time, it begins one key
            # earlier, and everything in between would be fetched.
            moments.insert(0, key_pts)
        for moment in moments:
            container.seek(moment, stream=stream, backward=True)
            packets = container.demux(stream)
            found = None
            for packet in packets:
                if packet.pts == key_pts and packet.is_keyframe:
                    found = packet
                    break
                if self._remote is not None and packet.dts is not None and packet.dts > key_dts:
                    break  # too late: the rest need not be fetched
            self._check_remote()
            if found is not None:
                yield found
                for packet in packets:
                    self._check_remote()  # the packet may be incomplete
                    yield packet
                return
        raise Recounted

    def _pull(self) -> av.VideoFrame:
        """The next frame of a strict reading, which must be the one that the packets announce."""
        assert self.index is not None
        assert self._frames is not None
        frame = next(self._frames, None)
        if (
            frame is None
            or self._next >= self.index.pts.size
            or frame.pts != int(self.index.pts[self._next])
            or frame.is_corrupt
        ):
            raise Recounted
        self._check_pixels(frame.width, frame.height)
        self._next += 1
        return frame

    def _sequential(self) -> Iterator[av.VideoFrame]:
        """All frames as plain PyAV gives them, up to the first error, which is recorded."""
        import av.error

        container, stream = self._open(strict=False)  # after close(): nothing else is open
        try:
            for frame in container.decode(stream):
                self._check_remote()
                self._check_pixels(frame.width, frame.height)
                yield frame
            self._check_remote()
        except av.error.FFmpegError as error:
            self._check_remote()
            if self.damage is None:
                self.damage = Damage(reason_of(error), -1.0)  # the time is filled in by _count

    def _count(self) -> None:
        """Count and time the frames by decoding them all; from here on frames come in sequence."""
        self.close()
        self.index = None
        self.damage = None
        kept: list[av.VideoFrame] | None = []
        size = 0
        ticks: list[int | None] = []
        decode_ticks: list[int | None] = []
        first = None
        last_duration = 0
        for frame in self._sequential():
            first = first or frame
            ticks.append(frame.pts)
            decode_ticks.append(frame.dts)
            last_duration = int(getattr(frame, "duration", 0) or 0)
            if kept is not None:
                size += sum(plane.buffer_size for plane in frame.planes)
                kept.append(frame)
                if size > _KEEP_BYTES:
                    kept = None
            if len(ticks) > self.limits.max_frames:
                raise self._limit(
                    f"over {len(ticks) - 1} frames", str(self.limits.max_frames), "max_frames"
                )
            if len(ticks) % 64 == 0:
                self._progress()
        if self._remote is not None:
            self._remote.check_unchanged()
        broke = self._noted()
        if first is None:
            why = f" ({broke.message})" if broke else ""
            raise VideoError(f"no frame can be decoded{why}", kind="no_frames", path=self.path)
        self._kept = kept
        self._frames, self._next = None, 0
        self._describe(first, self._clock(ticks, last_duration, decode_ticks), "decoding")
        if broke is not None:
            self._set_damage(broke.message)

    def _noted(self) -> Damage | None:
        """The damage recorded so far (a method, so that the type is evaluated again)."""
        return self.damage

    # -- frames --------------------------------------------------------------------------------

    def frames(self, positions: Iterable[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        """Decode the frames at display positions, each once, in ascending order.

        Yields:
            (position, frame); :func:`to_rgb` turns a frame upright.

        Raises:
            IndexError: a position outside the video.
            Recounted: the video has been counted by decoding: ``info`` and ``timeline`` have
                changed, and the positions must be planned again. Happens at most once.
            VideoError: kind ``limit``.
        """
        wanted = sorted(set(positions))
        if wanted and not 0 <= wanted[0] <= wanted[-1] < self.timeline.num_frames:
            raise IndexError(
                f"positions {wanted[0]}..{wanted[-1]} of a video with {self.timeline.num_frames} "
                f"frames: {self.path}"
            )
        if self.index is None:
            yield from self._frames_in_sequence(wanted)
        else:
            try:
                yield from self._frames_by_index(wanted)
            except Recounted:
                self._count()
                raise
        if self._remote is not None:
            self._remote.check_unchanged()

    def settled(self, read: Callable[[], T]) -> T:
        """The result of ``read()``, called once more if the video was recounted meanwhile.

        ``read`` plans its positions from ``info`` and ``timeline`` each time it is called.
        """
        try:
            return read()
        except Recounted:  # happens once at most
            return read()

    def _frames_by_index(self, wanted: list[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        assert self.index is not None
        keys = self.index.keys
        for position in wanted:
            if position == 0 and self._first is not None:
                yield 0, self._first
                continue
            entry = bisect_right(keys, position) - 1
            if (
                self._frames is None
                or position < self._next
                or int(keys[entry]) > self._next + _SEEK_GAIN_FRAMES
            ):
                self._seek(entry)
            while True:
                at = self._next
                frame = self._pull()
                if at % 64 == 0:
                    self._progress()
                if at == position:
                    break
            yield position, frame

    def _frames_in_sequence(self, wanted: list[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        if self._kept is not None:
            for position in wanted:
                yield position, self._kept[position]
            return
        for position in wanted:
            if self._frames is None or position < self._next:
                self.close()
                self._frames = self._sequential()
            for frame in self._frames:
                self._next += 1
                if self._next % 64 == 0:
                    self._progress()
                if self._next == position + 1:
                    yield position, frame
                    break
            else:
                raise VideoError(
                    f"frame {position} decoded once, but not a second time: does another program "
                    f"write to the file?",
                    kind="damaged",
                    path=self.path,
                )

    def close(self) -> None:
        """Close the file; idempotent."""
        if isinstance(self._frames, Iterator) and hasattr(self._frames, "close"):
            self._frames.close()
        self._frames = None
        self._next = 0
        self._kept = self._first = None
        if self._container is not None:
            self._container.close()
        self._container = self._stream = None


@contextmanager
def open_video(
    path: str | os.PathLike[str],
    limits: Limits | None = None,
    known: Known | None = None,
    progress: Callable[[], None] | None = None,
    *,
    count: bool = False,
    stream: int | None = None,
) -> Iterator[VideoReader]:
    """Open a video for reading frames by position.

    Args:
        path: a regular file, or the URL of one (see ``remote.py``).
        limits: above them, the file is refused.
        known: what another reader found (``reader.known``), so that the work is not repeated.
        progress: called now and then while frames are decoded, as a sign of life.
        count: do not trust the packets: count frames by decoding.
        stream: number of the video stream, from 0; None takes the one that FFmpeg's command line
            takes.

    Raises:
        VideoError: the file is not a video, or none of its frames can be decoded.
    """
    reader = VideoReader(
        os.fspath(path), limits or Limits(), known, progress, count=count, stream=stream
    )
    try:
        yield reader
    finally:
        reader.close()
        reader.let_go()


def probe(path: str | os.PathLike[str], limits: Limits | None = None) -> VideoInfo:
    """Measure a video: its packets are read, and are decoded only if they leave doubt.

    Raises:
        VideoError: the file is not a video, or none of its frames can be decoded.
    """
    with open_video(path, limits) as video:
        if video._remote is not None:
            video._remote.check_unchanged()
        return replace(video.info)


_of_thread = threading.local()  # its reformatter holds a scaler: a new one per frame is slow


def to_rgb(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """A frame as uint8 (height, width, 3) RGB, upright, in its own memory."""
    if not hasattr(_of_thread, "reformatter"):
        from av.video.reformatter import VideoReformatter

        _of_thread.reformatter = VideoReformatter()
    converted = _of_thread.reformatter.reformat(frame, format="rgb24", threads=1)
    pixels = cast(NDArray[np.uint8], converted.to_ndarray())
    return np.ascontiguousarray(orientation_of(frame).apply(pixels))


def read_frames(
    path: str | os.PathLike[str], positions: Iterable[int], limits: Limits | None = None
) -> NDArray[np.uint8]:
    """Read frames by position as uint8 (T, height, width, 3) RGB, upright, in the order given.

    Raises:
        IndexError: a position outside the video.
        VideoError: the file cannot be read.
    """
    asked = list(positions)
    with open_video(path, limits) as video:
        found = video.settled(
            lambda: {position: to_rgb(frame) for position, frame in video.frames(asked)}
        )
    return np.stack([found[position] for position in asked])
