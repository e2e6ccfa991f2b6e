"""How good a taught head is, by cross-validation with whole videos held out.

The labels are not a random sample. If the page showed the most uncertain clips, these are the hard
ones, and the collection as a whole is easier than these figures suggest; if it showed the most
certain ones, it is harder.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.evaluation.metrics import Interval, accuracy_interval
from vidfeat.heads.teaching import FIRST_STRENGTH, STRENGTHS, Placing, QuickHead

_FOLDS = 5
_SEED = 11
_FIRST_POINT = 10
_MOST_POINTS = 6
# With fewer labels, the folds reflect chance more than the strength.
_CHOOSE_FROM = 100
_MOST_LABELS = 6000
Split = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class ClassQuality:
    """Results of one class.

    Attributes:
        number: of the class.
        labelled: clips with this label.
        predicted: clips that the held-out heads assign to it.
        precision: share of these that have the label; None if there are none.
        recall: share of the labelled ones that are found.
    """

    number: int
    labelled: int
    predicted: int
    precision: Interval | None
    recall: float


@dataclass(frozen=True)
class Quality:
    """Cross-validation of the labels so far.

    Attributes:
        accuracy: share of labelled clips that heads get right without having seen their video.
        classes: the same by class.
        curve: numbers of labels, and the accuracy with each.
        own_scores: (N,) out-of-fold score of each clip's own label.
        strength: the best C.
        folds: number of folds.
    """

    accuracy: Interval
    classes: tuple[ClassQuality, ...]
    curve: tuple[tuple[int, Interval], ...]
    own_scores: NDArray[np.float64] = field(repr=False)
    strength: float
    folds: int


def judge_labels(
    placed: NDArray[np.float64],
    y: NDArray[np.int64],
    groups: NDArray[np.int64],
    *,
    strength: float = FIRST_STRENGTH,
    goes_on: Callable[[], bool] = lambda: True,
) -> Quality | None:
    """Cross-validate labels, in the order in which they were given.

    Args:
        placed: (N, D) vectors as `Placing.apply` makes them.
        y: (N,) numbers of their classes.
        groups: (N,) what stays together: the video, or the recording it was cut from.
        strength: C, kept if there are too few labels to choose one.
        goes_on: called between fits; returns false to stop, as when the labels have changed.

    Returns:
        None if it was stopped, or if no two classes have labels in two groups each.
    """
    folds = make_group_folds(y, groups)
    if not folds:
        return None
    candidates = STRENGTHS if len(y) >= _CHOOSE_FROM else (strength,)
    best: tuple[float, float, NDArray[np.float64], NDArray[np.int64]] | None = None
    for value in candidates:
        if not goes_on():
            return None
        own, predicted = _out_of_fold(placed, y, folds, value, len(y))
        loss = float(-np.log(np.maximum(own, 1e-6)).mean())
        if best is None or loss < best[0]:
            best = (loss, value, own, predicted)
    assert best is not None
    _, value, own, predicted = best
    curve = []
    for count in _points(len(y)):
        if not goes_on():
            return None
        right = predicted if count == len(y) else _out_of_fold(placed, y, folds, value, count)[1]
        curve.append((count, accuracy_interval(right == y, groups)))
    return Quality(
        accuracy=accuracy_interval(predicted == y, groups),
        classes=tuple(_of_class(int(name), y, predicted, groups) for name in np.unique(y)),
        curve=tuple(curve),
        own_scores=own,
        strength=value,
        folds=len(folds),
    )


def make_group_folds(y: NDArray[np.int64], groups: NDArray[np.int64]) -> list[Split]:
    """Stratified folds of whole groups; none if no two classes have two groups each."""
    from sklearn.model_selection import StratifiedGroupKFold

    several = [
        count
        for name in np.unique(y)
        if (count := len(np.unique(groups[y == name]))) >= 2  # one to train on, one to hold out
    ]
    if len(several) < 2 or len(np.unique(groups)) < 2:
        return []
    folds = min(_FOLDS, min(several), len(np.unique(groups)))
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=_SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer clips than folds
        found = list(splitter.split(np.zeros(len(y)), y, groups))
    return [(train.astype(np.int64), test.astype(np.int64)) for train, test in found]


def _out_of_fold(
    placed: NDArray[np.float64],
    y: NDArray[np.int64],
    folds: list[Split],
    strength: float,
    count: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Out-of-fold scores of the true labels, and predictions, from the first ``count`` labels."""
    plain = Placing(np.zeros(placed.shape[1]), 1.0)
    own = np.zeros(len(y))
    predicted = np.full(len(y), -1, dtype=np.int64)
    for train, test in folds:
        train = train[train < count]
        if not len(train) or not len(test):
            continue
        known = np.unique(y[train])
        if len(known) < 2:
            predicted[test] = known[0]
            own[test] = y[test] == known[0]
            continue
        head = QuickHead(plain, strength).fit_placed(placed[train], y[train])
        scores = head.scores(placed[test].astype(np.float32))
        predicted[test] = head.classes[scores.argmax(axis=1)]
        column = np.searchsorted(head.classes, y[test]).clip(max=len(head.classes) - 1)
        there = head.classes[column] == y[test]
        own[test] = np.where(there, scores[np.arange(len(test)), column], 0.0)
    return own, predicted


def _points(count: int) -> list[int]:
    """Numbers of labels for the curve: all, half, a quarter, ..., in ascending order."""
    points = [count]
    while points[-1] // 2 >= _FIRST_POINT and len(points) < _MOST_POINTS:
        points.append(points[-1] // 2)
    return points[::-1]


def _of_class(
    number: int, y: NDArray[np.int64], predicted: NDArray[np.int64], groups: NDArray[np.int64]
) -> ClassQuality:
    taken, held = predicted == number, y == number
    precision = None
    if taken.any():
        precision = accuracy_interval((y == number)[taken], groups[taken])
    return ClassQuality(
        number,
        int(held.sum()),
        int(taken.sum()),
        precision,
        float((predicted[held] == number).mean()),
    )


def newest(count: int) -> slice:
    """The labels to cross-validate: only the newest if there are very many."""
    return slice(max(0, count - _MOST_LABELS), count)


def interval_to_dict(interval: Interval | None) -> dict[str, Any] | None:
    """Value and ends of an interval, for the page."""
    if interval is None:
        return None
    return {
        "value": round(interval.value, 4),
        "low": round(interval.low, 4),
        "high": round(interval.high, 4),
    }
