"""A folder of frames as a video: ``img_00001.jpg`` and so on, in the order of their numbers.

Each file is one picture, decoded by FFmpeg's decoder for its format, which its first bytes show: no
container is opened. The rate is not recorded anywhere and has to be given.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from vidfeat.errors import VideoError
from vidfeat.video.frame_names import frames_in, missing_numbers, number_of
from vidfeat.video.reader import Known, Limits, VideoInfo, VideoReader, open_video
from vidfeat.video.timeline import Timeline

if TYPE_CHECKING:
    import av

_DECODERS = ((b"\xff\xd8", "mjpeg"), (b"\x89PNG", "png"), (b"BM", "bmp"), (b"RIFF", "webp"))
_MAX_BYTES = 256 << 20  # of one picture


@contextmanager
def open_frames_or_video(
    path: str | os.PathLike[str],
    limits: Limits | None = None,
    known: Known | None = None,
    progress: Callable[[], None] | None = None,
    *,
    count: bool = False,
    stream: int | None = None,
    frames_fps: Fraction | None = None,
) -> Iterator[VideoReader]:
    """As :func:`open_video`; with ``frames_fps``, a folder is opened as frames of that rate.

    Raises:
        VideoError: as :func:`open_video` and :class:`FrameFolder` do.
    """
    if frames_fps is not None and Path(path).is_dir():
        yield FrameFolder(os.fspath(path), limits or Limits(), frames_fps)
        return
    with open_video(path, limits, known, progress, count=count, stream=stream) as video:
        yield video


class FrameFolder(VideoReader):
    """A folder of frames, read as :class:`VideoReader` reads a file.

    Args:
        path: the folder.
        limits: above them, the folder is refused.
        fps: frames per second.

    Raises:
        VideoError: no frames, a number that occurs twice, or a first frame that cannot be read.
    """

    def __init__(self, path: str, limits: Limits, fps: Fraction) -> None:
        self.path = path
        self.limits = limits
        self.damage = None
        self.index = None
        self._names = frames_in(path)
        if not self._names:
            raise VideoError("a folder without frames", kind="no_frames", path=path)
        if len(self._names) > limits.max_frames:
            raise self._limit(f"{len(self._names)} frames", str(limits.max_frames), "max_frames")
        numbers = [number_of(name) for name in self._names]
        twice = next((n for n, m in pairwise(numbers) if n == m), None)
        if twice is not None:
            raise VideoError(f"frame {twice} is in two files", kind="unreadable", path=path)
        first = self._picture(0)
        self._check_pixels(first.width, first.height)
        status = Path(path).stat()
        self.timeline = Timeline(len(self._names), fps)
        self.info = VideoInfo(
            path=path,
            duration_seconds=self.timeline.duration_seconds,
            fps=fps,
            width=first.width,
            height=first.height,
            num_frames=len(self._names),
            num_frames_source="decoding",
            codec=self._codec,
            container="folder",
            rotation=0,
            timing="constant",
            missing_frames=missing_numbers([n for n in numbers if n is not None]),
            size_bytes=status.st_size,
            mtime_ns=status.st_mtime_ns,
        )

    def close(self) -> None:
        """Does nothing: no file stays open."""

    def frames(self, positions: Iterable[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        """Decode the frames at positions, each once, in ascending order: see the base class.

        Raises:
            IndexError: a position is out of range.
            VideoError: a file is not a picture; the message names it.
        """
        wanted = sorted(set(positions))
        if wanted and not 0 <= wanted[0] <= wanted[-1] < len(self._names):
            raise IndexError(
                f"positions {wanted[0]}..{wanted[-1]} of {len(self._names)} frames: {self.path}"
            )
        for position in wanted:
            yield position, self._picture(position)

    def _picture(self, position: int) -> av.VideoFrame:
        import av
        import av.error
        from av.video.codeccontext import VideoCodecContext

        name = self._names[position]
        file = Path(self.path) / name
        try:
            if file.stat().st_size > _MAX_BYTES:
                raise self._limit(f"{name}: a picture of {file.stat().st_size} bytes",
                                  f"{_MAX_BYTES}", "picture size")  # fmt: skip
            data = file.read_bytes()
            self._codec = next((c for mark, c in _DECODERS if data.startswith(mark)), "")
            if not self._codec:
                raise VideoError(f"{name} is not a picture", kind="unreadable", path=self.path)
            context = av.codec.CodecContext.create(self._codec, "r")
            assert isinstance(context, VideoCodecContext)
            context.options = {"max_pixels": str(2 * self.limits.max_pixels + (1 << 20))}
            frames = [*context.decode(av.Packet(data)), *context.decode(None)]
        except (av.error.FFmpegError, EOFError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise VideoError(
                f"{name} cannot be read: {reason}", kind="unreadable", path=self.path
            ) from None
        if not frames:
            raise VideoError(f"{name} holds no picture", kind="unreadable", path=self.path)
        picture = frames[0]
        self._check_pixels(picture.width, picture.height)
        return picture
