"""PCA, for fewer numbers per row: fitted once, and applied to features that come later.

As for SoccerNet's features, the mean is subtracted and rows are projected onto the directions of
largest variance, without whitening. The file holds ``mean`` (D,), ``components`` (K, D) and
``variance`` (K,), and says which network's vectors it is for.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import DataError, FingerprintError, StoreError, UsageError
from vidfeat.store.reader import FeatureStore
from vidfeat.system.files import atomic_write

_FORMAT = "vidfeat-pca"


@dataclass(frozen=True, eq=False)
class PCA:
    """A projection from (N, D) to (N, K).

    Attributes:
        mean: (D,) float32.
        components: (K, D) float32, orthonormal, in order of descending variance.
        variance: (K,) float32, variance along each component of the rows that it was fitted on.
        share: the share of all variance that the components hold, 0 to 1.
        space_fingerprint: fingerprint of the vectors that it is for.
        model: name of the network that made them.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    variance: NDArray[np.float32]
    share: float
    space_fingerprint: str
    model: str

    @property
    def dimension(self) -> int:
        """K, the numbers per row afterwards."""
        return len(self.components)

    def apply(self, vectors: NDArray[Any]) -> NDArray[np.float32]:
        """Project rows, (N, D) to (N, K)."""
        centred = np.asarray(vectors, dtype=np.float32) - self.mean
        return cast("NDArray[np.float32]", centred @ self.components.T)

    def check(self, store: FeatureStore) -> None:
        """Refuse the vectors of another network.

        Raises:
            FingerprintError: they are of another space.
        """
        if store.space_fingerprint != self.space_fingerprint:
            raise FingerprintError(
                f"{store.path} has vectors of another encoder ({store.encoder.get('model', '?')}) "
                f"than the PCA was fitted on ({self.model}): fit one on these features"
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, completely or not at all."""
        from safetensors.numpy import save_file

        about = {
            "format": _FORMAT,
            "space_fingerprint": self.space_fingerprint,
            "model": self.model,
            "share": self.share,
        }
        arrays = {name: getattr(self, name) for name in ("mean", "components", "variance")}
        with atomic_write(Path(path)) as temporary:
            save_file(arrays, temporary, {"vidfeat": json.dumps(about)})


def fit_pca(store: FeatureStore, dimensions: int) -> PCA:
    """Fit on all rows of a feature file, read in blocks.

    Args:
        store: the features.
        dimensions: K; fewer if the file has fewer rows or numbers per row.

    Raises:
        UsageError: ``dimensions`` is not positive, or above the numbers per row.
        DataError: fewer than two rows, or none that differ.
    """
    if not 0 < dimensions <= store.dimension:
        raise UsageError(
            f"pca_dimensions is {dimensions}, expected 1 to {store.dimension}, the numbers of a "
            f"row of {store.path}",
            field="pca_dimensions",
        )
    if store.num_clips < 2:
        raise DataError(f"{store.path} has {store.num_clips} rows: a PCA needs at least two")
    total = np.zeros(store.dimension)
    square = np.zeros((store.dimension, store.dimension))
    # The first row is subtracted first: squares of large numbers that hardly differ lose digits.
    shift = np.asarray(store.read_vectors(slice(0, 1)), dtype=np.float64)
    for _, block in store.iter_chunks():
        rows = np.asarray(block, dtype=np.float64) - shift
        total += rows.sum(axis=0)
        square += rows.T @ rows
    mean = total / store.num_clips
    covariance = (square - store.num_clips * np.outer(mean, mean)) / (store.num_clips - 1)
    variance, directions = np.linalg.eigh(covariance)
    whole = float(variance.clip(min=0).sum())
    if not whole > 0:
        raise DataError(f"the rows of {store.path} are all equal: there is nothing to fit")
    count = min(dimensions, store.num_clips - 1)
    components = directions[:, ::-1].T[:count]
    # The sign of an eigenvector is arbitrary: its largest entry is made positive, so that equal
    # features give equal files.
    largest = np.abs(components).argmax(axis=1)
    components = components * np.sign(components[np.arange(count), largest])[:, None]
    kept = variance[::-1][:count].clip(min=0)
    return PCA(
        (mean + shift[0]).astype(np.float32),
        np.ascontiguousarray(components, dtype=np.float32),
        kept.astype(np.float32),
        float(kept.sum() / whole),
        store.space_fingerprint,
        str(store.encoder.get("model", "?")),
    )


def load_pca(path: str | os.PathLike[str]) -> PCA:
    """Read a file that :meth:`PCA.save` wrote.

    Raises:
        StoreError: it does not exist, or is not such a file.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise StoreError(f"there is no PCA {path}: fit one first with pca fit {path}", field="pca")
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {}).get("vidfeat", "{}"))
            arrays = {name: file.get_tensor(name) for name in ("mean", "components", "variance")}
    except (SafetensorError, ValueError, OSError) as error:
        raise StoreError(f"{path} is not a PCA of vidfeat: {error}") from error
    count, dimension = arrays["components"].shape if arrays["components"].ndim == 2 else (0, 0)
    sound = arrays["mean"].shape == (dimension,) and arrays["variance"].shape == (count,)
    if about.get("format") != _FORMAT or not sound or not count:
        raise StoreError(
            f"{path} is not a PCA of vidfeat: fit one with pca fit {path}", field="pca"
        )
    return PCA(
        arrays["mean"],
        arrays["components"],
        arrays["variance"],
        float(about["share"]),
        str(about["space_fingerprint"]),
        str(about["model"]),
    )
