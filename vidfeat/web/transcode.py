"""Transcode a segment of any video to an MP4 that every browser plays: H.264, small, no sound.

Container and codec show whether a browser can play a file; everything else (the AVI files of UCF101
and HMDB51, MPEG-2, HEVC) is transcoded, one segment at a time. Untrusted files go through ``python
-m vidfeat.web.transcode``, a process that they may crash.
"""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from vidfeat.errors import VideoError
from vidfeat.system.children import child_environment, python_module
from vidfeat.video.containers import open_container
from vidfeat.video.timeline import Timeline

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.reformatter import VideoReformatter

    from vidfeat.video.reader import VideoReader

MOST_SECONDS = 60.0
MOST_HEIGHT = 480
_MOST_RATE = 30
_TIMEOUT_SECONDS = 120.0
_FAILED = 3

_PLAYED: dict[str, tuple[str, set[str]]] = {
    "mov": ("video/mp4", {"h264", "av1", "vp9"}),
    "matroska": ("video/webm", {"vp8", "vp9", "av1"}),
}
_MP4_SUFFIXES = {".mp4", ".m4v", ".mov"}
_WEBM_SUFFIXES = {".webm"}


def browser_type(path: Path | str) -> str | None:
    """The media type of a file that browsers play as it is; None if it must be transcoded.

    Remote videos are always transcoded: the browser gets neither the URL nor its secrets.
    """
    if not isinstance(path, Path):
        return None
    suffix = path.suffix.lower()
    if suffix not in _MP4_SUFFIXES | _WEBM_SUFFIXES:
        return None
    try:
        container, stream = open_container(str(path))
    except (VideoError, OSError, ValueError):
        return None
    with container:
        family = container.format.name.split(",")[0]
        codec = stream.codec_context.codec.canonical_name
        pixels = stream.codec_context.pix_fmt
    media_type, codecs = _PLAYED.get(family, ("", set()))
    if codec not in codecs or (codec == "h264" and pixels not in ("yuv420p", "yuvj420p")):
        return None
    return media_type


def transcode(source: Path | str, target: Path, start_seconds: float, end_seconds: float) -> None:
    """Write a segment as MP4; the first frame is the one shown at its start.

    Args:
        source: the video, a file or URL.
        target: the file to write.
        start_seconds: counted from the first shown frame.
        end_seconds: limited to ``MOST_SECONDS`` later.

    Raises:
        VideoError: the video cannot be read there.
    """
    from vidfeat.video.reader import open_video

    end_seconds = min(end_seconds, start_seconds + MOST_SECONDS)
    with open_video(source) as video:
        count = video.settled(lambda: _write(video, target, start_seconds, end_seconds))
    if not count:
        raise VideoError(f"no frame from {start_seconds:g} s on can be read", kind="damaged")


def _write(video: VideoReader, target: Path, start_seconds: float, end_seconds: float) -> int:
    """Write the segment's frames and return their number."""
    import av
    from av.video.reformatter import VideoReformatter

    positions, rate = _positions(video.timeline, start_seconds, end_seconds)
    width, height = _size(video.info.width, video.info.height)
    turned = bool(video.info.rotation or video.info.mirrored)
    scaler = VideoReformatter()
    number = 0
    with av.open(str(target), "w", format="mp4", options={"movflags": "+faststart"}) as out:
        stream = out.add_stream(
            "libx264",
            rate=rate,
            options={"preset": "veryfast", "crf": "23", "profile": "main", "g": "30"},
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        for _, frame in video.frames(positions):
            shown = _upright(frame, turned, scaler, width, height)
            shown.pts, shown.time_base = number, 1 / rate
            number += 1
            for packet in stream.encode(shown):
                out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)
    return number


def transcode_apart(source: Path, target: Path, start_seconds: float, end_seconds: float) -> None:
    """Like `transcode`, in a separate process, for a file that may crash a decoder.

    Raises:
        VideoError: the video cannot be read there, or the process crashed on it.
    """
    command = [*python_module("vidfeat.web.transcode"), str(source), str(target)]
    try:
        done = subprocess.run(
            [*command, repr(start_seconds), repr(end_seconds)],
            stdin=subprocess.DEVNULL,
            env=child_environment(),
            capture_output=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise VideoError("it could not be transcoded in time", kind="timeout") from None
    if done.returncode == _FAILED:
        said = json.loads(done.stdout)
        raise VideoError(said["message"], kind=said["kind"])
    if done.returncode:
        raise VideoError("a decoder crashed on it", kind="crashed")


def _positions(
    timeline: Timeline, start_seconds: float, end_seconds: float
) -> tuple[list[int], Fraction]:
    """Frames to show and their constant rate: every frame, or every n-th of a very fast video."""
    longest = timeline.duration_seconds
    first = timeline.slot_at(min(max(start_seconds, 0.0), longest), None)
    last = timeline.slot_at(min(max(end_seconds - 1e-3, 0.0), longest), None)
    last = max(last + 1, first + 1)
    step = max(1, round(float(timeline.rate) / _MOST_RATE))
    rate: Fraction = max((timeline.rate / step).limit_denominator(1001), Fraction(1))
    most = int(MOST_SECONDS * rate) + 1
    return list(range(first, last, step))[:most], rate


def _size(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, MOST_HEIGHT / height, 1280 / width)
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def _upright(
    frame: VideoFrame, turned: bool, scaler: VideoReformatter, width: int, height: int
) -> VideoFrame:
    """The frame at the wanted size, upright."""
    import av

    from vidfeat.video.reader import to_rgb

    if turned:
        frame = av.VideoFrame.from_ndarray(to_rgb(frame), format="rgb24")
    return scaler.reformat(frame, width=width, height=height, format="yuv420p")


def main(arguments: list[str]) -> int:
    """Transcode one segment; problems with the video go to standard output."""
    source, target, start, end = arguments
    try:
        transcode(Path(source), Path(target), float(start), float(end))
    except VideoError as error:
        print(json.dumps({"message": str(error), "kind": error.kind}))
        return _FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
