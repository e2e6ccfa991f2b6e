"""Metrics of how scores rank samples, without a threshold: ROC AUC and average precision."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def roc_auc(
    scores: NDArray[np.float64],
    positive: NDArray[np.bool_],
    groups: NDArray[np.int64] | None = None,
    *,
    confidence: float = 0.95,
    repeats: int = 300,
    seed: int = 0,
) -> tuple[float, float, float]:
    """The area under the ROC curve: how often a positive sample scores above a negative one.

    Ties count half (the Mann-Whitney statistic). The interval resamples samples with replacement,
    or whole groups if there are any; draws without both kinds are left out.

    Args:
        scores: (S,), higher for samples that look positive.
        positive: (S,), which samples are positive.
        groups: (S,), group numbers; None if samples are independent.
        confidence: of the interval.
        repeats: number of draws.
        seed: of the draws.

    Returns:
        The area, and the lower and upper end of its interval.

    Raises:
        ValueError: all samples are positive, or none.
    """
    value = _area(scores, positive)
    if np.isnan(value):
        raise ValueError("a ROC curve needs positive and negative samples")
    owner = np.arange(len(scores)) if groups is None else np.unique(groups, return_inverse=True)[1]
    order = np.argsort(owner, kind="stable")
    first = np.concatenate([[0], np.cumsum(np.bincount(owner))])
    random = np.random.default_rng(seed)
    areas = []
    for _ in range(repeats):
        drawn = random.integers(len(first) - 1, size=len(first) - 1)
        rows = np.concatenate([order[first[one] : first[one + 1]] for one in drawn])
        areas.append(_area(scores[rows], positive[rows]))
    known = np.array(areas)[~np.isnan(areas)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(known, [tail, 1 - tail]) if len(known) else (value, value)
    return value, min(float(low), value), max(float(high), value)


def _area(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """The area, NaN where all samples are of one kind."""
    from scipy.stats import rankdata

    count = int(positive.sum())
    others = len(positive) - count
    if not count or not others:
        return float("nan")
    ranks = float(rankdata(scores)[positive].sum())
    return (ranks - count * (count + 1) / 2) / (count * others)


def average_precision(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Average precision: the precision at each score, averaged over recall, as in scikit-learn.

    Args:
        scores: (S,), higher for samples that look positive; equal scores are treated together.
        positive: (S,), which samples are positive.

    Returns:
        The average precision: NaN without a positive sample; guessing gets their share.
    """
    count = int(positive.sum())
    if not count:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ranked, right = scores[order], np.cumsum(positive[order])
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # of each run of ties
    precision = right[last] / (last + 1)
    recall = np.diff(right[last], prepend=0) / count
    return float((precision * recall).sum())


def mean_average_precision(scores: NDArray[np.float64], targets: NDArray[np.bool_]) -> float:
    """The mean of the average precision over classes that have a sample; NaN if none has.

    Args:
        scores: (S, C).
        targets: (S, C), which sample has which class.
    """
    pairs = zip(scores.T, targets.T, strict=True)
    found = [average_precision(own, has) for own, has in pairs if has.any()]
    return float(np.mean(found)) if found else float("nan")
