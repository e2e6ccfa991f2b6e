"""The first frames of real videos, encoded anew: quick to decode, and with real pictures."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

NAMES = ("RATRACE_wave_f_nm_np1_fr_goo_37.avi", "v_SoccerJuggling_g23_c01.avi")
FRAMES = 32


def write_short_videos(source: Path, folder: Path) -> dict[str, list[np.ndarray]]:
    """Write them, 25 frames per second; their decoded frames, uint8 (H, W, 3), by file name."""
    folder.mkdir(parents=True, exist_ok=True)
    return {name: _write(source / name, folder / f"{Path(name).stem}.mp4") for name in NAMES}


def _write(source: Path, target: Path) -> list[np.ndarray]:
    with (
        av.open(str(source), metadata_errors="replace") as given,
        av.open(str(target), "w") as made,
    ):
        stream = made.add_stream("mpeg4", rate=Fraction(25))
        first = next(given.decode(video=0))
        stream.width, stream.height, stream.pix_fmt = first.width, first.height, "yuv420p"
        stream.bit_rate = 4_000_000
        given.seek(0)
        for number, frame in enumerate(given.decode(video=0)):
            if number == FRAMES:
                break
            plain = av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"), format="rgb24")
            made.mux(stream.encode(plain))
        made.mux(stream.encode())
    with av.open(str(target)) as written:
        return [frame.to_ndarray(format="rgb24") for frame in written.decode(video=0)]
