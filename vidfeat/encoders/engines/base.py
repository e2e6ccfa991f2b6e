"""The one thing that an engine does: uint8 clips in, float32 vectors out."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Precision = Literal["fp32", "fp16", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8")


class Engine(Protocol):
    """Runs a network on batches of clips."""

    name: str
    """As ``--engine`` takes it."""

    def embed(self, clips_NTHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Vectors (N, D) of uint8 clips (N, T, H, W, 3)."""
        ...

    def predict(self, clips_NTHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class scores (N, classes), before the softmax."""
        ...
