"""Folders of frames, written without a further package."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_picture(path: Path, pixels_HWC: np.ndarray) -> None:
    """PNG through FFmpeg's encoder: not a bit is lost."""
    path.parent.mkdir(parents=True, exist_ok=True)
    context = av.codec.CodecContext.create("png", "w")
    context.width, context.height = pixels_HWC.shape[1], pixels_HWC.shape[0]
    context.pix_fmt, context.time_base = "rgb24", Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels_HWC), format="rgb24")
    path.write_bytes(b"".join(bytes(p) for p in [*context.encode(frame), *context.encode(None)]))
