"""Vectors as an index holds them: centred if asked, of length one, and none without a direction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import DataError

# Rounding leaves about 1e-7 of a vector's length when it is its own mean.
_NO_LENGTH = 1e-6


@dataclass(frozen=True, eq=False)
class Normalisation:
    """How a vector of the encoder becomes one of the index: minus the mean, then length one.

    Attributes:
        mean: (D,) float32, the mean of what was indexed first, or None where it is not subtracted.
            Queries are centred by the index's mean, never by their own.
    """

    mean: NDArray[np.float32] | None = None

    def apply(self, vectors: NDArray[Any], name: Callable[[int], str]) -> NDArray[np.float32]:
        """Normalised vectors, (N, D) float32.

        Args:
            vectors: (N, D) of any float type.
            name: what a row is called in a message.

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
            raise DataError(
                f"the vector of {name(row)} {what}{more}: extract it again, or leave such clips "
                "out with --skip-bad-rows"
            )
        return scaled

    def apply_to_good(self, vectors: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Normalised vectors, and the rows that cannot be (whose values mean nothing)."""
        work = np.array(vectors, dtype=np.float32, ndmin=2)
        with np.errstate(over="ignore", invalid="ignore"):
            before = np.sqrt(np.einsum("nd,nd->n", work, work, dtype=np.float64))
            if self.mean is not None:
                work -= self.mean
                length = np.sqrt(np.einsum("nd,nd->n", work, work, dtype=np.float64))
            else:
                length = before
            good = np.isfinite(length) & (length > _NO_LENGTH * before) & (before > 0)
            work /= np.where(good, length, 1.0)[:, None].astype(np.float32)
        return work, np.flatnonzero(~good)
