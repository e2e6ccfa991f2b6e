"""Metrics of a classifier: accuracy with its interval, confusion matrix, top k, calibration.

Arrays in, numbers out. S samples, C classes; ``scores`` (S, C) are positive and sum to 1 per row,
``y`` (S,) are class indexes, -1 if the classifier does not know the true class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Indexes = NDArray[np.int64]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval.

    Attributes:
        value: the estimate.
        low: lower end of the interval.
        high: upper end.
        method: how it was computed: ``Wilson``, ``bootstrap over groups`` or ``videos``, ``t``.
        confidence: share of such intervals that contain the true value.
    """

    value: float
    low: float
    high: float
    method: str
    confidence: float = CONFIDENCE

    def __str__(self) -> str:
        return f"{self.value:.1%} [{self.low:.1%}, {self.high:.1%}]"

    def to_dict(self) -> dict[str, float | str]:
        """As JSON."""
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "method": self.method,
            "confidence": self.confidence,
        }


def wilson_interval(correct: int, total: int, *, confidence: float = CONFIDENCE) -> Interval:
    """Interval of a proportion of independent trials (Wilson's score interval, 1927).

    It stays within 0 and 1 and is accurate for few trials and for proportions near the ends, where
    the usual plus-minus is not.

    Raises:
        ValueError: no trials.
    """
    if total < 1:
        raise ValueError("an interval needs one sample or more")
    from scipy.stats import binomtest

    found = binomtest(correct, total).proportion_ci(confidence, method="wilson")
    share = correct / total
    # Rounding may leave the proportion itself slightly outside at 0 and 1.
    low, high = min(float(found.low), share), max(float(found.high), share)
    return Interval(share, max(0.0, low), min(1.0, high), "Wilson", confidence)


def bootstrap_interval(
    values: NDArray[np.float64],
    groups: Indexes,
    *,
    confidence: float = CONFIDENCE,
    repeats: int = 2000,
    seed: int = 0,
    method: str = "bootstrap over groups",
) -> Interval:
    """Bootstrap interval of the mean of ``values`` (S,): whole groups are resampled.

    Samples of one group (clips of one recording) are right or wrong together: an interval that
    treats them as independent is too narrow.

    Raises:
        ValueError: fewer than two groups.
    """
    names, encoded = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise ValueError("an interval over groups needs two groups or more")
    total = np.bincount(encoded, weights=values)
    count = np.bincount(encoded).astype(np.float64)
    draws = np.random.default_rng(seed).integers(len(names), size=(repeats, len(names)))
    means = total[draws].sum(axis=1) / count[draws].sum(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    value = float(np.mean(values))
    return Interval(value, min(float(low), value), max(float(high), value), method, confidence)


def accuracy_interval(
    correct: NDArray[np.bool_], groups: Indexes | None = None, *, seed: int = 0
) -> Interval:
    """Accuracy with its interval: over groups if there are two or more, otherwise Wilson's.

    With 0 % or 100 % right, resampling changes nothing: the interval is Wilson's for the number of
    groups.
    """
    share = float(np.mean(correct))
    if groups is None or len(np.unique(groups)) < 2:
        return wilson_interval(int(correct.sum()), len(correct))
    if share in (0.0, 1.0):
        count = len(np.unique(groups))
        return wilson_interval(round(share * count), count)
    return bootstrap_interval(correct.astype(np.float64), groups, seed=seed)


def mean_interval(values: Sequence[float], *, confidence: float = CONFIDENCE) -> Interval:
    """Mean of repeated runs with Student's t interval; a single run has no interval."""
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    if len(array) < 2:
        return Interval(mean, float("nan"), float("nan"), "t", confidence)
    from scipy.stats import t

    half = float(t.ppf(0.5 + confidence / 2, len(array) - 1)) * float(
        array.std(ddof=1) / np.sqrt(len(array))
    )
    return Interval(mean, mean - half, mean + half, "t", confidence)


def topk_accuracy(scores: Scores, y: Indexes, k: int) -> float:
    """Share of samples whose true class is among the k best; ties go against the true class.

    A sample with a score that is not finite is never right.
    """
    known = (y >= 0) & np.isfinite(scores).all(axis=1)
    own = scores[np.arange(len(y)), np.maximum(y, 0)]
    better = (scores > own[:, None]).sum(axis=1)
    ties = (scores == own[:, None]).sum(axis=1) - 1
    return float(np.mean(known & (better + ties < k)))


def confusion_matrix(y: Indexes, predicted: Indexes, num_classes: int) -> Indexes:
    """Confusion matrix: how often class i (row) was predicted as class j (column), int64 (C, C)."""
    known = y >= 0
    cells = y[known] * num_classes + predicted[known]
    counts = np.bincount(cells, minlength=num_classes**2).astype(np.int64)
    return counts.reshape(num_classes, num_classes)


def log_loss(scores: Scores, y: Indexes) -> float:
    """Mean of -log of the true class's score, in nats; scores below 1e-12 count as 1e-12."""
    own = np.where(y >= 0, scores[np.arange(len(y)), np.maximum(y, 0)], 0.0)
    return float(-np.log(np.maximum(own, 1e-12)).mean())


@dataclass(frozen=True)
class Calibration:
    """Whether a score of 0.8 is right in 80 of 100 cases.

    Attributes:
        confidence: mean of the best class's score in each bin (B,); NaN if a bin is empty.
        accuracy: share of correct predictions in each bin (B,).
        count: samples in each bin (B,).
        error: expected calibration error, the mean gap between the two, weighted by count.
    """

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    count: Indexes
    error: float


def calibration(scores: Scores, y: Indexes, *, bins: int = 10) -> Calibration:
    """Sort samples into equally wide bins by the best class's score, and compare with the truth."""
    confidence = scores.max(axis=1)
    correct = scores.argmax(axis=1) == y
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(place, weights=confidence, minlength=bins) / count
        right = np.bincount(place, weights=correct, minlength=bins) / count
    gap = np.where(count > 0, np.abs(mean - right), 0.0)
    return Calibration(mean, right, count, float((gap * count).sum() / len(y)))


@dataclass(frozen=True)
class ClassResult:
    """Results of one class.

    Attributes:
        name: the class.
        count: its samples.
        recall: share of them that is found; NaN without samples.
        precision: share of its predictions that are right; NaN without any.
        interval: of the recall; None without samples.
    """

    name: str
    count: int
    recall: float
    precision: float
    interval: Interval | None


@dataclass(frozen=True)
class Evaluation:
    """Scores against the truth.

    Attributes:
        scores: (S, C).
        y: (S,).
        classes: C names.
        groups: (S,) the group number of each sample; None if there are no groups.
    """

    scores: Scores = field(repr=False)
    y: Indexes = field(repr=False)
    classes: tuple[str, ...]
    groups: Indexes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.scores.shape != (len(self.y), len(self.classes)) or len(self.y) == 0:
            raise ValueError(
                f"scores of shape {self.scores.shape} for {len(self.y)} samples and "
                f"{len(self.classes)} classes"
            )
        if not np.isfinite(self.scores).all():
            raise ValueError("the scores are NaN or infinite: they cannot be evaluated")

    @cached_property
    def predicted(self) -> Indexes:
        """Best class of each sample (S,)."""
        best: Indexes = self.scores.argmax(axis=1).astype(np.int64)
        return best

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """Whether the best class is the true one (S,)."""
        return np.asarray(self.predicted == self.y)

    @cached_property
    def accuracy(self) -> Interval:
        """Share of samples whose best class is the true one."""
        return accuracy_interval(self.correct, self.groups)

    @cached_property
    def mean_class_accuracy(self) -> float:
        """Mean recall of the classes: each class counts the same."""
        return float(np.nanmean([row.recall for row in self.per_class]))

    def topk(self, k: int) -> float:
        """Share of samples whose class is among the k best."""
        return topk_accuracy(self.scores, self.y, k)

    @cached_property
    def confusion(self) -> Indexes:
        """(C, C), the true class in rows."""
        return confusion_matrix(self.y, self.predicted, len(self.classes))

    @cached_property
    def calibration(self) -> Calibration:
        """Reliability in ten bins."""
        return calibration(self.scores, self.y)

    @cached_property
    def per_class(self) -> list[ClassResult]:
        """Results of each class, in index order."""
        matrix = self.confusion
        rows = []
        for i, name in enumerate(self.classes):
            right, count, called = matrix[i, i], int(matrix[i].sum()), int(matrix[:, i].sum())
            rows.append(
                ClassResult(
                    name=name,
                    count=count,
                    recall=right / count if count else float("nan"),
                    precision=right / called if called else float("nan"),
                    interval=wilson_interval(int(right), count) if count else None,
                )
            )
        return rows

    @cached_property
    def roc_auc(self) -> Interval | None:
        """Area under the ROC curve; None unless there are two classes, both with samples."""
        if len(self.classes) != 2 or set(np.unique(self.y).tolist()) != {0, 1}:
            return None
        from vidfeat.evaluation.ranking import roc_auc

        margin = self.scores[:, 1] - self.scores[:, 0]
        method = f"bootstrap over {'videos' if self.groups is None else 'groups'}"
        return Interval(*roc_auc(margin, self.y == 1, self.groups), method)

    def mistakes(self, limit: int) -> Indexes:
        """Indexes of misclassified samples, the most confident first."""
        wrong = np.flatnonzero(~self.correct)
        order = np.argsort(-self.scores.max(axis=1)[wrong], kind="stable")
        return wrong[order][:limit].astype(np.int64)

    def to_dict(self) -> dict[str, object]:
        """The summary as JSON."""
        return {
            "samples": len(self.y),
            "accuracy": self.accuracy.to_dict(),
            "mean_class_accuracy": self.mean_class_accuracy,
            "top5_accuracy": self.topk(5) if len(self.classes) > 5 else None,
            "log_loss": log_loss(self.scores, self.y),
            "calibration_error": self.calibration.error,
            "roc_auc": self.roc_auc.to_dict() if self.roc_auc else None,
            "classes": [
                {
                    "name": row.name,
                    "samples": row.count,
                    "precision": row.precision,
                    "recall": row.recall,
                }
                for row in self.per_class
            ],
        }
