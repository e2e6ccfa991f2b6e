"""Opening a file as a video, safely: real containers only, and nothing but that one file.

Of several video streams, the one that FFmpeg's command line takes is chosen.

FFmpeg follows what a file says: a text file named ``clip.mp4`` may be a playlist that opens other
files or addresses. Therefore the name is given as ``file:`` with an absolute path, and only the
``file`` protocol and formats that contain their frames are allowed. For a URL, FFmpeg sees only
the bytes and may open nothing.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from vidfeat.errors import VideoError
from vidfeat.system.urls import is_url
from vidfeat.video.remote import Cursor, RemoteFile, open_remote

if TYPE_CHECKING:
    import av.container
    import av.video.stream

# Demuxers whose files contain what they show. Not included: playlists (hls, dash, concat), pictures
# (image2 and the *_pipe family), devices, network protocols, and scripts (avisynth, lavfi).
CONTAINERS = (
    "mov",  # mp4, m4v, 3gp
    "matroska",  # mkv, webm
    "avi",
    "mpegts",
    "mpeg",
    "flv",
    "asf",  # wmv
    "ogg",
    "mxf",
    "gif",
    "apng",
    "dv",
    "ivf",
    "nut",
    "rm",
    "wtv",
    "yuv4mpegpipe",
    "h264",
    "hevc",
    "m4v",
    "mpegvideo",
    "mjpeg",
    "obu",
    "av1",
)
# Streams without a container: their frames have no times, only a rate.
_NO_TIMESTAMPS = 0x0080  # AVFMT_NOTIMESTAMPS
_MOST_JPEG_BYTES = 64 << 20  # of the first picture of a raw Motion JPEG stream
_JPEG_PADDING = 64
_NEXT_JPEG = re.compile(rb"\xff\xd9[\x00\xff]{0,32}\xff\xd8\xff")
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": ",".join(CONTAINERS)}
_REMOTE_OPTIONS = {**_OPTIONS, "protocol_whitelist": "none"}

_SIGNATURES = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"BM", "a BMP picture"),
    (b"#EXTM3U", "a playlist (m3u8), which would open other files"),
    (b"ffconcat", "a list of files (ffconcat), which would open other files"),
    (b"<?xml", "an XML text"),
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x89HDF", "an HDF5 file"),
)


@dataclass(frozen=True)
class StreamChoice:
    """Which of a file's video streams is read; cover pictures do not count."""

    number: int = 0
    """From 0, as FFmpeg's ``v:N`` counts them."""
    count: int = 1


def open_container(
    path: str, number: int | None = None
) -> tuple[av.container.InputContainer, av.video.stream.VideoStream]:
    """Open a regular file and choose its video stream: see :func:`choose_stream`."""
    container, stream, _ = open_chosen(path, number)
    return container, stream


def open_chosen(
    path: str, number: int | None = None, remote: RemoteFile | None = None
) -> tuple[av.container.InputContainer, av.video.stream.VideoStream, StreamChoice]:
    """Open a regular file or URL, choose its video stream, and return which one it is.

    The decoder gets one thread: parallelism is over processes, and FFmpeg's threads have been seen
    to hang alongside torch's.

    Args:
        path: the file.
        number: number of the video stream, from 0; None chooses as FFmpeg's command line does.
        remote: the URL that ``path`` names, if it is already open.

    Raises:
        VideoError: kind ``unreadable`` or ``not_video``, with the reason; for a URL, see
            :mod:`vidfeat.video.remote`.
    """
    if remote is None and is_url(path):
        remote = open_remote(path)
    if remote is not None:
        path = remote.shown
        _check_not_empty(path, remote.size_bytes)
    else:
        _check_regular(path)
    container = open_whole(path, remote)
    try:
        videos = _videos(container)
        if not videos:
            raise VideoError(_no_stream(container), kind="not_video", path=path)
        if number is not None and number >= len(videos):
            raise VideoError(
                f"no video stream number {number}: the file has {len(videos)}, counted from 0",
                kind="not_video",
                path=path,
            )
        choice = StreamChoice(
            choose_stream(path, videos, remote) if number is None else number, len(videos)
        )
        stream = videos[choice.number]
        if stream.codec_context is None:
            raise VideoError(
                "the codec of its video stream is not known to this build of FFmpeg: re-encode it",
                kind="not_video",
                path=path,
            )
        stream.codec_context.thread_count = 1
        stream.codec_context.thread_type = "NONE"
        if remote is not None:
            remote.check()
    except BaseException:
        container.close()
        raise
    return container, stream, choice


def open_whole(
    path: str, remote: RemoteFile | None = None, cursor: Cursor | None = None
) -> av.container.InputContainer:
    """Open a container with all of its streams.

    Args:
        path: a regular file, or the name of a URL.
        remote: the URL.
        cursor: the URL's cursor to read through, for a caller that controls what is fetched.

    Raises:
        VideoError: kind ``not_video``; for a URL, the reason why reading it failed.
    """
    import av
    import av.error

    # FFmpeg treats a file that begins with a JPEG as a picture, whatever follows.
    container_format = "mjpeg" if _has_many_jpegs(path, remote) else None
    source: Any = "file:" + os.path.abspath(path)  # noqa: PTH100 (bytes outside UTF-8 stay)
    if remote is not None:
        source = cursor or remote.cursor()
    try:
        container: av.container.InputContainer = av.open(
            source,
            format=container_format,
            metadata_errors="replace",
            options=dict(_OPTIONS if remote is None else _REMOTE_OPTIONS),
        )
    except av.error.FFmpegError as error:
        reason = _why_not(path, error, remote)
        if remote is not None:
            remote.check_unchanged()
        raise VideoError(reason, kind="not_video", path=path) from None
    return container


@contextmanager
def _bytes_of(path: str, remote: RemoteFile | None) -> Iterator[IO[bytes] | Cursor]:
    """A file object at the first byte of a file or URL."""
    if remote is not None:
        yield remote.cursor()
        return
    with open(path, "rb") as file:
        yield file


def _videos(container: av.container.InputContainer) -> list[av.video.stream.VideoStream]:
    import av.stream

    pictures = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
    return [stream for stream in container.streams.video if not stream.disposition & pictures]


def choose_stream(
    path: str, videos: list[av.video.stream.VideoStream], remote: RemoteFile | None = None
) -> int:
    """The number of the stream that FFmpeg's command line takes.

    Streams without moving pictures (empty ones, and the still image in an animated AVIF) rank last.
    Of the others, a stream marked as default ranks first, then the largest, then the earliest.
    """
    import av.stream

    if len(videos) == 1:
        return 0
    packets = _count_packets(path, len(videos), remote)

    def rank(place: int) -> tuple[bool, bool, bool, int, int]:
        stream = videos[place]
        context = stream.codec_context
        pixels = 0 if context is None else context.width * context.height
        default = bool(stream.disposition & av.stream.Disposition.default)
        return packets[place] > 1, packets[place] > 0, default, pixels, -place

    return max(range(len(videos)), key=rank)


def _count_packets(path: str, streams: int, remote: RemoteFile | None) -> Counter[int]:
    """Packets of each video stream, counted until all have two."""
    import av.error

    found: Counter[int] = Counter()
    with open_whole(path, remote) as container:
        videos = _videos(container)
        place_of = {stream.index: place for place, stream in enumerate(videos)}
        try:
            for packet in container.demux(videos):
                if packet.size:
                    found[place_of[packet.stream.index]] += 1
                    if len(found) == streams and min(found.values()) > 1:
                        break
        except av.error.FFmpegError:
            pass  # reported when the file is read to its end
    return found


def has_timestamps(container: av.container.InputContainer) -> bool:
    """Whether a container has timestamps for its frames; raw streams have a rate at best."""
    return not container.format.flags & _NO_TIMESTAMPS


def _has_many_jpegs(path: str, remote: RemoteFile | None) -> bool:
    """Whether a file is a sequence of JPEG pictures: a raw stream of Motion JPEG.

    A picture ends with an end marker, and the next one begins right after it. Thumbnails begin
    elsewhere; photographs with a second picture (depth, brightness) say so in their header.
    """
    with _bytes_of(path, remote) as file:
        block = file.read(1 << 16)
        if not block.startswith(b"\xff\xd8\xff") or b"MPF\0" in block:
            return False
        read, last = 0, b""
        while block and read < _MOST_JPEG_BYTES:
            if _NEXT_JPEG.search(last + block):
                return True
            read += len(block)
            last = block[-_JPEG_PADDING:]
            block = file.read(1 << 16)
    return False


def _check_regular(path: str) -> None:
    try:
        status = os.stat(path)  # noqa: PTH116 (the path stays as it was given)
    except OSError as error:
        reason = error.strerror or str(error)
        if os.path.islink(path):  # noqa: PTH114
            reason = "a symbolic link to something that is not there"
        raise VideoError(f"cannot be opened: {reason}", kind="unreadable", path=path) from None
    if stat.S_ISDIR(status.st_mode):
        raise VideoError(_why_no_folder(path), kind="unreadable", path=path)
    if not stat.S_ISREG(status.st_mode):
        raise VideoError("not a regular file (a pipe or device)", kind="unreadable", path=path)
    if not os.access(path, os.R_OK):
        raise VideoError("no permission to read it: chmod +r", kind="unreadable", path=path)
    _check_not_empty(path, status.st_size)


def _check_not_empty(path: str, size_bytes: int) -> None:
    if size_bytes == 0:
        raise VideoError("the file is empty (0 bytes)", kind="not_video", path=path)


def _why_no_folder(path: str) -> str:
    """The error for a folder that was given as a video, or could not be searched."""
    try:
        with os.scandir(path):
            return "a folder, not a video file"
    except PermissionError:
        return "no permission to read this folder: chmod +rx"
    except OSError as error:
        return f"a folder that cannot be read: {error.strerror}"


def _why_not(path: str, error: Exception, remote: RemoteFile | None) -> str:
    """The error for a file that did not open: what its first bytes suggest it is."""
    with _bytes_of(path, remote) as file:
        head = file.read(4096)
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return f"not a video: it is {name}"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        animated = " (animated WebP is not read: convert it to MP4 or GIF)" * (b"ANIM" in head[:64])
        return f"not a video: it is a WebP picture{animated}"
    if head[4:8] == b"ftyp" or head[:4] == b"RIFF" or head[:4] == b"\x1a\x45\xdf\xa3":
        return (
            "a video container that cannot be opened, most likely cut short before its index was "
            f"written ({_reason(error)}): copy it again from its source"
        )
    if b"\0" not in head and _is_text(head):
        return "not a video: it is a text file"
    return f"not a video container that vidfeat reads ({_reason(error)})"


def _is_text(head: bytes) -> bool:
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4  # a character cut off at the end of the sample
    return True


def _no_stream(container: av.container.InputContainer) -> str:
    if container.streams.video:
        return "no video stream: the file has only audio and a cover picture"
    if container.streams.audio:
        return "no video stream: the file has only an audio stream"
    return "no video stream in the file"


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def reason_of(error: Exception) -> str:
    """FFmpeg's message for an error, without the file's name."""
    return _reason(error)
