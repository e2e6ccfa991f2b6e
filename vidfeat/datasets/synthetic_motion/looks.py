"""Effects of a camera, its light and its codec on the frames of a scene."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vidfeat.datasets.synthetic_motion.stage import Track
from vidfeat.datasets.synthetic_motion.surfaces import Pixels

Random = np.random.Generator
Frames = NDArray[np.uint8]

_BLOCK = 8


def develop(rng: Random, canvas: Pixels, seconds: Track) -> Frames:
    """Add light, lens, sensor and compression, each drawn or left out: (T, H, W, 3) to uint8."""
    _light(rng, canvas, seconds)
    if rng.random() < 0.7:
        # most cameras show less colour than random numbers do, some none at all
        grey = (canvas @ np.array([0.3, 0.59, 0.11], np.float32))[..., None]
        canvas += (grey - canvas) * np.float32(min(1.0, rng.uniform(0.1, 1.25)))
    if rng.random() < 0.45:
        canvas = _blur(canvas, times=int(rng.integers(1, 3)))
    if rng.random() < 0.2:
        share = np.float32(rng.uniform(0.2, 0.5))  # a slow shutter
        canvas[1:] += (canvas[:-1] - canvas[1:]) * share
    if rng.random() < 0.7:
        strength = np.float32(rng.choice((0.01, 0.02, 0.04)))
        canvas += strength * _noise(rng, canvas.size).reshape(canvas.shape)
    if rng.random() < 0.25:
        canvas = _blocks(rng, canvas)
    if rng.random() < 0.25:
        _hold(rng, canvas)
    frames: Frames = np.clip(canvas * 255 + 0.5, 0, 255).astype(np.uint8)
    return frames


def _light(rng: Random, canvas: Pixels, seconds: Track) -> None:
    """Contrast and brightness, which may flicker, drift or jump over time."""
    frames = len(canvas)
    gain = np.full(frames, float(np.exp(rng.uniform(-0.5, 0.3))))
    kind = rng.random()
    if kind < 0.1:
        gain += 0.08 * np.sin(2 * np.pi * (rng.uniform(1, 5) * seconds + rng.random()))
    elif kind < 0.2:
        gain += np.linspace(0, rng.uniform(-0.4, 0.4), frames)
    elif kind < 0.25:
        gain[int(rng.integers(1, max(2, frames))) :] += rng.uniform(-0.3, 0.3)
    elif kind < 0.35:
        gain += rng.normal(0, 0.03, frames)
    offset = rng.normal(0, 0.06, 3)
    canvas *= (gain[:, None] * np.exp(rng.normal(0, 0.08, 3))).astype(np.float32)[:, None, None]
    canvas += offset.astype(np.float32)


def _blur(canvas: Pixels, times: int) -> Pixels:
    """Weighted means of three neighbouring pixels, along each axis."""
    for _ in range(times):
        for axis in (1, 2):
            moved = np.roll(canvas, 1, axis)
            moved += np.roll(canvas, -1, axis)
            moved *= np.float32(0.25)
            canvas = canvas * np.float32(0.5) + moved
    return canvas


_NOISE_LENGTH = 2_000_003


def _noise(rng: Random, count: int) -> Pixels:
    """Gaussian noise: part of a long precomputed row, which is faster than new numbers."""
    if count >= _NOISE_LENGTH:
        return rng.standard_normal(count, dtype=np.float32)
    start = int(rng.integers(0, _NOISE_LENGTH - count))
    return _noise_row()[start : start + count]


@lru_cache(maxsize=1)
def _noise_row() -> Pixels:
    rng = np.random.default_rng(11)
    values: Pixels = rng.standard_normal(_NOISE_LENGTH, dtype=np.float32)
    return values


@lru_cache(maxsize=1)
def _cosines() -> Pixels:
    """The orthonormal cosine transform of a block's rows."""
    place = np.arange(_BLOCK)
    table = np.cos(np.pi * (place[None] + 0.5) * place[:, None] / _BLOCK) * np.sqrt(2 / _BLOCK)
    table[0] /= np.sqrt(2)
    result: Pixels = table.astype(np.float32)
    return result


def _blocks(rng: Random, canvas: Pixels) -> Pixels:
    """Coefficients of 8 x 8 blocks rounded to steps that grow with their frequency."""
    frames, height, width, _ = canvas.shape
    if height % _BLOCK or width % _BLOCK:
        return canvas
    shape = (frames, height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK, 3)
    cosines = _cosines()
    blocks = canvas.reshape(shape).transpose(0, 1, 3, 5, 2, 4)
    coefficients = cosines @ blocks @ cosines.T
    place = np.arange(_BLOCK)
    steps = (rng.uniform(0.02, 0.08) * (1 + place[:, None] + place[None])).astype(np.float32)
    coefficients = np.rint(coefficients / steps) * steps
    blocks = cosines.T @ coefficients @ cosines
    result: Pixels = np.ascontiguousarray(blocks.transpose(0, 1, 4, 2, 5, 3)).reshape(canvas.shape)
    return result


def _hold(rng: Random, canvas: Pixels) -> None:
    """Pixels that change by little keep their old value, as in frames of a low bit rate."""
    threshold = np.float32(rng.uniform(0.01, 0.05))
    for index in range(1, len(canvas)):
        change = np.abs(canvas[index] - canvas[index - 1]).max(axis=-1, keepdims=True)
        canvas[index] = np.where(change < threshold, canvas[index - 1], canvas[index])
