"""Segments cut out of videos and made worse: what a search for the source of a scene is asked."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from vidfeat.video.reader import open_video, to_rgb


@dataclass(frozen=True)
class Cut:
    """A query and the truth about it."""

    path: Path
    video: str
    start_seconds: float
    seconds: float
    fps: float


def cut_worse(
    source: Path,
    target: Path,
    start_seconds: float,
    seconds: float,
    *,
    scale: float = 0.6,
    brightness: float = 12.0,
    codec: str = "libvpx",
) -> tuple[float, float]:
    """Write a segment smaller, brighter or darker, with another codec and few bits.

    Returns:
        Seconds at which the first frame taken is shown, and frames per second.
    """
    with open_video(source) as video:
        rate = video.timeline.rate
        first = video.timeline.slot_at(start_seconds, None)
        last = min(video.timeline.num_frames, first + max(1, round(seconds * float(rate))))
        width = max(32, round(video.info.width * scale / 2) * 2)
        height = max(32, round(video.info.height * scale / 2) * 2)
        with av.open(str(target), "w") as out:
            options = {"deadline": "realtime", "cpu-used": "8"} if codec == "libvpx" else {}
            stream = out.add_stream(codec, rate=Fraction(rate).limit_denominator(1001))
            stream.options = options
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.bit_rate = max(120_000, int(width * height * float(rate) * 0.08))
            for _, frame in video.frames(range(first, last)):
                pixels = to_rgb(frame).astype(np.float32) * (1 - brightness / 300) + brightness
                picture = av.VideoFrame.from_ndarray(
                    pixels.clip(0, 255).astype(np.uint8), format="rgb24"
                )
                picture = picture.reformat(width=width, height=height, format="yuv420p")
                for packet in stream.encode(picture):
                    out.mux(packet)
            for packet in stream.encode():
                out.mux(packet)
    return first / float(rate), float(rate)


def make_cuts(
    sources: list[tuple[str, Path, float]], count: int, folder: Path, seed: int = 0
) -> list[Cut]:
    """Segments of some videos, each start off the grid of any hop.

    Args:
        sources: path in the index, file, seconds.
        count: queries wanted.
        folder: where they are written.
        seed: of starts, lengths and how they are made worse.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    order = rng.permutation(len(sources))
    cuts = []
    for number in range(count):
        video, file, duration = sources[order[number % len(order)]]
        seconds = float(rng.uniform(1.0, min(4.0, max(1.05, duration * 0.6))))
        start = float(rng.uniform(0, max(duration - seconds, 0.01)))
        codec, suffix = [("libvpx", "webm"), ("mpeg4", "avi")][number % 2]
        target = folder / f"q{number:03d}.{suffix}"
        begin, fps = cut_worse(
            file,
            target,
            start,
            seconds,
            scale=float(rng.uniform(0.5, 0.8)),
            brightness=float(rng.choice([-1, 1]) * rng.uniform(8, 25)),
            codec=codec,
        )
        cuts.append(Cut(target, video, begin, seconds, fps))
    return cuts
