"""Normalise the vectors of an index to length one, after centring or whitening if requested.

Features of one network share a direction (their mean) and vary most along a few others (how bright
a scene is, how much it moves). Centring removes the first. Whitening also evens out the others, so
that rare features count: retrieval with lightly trained networks gains most from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import DataError

# Subtracting the mean from an equal vector leaves about 1e-7 of its length, by rounding.
_NO_LENGTH = 1e-6
_SHRINK = 1e-4
_LARGE = 1e30


@dataclass(frozen=True, eq=False)
class Normalisation:
    """How a vector of the encoder becomes one of the index: subtract the mean, scale to length one.

    Attributes:
        mean: (D,) float32, the mean of what was indexed first, or None if it is not subtracted.
            Queries are centred by the index's mean, never by their own.
        whitening: (D, D) float32 that centred vectors are multiplied by, or None.
    """

    mean: NDArray[np.float32] | None = None
    whitening: NDArray[np.float32] | None = None

    def apply(
        self, vectors: NDArray[Any], name: Callable[[int], str], remedy: str
    ) -> NDArray[np.float32]:
        """Normalise vectors, (N, D) float32.

        Args:
            vectors: (N, D) of any float type.
            name: name of a row, for messages.
            remedy: what to do about a bad row, for messages.

        Raises:
            DataError: a row has NaN, infinity, or no direction.
        """
        scaled, bad = self.apply_to_good(vectors)
        if len(bad):
            row = int(bad[0])
            what = "is not finite" if not np.isfinite(vectors[row]).all() else "has no direction"
            if what == "has no direction" and self.mean is not None:
                what = "has no direction (it is zero, or the mean of all)"
            more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
            raise DataError(f"the vector of {name(row)} {what}{more}: {remedy}")
        return scaled

    def apply_to_good(self, vectors: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Normalise vectors; also return the rows that cannot be normalised."""
        work = np.array(vectors, dtype=np.float32, ndmin=2)
        with np.errstate(over="ignore", invalid="ignore"):
            before = np.sqrt(np.einsum("nd,nd->n", work, work, dtype=np.float64))
            if self.mean is not None:
                work -= self.mean
                if self.whitening is not None:
                    work = work @ self.whitening
                length = np.sqrt(np.einsum("nd,nd->n", work, work, dtype=np.float64))
            else:
                length = before
            least = 0 if self.whitening is not None else _NO_LENGTH * before
            good = np.isfinite(length) & (length > least) & (before > 0)
            far = good & (length > _LARGE)  # too long for float32
            if far.any():
                work[far] /= np.float32(_LARGE)
                length[far] /= _LARGE
            work /= np.where(good, length, 1.0)[:, None].astype(np.float32)
        return work, np.flatnonzero(~good)


def learn(blocks: Iterable[NDArray[Any]], dimension: int, *, whiten: bool) -> Normalisation:
    """Learn the mean of some vectors, and their whitening if requested; only finite rows count.

    A direction of variance v is divided by sqrt(v + noise): variances far below the largest are
    noise, which must not be amplified (PCA whitening with shrinkage, as Jegou and Chum use it for
    retrieval, ECCV 2012). With fewer vectors per dimension, less is known about directions of small
    variance, and more counts as noise; a handful of vectors is hardly more than centred.

    Args:
        blocks: (n, D) each; read once.
        dimension: D.
        whiten: learn the whitening too, not only the mean.
    """
    total = np.zeros(dimension)
    square = np.zeros((dimension, dimension)) if whiten else None
    count = 0
    for block in blocks:
        good = np.asarray(block[np.isfinite(block).all(axis=1)], dtype=np.float64)
        total += good.sum(axis=0)
        count += len(good)
        if square is not None:
            square += good.T @ good
    mean = total / max(count, 1)
    if square is None:
        return Normalisation(mean.astype(np.float32))
    covariance = square / max(count, 1) - np.outer(mean, mean)
    variance, directions = np.linalg.eigh(covariance)
    variance = variance.clip(min=0)
    few = (dimension / max(count, 1)) ** 2
    noise = _SHRINK * float(variance.max()) + few * float(variance.mean())
    scale = 1 / np.sqrt(variance + max(noise, 1e-30))
    # Scaled to keep the usual lengths: only directions matter afterwards.
    scale /= scale.min()
    return Normalisation(mean.astype(np.float32), (directions * scale).astype(np.float32))
