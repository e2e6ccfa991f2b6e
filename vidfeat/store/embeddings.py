"""The vectors of one video's clips, with the seconds that each covers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import DataError

FloatVectors = NDArray[np.float32] | NDArray[np.float16]


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Vectors of clips, never without their time.

    Raises:
        DataError: the shapes do not match.
    """

    vectors: FloatVectors
    """(N, D) float32 or float16, one row per clip."""
    start_seconds: NDArray[np.float64]
    """(N,) from the first shown frame of the video."""
    end_seconds: NDArray[np.float64]
    """(N,)"""

    def __post_init__(self) -> None:
        vectors = np.asarray(self.vectors)
        if vectors.ndim != 2 or vectors.dtype not in (np.float32, np.float16):
            raise DataError(
                f"vectors of shape {vectors.shape} and type {vectors.dtype}, "
                "expected (clips, dimensions) of float32 or float16"
            )
        object.__setattr__(self, "vectors", vectors)
        for name in ("start_seconds", "end_seconds"):
            seconds = np.asarray(getattr(self, name), dtype=np.float64)
            if seconds.shape != (len(vectors),):
                raise DataError(
                    f"{name} has shape {seconds.shape}, expected ({len(vectors)},): one for each "
                    "row of vectors"
                )
            object.__setattr__(self, name, seconds)

    def __len__(self) -> int:
        return len(self.vectors)

    def __repr__(self) -> str:
        covered = ""
        if len(self):
            covered = f", {self.start_seconds.min():.2f} s to {self.end_seconds.max():.2f} s"
        return f"Embeddings(vectors {self.vectors.shape} {self.vectors.dtype}{covered})"

    def mean(self) -> NDArray[np.float32]:
        """The mean vector of all clips, (D,) float32, summed in float64.

        Raises:
            DataError: there is no clip.
        """
        if not len(self):
            raise DataError("a video without embeddings has no mean")
        mean: NDArray[np.float64] = self.vectors.mean(axis=0, dtype=np.float64)
        return mean.astype(np.float32)
