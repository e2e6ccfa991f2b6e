"""A head that is taught label by label: fitting it in milliseconds, and what to label next.

The vectors are those of an index, of unit length. They are centred on the collection's mean and
scaled by its spread, both known before the first label, so that one strength of the regularisation
fits all collections. The model is multinomial logistic regression, started from the weights of the
previous fit.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidfeat.system.threads import threads_for

STRENGTHS = (1.0, 10.0, 100.0)
"""Values of C to choose from, the strongest regularisation first."""
FIRST_STRENGTH = 3.0
"""C until there are enough labels to choose it."""
_TOLERANCE = 1e-4
_MOST_ITERATIONS = 200
_SPREAD_SAMPLE = 4000
_SPREAD_FIRST = 64


@dataclass(frozen=True)
class Placing:
    """How vectors of a collection are centred and scaled before a fit.

    Attributes:
        mean: (D,) of the collection.
        spread: root of the mean squared distance from it.
    """

    mean: NDArray[np.float64]
    spread: float

    @classmethod
    def of(cls, sample: NDArray[np.float32]) -> Placing:
        """Estimate it from a sample (S, D) of the collection."""
        mean = sample.mean(axis=0, dtype=np.float64)
        spread = float(np.sqrt(np.square(sample - mean).sum(axis=1).mean()))
        return cls(mean, spread if spread > 1e-9 else 1.0)

    def apply(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Centre and scale vectors (N, D) for a fit."""
        return (vectors - self.mean) / self.spread


@dataclass(frozen=True)
class LinearScores:
    """Class scores of vectors as they are stored: the weights include the placing.

    Attributes:
        classes: (C,) numbers of the classes, ascending.
        weights: float32 (C, D).
        bias: float32 (C,).
    """

    classes: NDArray[np.int64]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]

    def scores(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores (N, C) of vectors (N, D); a row is positive and sums to 1."""
        logits = vectors @ self.weights.T
        logits += self.bias
        logits -= logits.max(axis=1, keepdims=True)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=1, keepdims=True)
        return np.asarray(logits, dtype=np.float32)


class QuickHead:
    """Logistic regression that starts from its last fit.

    Args:
        placing: of the collection.
        strength: C, the inverse strength of the L2 penalty, for placed vectors.
    """

    def __init__(self, placing: Placing, strength: float = FIRST_STRENGTH) -> None:
        self.placing = placing
        self.strength = strength
        self._known: dict[int, tuple[NDArray[np.float64], float]] = {}

    def fit(self, vectors: NDArray[np.float32], y: NDArray[np.int64]) -> LinearScores:
        """Fit on stored vectors (N, D) and the numbers of their classes (N,).

        Raises:
            ValueError: fewer than two classes.
        """
        return self.fit_placed(self.placing.apply(vectors), y)

    def fit_placed(self, placed: NDArray[np.float64], y: NDArray[np.int64]) -> LinearScores:
        """Fit on vectors that are already placed; see `fit`."""
        from sklearn.linear_model import LogisticRegression

        classes = np.unique(y)
        if len(classes) < 2:
            raise ValueError("a head needs labels of two classes or more")
        model = LogisticRegression(
            C=self.strength, warm_start=True, tol=_TOLERANCE, max_iter=_MOST_ITERATIONS
        )
        self._start(model, classes, placed.shape[1])
        with threads_for(placed.nbytes), _quiet():
            model.fit(placed, y)
        weights, bias = model.coef_, model.intercept_
        if len(classes) == 2:
            # For two classes, the solver keeps one row: half of it for each gives the same scores.
            weights, bias = np.concatenate([-weights, weights]) / 2, np.repeat(bias, 2) / 2
            bias[0] = -bias[0]
        self._known = {
            int(name): (row, float(offset))
            for name, row, offset in zip(classes, weights, bias, strict=True)
        }
        inner = weights / self.placing.spread
        return LinearScores(
            classes=classes,
            weights=inner.astype(np.float32),
            bias=(bias - inner @ self.placing.mean).astype(np.float32),
        )

    def _start(self, model: object, classes: NDArray[np.int64], dimension: int) -> None:
        """Start from the last fit; a new class starts from zero."""
        rows = [self._known.get(int(name)) for name in classes]
        if not any(rows):
            return
        weights = np.array([np.zeros(dimension) if row is None else row[0] for row in rows])
        bias = np.array([0.0 if row is None else row[1] for row in rows])
        if len(classes) == 2:
            weights, bias = (weights[1] - weights[0])[None], bias[1:] - bias[:1]
        model.coef_, model.intercept_ = weights, bias  # type: ignore[attr-defined]
        model.classes_ = classes  # type: ignore[attr-defined]


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the warning that the solver stopped early: the next fit continues from there."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


# ---------------------------------------------------------------------- what to label next


def uncertainty(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """How close the best two classes are, (N,) from 0 to 1: 1 if they are equal.

    Margin sampling (Scheffer, Decomain and Wrobel, 2001): with two classes, the order is that of
    the entropy; with more, it favours clips where two classes compete over those where many are
    slightly likely.
    """
    if scores.shape[1] == 2:
        return np.asarray(1 - np.abs(scores[:, 1] - scores[:, 0]))
    best = np.partition(scores, scores.shape[1] - 2, axis=1)[:, -2:]
    return np.asarray(1 - (best[:, 1] - best[:, 0]))


def label_gains(
    placed: NDArray[np.float64],
    scores: NDArray[np.float32],
    known: NDArray[np.float64],
    known_scores: NDArray[np.float32],
    targets: NDArray[np.float64],
    strength: float,
) -> NDArray[np.float32]:
    """How much a label on each clip would narrow the head's logits on the whole collection.

    The sum over ``targets`` of the variance that the label removes, (N,), with the head's weights
    normally distributed around the fit (Laplace): A-optimal design for logistic regression (Schein
    and Ungar, 2007). With few labels, a head is as uncertain about what is common as about what is
    odd, and the common teaches more.

    Args:
        placed: (N, D) vectors of the candidates, placed.
        scores: (N, C) of the candidates.
        known: (L, D) placed vectors of the labelled clips.
        known_scores: (L, C) of these.
        targets: (T, D) placed vectors of a sample of the collection.
        strength: C of the fit.
    """
    wide, known, targets = (_with_one(each) for each in (placed, known, targets))
    weights = strength * _spread_of_label(scores)
    inner = known @ known.T
    inner[np.diag_indices_from(inner)] += 1 / (strength * _spread_of_label(known_scores))
    # Woodbury: the covariance is 1 - K' inner^-1 K; it is never formed, for D may be thousands
    across = wide @ known.T
    solved = np.linalg.solve(inner, across.T).T
    own = np.einsum("nd,nd->n", wide, wide) - np.einsum("nl,nl->n", solved, across)
    shared = wide @ targets.T - solved @ (known @ targets.T)
    removed = np.square(shared).sum(axis=1) / (1 / weights + own)
    return np.asarray(removed, dtype=np.float32)


def _with_one(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([vectors, np.ones((len(vectors), 1))], axis=1)


def _spread_of_label(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Variance of a label: p (1 - p) with two classes, never zero."""
    spread = (1 - np.square(scores.astype(np.float64)).sum(axis=1)) / 2
    return np.asarray(np.maximum(spread, 1e-9))


def over_neighbours(
    values: NDArray[np.float32], groups: NDArray[np.int64], reach: int = 2
) -> NDArray[np.float32]:
    """Smooth values: half the value, half the mean of its group within ``reach`` places.

    One clip of a video may be uncertain by chance. If the clips around it are uncertain too, the
    head really does not know what is shown.

    Args:
        values: (N,) of clips, in the order of time.
        groups: (N,) number of each one's video; clips of one video are adjacent.
        reach: clips before and after.
    """
    total, count = values.astype(np.float32), np.ones(len(values), dtype=np.float32)
    for step in range(1, min(reach, len(values) - 1) + 1):
        same = groups[step:] == groups[:-step]
        total[step:] += np.where(same, values[:-step], 0)
        total[:-step] += np.where(same, values[step:], 0)
        count[step:] += same
        count[:-step] += same
    return np.asarray((values + total / count) / 2, dtype=np.float32)


def by_turns(
    keys: NDArray[np.float32],
    groups: NDArray[np.int64],
    already: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Positions by descending key, groups taking turns: the best of each, then the second of each.

    Clips of one video look alike: after a label on one, the next one adds little.

    Args:
        keys: (N,) larger ones come first.
        groups: (N,) number of each one's group.
        already: (G,) turns that each group has had.
    """
    order = np.argsort(-keys, kind="stable")
    among = groups[order]
    places = np.argsort(among, kind="stable")
    sorted_groups = among[places]
    first = np.flatnonzero(np.diff(sorted_groups, prepend=-1))
    turn = np.empty(len(keys), dtype=np.int64)
    turn[places] = np.arange(len(keys)) - np.repeat(first, np.diff(first, append=len(keys)))
    if already is not None:
        turn += already[among]
    result: NDArray[np.int64] = order[np.argsort(turn, kind="stable")]
    return result


def spread_order(vectors: NDArray[np.float32], seed: int = 0) -> NDArray[np.int64]:
    """All positions: first some that are far from each other, then the others at random.

    Farthest first (Gonzalez, 1985) over a seeded sample: what to label while no head can be
    fitted. It starts in the middle of the collection.

    Args:
        vectors: (N, D).
        seed: of the sample and of the order of the others.
    """
    shuffled = np.random.default_rng(seed).permutation(len(vectors))
    sample = vectors[shuffled[:_SPREAD_SAMPLE]]
    count = min(_SPREAD_FIRST, len(sample))
    if not count:
        return shuffled
    sample = sample - sample.mean(axis=0)  # this leaves distances as they are
    squares = np.einsum("nd,nd->n", sample, sample)
    chosen = [int(np.argmin(squares))]
    nearest = np.full(len(sample), np.inf, dtype=np.float32)
    while len(chosen) < count:
        last = sample[chosen[-1]]
        distances = squares + squares[chosen[-1]] - 2 * (sample @ last)
        nearest = np.minimum(nearest, distances)
        nearest[chosen] = -1
        chosen.append(int(np.argmax(nearest)))
    result: NDArray[np.int64] = np.concatenate([shuffled[chosen], np.delete(shuffled, chosen)])
    return result


def likeness(vectors: NDArray[np.float32], examples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosine of vectors (N, D) with the mean of examples (M, D); for a single labelled class."""
    mean = examples.mean(axis=0)
    return np.asarray(vectors @ (mean / max(float(np.linalg.norm(mean)), 1e-9)))
