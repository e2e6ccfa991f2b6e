"""Random textures and soft shapes for rendered videos: seeded, numpy only, no footage."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
Shape = Literal["disc", "square", "diamond", "ring"]
SHAPES: tuple[Shape, ...] = ("disc", "square", "diamond", "ring")


def noise_texture(
    rng: np.random.Generator, height: int, width: int, *, roughness: float | None = None
) -> Pixels:
    """Noise with an amplitude spectrum of 1 / f ** roughness, in a random pair of colours.

    It wraps around at its edges, so that it can move endlessly.

    Args:
        rng: source of randomness.
        height: rows.
        width: columns.
        roughness: 1.0 is rough, 2.0 smooth; None draws it.

    Returns:
        float32 (height, width, 3), 0 to 1.
    """
    if roughness is None:
        roughness = float(rng.uniform(0.9, 1.7))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1.0
    amplitude = frequency**-roughness
    amplitude[0, 0] = 0.0
    phase = np.exp(2j * np.pi * rng.random(amplitude.shape))
    field = np.fft.irfft2(amplitude * phase, s=(height, width))
    field /= field.std() + 1e-9
    share = np.clip(0.5 + field / 4, 0, 1).astype(np.float32)[:, :, None]
    dark, bright = np.sort(rng.random((2, 3)).astype(np.float32), axis=0)
    texture: Pixels = dark + (bright - dark) * share
    return texture


def shifted(texture: Pixels, down: float, right: float) -> Pixels:
    """A texture moved by a number of pixels, possibly fractional; it wraps around."""
    rows, columns = int(np.floor(down)), int(np.floor(right))
    y, x = np.float32(down - rows), np.float32(right - columns)
    moved = np.roll(texture, (rows, columns), axis=(0, 1))
    below = np.roll(moved, 1, axis=0)
    moved = moved + (below - moved) * y
    beside = np.roll(moved, 1, axis=1)
    result: Pixels = moved + (beside - moved) * x
    return result


def shape_mask(shape: Shape, height: int, width: int, y: float, x: float, radius: float) -> Pixels:
    """Coverage (height, width), 0 to 1 with soft edges, of a shape around (y, x) in pixels."""
    down = np.arange(height, dtype=np.float32)[:, None] + 0.5 - y
    right = np.arange(width, dtype=np.float32)[None] + 0.5 - x
    if shape == "square":
        distance = np.maximum(np.abs(down), np.abs(right)) * 1.15
    elif shape == "diamond":
        distance = (np.abs(down) + np.abs(right)) * 0.8
    else:
        distance = np.hypot(down, right)
    mask: Pixels = np.clip(radius - distance + 0.5, 0, 1).astype(np.float32)
    if shape == "ring":
        mask *= 1 - np.clip(radius * 0.45 - distance + 0.5, 0, 1)
    return mask


def paint(canvas: Pixels, texture: Pixels, mask: Pixels) -> None:
    """Lay a texture over a canvas (H, W, 3) where the mask covers it."""
    canvas += (texture - canvas) * mask[:, :, None]
