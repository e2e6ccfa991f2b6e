"""Surfaces for scenes: a bank of random abstract pictures.

Noise with the spectrum of natural images, heaps of flat leaves (discs and boxes in power-law
sizes), stripes and tiles, plain walls with a gradient: each wraps around at its edges. A bank is
made once per process (about a second); every use draws a part of a picture, its scale, its turn and
new colours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]

SIDE = 256
COUNT = 96


@lru_cache(maxsize=2)
def bank(seed: int = 0) -> NDArray[np.uint32]:
    """The pictures of a seed: (COUNT, SIDE * SIDE), three channels packed into each number."""
    makers = (_noise, _leaves, _leaves, _tiles, _wall)
    pictures = np.empty((COUNT, SIDE, SIDE, 4), np.uint8)
    pictures[..., 3] = 0
    for index in range(COUNT):
        rng = np.random.default_rng((seed, 7, index))
        pictures[index, ..., :3] = np.clip(makers[index % len(makers)](rng) * 255, 0, 255)
    return pictures.reshape(COUNT, -1).view(np.uint32)


def _spectrum(rng: np.random.Generator, slope: float, stretch: float = 1.0) -> Pixels:
    """Noise (SIDE, SIDE) with an amplitude of 1 / f ** slope, mean 0.5, most of it in 0 to 1."""
    rows = np.fft.fftfreq(SIDE)[:, None] * stretch
    columns = np.fft.rfftfreq(SIDE)[None] / stretch
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = 1.0
    amplitude = frequency**-slope
    amplitude[0, 0] = 0.0
    field = np.fft.irfft2(amplitude * np.exp(2j * np.pi * rng.random(amplitude.shape)))
    share: Pixels = (0.5 + field / (4 * field.std() + 1e-9)).astype(np.float32)
    return share


def _noise(rng: np.random.Generator) -> Pixels:
    slope, stretch = rng.uniform(0.8, 1.8), np.exp(rng.uniform(-0.6, 0.6))
    common = _spectrum(rng, slope, stretch)[..., None]
    own = np.stack([_spectrum(rng, slope, stretch) for _ in range(3)], axis=-1)
    mix = np.float32(rng.uniform(0.1, 0.6))
    result: Pixels = common + (own - common) * mix
    return result


def _leaves(rng: np.random.Generator) -> Pixels:
    """Shapes that cover each other, larger ones rarer: edges at all scales, as in photographs."""
    picture = np.broadcast_to(rng.random(3).astype(np.float32), (SIDE, SIDE, 3)).copy()
    grain = _spectrum(rng, 1.0)[..., None] - 0.5
    lowest = rng.uniform(3, 8)
    for _ in range(160):
        radius = min(lowest / (rng.random() + 0.02) ** 0.8, 80.0)
        y, x = rng.integers(0, SIDE, 2)
        reach = int(radius * 1.5) + 1
        down = np.arange(-reach, reach + 1, dtype=np.float32)[:, None]
        right = down.T
        if rng.random() < 0.4:
            inside = np.hypot(down, right) < radius
        else:
            turn = 0.0 if rng.random() < 0.5 else rng.uniform(0, np.pi)
            long = np.exp(rng.uniform(-0.8, 0.8))
            a = down * np.cos(turn) + right * np.sin(turn)
            b = right * np.cos(turn) - down * np.sin(turn)
            inside = (np.abs(a) < radius * min(long, 1.0)) & (np.abs(b) < radius / max(long, 1.0))
        rows, columns = np.nonzero(inside)
        colour = np.clip(rng.normal(0.5, 0.27, 3), 0, 1)
        picture[(rows + y - reach) % SIDE, (columns + x - reach) % SIDE] = colour
    result: Pixels = picture + grain * np.float32(rng.uniform(0.0, 0.25))
    return result


def _tiles(rng: np.random.Generator) -> Pixels:
    """Stripes, checks or bricks of two colours that vary from one to the next."""
    down, right = 2 ** rng.integers(3, 6, 2)
    rows, columns = np.arange(SIDE) // down, np.arange(SIDE) // right
    shade = rng.normal(0, rng.uniform(0.02, 0.15), (SIDE // down, SIDE // right, 1))
    first, second = rng.random((2, 3))
    kind = rng.integers(3)
    if kind == 0:
        pattern = (rows[:, None] + columns[None]) % 2
    elif kind == 1:
        pattern = np.broadcast_to(columns[None] % 2, (SIDE, SIDE))
    else:
        pattern = (np.arange(SIDE)[:, None] % down < 2) | (np.arange(SIDE)[None] % right < 2)
    tiles = np.where(pattern[..., None], first, second) + shade[rows[:, None], columns[None]]
    grain = _spectrum(rng, 1.0)[..., None] - 0.5
    result: Pixels = (tiles + grain * rng.uniform(0.0, 0.3)).astype(np.float32)
    return result


def _wall(rng: np.random.Generator) -> Pixels:
    """Nearly one colour, with soft light on it."""
    light = _spectrum(rng, 2.2)[..., None] - 0.5
    grain = _spectrum(rng, rng.uniform(0.3, 1.0))[..., None] - 0.5
    base = rng.uniform(0.2, 0.8, 3)
    result: Pixels = (base + light * rng.uniform(0.1, 0.6) + grain * 0.06).astype(np.float32)
    return result


@dataclass(frozen=True)
class Paint:
    """A part of a picture of the bank, in new colours."""

    picture: NDArray[np.uint32]
    scale: float
    """Pixels of the picture per unit of the scene."""
    turn: float
    offset: tuple[float, float]
    colours: Pixels
    """(3, 3): what the picture's channels become."""
    base: Pixels
    """(3,)"""

    @classmethod
    def draw(
        cls, rng: np.random.Generator, *, contrast: float = 1.0, brightness: float | None = None
    ) -> Paint:
        """Draw a paint; ``brightness`` is its mean, 0 to 1, drawn if None."""
        pictures = bank()
        picture = pictures[int(rng.integers(len(pictures)))]
        own = rng.normal(0, 0.6, (3, 3))
        matrix = contrast * rng.uniform(0.5, 1.1) * (0.6 * np.eye(3) + 0.4 * own)
        mean = rng.uniform(0.2, 0.8) if brightness is None else brightness
        base = mean + rng.normal(0, 0.12, 3) - matrix.sum(axis=0) * 0.5
        return cls(
            picture,
            scale=float(np.exp(rng.uniform(np.log(50), np.log(180)))),
            turn=float(rng.choice((0.0, 0.0, rng.uniform(0, 2 * np.pi)))),
            offset=(float(rng.uniform(0, SIDE)), float(rng.uniform(0, SIDE))),
            colours=(matrix / 255).astype(np.float32),
            base=base.astype(np.float32),
        )

    def at(self, x: Pixels, y: Pixels) -> Pixels:
        """Colours (..., 3) at points of the scene, x and y of one shape."""
        cos, sin = np.float32(np.cos(self.turn)), np.float32(np.sin(self.turn))
        scale = np.float32(self.scale)
        right = (x * cos + y * sin) * scale + np.float32(self.offset[0])
        down = (y * cos - x * sin) * scale + np.float32(self.offset[1])
        columns = np.floor(right).astype(np.int32) & (SIDE - 1)
        rows = np.floor(down).astype(np.int32) & (SIDE - 1)
        packed = self.picture[(rows << 8) | columns]
        channels = packed.view(np.uint8).reshape(*packed.shape, 4)[..., :3].astype(np.float32)
        result: Pixels = channels @ self.colours
        result += self.base
        return result
