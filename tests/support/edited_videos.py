"""Scenes that move, and what editors do to them: cuts, flashes, dissolves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidfeat.datasets.motion_pairs import write_video
from vidfeat.datasets.textures import noise_texture, shifted

Frames = NDArray[np.uint8]


def moving(
    frames: int, seed: int, *, speed: float = 1.5, size: tuple[int, int] = (36, 64)
) -> Frames:
    """A texture of its own colours that drifts (T, H, W, 3); dark for odd seeds."""
    rng = np.random.default_rng(seed)
    height, width = size
    texture = noise_texture(rng, height, width)
    tint = rng.uniform(0.7, 1.0, 3)
    drift = rng.uniform(-1, 1, 2)
    drift *= speed / max(np.hypot(*drift), 1e-6)
    pictures = [shifted(texture, *(drift * t)) for t in range(frames)]
    stacked = np.stack(pictures).astype(np.float64)
    if stacked.ndim == 3:
        stacked = np.repeat(stacked[..., None], 3, axis=3)
    # dark and light in turn: no two neighbours in an edit look alike
    low = 0.05 if seed % 2 else 0.5
    return (np.clip(low + 0.45 * stacked * tint, 0, 1) * 255).astype(np.uint8)


def flash(frames: Frames, at: int, length: int) -> Frames:
    """White for some frames."""
    made = frames.copy()
    made[at : at + length] = 255
    return made


def dissolve(first: Frames, second: Frames, length: int) -> Frames:
    """One scene turns into the other over ``length`` frames."""
    share = np.linspace(0, 1, length + 2)[1:-1, None, None, None]
    mixed = first[-length:] * (1 - share) + second[:length] * share
    return np.concatenate([first[:-length], mixed.astype(np.uint8), second[length:]])


def write_edit(
    path: Path, lengths: Sequence[int], *, seed: int = 0, size: tuple[int, int] = (72, 128)
) -> list[int]:
    """Scenes of so many frames, one after the other, at 25 a second; the frames that begin one."""
    scenes = [moving(length, seed + place, size=size) for place, length in enumerate(lengths)]
    write_video(path, np.concatenate(scenes), fps=25)
    return np.cumsum(lengths)[:-1].tolist()
