"""Single frames of videos as small JPEG pictures."""

from __future__ import annotations

import os
from bisect import bisect_right
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from vidfeat.sampling import Timeline


def frame_jpeg(
    path: str | os.PathLike[str], seconds: float, *, height: int = 180, most_width: int = 480
) -> bytes:
    """The frame shown at a second, as JPEG of at most the given height.

    Raises:
        VideoError: the file cannot be read.
    """
    from vidfeat.video import Recounted, open_video, to_rgb

    with open_video(path) as video:
        for _ in range(2):
            position = position_at(video.timeline, seconds)
            try:
                for _, frame in video.frames([position]):
                    return encode_jpeg(to_rgb(frame), height=height, most_width=most_width)
            except Recounted:
                continue
    raise AssertionError("a video has at least one frame")


def position_at(timeline: Timeline, seconds: float) -> int:
    """The frame that is shown at a second; the nearest one outside of the video."""
    if timeline.times is not None:
        found = bisect_right(timeline.times, seconds) - 1
    else:
        found = int(Fraction(max(seconds, 0.0)) * timeline.rate)
    return min(max(found, 0), timeline.num_frames - 1)


def encode_jpeg(
    pixels: NDArray[np.uint8], *, height: int | None = None, most_width: int = 10_000
) -> bytes:
    """RGB pixels (H, W, 3) as JPEG, made smaller where they are higher than ``height``."""
    import av
    from av.video.reformatter import VideoReformatter

    high, wide = pixels.shape[:2]
    scale = min(1.0, (height or high) / high, most_width / wide)
    # The format halves its colours: sizes are even.
    size = (max(2, round(wide * scale / 2) * 2), max(2, round(high * scale / 2) * 2))
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    small = VideoReformatter().reformat(frame, width=size[0], height=size[1], format="yuvj420p")
    small.pts = 0
    codec = av.CodecContext.create("mjpeg", "w")
    codec.width, codec.height = size
    codec.pix_fmt = "yuvj420p"
    codec.time_base = Fraction(1, 25)
    codec.options = {"q": "4"}
    packets = [*codec.encode(small), *codec.encode(None)]
    return b"".join(bytes(packet) for packet in packets)
