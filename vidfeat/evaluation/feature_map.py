"""A map of a feature file: all clips on a plane, close together where their vectors are close."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from vidfeat.datasets.labels import Labels, as_labels
from vidfeat.datasets.samples import collect
from vidfeat.errors import DataError
from vidfeat.store.reader import FeatureStore
from vidfeat.system.wording import counted

FEWEST_CLIPS = 3


def save_map(
    features: str | os.PathLike[str],
    target: Path,
    labels: Labels | Mapping[str, str] | str | os.PathLike[str] | None = None,
    *,
    seed: int = 0,
    skip_bad_rows: bool = False,
) -> int:
    """Draw the clips of a feature file, coloured by class; the suffix decides the format.

    The map is a t-SNE of the centred vectors, or of a random sample if there are too many clips.

    Args:
        features: the feature file.
        target: png, svg or pdf.
        labels: the classes of videos, in any form that ``finetune`` takes; None uses each video's
            folder.
        seed: of the sample, and of the layout.
        skip_bad_rows: leave out vectors that are NaN or infinite instead of raising an error.

    Returns:
        How many clips were drawn.

    Raises:
        DataError: fewer than three clips, vectors that are NaN or infinite, or labels that name
            none of the videos.
    """
    from vidfeat.evaluation import plots
    from vidfeat.evaluation.projection import MOST_POINTS, project

    with FeatureStore(features) as store:
        if labels is None:
            vectors, classes, y = _by_folder(store, skip_bad_rows=skip_bad_rows)
        else:
            samples = collect(store, as_labels(labels, store.paths), skip_bad_rows=skip_bad_rows)
            vectors, classes = samples.vectors, samples.classes
            y = samples.y[samples.sample_of_clip]
    if len(vectors) < FEWEST_CLIPS:
        told = counted(len(vectors), "clip is", "clips are")
        raise DataError(f"{features}: {told} too few for a map: it takes at least {FEWEST_CLIPS}")
    if len(vectors) > MOST_POINTS:
        rng = np.random.default_rng(seed)
        chosen = np.sort(rng.choice(len(vectors), MOST_POINTS, replace=False))
        vectors, y = vectors[chosen], y[chosen]
    points = project(vectors, seed=seed)
    with plots.figure(6.0, 6.2) as (made, (axes,)):
        plots.embedding_map(axes, points, y, classes)
        axes.set_title(f"{Path(features).name}: {len(y)} clips")
        plots.save_picture(made, Path(target))
    return len(y)


def _by_folder(
    store: FeatureStore, *, skip_bad_rows: bool
) -> tuple[NDArray[np.float32], tuple[str, ...], NDArray[np.int64]]:
    """All vectors, the folder names as classes, and the class index of each vector."""
    vectors, _, videos = store.to_arrays()
    good = np.asarray(np.isfinite(vectors).all(axis=1))
    if not (skip_bad_rows or good.all()):
        broken, count = np.unique(videos[~good]), int((~good).sum())
        raise DataError(
            f"{store.path}: {counted(count, 'vector')} of {counted(len(broken), 'video')} "
            f"{'holds' if count == 1 else 'hold'} NaN or infinity (first: "
            f"{store.paths[broken[0]]}): extract these again with precision fp32, or leave the "
            "clips out with skip_bad_rows",
            field=("precision", "skip_bad_rows"),
        )
    folders = [
        str(PurePosixPath(path).parent).removeprefix(".") or "videos" for path in store.paths
    ]
    classes, of_video = np.unique(np.array(folders, dtype=object), return_inverse=True)
    return vectors[good], tuple(map(str, classes)), of_video[videos[good]].astype(np.int64)
