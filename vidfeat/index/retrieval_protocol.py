"""Retrieval by the literature's protocol: test videos retrieve training videos of their class.

A video is represented by the mean of its clips' vectors (ten clips, by VCOP's protocol), and every
query is compared with every video of the gallery by cosine. ``R@k`` is the share of queries with at
least one video of their class among the first k; mAP is the mean over queries of the average
precision over the whole gallery. No video is dropped, and both parts are treated alike: centring,
if requested, subtracts the gallery's mean from both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.datasets.labels import Labels
from vidfeat.datasets.samples import collect
from vidfeat.errors import DataError, UsageError
from vidfeat.store.reader import FeatureStore

RANKS = (1, 5, 10, 20, 50)
CLIPS = 10
_BLOCK = 512


@dataclass(frozen=True)
class RetrievalScores:
    """The results of a run of the protocol.

    Attributes:
        recall: k to R@k, as fractions.
        mean_average_precision: mAP over the whole gallery.
        num_queries: number of test videos.
        num_gallery: number of training videos.
        variant: description of what was done, to be printed with the figures.
        missing: labelled videos that have no features.
        notes: departures from the protocol, one sentence each.
    """

    recall: dict[int, float]
    mean_average_precision: float
    num_queries: int
    num_gallery: int
    variant: str
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """The scores, for JSON."""
        return {
            "recall": {str(k): value for k, value in self.recall.items()},
            "mean_average_precision": self.mean_average_precision,
            "queries": self.num_queries,
            "gallery": self.num_gallery,
            "variant": self.variant,
            "missing": list(self.missing),
            "notes": list(self.notes),
        }


def evaluate_retrieval(
    store: FeatureStore,
    labels: Labels,
    *,
    ranks: Sequence[int] = RANKS,
    center: bool = False,
    skip_bad_rows: bool = False,
) -> RetrievalScores:
    """Run the protocol on the ``train`` and ``test`` parts of some labels.

    Args:
        store: features of both parts, ten clips per video for the protocol.
        labels: with ``train`` and ``test`` parts.
        ranks: the values of k for R@k.
        center: subtract the mean of the gallery's video vectors from all.
        skip_bad_rows: leave out clips whose vectors are not finite; otherwise they are an error.

    Raises:
        DataError: a part is empty, or vectors cannot be compared.
        UsageError: no rank, or one below 1.
    """
    if not ranks or min(ranks) < 1:
        raise UsageError(f"ranks are {list(ranks)}, expected at least one, each 1 or more")
    samples = collect(store, labels, skip_bad_rows=skip_bad_rows)
    train, test = samples.part("train"), samples.part("test")
    for name, part in (("train", train), ("test", test)):
        if not len(part):
            raise DataError(
                f"{labels.source} has no video of the {name} part in {store.path}: give an "
                "official split, or a labels.csv with a column split of train and test"
            )
    pooled = samples.pooled()
    names = [row.path for row in samples.rows]
    gallery = _directions(pooled, train, names, pooled[train].mean(axis=0) if center else None)
    queries = _directions(pooled, test, names, pooled[train].mean(axis=0) if center else None)
    recall, precision = rank_scores(gallery, samples.y[train], queries, samples.y[test], ranks)
    counts = samples.counts[np.concatenate([train, test])]
    notes = _notes(counts, samples.y[train], samples.y[test], samples.missing)
    clips = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()}-{counts.max()}"
    variant = (
        f"{labels.source}: {clips} clips per video, vectors averaged, "
        f"{'minus the mean of the gallery, ' if center else ''}cosine; {len(train)} train videos "
        f"as the gallery, {len(test)} test videos as queries, exact"
    )
    return RetrievalScores(
        recall=recall,
        mean_average_precision=precision,
        num_queries=len(test),
        num_gallery=len(train),
        variant=variant,
        missing=tuple(samples.missing),
        notes=notes,
    )


def mean_scores(scores: Sequence[RetrievalScores]) -> dict[str, Any]:
    """Average recall and mAP over splits with equal weights, as papers do."""
    return {
        "recall": {
            str(k): float(np.mean([one.recall[k] for one in scores])) for k in scores[0].recall
        },
        "mean_average_precision": float(np.mean([one.mean_average_precision for one in scores])),
    }


def _directions(
    pooled: NDArray[np.float32],
    part: NDArray[np.int64],
    names: Sequence[str],
    mean: NDArray[np.float32] | None,
) -> NDArray[np.float64]:
    vectors = pooled[part].astype(np.float64)
    if mean is not None:
        vectors -= mean
    length = np.linalg.norm(vectors, axis=1)
    bad = np.flatnonzero(~(length > 0))
    if len(bad):
        raise DataError(f"the mean vector of {names[part[bad[0]]]} is zero: extract it again")
    vectors /= length[:, None]
    return vectors


def rank_scores(
    gallery: NDArray[np.float64],
    gallery_y: NDArray[np.int64],
    queries: NDArray[np.float64],
    queries_y: NDArray[np.int64],
    ranks: Sequence[int],
) -> tuple[dict[int, float], float]:
    """R@k for each k, and mAP, by comparing every query with every video of the gallery.

    Args:
        gallery: (G, D), rows of length one.
        gallery_y: (G,) classes.
        queries: (Q, D), rows of length one.
        queries_y: (Q,) classes.
        ranks: the values of k.
    """
    hits = dict.fromkeys(sorted(ranks), 0)
    precision = 0.0
    for low in range(0, len(queries), _BLOCK):
        scores = queries[low : low + _BLOCK] @ gallery.T
        order = np.argsort(-scores, axis=1)
        same = gallery_y[order] == queries_y[low : low + _BLOCK, None]
        for k in hits:
            hits[k] += int(same[:, :k].any(axis=1).sum())
        found = np.cumsum(same, axis=1)
        at_rank = found / np.arange(1, same.shape[1] + 1)
        relevant = found[:, -1]
        averages = (at_rank * same).sum(axis=1) / np.maximum(relevant, 1)
        precision += float(averages.sum())
    return {k: count / len(queries) for k, count in hits.items()}, precision / len(queries)


def _notes(
    counts: NDArray[np.int64],
    train_y: NDArray[np.int64],
    test_y: NDArray[np.int64],
    missing: Sequence[object],
) -> tuple[str, ...]:
    notes = []
    if counts.min() != CLIPS or counts.max() != CLIPS:
        notes.append(
            f"the protocol takes {CLIPS} clips per video; here: {counts.min()} to {counts.max()}; "
            f"extract with clips={CLIPS} for comparable figures"
        )
    alone = int((~np.isin(test_y, train_y)).sum())
    if alone:
        notes.append(
            f"{alone} queries have no video of their class in the gallery: they count as 0"
        )
    if missing:
        notes.append(f"{len(missing)} labelled videos have no features and are not counted")
    return tuple(notes)
