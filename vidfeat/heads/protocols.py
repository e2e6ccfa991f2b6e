"""Training and testing heads: one split, official splits, few shots.

Test labels are used once, at the end, to measure accuracy. All choices are made by
``vidfeat.heads.selection`` from the training part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.datasets.label_rows import group_of
from vidfeat.datasets.part_names import part_of
from vidfeat.datasets.samples import Samples
from vidfeat.errors import DataError
from vidfeat.evaluation.metrics import (
    Evaluation,
    Interval,
    mean_interval,
)
from vidfeat.heads.head import Head
from vidfeat.heads.scorers import Scorer
from vidfeat.heads.selection import Choice, HeadOptions, fit, make_folds, sequences_of
from vidfeat.store.records import RunIdentity
from vidfeat.system.wording import counted


@dataclass(frozen=True)
class Majority:
    """The simplest classifier: it always predicts the most common class of the training part."""

    label: str
    accuracy: float


@dataclass(frozen=True)
class Outcome:
    """A head trained on one part and tested on another.

    Attributes:
        head: the trained head.
        choice: its hyper-parameters and how they were chosen.
        train: indexes of the training samples.
        test: indexes of the test samples.
        evaluation: of the test samples; None without a test part.
        clip_accuracy: accuracy of single test clips; NaN without a test part.
        converged: the solver reached its tolerance.
        majority: what always predicting the most common training class gets; None without a test
            part.
    """

    head: Head
    choice: Choice
    train: NDArray[np.int64] = field(repr=False)
    test: NDArray[np.int64] = field(repr=False)
    evaluation: Evaluation | None
    clip_accuracy: float
    converged: bool
    majority: Majority | None = None


def split_parts(
    samples: Samples, *, test_share: float = 0.2, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    """Training and test samples: by the labels' split column, or held out at random.

    With a split column, ``train`` is trained on and ``test`` is tested on. ``val`` is the test part
    if there is no ``test``, and joins the training part if there is: hyper-parameters are chosen by
    cross-validation. Without one, ``test_share`` of each class is held out, by group where there
    are groups.

    Returns:
        Indexes of the training part, of the test part, and notes for the user.

    Raises:
        DataError: an empty part, or an unknown split name.
    """
    names = [row.split for row in samples.rows]
    if not any(names):
        if test_share <= 0:
            everything = np.arange(len(samples))
            return everything, np.zeros(0, np.int64), ["no test part: trained on everything"]
        train, test = hold_out(samples, test_share, seed)
        how = "by group" if samples.has_groups else "at random"
        notes = [f"no split column: {len(test)} of {len(samples)} held out {how}"]
        return train, test, notes + untrained_classes(samples, train, test)
    found = Counter(names)
    strange = [name for name in found if name and part_of(name) is None]
    if strange:
        raise DataError(f"the split {strange[0]!r} is not one of train, val, test: rename it")
    train, test, validation = (samples.part(name) for name in ("train", "test", "val"))
    if len(test) and len(validation):
        train = np.sort(np.concatenate([train, validation]))
    elif not len(test):
        test = validation
    told = ", ".join(f"{name or 'none'} {count}" for name, count in found.items())
    notes = [f"{found['']} samples have no split and are left out"] if "" in found else []
    if not len(train):
        raise DataError(f"the training part is empty (splits: {told}): give rows split=train")
    if not len(test):
        if test_share > 0:
            raise DataError(
                f"the test part is empty (splits: {told}): give some rows split=test, leave the "
                "split column out to hold some out at random, or give test_share=0 for no test",
                field="test_share",
            )
        notes.append("no test part")
    _warn_shared_groups(samples, train, test, notes)
    notes += untrained_classes(samples, train, test)
    return train, test, notes


def _warn_shared_groups(
    samples: Samples, train: NDArray[np.int64], test: NDArray[np.int64], notes: list[str]
) -> None:
    if samples.has_groups:
        shared = np.intersect1d(samples.groups[train], samples.groups[test])
        if len(shared):
            first, second = (
                samples.rows[next(i for i in part if samples.groups[i] == shared[0])]
                for part in (train, test)
            )
            lines = f", lines {first.line} and {second.line}" if first.line and second.line else ""
            notes.append(
                f"{counted(len(shared), 'group is', 'groups are')} in both parts "
                f"({group_of(first)}{lines}): the accuracy is inflated"
            )


def untrained_classes(
    samples: Samples, train: NDArray[np.int64], test: NDArray[np.int64]
) -> list[str]:
    """A note on classes that are tested but have no training sample: they cannot be found."""
    trained = np.bincount(samples.y[train], minlength=len(samples.classes))
    tested = np.bincount(samples.y[test], minlength=len(samples.classes))
    lost = np.flatnonzero((trained == 0) & (tested > 0))
    if not len(lost):
        return []
    shown = ", ".join(f"{samples.classes[i]} ({tested[i]} to test on)" for i in lost[:5])
    more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
    right, total = int(tested.sum() - tested[lost].sum()), int(tested.sum())
    return [
        f"no training video of {shown}{more}: they cannot be found, so at most {right} of {total} "
        f"({right / total:.1%}) can be right"
    ]


def hold_out(
    samples: Samples, share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A stratified test part of about ``share``, in whole groups.

    Raises:
        DataError: a class has only one sample, or only one group.
    """
    folds = make_folds(
        samples,
        max(2, round(1 / share)),
        seed,
        purpose="a held-out test part",
        remedy="train without a test part with test_share=0",
        remedy_fields=("test_share",),
    )
    classes = len(np.unique(samples.y))
    # With groups of several classes, a fold can take all of one class out of training.
    whole = (fold for fold in folds if len(np.unique(samples.y[fold[0]])) == classes)
    return next(whole, folds[0])


def leave_out_small_classes(samples: Samples, least: int) -> tuple[Samples, list[str]]:
    """Drop classes with fewer than ``least`` samples; the notes name them.

    Raises:
        DataError: fewer than two classes are left.
    """
    counts = np.bincount(samples.y, minlength=len(samples.classes))
    small = [name for name, count in zip(samples.classes, counts, strict=True) if count < least]
    if not small:
        return samples, []
    kept = samples.take(np.flatnonzero(counts[samples.y] >= least))
    left = tuple(name for name in samples.classes if name not in small)
    if len(left) < 2:
        raise DataError(
            f"{counted(len(left), 'class has', 'classes have')} {least} samples or more, two are "
            "needed: label more videos or lower min_per_class",
            field="min_per_class",
        )
    return kept.with_classes(left), [
        f"{counted(len(small), 'class', 'classes')} with fewer than {least} samples left out: "
        f"{', '.join(small[:5])}"
    ]


def train_head(
    samples: Samples, options: HeadOptions, identity: RunIdentity | None = None
) -> tuple[Head, Choice, bool]:
    """Train a head on all of ``samples``.

    Returns:
        The head, how its hyper-parameters were chosen, and whether the solver converged.

    Raises:
        DataError: one class alone, or a class that cannot be cross-validated.
    """
    estimator, choice = fit(samples, options)
    scorer: Scorer = estimator.scorer_
    head = Head(
        scorer=scorer,
        classes=tuple(samples.classes[i] for i in estimator.classes_),
        unit=options.unit,
        encoder=dict(identity.encoder) if identity else {},
        space_fingerprint=identity.space_fingerprint if identity else "",
        run_fingerprint=identity.run_fingerprint if identity else "",
        training=_training_summary(samples, options, choice),
    )
    return head, choice, bool(estimator.converged_)


def _training_summary(samples: Samples, options: HeadOptions, choice: Choice) -> dict[str, Any]:
    counts = np.bincount(samples.y, minlength=len(samples.classes))
    return {
        "samples": len(samples),
        "clips": len(samples.vectors),
        "samples_per_class": {
            name: int(count) for name, count in zip(samples.classes, counts, strict=True) if count
        },
        "groups": samples.num_groups if samples.has_groups else None,
        "params": _plain(choice.params),
        "trials": [_plain(trial.to_dict()) for trial in choice.trials],
        "folds": choice.folds,
        "seed": options.seed,
    }


def _plain(value: Any) -> Any:
    """Tuples as lists, for JSON."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def score_samples(head: Head, samples: Samples) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores of samples (S, C) and of their clips (N, C), columns as ``samples.classes``.

    A class that the head does not know gets 0.

    Raises:
        DataError: a score is NaN or infinite.
    """
    columns = [samples.classes.index(name) for name in head.classes]
    own = _require_finite(head.clip_scores(samples.vectors))
    clips = np.zeros((len(samples.vectors), len(samples.classes)))
    clips[:, columns] = own
    if head.unit == "clips":
        total = np.add.reduceat(clips, samples.first[:-1], axis=0)
        return total / samples.counts[:, None], clips
    scores = np.zeros((len(samples), len(samples.classes)))
    if head.scorer.of_sequences:
        given = head.scorer.scores(sequences_of(samples))
    else:
        given = head.clip_scores(samples.pooled())
    scores[:, columns] = _require_finite(given)
    return scores, clips


def _require_finite(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    bad = int((~np.isfinite(scores)).any(axis=1).sum())
    if bad:
        raise DataError(
            f"the head's scores are NaN or infinite for {bad} of {len(scores)} vectors: these are "
            "far larger than those it was trained on; standardize them, or extract them again"
        )
    return scores


def train_and_test(
    samples: Samples,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    options: HeadOptions,
    identity: RunIdentity | None = None,
) -> Outcome:
    """Train on one part, test on the other.

    Raises:
        DataError: one class alone, or a class that cannot be cross-validated.
    """
    head, choice, converged = train_head(samples.take(train), options, identity)
    if not len(test):
        return Outcome(head, choice, train, test, None, float("nan"), converged)
    asked = samples.take(test)
    scores, clips = score_samples(head, asked)
    evaluation = Evaluation(
        scores=scores,
        y=asked.y,
        classes=samples.classes,
        groups=asked.groups if samples.has_groups else None,
    )
    right = clips.argmax(axis=1) == asked.y[asked.sample_of_clip]
    commonest = int(np.bincount(samples.y[train]).argmax())
    majority = Majority(samples.classes[commonest], float(np.mean(asked.y == commonest)))
    clip_accuracy = float(np.mean(right))
    return Outcome(head, choice, train, test, evaluation, clip_accuracy, converged, majority)


@dataclass(frozen=True)
class FewShot:
    """Heads trained on a few samples per class.

    Attributes:
        shots: samples per class.
        accuracies: one per draw.
        interval: their mean with Student's t interval over the draws.
    """

    shots: int
    accuracies: tuple[float, ...]
    interval: Interval


def few_shot(
    samples: Samples,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    shots: Sequence[int],
    options: HeadOptions,
    *,
    draws: int = 10,
) -> Iterator[FewShot]:
    """Draw a few training samples per class, repeatedly, and test on the whole test part.

    Hyper-parameters are the head's defaults: a few samples are not enough to choose them.

    Raises:
        DataError: a class has fewer training samples than shots.
    """
    settled = options.fixed()
    members = [train[samples.y[train] == c] for c in np.unique(samples.y[train])]
    for number in shots:
        short = [rows for rows in members if len(rows) < number]
        if number < 1 or short:
            smallest = samples.classes[int(samples.y[short[0][0]])] if short else ""
            raise DataError(
                f"{number} samples per class: the class {smallest!r} has only {len(short[0])} to "
                "train on: give fewer shots"
                if short
                else f"shots must be 1 or more, not {number}",
                field="shots",
            )
        accuracies = []
        for draw in range(draws):
            random = np.random.default_rng([options.seed, number, draw])
            drawn = np.concatenate([random.choice(rows, number, replace=False) for rows in members])
            outcome = train_and_test(samples, np.sort(drawn), test, settled)
            assert outcome.evaluation is not None
            accuracies.append(outcome.evaluation.accuracy.value)
        found = mean_interval(accuracies)
        # Student's t interval may exceed 0 and 1.
        found = replace(found, low=max(0.0, found.low), high=min(1.0, found.high))
        yield FewShot(number, tuple(accuracies), found)
