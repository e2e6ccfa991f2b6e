"""Small pictures of a clip, for reports and result pages."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import VideoError
from vidfeat.video.reader import VideoReader, open_video, to_rgb

JPEG_QUALITY = 72


def clip_frames(
    path: str | Path, start_seconds: float, end_seconds: float, count: int = 3
) -> list[NDArray[np.uint8]]:
    """``count`` frames spread over a clip of a file or URL, uint8 (height, width, 3), upright.

    Raises:
        VideoError: the file cannot be read, or breaks before the clip.
    """
    if count < 1:
        raise ValueError(f"count must be 1 or more, not {count}")
    with open_video(path) as video:
        # a video that is recounted has other frames at the same seconds
        return video.settled(lambda: _read(video, start_seconds, end_seconds, count))


def _read(
    video: VideoReader, start_seconds: float, end_seconds: float, count: int
) -> list[NDArray[np.uint8]]:
    length = end_seconds - start_seconds
    moments = [start_seconds + length * (i + 0.5) / count for i in range(count)]
    positions = [video.timeline.slot_at(moment, None) for moment in moments]
    found = {position: to_rgb(frame) for position, frame in video.frames(positions)}
    frames = [found[position] for position in positions if position in found]
    if not frames:
        raise VideoError(
            f"no frame from {start_seconds:g} to {end_seconds:g} s can be read",
            kind="damaged",
            path=video.path,
        )
    return frames


def jpeg(frame: NDArray[np.uint8], width: int = 176) -> bytes:
    """A frame as a JPEG of ``width`` pixels, its height in proportion."""
    from PIL import Image

    picture = Image.fromarray(frame)
    height = max(1, round(picture.height * width / picture.width))
    buffer = io.BytesIO()
    picture.resize((width, height), Image.Resampling.BILINEAR).save(
        buffer, format="JPEG", quality=JPEG_QUALITY
    )
    return buffer.getvalue()
