"""The interface of an engine: uint8 clips in, float32 vectors out."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Precision = Literal["fp32", "tf32", "fp16", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "fp16", "bf16", "int8")

Execution = Literal["eager", "graph", "compile"]
"""How a network runs on a GPU: eagerly, as a CUDA graph, or with kernels compiled for it."""


class Engine(Protocol):
    """Runs a network on batches of clips. Engines derive from it and override its defaults."""

    name: str
    """Its name, as users give it."""
    device_type: str = "cpu"
    """``cpu``, ``cuda``, or another of torch's device types."""
    takes_planes: bool = False
    """It runs on a device where clips may arrive as planes: see ``device_batches.py``."""
    batches_at_once: int = 1
    """Threads that may call ``embed`` at the same time, so that copies and computation overlap."""
    clip_by_clip: bool = False
    """Whether clips run side by side, each on one thread of the processor."""
    precision_error: float | None = None
    """Relative error against fp32 on the first clips; None before that, and for fp32."""
    largest_batch: int | None = None
    """The largest batch that fits into memory; None until one does not fit."""
    execution: Execution = "eager"
    """How it runs; may be changed before the first batch."""
    batches_recomputed: int = 0
    """Batches that were not finite and were computed again in fp32."""

    @property
    def preferred_batch(self) -> int | None:
        """Clips per batch that keep it busy; None if it matters little."""
        return None

    @property
    def flops_per_second(self) -> float:
        """Rough FLOPS of its device; a constant, not a measurement."""
        ...

    def facts(self) -> dict[str, Any]:
        """What a feature file records of it in addition to the encoder's spec, as JSON."""
        if not self.takes_planes:
            return {"device": "cpu"}
        return {"device": "cuda", "execution": self.execution}

    def close(self) -> None:
        """Release its resources; it cannot be used afterwards."""
        return None  # noqa: RET501 (an empty body would make it abstract)

    def embed(self, clips_NTHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Vectors (N, D) of uint8 clips (N, T, H, W, 3)."""
        ...

    def predict(self, clips_NTHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Class scores (N, classes), before the softmax."""
        ...
