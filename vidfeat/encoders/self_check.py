"""Checks that this machine computes correctly: the bundled network's vector of a known clip."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from vidfeat.pretrained import bundled

LARGEST_DIFFERENCE = 1e-3
"""Of one value of the vector, relative to the largest: ten times what processors differ by."""


def known_clip() -> NDArray[np.uint8]:
    """A computed clip (8, 64, 64, 3): a pattern that drifts and changes."""
    t, y, x, c = np.meshgrid(*(np.arange(n) for n in (8, 64, 64, 3)), indexing="ij")
    wave = (3 * x + 5 * y + 11 * t + 29 * c) % 97 + (x * y // 16 + 7 * t) % 61
    frames_THWC: NDArray[np.uint8] = (wave * 255 // 156).astype(np.uint8)
    return frames_THWC


def bundled_vector() -> NDArray[np.float32]:
    """The vector of that clip on this machine, float32 (D,)."""
    from vidfeat.encoders.load import load_encoder

    encoder = load_encoder("bundled", device="cpu")
    vector: NDArray[np.float32] = encoder.encode_clips(known_clip()[None])[0]
    return vector


def stored_vector() -> NDArray[np.float32]:
    """The stored vector, float32 (D,)."""
    values = json.loads(bundled.CHECK_FILE.read_text(encoding="utf-8"))
    return np.array(values["vector"], dtype=np.float32)


def difference() -> float:
    """The largest difference of the two vectors, as a share of the largest stored value."""
    expected = stored_vector()
    return float(np.abs(bundled_vector() - expected).max() / np.abs(expected).max())
