"""Cross-validation of heads, and the comparison of several heads on the same folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.datasets.samples import Samples
from vidfeat.errors import UsageError
from vidfeat.evaluation.metrics import (
    Evaluation,
    Interval,
    accuracy_interval,
    bootstrap_interval,
)
from vidfeat.heads.estimators import ESTIMATORS
from vidfeat.heads.protocols import train_and_test
from vidfeat.heads.scorers import HEAD_KINDS, HeadKind
from vidfeat.heads.selection import HeadOptions, make_folds
from vidfeat.system.callbacks import Report


@dataclass(frozen=True)
class CrossValidation:
    """Every sample tested, several times, with heads that have not seen it or its group.

    Attributes:
        accuracies: float (repeats, folds), the accuracy in each fold; NaN for folds that a repeat
            lacks.
        correct: float (S,), how often each sample was right, 0 to 1.
        interval: of the mean over samples, over groups if there are any.
        chosen: hyper-parameters of each fold.
        evaluation: the scores of each sample, averaged over the repeats.
        majority_accuracy: of always predicting the most common class of the training folds.
    """

    accuracies: NDArray[np.float64]
    correct: NDArray[np.float64] = field(repr=False)
    interval: Interval
    chosen: tuple[dict[str, Any], ...] = field(repr=False)
    evaluation: Evaluation = field(repr=False)
    majority_accuracy: float

    @property
    def spread(self) -> float:
        """Standard deviation over all folds of all repeats."""
        return float(np.nanstd(self.accuracies, ddof=1))


def cross_validate(
    samples: Samples,
    options: HeadOptions,
    *,
    folds: int = 5,
    repeats: int = 1,
    report: Report | None = None,
) -> CrossValidation:
    """Test a head on each fold in turn, trained and tuned on the others.

    The folds depend on the samples and the seed only: heads with the same seed have the same folds.

    Raises:
        DataError: the samples cannot be divided into folds.
    """
    accuracies = np.full((repeats, folds), np.nan)
    correct, majority, judged = np.zeros((3, len(samples)))
    scores = np.zeros((len(samples), len(samples.classes)))
    chosen = []
    for repeat in range(repeats):
        parts = make_folds(
            samples,
            folds,
            options.seed + repeat,
            purpose="cross-validation",
            remedy="test on one part, without cross_validation",
            remedy_fields=("cross_validation",),
        )
        for fold, (train, test) in enumerate(parts):
            outcome = train_and_test(samples, train, test, options)
            assert outcome.evaluation is not None
            right = outcome.evaluation.correct
            accuracies[repeat, fold] = right.mean()
            correct[test] += right
            commonest = np.bincount(samples.y[train]).argmax()
            majority[test] += samples.y[test] == commonest
            scores[test] += outcome.evaluation.scores
            judged[test] += 1
            chosen.append(outcome.choice.params)
            if report:
                report(f"repeat {repeat + 1}/{repeats}, fold {fold + 1}/{len(parts)}")
    seen = judged > 0
    share = np.divide(correct, judged, out=np.zeros_like(correct), where=seen)
    return CrossValidation(
        accuracies,
        share,
        _interval_of_shares(share[seen], samples, seen),
        tuple(chosen),
        Evaluation(
            scores=scores[seen] / judged[seen, None],
            y=samples.y[seen],
            classes=samples.classes,
            groups=samples.groups[seen] if samples.has_groups else None,
        ),
        float(np.mean(majority[seen] / judged[seen])),
    )


def _interval_of_shares(
    share: NDArray[np.float64], samples: Samples, seen: NDArray[np.bool_]
) -> Interval:
    groups = samples.groups if samples.has_groups else np.arange(len(samples))
    if np.ptp(share) == 0:
        return accuracy_interval(share > 0.5, groups[seen])
    method = f"bootstrap over {'groups' if samples.has_groups else 'videos'}"
    return bootstrap_interval(share, groups[seen], method=method)


@dataclass(frozen=True)
class Comparison:
    """Several heads on the same folds of the training part.

    Attributes:
        found: the results of each kind of head.
        chosen: the one to train on the whole training part: the best, or the only one requested.
        folds: how many there were.
    """

    found: dict[HeadKind, CrossValidation]
    chosen: HeadOptions
    folds: int


def options_by_kind(
    kinds: Sequence[str], options: HeadOptions, params: Mapping[str, Any] | None = None
) -> list[HeadOptions]:
    """The options of each kind of head to compare; a parameter goes to the heads that have it.

    Args:
        kinds: of heads.
        options: what they have in common.
        params: hyper-parameters in place of those of ``options``.

    Raises:
        UsageError: no such kind, one of them twice, or a parameter that none of them has.
    """
    params = options.params if params is None else params
    unknown = [kind for kind in kinds if kind not in HEAD_KINDS]
    if not kinds or unknown or len(set(kinds)) < len(kinds):
        raise UsageError(
            f"head is one or several of {', '.join(HEAD_KINDS)}, not {','.join(kinds)}",
            field="head",
        )
    known: dict[str, set[str]] = {
        kind: set(ESTIMATORS[kind]().get_params()) for kind in HEAD_KINDS if kind in kinds
    }
    if len(kinds) == 1:  # HeadOptions checks these, and lists what there is
        known[kinds[0]] |= set(params)
    for name in params:
        if not any(name in names for names in known.values()):
            raise UsageError(
                f"none of the heads {', '.join(kinds)} has a parameter {name!r}", field="params"
            )
    return [
        replace(
            options,
            kind=kind,
            params={n: v for n, v in params.items() if n in known[kind]},
        )
        for kind in HEAD_KINDS
        if kind in kinds
    ]


def compare_heads(
    samples: Samples,
    heads: Sequence[HeadOptions],
    *,
    folds: int = 5,
    repeats: int = 1,
    report: Report | None = None,
) -> Comparison:
    """Test several heads on the same folds; the best accuracy wins, the first one of a tie.

    Args:
        samples: only the training part, so that the test part is used once.
        heads: of different kinds and one seed.
        folds: of the cross-validation.
        repeats: repetitions of it, with other folds.
        report: called with a line on each step.

    Raises:
        DataError: the samples cannot be divided into folds.
    """
    found = {}
    for head in heads:
        if report:
            report(f"comparing: {head.kind}")
        found[head.kind] = cross_validate(samples, head, folds=folds, repeats=repeats)
    best = max(heads, key=lambda head: found[head.kind].interval.value)
    return Comparison(found, best, folds)
