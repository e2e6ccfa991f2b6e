"""Opening a file as a video, safely: real containers only, and nothing but that one file.

FFmpeg follows what a file says: a text named ``clip.mp4`` may be a playlist that opens other files
or addresses. So the name is given as ``file:`` and an absolute path, only the ``file`` protocol is
admitted, and only formats that hold their frames themselves.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from vidfeat.errors import VideoError

if TYPE_CHECKING:
    import av.container
    import av.video.stream

# Demuxers whose files contain what they show. Not here: playlists (hls, dash, concat), pictures
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
)
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": ",".join(CONTAINERS)}

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


def open_container(path: str) -> tuple[av.container.InputContainer, av.video.stream.VideoStream]:
    """Open a regular file and choose its video stream; cover pictures are passed over.

    The decoder gets one thread: parallelism is over processes, and FFmpeg's threads have been seen
    to hang beside torch's.

    Raises:
        VideoError: kind ``unreadable`` or ``not_video``, with the reason.
    """
    _check_regular(path)
    import av
    import av.error
    import av.stream

    try:
        container = av.open(
            "file:" + os.path.abspath(path),  # noqa: PTH100 (bytes outside UTF-8 stay as they are)
            metadata_errors="replace",
            options=dict(_OPTIONS),
        )
    except av.error.FFmpegError as error:
        raise VideoError(_why_not(path, error), kind="not_video", path=path) from None
    try:
        pictures = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
        videos = [s for s in container.streams.video if not s.disposition & pictures]
        if not videos:
            raise VideoError(_no_stream(container), kind="not_video", path=path)
        stream = videos[0]
        if stream.codec_context is None:
            raise VideoError(
                "the codec of its video stream is not known to this build of FFmpeg: re-encode it",
                kind="not_video",
                path=path,
            )
        stream.codec_context.thread_count = 1
        stream.codec_context.thread_type = "NONE"
    except BaseException:
        container.close()
        raise
    return container, stream


def _check_regular(path: str) -> None:
    try:
        status = os.stat(path)  # noqa: PTH116 (the path stays as it was given)
    except OSError as error:
        reason = error.strerror or str(error)
        if os.path.islink(path):  # noqa: PTH114
            reason = "a symbolic link to something that is not there"
        raise VideoError(f"cannot be opened: {reason}", kind="unreadable", path=path) from None
    if stat.S_ISDIR(status.st_mode):
        raise VideoError("a folder, not a video file", kind="unreadable", path=path)
    if not stat.S_ISREG(status.st_mode):
        raise VideoError("not a regular file (a pipe or device)", kind="unreadable", path=path)
    if not os.access(path, os.R_OK):
        raise VideoError("no permission to read it: chmod +r", kind="unreadable", path=path)
    if status.st_size == 0:
        raise VideoError("the file is empty (0 bytes)", kind="not_video", path=path)


def _why_not(path: str, error: Exception) -> str:
    """Say what a file that did not open seems to be, by its first bytes."""
    with open(path, "rb") as file:
        head = file.read(4096)
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return f"not a video: it is {name}"
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
        return error.start > len(head) - 4  # a letter cut by the end of the sample
    return True


def _no_stream(container: av.container.InputContainer) -> str:
    if container.streams.video:
        return "no video stream: sound with a cover picture"
    if container.streams.audio:
        return "no video stream: the file holds sound alone"
    return "no video stream in the file"


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def reason_of(error: Exception) -> str:
    """FFmpeg's own words for an error, without the file's name."""
    return _reason(error)
