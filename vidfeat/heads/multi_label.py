"""Several labels per sample: one binary head per class, one against the rest, measured by mAP.

The result is a head like any other, but it scores each class independently: scores do not sum to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.datasets.part_names import part_of
from vidfeat.datasets.samples import Samples
from vidfeat.errors import DataError, UsageError
from vidfeat.evaluation.metrics import Interval
from vidfeat.evaluation.ranking import average_precision, mean_average_precision
from vidfeat.heads.base_head import Prepared
from vidfeat.heads.head import Head
from vidfeat.heads.scorers import Scorer
from vidfeat.heads.selection import HeadOptions
from vidfeat.store.records import RunIdentity
from vidfeat.system.wording import counted

KINDS = ("linear", "svm")
Indexes = NDArray[np.int64]
Targets = NDArray[np.bool_]


@dataclass(frozen=True)
class LabelResult:
    """Results of one class on the test part.

    Attributes:
        name: the class.
        count: samples that have it.
        share: of all samples that have it: the average precision of guessing.
        average_precision: NaN without a sample that has it.
        precision: of samples that score 0.5 or more; NaN if none does.
        recall: share of its samples that score 0.5 or more; NaN without one.
    """

    name: str
    count: int
    share: float
    average_precision: float
    precision: float
    recall: float


@dataclass(frozen=True)
class MultiLabelResult:
    """A head for several labels per sample, and its results.

    Attributes:
        head: the head.
        samples: all labelled samples.
        train: indexes of the training samples.
        test: indexes of the test samples.
        scores: float (S, C) of the test samples.
        targets: bool (S, C), which sample has which class.
        mean_average_precision: over the classes, with a bootstrap over videos or groups; None
            without a test part.
        chance: the mean share of the classes: what guessing gets.
        classes: results of each class, in order.
        params: the chosen hyper-parameters.
        notes: sentences for the user.
    """

    head: Head
    samples: Samples = field(repr=False)
    train: Indexes = field(repr=False)
    test: Indexes = field(repr=False)
    scores: NDArray[np.float64] = field(repr=False)
    targets: Targets = field(repr=False)
    mean_average_precision: Interval | None
    chance: float
    classes: tuple[LabelResult, ...]
    params: dict[str, Any]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """All numbers as JSON; NaN stays for the caller to replace."""
        found = self.mean_average_precision
        return {
            "head": self.head.scorer.kind,
            "train": len(self.train),
            "test": len(self.test),
            "mean_average_precision": None if found is None else found.to_dict(),
            "chance": self.chance,
            "classes": [
                {
                    "name": row.name,
                    "samples": row.count,
                    "share": row.share,
                    "average_precision": row.average_precision,
                    "precision": row.precision,
                    "recall": row.recall,
                }
                for row in self.classes
            ],
            "params": dict(self.params),
            "temperature": self.head.scorer.temperature,
            "notes": list(self.notes),
        }


def train_multi_label(
    samples: Samples,
    names: Sequence[str],
    options: HeadOptions,
    *,
    test_share: float = 0.2,
    identity: RunIdentity | None = None,
) -> MultiLabelResult:
    """Train one binary head per class and test them on the test part.

    Hyper-parameters are the same for all classes, chosen by the mean average precision over folds
    of the training part, by group where there are groups.

    Args:
        samples: each row has one label or several (``LabelRow.labels``).
        names: the classes, in order.
        options: ``linear`` or ``svm``.
        test_share: held out if the labels have no split column.
        identity: of the feature file.

    Raises:
        UsageError: another kind of head.
        DataError: a class that none or all of the training samples have.
    """
    if options.kind not in KINDS:
        raise UsageError(
            f"several labels per sample need a head of kind {' or '.join(KINDS)}, not "
            f"{options.kind}",
            field="head",
        )
    if options.unit == "videos":
        samples = samples.one_row_each()
    targets = targets_of(samples, names)
    train, test, notes = _parts(samples, test_share, options.seed)
    _check_classes(targets[train], names)
    own = samples.take(train)
    params, temperature = _choose(own, targets[train], options)
    scorer = _fit(own, targets[train], options, params, temperature)
    head = Head(
        scorer=scorer,
        classes=tuple(names),
        unit=options.unit,
        encoder=dict(identity.encoder) if identity else {},
        space_fingerprint=identity.space_fingerprint if identity else "",
        run_fingerprint=identity.run_fingerprint if identity else "",
        training={
            "samples": len(train),
            "clips": len(own.vectors),
            "samples_per_class": {
                name: int(count)
                for name, count in zip(names, targets[train].sum(axis=0), strict=True)
            },
            "groups": own.num_groups if own.has_groups else None,
            "params": params,
            "seed": options.seed,
        },
    )
    if not len(test):
        empty = np.zeros((0, len(names)))
        return MultiLabelResult(
            head, samples, train, test, empty, empty.astype(bool), None, 0.0, (), params, notes
        )
    asked = samples.take(test)
    scores = _sample_scores(scorer, asked)
    found = targets[test]
    groups = asked.groups if samples.has_groups else None
    return MultiLabelResult(
        head,
        samples,
        train,
        test,
        scores,
        found,
        _mean_ap(scores, found, groups),
        float(found.mean()),
        tuple(_class_result(*row) for row in zip(names, scores.T, found.T, strict=True)),
        params,
        notes,
    )


def targets_of(samples: Samples, names: Sequence[str]) -> Targets:
    """Which sample has which class, bool (S, C)."""
    index = {name: place for place, name in enumerate(names)}
    targets = np.zeros((len(samples), len(names)), dtype=bool)
    for place, row in enumerate(samples.rows):
        targets[place, [index[name] for name in row.labels or (row.label,)]] = True
    return targets


def _parts(samples: Samples, share: float, seed: int) -> tuple[Indexes, Indexes, tuple[str, ...]]:
    """Training and test samples: by the split column, otherwise whole groups at random."""
    splits = [part_of(row.split) if row.split else "" for row in samples.rows]
    if any(splits):
        train, test, validation = (samples.part(name) for name in ("train", "test", "val"))
        if len(test) and len(validation):
            train = np.sort(np.concatenate([train, validation]))
        elif not len(test):
            test = validation
        if not len(train):
            raise DataError("the training part is empty: give rows split=train")
        left = len(samples) - len(train) - len(test)
        told = counted(left, "sample has no split and is", "samples have no split and are")
        return train, test, (f"{told} left out",) if left else ()
    if share <= 0:
        return np.arange(len(samples)), np.zeros(0, np.int64), ("no test part",)
    groups = samples.groups if samples.has_groups else np.arange(len(samples))
    kinds = np.unique(groups)
    drawn = np.random.default_rng(seed).permutation(kinds)
    held = drawn[: max(1, round(share * len(kinds)))]
    test = np.flatnonzero(np.isin(groups, held))
    how = "by group" if samples.has_groups else "at random"
    note = f"no split column: {len(test)} of {len(samples)} held out {how}"
    return np.setdiff1d(np.arange(len(samples)), test), test, (note,)


def _check_classes(targets: Targets, names: Sequence[str]) -> None:
    counts = targets.sum(axis=0)
    for name, count in zip(names, counts.tolist(), strict=True):
        if count in (0, len(targets)):
            has = "no training sample has" if count == 0 else "all training samples have"
            raise DataError(
                f"{has} the class {name!r}: nothing can be learnt about it; label more videos, or "
                "leave the class out"
            )


def _choose(
    samples: Samples, targets: Targets, options: HeadOptions
) -> tuple[dict[str, Any], float]:
    """Hyper-parameters by cross-validated mAP, and the temperature that fits the scores best."""
    from sklearn.model_selection import GroupKFold, KFold

    grid = options.grid()
    groups = samples.groups
    folds = min(options.folds, len(np.unique(groups)))
    if folds < 2 or (len(grid) == 1 and not options.calibrate):
        return grid[0], 1.0
    splitter = (
        GroupKFold(folds, shuffle=True, random_state=options.seed)
        if samples.has_groups
        else KFold(folds, shuffle=True, random_state=options.seed)
    )
    told = groups if samples.has_groups else None
    parts = list(splitter.split(np.zeros(len(samples)), None, told))
    best: tuple[float, dict[str, Any], NDArray[np.float64]] | None = None
    for params in grid:
        logits = np.zeros(targets.shape)
        for train, test in parts:
            scorer = _fit(samples.take(train), targets[train], options, params, 1.0)
            asked = samples.take(test)
            logits[test] = _means(scorer.logits(asked.vectors), asked)
        value = mean_average_precision(logits, targets)
        if best is None or value > best[0] + 1e-12:
            best = (value, params, logits)
    assert best is not None
    return best[1], _temperature(best[2], targets) if options.calibrate else 1.0


def _temperature(logits: NDArray[np.float64], targets: Targets) -> float:
    """The temperature that minimises the binary log loss of held-out samples."""
    from scipy.optimize import minimize_scalar

    signed = np.where(targets, logits, -logits)

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0.0, -signed / np.exp(log_temperature)).mean())

    limit = float(np.log(1000.0))
    found = minimize_scalar(loss, bounds=(-limit, limit), method="bounded", options={"xatol": 0.01})
    return float(np.exp(found.x))


def _fit(
    samples: Samples,
    targets: Targets,
    options: HeadOptions,
    params: dict[str, Any],
    temperature: float,
) -> Scorer:
    """Fit one estimator per class on vectors that are prepared once, and combine them."""
    vectors, place = samples.vectors, samples.sample_of_clip
    sample = options.estimator(params)
    how = bool(sample.standardize), bool(sample.normalize)
    prepared = Prepared.of(vectors, *how, samples.parts)
    weights, bias = [], []
    for own in targets[place].T:
        if own.all() or not own.any():  # within a fold: the same score for everything
            weights.append(np.zeros(vectors.shape[1]))
            bias.append(20.0 if own.all() else -20.0)
            continue
        arrays = options.estimator(params).fit_prepared(prepared, own).scorer_.arrays
        weights.append(arrays["weights"][1] - arrays["weights"][0])
        bias.append(float(arrays["bias"][1] - arrays["bias"][0]))
    return Scorer(
        kind=options.kind,
        arrays={
            **prepared.arrays,
            "weights": np.stack(weights).astype(np.float32),
            "bias": np.array(bias, dtype=np.float32),
        },
        num_classes=len(weights),
        normalize=bool(sample.normalize),
        temperature=temperature,
        activation="sigmoid",
    )


def _sample_scores(scorer: Scorer, samples: Samples) -> NDArray[np.float64]:
    return _means(scorer.scores(samples.vectors), samples)


def _means(values: NDArray[np.float64], samples: Samples) -> NDArray[np.float64]:
    """The mean over the clips of each sample."""
    total = np.add.reduceat(values, samples.first[:-1], axis=0)
    means: NDArray[np.float64] = total / samples.counts[:, None]
    return means


def _mean_ap(
    scores: NDArray[np.float64], targets: Targets, groups: Indexes | None, repeats: int = 200
) -> Interval | None:
    """The mAP with a bootstrap over groups or videos; None if no class has a sample."""
    value = mean_average_precision(scores, targets)
    if np.isnan(value):
        return None
    owner = np.arange(len(scores)) if groups is None else np.unique(groups, return_inverse=True)[1]
    members = [np.flatnonzero(owner == one) for one in range(int(owner.max()) + 1)]
    random = np.random.default_rng(0)
    values = []
    for _ in range(repeats):
        drawn = random.integers(len(members), size=len(members))
        rows = np.concatenate([members[one] for one in drawn])
        values.append(mean_average_precision(scores[rows], targets[rows]))
    low, high = np.nanquantile(values, [0.025, 0.975])
    method = f"bootstrap over {'videos' if groups is None else 'groups'}"
    return Interval(value, min(float(low), value), max(float(high), value), method)


def _class_result(
    name: str, scores: NDArray[np.float64], targets: NDArray[np.bool_]
) -> LabelResult:
    said = scores >= 0.5
    count, right = int(targets.sum()), int((said & targets).sum())
    return LabelResult(
        name,
        count,
        float(targets.mean()),
        average_precision(scores, targets),
        right / int(said.sum()) if said.any() else float("nan"),
        right / count if count else float("nan"),
    )
