"""Scenes whose frames, taken without their order, are the same forwards and backwards."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def reversible_scene(seed: int, *, frames: int = 12, size: int = 48) -> NDArray[np.uint8]:
    """A disc that grows, or warms from blue to red: uint8 (T, H, W, 3), forwards.

    Grounds, places, sizes, colours and speeds differ from scene to scene.
    """
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size] / size
    ground = random.uniform(40, 200, 3) + np.stack(
        [random.uniform(-40, 40) * rows + random.uniform(-40, 40) * columns for _ in range(3)], -1
    )
    middle, drift = random.uniform(0.35, 0.65, 2), random.uniform(-0.1, 0.1, 2)
    grows = seed % 2 == 0
    colour = random.uniform(0, 255, 3)
    low, high = random.uniform(0.08, 0.14), random.uniform(0.25, 0.34)
    scene = []
    for moment in np.linspace(0, 1, frames):
        radius = low + (high - low) * moment if grows else (low + high) / 2
        shade = colour if grows else np.array([40 + 190 * moment, 90.0, 230 - 190 * moment])
        at = middle + drift * (moment - 0.5)
        inside = (rows - at[0]) ** 2 + (columns - at[1]) ** 2 < radius**2
        frame = np.where(inside[..., None], shade, ground) + random.normal(0, 4, (size, size, 3))
        scene.append(frame.clip(0, 255).astype(np.uint8))
    return np.stack(scene)
