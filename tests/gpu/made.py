"""Files of every kind that NVDEC may or may not support, drawn and encoded on the spot.

What matters is the coding, not the picture: 8 and 10 bits, 4:2:0 and others, B-frames, open GOPs,
fields, odd sizes, and the four codecs of NVDEC.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

FRAMES = 40

# name: encoder, pixel format, width, height, encoder options
KINDS: dict[str, tuple[str, str, int, int, dict[str, str]]] = {
    "h264.mp4": ("libx264", "yuv420p", 640, 360, {"bf": "3", "g": "12"}),
    "h264_full_range.mp4": ("libx264", "yuvj420p", 320, 240, {}),
    "h264_bt709.mp4": ("libx264", "yuv420p", 640, 360, {"x264-params": "colormatrix=bt709"}),
    "h264_open_group.mkv": (
        "libx264",
        "yuv420p",
        320,
        240,
        {"x264-params": "open-gop=1:keyint=10"},
    ),
    "h264_refresh.mp4": ("libx264", "yuv420p", 320, 240, {"x264-params": "intra-refresh=1"}),
    "h264_fields.mp4": ("libx264", "yuv420p", 720, 576, {"x264-params": "interlaced=1"}),
    "h264_cropped.mp4": ("libx264", "yuv420p", 626, 354, {}),
    "h264_10bit.mp4": ("libx264", "yuv420p10le", 640, 360, {}),
    "h264_422.mp4": ("libx264", "yuv422p", 320, 240, {}),
    "h264_444.mp4": ("libx264", "yuv444p", 320, 240, {}),
    "hevc.mp4": ("libx265", "yuv420p", 640, 360, {"x265-params": "log-level=none"}),
    "hevc_10bit.mp4": ("libx265", "yuv420p10le", 640, 360, {"x265-params": "log-level=none"}),
    "hevc_444.mp4": ("libx265", "yuv444p", 320, 240, {"x265-params": "log-level=none"}),
    "hevc_12bit.mp4": ("libx265", "yuv420p12le", 320, 240, {"x265-params": "log-level=none"}),
    "vp9.webm": ("libvpx-vp9", "yuv420p", 640, 360, {"cpu-used": "8", "deadline": "realtime"}),
    "vp9_odd.webm": ("libvpx-vp9", "yuv420p", 321, 241, {"cpu-used": "8", "deadline": "realtime"}),
    "vp9_small.webm": ("libvpx-vp9", "yuv420p", 64, 48, {"cpu-used": "8", "deadline": "realtime"}),
    "av1.mp4": ("libsvtav1", "yuv420p", 640, 360, {"preset": "12"}),
    "av1_10bit.mkv": ("libsvtav1", "yuv420p10le", 320, 240, {"preset": "12"}),
    "av1_grain.mkv": (
        *("libsvtav1", "yuv420p", 320, 240),
        {"preset": "12", "svtav1-params": "film-grain=20"},
    ),
    "mpeg4.avi": ("mpeg4", "yuv420p", 320, 240, {}),
}


def picture(number: int, width: int, height: int) -> np.ndarray:
    """A moving pattern with noise, (H, W, 3) RGB, which exercises prediction and residuals."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    waves = [
        np.sin((x + k * 3 * number) / 17 + k) + np.sin((y - number) / (9 + k)) for k in (1, 2, 3)
    ]
    values = np.stack(waves, -1) * 50 + 128
    values[height // 4 : height // 2, (5 * number) % width :][:, : width // 5] = (220, 40, 90)
    values += rng.normal(0, 6, values.shape)
    return np.clip(values, 0, 255).astype(np.uint8)


def make_file(path: Path) -> None:
    """Encode one of ``KINDS``.

    Raises:
        av.error.FFmpegError, ValueError: this build of FFmpeg cannot encode it.
    """
    encoder, pixels, width, height, options = KINDS[path.name]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.codec_context.thread_count = 1
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(picture(number, width, height), format="rgb24")
            frame = frame.reformat(format=pixels)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def make_files(folder: Path) -> list[str]:
    """Make all kinds that the available encoders can; returns their names."""
    import av.logging

    av.logging.set_level(None)
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name in KINDS:
        path = folder / name
        try:
            make_file(path)
        except (av.error.FFmpegError, ValueError) as error:
            path.unlink(missing_ok=True)
            print(f"{name} is left out: {error}")
        else:
            made.append(name)
    return made
