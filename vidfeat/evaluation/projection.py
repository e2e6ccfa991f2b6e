"""Projection of vectors onto a plane, for plots."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import UsageError
from vidfeat.system.threads import threads_for

Method = Literal["tsne", "pca"]

# t-SNE takes minutes beyond this many points, and a picture cannot show more.
MOST_POINTS = 2000
FEWEST_POINTS_FOR_TSNE = 12
_FEW_POINTS = 250


def project(
    vectors: NDArray[np.floating[Any]], *, method: Method = "tsne", seed: int = 0
) -> NDArray[np.float32]:
    """Project vectors (S, D) onto a plane (S, 2); the seed determines the random choices.

    t-SNE keeps neighbours but not large distances; PCA keeps those but hides neighbours. Vectors
    are centred first; t-SNE works on their 50 largest principal components.

    Raises:
        UsageError: an unknown method, or more vectors than t-SNE is meant for here.
    """
    from sklearn.decomposition import PCA

    if method not in ("tsne", "pca"):
        raise UsageError(f"map is tsne, pca or none, not {method!r}", field="map")
    count, dimension = vectors.shape
    centred = np.asarray(vectors, dtype=np.float64) - vectors.mean(axis=0, dtype=np.float64)
    if count < 3 or not centred.any():
        return np.zeros((count, 2), dtype=np.float32)
    components = min(50, count - 1, dimension)
    if method == "pca" or count < FEWEST_POINTS_FOR_TSNE:
        components = min(2, components)
    reduced = PCA(components, svd_solver="full" if count < 500 else "auto", random_state=seed)
    points = reduced.fit_transform(centred)
    if points.shape[1] < 2:
        points = np.pad(points, ((0, 0), (0, 1)))
    if method == "pca" or count < FEWEST_POINTS_FOR_TSNE:
        return np.asarray(points, dtype=np.float32)
    if count > MOST_POINTS:
        raise UsageError(f"t-SNE of {count} vectors: give {MOST_POINTS} at most, or use pca")
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (count - 1) / 3)
    scaled = points / points[:, 0].std()
    way = "exact" if count <= _FEW_POINTS else "barnes_hut"
    made = TSNE(2, perplexity=perplexity, init="pca", method=way, random_state=seed)
    with threads_for(scaled.nbytes):
        return np.asarray(made.fit_transform(scaled), dtype=np.float32)
