"""The view of a scene: pixels, camera and clock.

Scene units are frame heights, x to the right, y down, (0, 0) in the middle of the first view. The
frames are square in pixels and ``aspect`` wide in scene units, like a wide video that is squashed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
Track = NDArray[np.float64]
"""One number per frame: (T,)."""

FRAME_SECONDS = 0.1
"""Time between two frames of a clip at normal tempo."""


@dataclass(frozen=True)
class Camera:
    """Where the camera looks in each frame: (T,) each."""

    x: Track
    y: Track
    zoom: Track
    roll: Track

    def view(self, x: Track, y: Track) -> tuple[Track, Track]:
        """Points of the scene (T, ...) as seen: in units of the frame's height from its middle."""
        shape = (-1, *([1] * (x.ndim - 1)))
        dx, dy = x - self.x.reshape(shape), y - self.y.reshape(shape)
        cos = (np.cos(self.roll) * self.zoom).reshape(shape)
        sin = (np.sin(self.roll) * self.zoom).reshape(shape)
        return dx * cos - dy * sin, dx * sin + dy * cos


@dataclass(frozen=True)
class Stage:
    """Size of the frames, the camera, and the seconds of each frame."""

    size: int
    aspect: float
    camera: Camera
    seconds: Track

    @property
    def frames(self) -> int:
        """T."""
        return len(self.seconds)

    @property
    def pixel(self) -> float:
        """Height of a pixel in frame heights."""
        return 1.0 / self.size

    @cached_property
    def columns(self) -> Pixels:
        """(size,): x of the pixels in the view."""
        return (((np.arange(self.size) + 0.5) / self.size - 0.5) * self.aspect).astype(np.float32)

    @cached_property
    def rows(self) -> Pixels:
        """(size,): y of the pixels in the view."""
        return ((np.arange(self.size) + 0.5) / self.size - 0.5).astype(np.float32)

    def ground(self) -> tuple[Pixels, Pixels]:
        """Scene points (T, size, size) that the pixels see."""
        camera = self.camera
        cos = (np.cos(camera.roll) / camera.zoom).astype(np.float32)[:, None, None]
        sin = (np.sin(camera.roll) / camera.zoom).astype(np.float32)[:, None, None]
        x, y = self.columns[None, None], self.rows[None, :, None]
        across = x * cos + y * sin + camera.x.astype(np.float32)[:, None, None]
        down = y * cos - x * sin + camera.y.astype(np.float32)[:, None, None]
        return across, down


def frame_seconds(rng: np.random.Generator, frames: int, pace: str, tempo: str) -> Track:
    """The time in the scene of each frame: pace varies within the clip, tempo between clips.

    The frames are taken from a video of a random frame rate: each shows its latest picture.
    """
    share = np.arange(frames) / max(1, frames - 1)
    length = (frames - 1) * FRAME_SECONDS * float(rng.uniform(0.9, 1.1))
    rate = float(rng.choice((8.0, 10.0, 12.5, 15.0, 25.0, 30.0)))
    share = np.floor(share * length * rate + rng.random()) / (length * rate)
    bend = float(rng.uniform(0.6, 0.85))
    if pace == "faster":
        share = (1 - bend) * share + bend * share**2
    elif pace == "slower":
        share = (1 + bend) * share - bend * share**2
    elif pace == "pause":
        start, held = rng.uniform(0.2, 0.35), rng.uniform(0.4, 0.5)
        share = np.where(share < start, share, np.maximum(share - held, start))
    elif pace == "return":
        turn = rng.uniform(0.4, 0.6)
        share = turn - np.abs(share - turn)
    low, high = {"slow": (0.4, 0.6), "normal": (0.9, 1.15), "quick": (1.6, 2.1)}[tempo]
    result: Track = share * length * float(rng.uniform(low, high))
    return result


def draw_camera(rng: np.random.Generator, kind: str, seconds: Track) -> Camera:
    """The path of the camera; one that stands still may tremble a little."""
    zero = np.zeros(len(seconds))
    x, y, zoom, roll = zero.copy(), zero.copy(), zero + 1.0, zero + rng.normal(0, 0.03)
    middle = seconds - seconds.mean()
    speed = rng.uniform(0.15, 0.5)
    if kind.startswith("pan"):
        along, across = speed * middle, rng.uniform(-0.2, 0.2) * speed * middle
        x, y = {
            "pan_left": (-along, across),
            "pan_right": (along, across),
            "pan_up": (across, -along),
            "pan_down": (across, along),
        }[kind]
    elif kind.startswith("zoom"):
        sign = 1 if kind == "zoom_in" else -1
        zoom = np.exp(sign * rng.uniform(0.3, 0.8) * middle)
    elif kind.startswith("roll"):
        sign = 1 if kind == "roll_right" else -1
        roll = roll + sign * rng.uniform(0.3, 0.9) * middle
    if kind == "shake" or (kind == "still" and rng.random() < 0.15):
        strength = rng.uniform(0.015, 0.04) if kind == "shake" else rng.uniform(0.001, 0.003)
        x, y = x + strength * tremor(rng, seconds), y + strength * tremor(rng, seconds)
        roll = roll + 0.5 * strength * tremor(rng, seconds)
    return Camera(x, y, zoom, roll)


def tremor(rng: np.random.Generator, seconds: Track, low: float = 2.0, high: float = 4.5) -> Track:
    """An unsteady course around 0 with a spread of about 1: (T,)."""
    frequency, phase = rng.uniform(low, high, 4), rng.uniform(0, 2 * np.pi, 4)
    waves = np.sin(2 * np.pi * frequency * seconds[:, None] + phase)
    result: Track = waves @ rng.choice((-1.0, 1.0), 4) / np.sqrt(2)
    return result


def smooth_step(seconds: Track, start: float, length: float) -> Track:
    """0 before ``start``, 1 after ``start + length``, smooth between: (T,)."""
    share = np.clip((seconds - start) / max(length, 1e-6), 0, 1)
    result: Track = share * share * (3 - 2 * share)
    return result


def pulses(seconds: Track, times: NDArray[np.float64], width: float) -> Track:
    """Bumps of height 1 at some times, ``width`` seconds to either side: (T,)."""
    if len(times) == 0:
        return np.zeros(len(seconds))
    bumps = np.exp(-(((seconds[:, None] - times) / width) ** 2))
    result: Track = bumps.max(axis=1)
    return result
