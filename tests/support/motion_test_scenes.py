"""Rendered videos of eight kinds of motion: the exam of networks trained on rendered motion.

Made apart from ``vidfeat.datasets``, and before anything was trained: other surfaces (gratings and
rings of sine waves), other outlines (stars, superellipses, crosses), other formulas of motion. It
imports nothing of the package, so that nothing of the training videos can leak in.

    python tests/support/motion_test_scenes.py FOLDER [--videos 60]
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

HEIGHT, WIDTH = 84, 112
RATE = 20
SECONDS = 2.0

Pose = tuple[float, float, float, float]
"""Centre (x, y) in shares of the height from the middle of the frame, size factor, turn in rad."""


@dataclass(frozen=True)
class Character:
    """What one video draws at random about its motion."""

    pace: float
    """About 1; how quickly things go."""
    phase: float
    heading: float
    wobble: np.ndarray
    """(2, 5): amplitudes of five sine waves a direction."""
    frequency: np.ndarray
    """(5,): their frequencies in Hz."""


def _glide(c: Character, t: float) -> list[Pose]:
    way = 0.62 * c.pace * (t / SECONDS - 0.5)
    return [(1.25 * way * math.cos(c.heading), way * math.sin(c.heading), 1.0, 0.0)]


def _bounce(c: Character, t: float) -> list[Pose]:
    height = abs(math.sin(math.pi * (1.35 * c.pace * t + c.phase)))
    return [(0.0, 0.26 - 0.46 * height, 1.0, 0.0)]


def _spin(c: Character, t: float) -> list[Pose]:
    direction = 1 if c.heading > math.pi else -1
    return [(0.0, 0.0, 1.15, direction * 2 * math.pi * 0.75 * c.pace * t + c.heading)]


def _pulse(c: Character, t: float) -> list[Pose]:
    beat = math.sin(2 * math.pi * (1.15 * c.pace * t + c.phase))
    return [(0.0, 0.0, math.exp(0.42 * beat), 0.0)]


def _orbit(c: Character, t: float) -> list[Pose]:
    direction = 1 if c.heading > math.pi else -1
    angle = 2 * math.pi * (direction * 0.8 * c.pace * t + c.phase)
    x, y = 0.26 * math.cos(angle), 0.26 * math.sin(angle)
    return [(x, y, 0.7, 0.0), (-x, -y, 0.7, 0.0)]


def _tremble(c: Character, t: float) -> list[Pose]:
    waves = np.sin(2 * math.pi * (c.frequency * t + c.phase * np.arange(1, 6)))
    x, y = c.wobble @ waves
    return [(float(x), float(y), 1.0, 0.0)]


def _approach(c: Character, t: float) -> list[Pose]:
    share = t / SECONDS
    return [(0.0, 0.0, 0.5 * math.exp(1.15 * c.pace * share), 0.0)]


def _swing(c: Character, t: float) -> list[Pose]:
    angle = 0.85 * math.sin(2 * math.pi * (0.95 * c.pace * t + c.phase))
    return [(0.55 * math.sin(angle), -0.38 + 0.55 * math.cos(angle), 0.9, -angle)]


MOTIONS: dict[str, Callable[[Character, float], list[Pose]]] = {
    "approach": _approach,
    "bounce": _bounce,
    "glide": _glide,
    "orbit": _orbit,
    "pulse": _pulse,
    "spin": _spin,
    "swing": _swing,
    "tremble": _tremble,
}


class Surface:
    """A colourful sum of sine waves over the plane, evaluated wherever it is asked for."""

    def __init__(self, rng: np.random.Generator, *, fine: bool) -> None:
        low, high = (9.0, 24.0) if fine else (4.0, 14.0)
        length = rng.uniform(low, high, 4)
        angle = rng.uniform(0, 2 * math.pi, 4)
        self._waves = np.stack([length * np.cos(angle), length * np.sin(angle)], axis=1)
        self._shift = rng.uniform(0, 2 * math.pi, 4)
        self._rings = rng.uniform(low, high), rng.uniform(-0.5, 0.5, 2)
        self._mix = rng.normal(0, 1, (5, 3))
        self._mix /= np.abs(self._mix).sum(axis=0)
        self._base = rng.uniform(70, 185, 3)
        self._contrast = rng.uniform(45, 80)

    def __call__(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Colours (..., 3) at points in shares of the height."""
        waves = [
            np.sin(a * x + b * y + s) for (a, b), s in zip(self._waves, self._shift, strict=True)
        ]
        scale, (cx, cy) = self._rings
        waves.append(np.sin(scale * np.hypot(x - cx, y - cy)))
        return self._base + self._contrast * (np.stack(waves, axis=-1) @ self._mix)


def _star(rng: np.random.Generator) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    points, depth = int(rng.integers(3, 7)), rng.uniform(0.2, 0.38)

    def inside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.hypot(x, y) / (0.8 + depth * np.cos(points * np.arctan2(y, x)))

    return inside


def _superellipse(rng: np.random.Generator) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    power, long = rng.uniform(1.0, 5.0), rng.uniform(1.35, 1.7)

    def inside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (np.abs(x / (0.75 * long)) ** power + np.abs(y * long) ** power) ** (1 / power)

    return inside


def _cross(rng: np.random.Generator) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    thick = rng.uniform(0.3, 0.5)

    def inside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        x, y = np.abs(x), np.abs(y)
        return np.minimum(np.maximum(x, y / thick), np.maximum(x / thick, y))

    return inside


OUTLINES = (_star, _superellipse, _cross)


def render(motion: str, seed: int) -> np.ndarray:
    """Render one video: uint8 (T, HEIGHT, WIDTH, 3)."""
    rng = np.random.default_rng([seed, 20_011])
    character = Character(
        pace=float(rng.uniform(0.85, 1.15)),
        phase=float(rng.random()),
        heading=float(rng.uniform(0, 2 * math.pi)),
        wobble=rng.uniform(0.025, 0.05, (2, 5)) * rng.choice([-1, 1], (2, 5)),
        frequency=rng.uniform(2.5, 4.5, 5),
    )
    ground, skins = Surface(rng, fine=False), [Surface(rng, fine=True) for _ in range(2)]
    outline = OUTLINES[int(rng.integers(len(OUTLINES)))](rng)
    size = rng.uniform(0.17, 0.24)
    place = rng.uniform(-0.1, 0.1, 2)
    tint = rng.uniform(40, 215, 3)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / HEIGHT
    y, x = y + 0.5 / HEIGHT - 0.5, x + 0.5 / HEIGHT - WIDTH / HEIGHT / 2
    background = ground(x, y) * 0.6 + 0.4 * rng.uniform(40, 215, 3)
    glow = rng.uniform(-12, 12)
    video = np.empty((round(SECONDS * RATE), HEIGHT, WIDTH, 3), np.uint8)
    for index in range(len(video)):
        frame = background.copy()
        poses = MOTIONS[motion](character, index / RATE)
        for skin, (px, py, factor, turn) in zip(skins, poses, strict=False):
            radius = size * factor
            dx, dy = x - px - place[0], y - py - place[1]
            u = (dx * math.cos(turn) + dy * math.sin(turn)) / radius
            v = (dy * math.cos(turn) - dx * math.sin(turn)) / radius
            edge = np.clip((1 - outline(u, v)) * radius * HEIGHT + 0.5, 0, 1)[..., None]
            colours = 0.55 * skin(u * size, v * size) + 0.45 * tint
            frame += (colours - frame) * edge
        frame += glow * math.sin(0.3 * index) + rng.normal(0, 3, frame.shape)
        video[index] = np.clip(frame + 0.5, 0, 255)
    return video


def encode(path: Path, frames: np.ndarray) -> None:
    """Write frames as an ordinary H.264 file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "24", "preset": "veryfast"}
        stream.codec_context.thread_count = 1
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def write_scenes(folder: Path, *, videos: int = 60, seed: int = 0) -> Path:
    """Write so many videos per class and their ``labels.csv``; files that are there are kept.

    Returns:
        The ``labels.csv``: path, label, split (``train`` for the first two thirds, ``test``).
    """
    rows = []
    for number, motion in enumerate(MOTIONS):
        for index in range(videos):
            path = f"{motion}/{index:03d}.mp4"
            if not (folder / path).is_file():
                encode(folder / path, render(motion, 100_000 * seed + 1000 * number + index))
            rows.append((path, motion, "train" if index < videos * 2 // 3 else "test"))
    table = folder / "labels.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--videos", type=int, default=60, help="a class")
    given = parser.parse_args()
    print(write_scenes(given.folder, videos=given.videos))
