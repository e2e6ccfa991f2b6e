"""The bundled network on one core: how many times faster than real time.

    python tests/bench/bench_bundled.py [--minutes 10]

A rendered video of 320 x 240 at 30 frames per second is extracted with the default plan, in a
separate process bound to one core: including start-up and decoding, and again without start-up.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

FPS = 30
SCENE_SECONDS = 4


class Row(NamedTuple):
    """One line of the table."""

    name: str
    figure: float
    target: str


def render(path: Path, minutes: float) -> float:
    """Write the video, scenes of moving things repeated by copying; returns its duration."""
    import av

    from vidfeat.datasets.motion_pairs import PAIRS, render_scene

    frames = [
        image
        for number, pair in enumerate(PAIRS)
        for image in render_scene(
            pair,
            np.random.default_rng(number),
            frames=SCENE_SECONDS * FPS,
            size=(240, 320),
        )
    ]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "23"}
        count = int(minutes * 60 * FPS)
        for index in range(count):
            image = av.VideoFrame.from_ndarray(frames[index % len(frames)], format="rgb24")
            container.mux(stream.encode(image))
        container.mux(stream.encode())
    return count / FPS


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Print the table and return its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    options = parser.parse_args(arguments)
    core = min(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        seconds = render(folder / "long.mp4", options.minutes)
        stats = folder / "stats.json"
        words = [
            *("extract", str(folder / "long.mp4"), "-o", str(folder / "features.h5")),
            *("--model", "bundled", "--engine", "torch", "--stats", str(stats)),
        ]
        subprocess.run(
            [sys.executable, "-m", "vidfeat", *words],
            check=True,
            capture_output=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        taken = float(json.loads(stats.read_text())["seconds"])
    return [
        Row("bundled, 320 x 240 on one core: seconds of video a second", seconds / taken, ">= 25")
    ]


if __name__ == "__main__":
    for row in main():
        print(row)
