"""Choosing a head's hyper-parameters inside the training part, and fitting it.

Everything here sees only the training part. Folds keep groups together where there are any,
so that no head is tested on clips of a recording that it was trained on.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vidfeat.datasets.samples import Samples
from vidfeat.errors import DataError, UsageError
from vidfeat.evaluation.metrics import log_loss
from vidfeat.heads.attention import Sequences
from vidfeat.heads.base_head import Prepared
from vidfeat.heads.estimators import DINO_GRID, ESTIMATORS, GRIDS
from vidfeat.heads.scorers import HEAD_KINDS, HeadKind, softmax
from vidfeat.system.threads import threads_for

Unit = Literal["videos", "clips"]
Split = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class HeadOptions:
    """How a head is trained.

    Attributes:
        kind: ``linear``, ``svm``, ``knn``, ``mlp``, or ``attentive``, which looks at the rows of
            each sample in the order of time.
        unit: train on one mean vector per sample (``videos``), or on every clip, whose scores are
            then averaged (``clips``).
        standardize: subtract the mean and divide by the deviation; None for the head's default.
        normalize: divide vectors by their L2 norm; None for the head's default (knn only).
        params: hyper-parameters that are fixed (one value) or tried (a tuple), by name; the
            head's own grid is tried where none is given.
        folds: folds of the cross-validation that chooses.
        calibrate: fit the temperature of the scores on the held-out folds.
        seed: of folds and solvers.
    """

    kind: HeadKind = "linear"
    unit: Unit = "videos"
    standardize: bool | None = None
    normalize: bool | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    folds: int = 5
    calibrate: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in HEAD_KINDS:
            raise UsageError(
                f"no head {self.kind!r}: kind is one of {', '.join(HEAD_KINDS)}", field="kind"
            )
        if self.unit not in get_args(Unit):
            raise UsageError(f"unit is videos or clips, not {self.unit!r}", field="unit")
        if self.of_sequences and self.unit != "videos":
            raise UsageError(
                "an attentive head looks at all clips of a video together: unit is videos",
                field="unit",
            )
        if self.folds < 2:
            raise UsageError(f"folds must be 2 or more, not {self.folds}", field="folds")
        if not 0 <= self.seed < 2**32 - 1000:
            raise UsageError(
                f"seed is a whole number from 0 to about 4 billion, not {self.seed}", field="seed"
            )
        known = set(ESTIMATORS[self.kind]().get_params()) - {"temperature", "random_state"}
        for name in self.params:
            if name not in known:
                raise UsageError(
                    f"a {self.kind} head has no parameter {name!r}: params takes "
                    f"{', '.join(sorted(known - {'standardize', 'normalize'}))}",
                    field="params",
                )

    @property
    def of_sequences(self) -> bool:
        """Whether the head takes the rows of a sample in their order, not their mean."""
        return self.kind == "attentive"

    def estimator(self, params: Mapping[str, Any], temperature: float = 1.0) -> Any:
        """An unfitted estimator with these hyper-parameters."""
        settings: dict[str, Any] = {**params, "temperature": temperature}
        for name in ("standardize", "normalize"):
            if getattr(self, name) is not None:
                settings[name] = getattr(self, name)
        if "random_state" in ESTIMATORS[self.kind]().get_params():
            settings["random_state"] = self.seed
        return ESTIMATORS[self.kind](**settings)

    def grid(self) -> list[dict[str, Any]]:
        """Every combination to try, in order from strong to weak regularisation."""
        as_dino = self.kind == "knn" and self.params.get("weighting") == "softmax"
        values = {**(DINO_GRID if as_dino else GRIDS[self.kind]), **self.params}
        lists = [v if isinstance(v, tuple) else (v,) for v in values.values()]
        if not all(lists):
            raise UsageError("a parameter in params has no value: give one or more", field="params")
        return [
            dict(zip(values, combination, strict=True)) for combination in itertools.product(*lists)
        ]

    def fixed(self) -> HeadOptions:
        """The same with the head's default hyper-parameters in place of a search."""
        defaults = ESTIMATORS[self.kind]().get_params()
        searched = {name: defaults[name] for name in GRIDS[self.kind]}
        settled = {n: v for n, v in self.params.items() if not isinstance(v, tuple)}
        return replace(self, params={**searched, **settled}, calibrate=False)


@dataclass(frozen=True)
class Trial:
    """One combination of hyper-parameters on the held-out folds."""

    params: dict[str, Any]
    accuracy: float
    log_loss: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"params": self.params, "accuracy": self.accuracy, "log_loss": self.log_loss}


@dataclass(frozen=True)
class Choice:
    """Hyper-parameters chosen by cross-validation.

    Attributes:
        params: the chosen hyper-parameters.
        temperature: fitted on the held-out folds; 1 if it was not.
        trials: all that were tried, in order.
        folds: how many folds there were; 0 if there was nothing to choose.
    """

    params: dict[str, Any]
    temperature: float = 1.0
    trials: tuple[Trial, ...] = ()
    folds: int = 0


def make_folds(
    samples: Samples,
    folds: int,
    seed: int,
    *,
    purpose: str,
    remedy: str,
    remedy_fields: tuple[str, ...] = (),
) -> list[Split]:
    """Stratified folds that keep groups together.

    Fewer folds than requested if a class has fewer samples (or groups).

    Args:
        samples: what is divided.
        folds: how many.
        seed: of the shuffling.
        purpose: what the folds are for, for the message.
        remedy: what else would help, for the message.
        remedy_fields: the arguments that the remedy names.

    Raises:
        DataError: a class has only one sample, or only one group.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    groups = samples.groups if samples.has_groups else np.arange(len(samples))
    smallest, fewest = _smallest_class(samples, groups)
    if fewest < 2:
        what = "group" if samples.has_groups else "video"
        raise DataError(
            f"the class {smallest!r} has one {what} to train on, and {purpose} needs two: label "
            f"more of them, leave the class out with min_per_class=2, or {remedy}",
            field=("min_per_class", *remedy_fields),
        )
    count = min(folds, fewest)
    kind = StratifiedGroupKFold if samples.has_groups else StratifiedKFold
    parts = kind(n_splits=count, shuffle=True, random_state=seed).split(
        np.zeros(len(samples)), samples.y, groups if samples.has_groups else None
    )
    made = [(train.astype(np.int64), test.astype(np.int64)) for train, test in parts]
    usable = [
        (train, test) for train, test in made if len(test) and len(np.unique(samples.y[train])) >= 2
    ]
    if len(usable) < 2:
        raise DataError(
            f"the {samples.num_groups} groups cannot be divided into folds with two classes each: "
            "each class needs videos in two groups or more; label more groups, or leave the group "
            "column out if its videos are independent"
        )
    return usable


def _smallest_class(samples: Samples, groups: NDArray[np.int64]) -> tuple[str, int]:
    """The class found in the fewest groups, and the number of these."""
    pairs = np.unique(np.stack([samples.y, groups]), axis=1)
    counts = np.bincount(pairs[0], minlength=len(samples.classes))
    present = np.flatnonzero(np.bincount(samples.y, minlength=len(samples.classes)))
    smallest = int(present[counts[present].argmin()])
    return samples.classes[smallest], int(counts[smallest])


def choose(samples: Samples, options: HeadOptions) -> Choice:
    """Choose hyper-parameters by cross-validated accuracy, then by log loss, within ``samples``.

    Raises:
        DataError: there is something to choose, and the samples cannot be divided into folds.
    """
    grid = options.grid()
    if len(grid) == 1 and not options.calibrate:
        return Choice(grid[0])
    try:
        folds = make_folds(
            samples,
            options.folds,
            options.seed,
            purpose="choosing by cross-validation",
            remedy="fix the hyper-parameters with params",
            remedy_fields=("params",),
        )
    except DataError:
        if len(grid) > 1:
            raise
        return Choice(grid[0])
    tried = _held_out_logits(samples, options, grid, folds)
    y = np.concatenate([samples.y[test] for _, test in folds])
    trials: list[Trial] = []
    best: tuple[tuple[float, float], int] | None = None
    for place, (params, logits) in enumerate(zip(grid, tried, strict=True)):
        scores = _sample_scores(samples, logits, folds, 1.0)
        trial = Trial(params, float(np.mean(scores.argmax(axis=1) == y)), log_loss(scores, y))
        trials.append(trial)
        rank = (round(trial.accuracy, 9), -trial.log_loss)
        if best is None or rank > best[0]:
            best = (rank, place)
    assert best is not None
    chosen = best[1]
    temperature = _fit_temperature(samples, tried[chosen], folds) if options.calibrate else 1.0
    return Choice(grid[chosen], temperature, tuple(trials), len(folds))


def require_two_classes(samples: Samples, what: str) -> None:
    """Refuse samples of a single class.

    Args:
        samples: what is to be trained on.
        what: their name, for the message.

    Raises:
        DataError: they are of one class, or none.
    """
    present = np.unique(samples.y)
    if len(present) < 2:
        only = samples.classes[int(present[0])] if len(present) else "none"
        raise DataError(
            f"only one class to train on ({only}) in {what}: a head needs videos of two classes or "
            "more; check the label and split columns"
        )


def fit(samples: Samples, options: HeadOptions) -> tuple[Any, Choice]:
    """Choose hyper-parameters within the training samples, then fit the head on all of them.

    Raises:
        DataError: a single class, or samples that cannot be divided into folds.
    """
    require_two_classes(samples, "the training part")
    if options.unit == "videos" and not options.of_sequences:
        samples = samples.one_row_each()
    # These multiply a few hundred rows at a time, however many there are.
    small = options.kind in ("mlp", "attentive")
    with threads_for(0 if small else samples.vectors.nbytes):
        choice = choose(samples, options)
        estimator = options.estimator(choice.params, choice.temperature)
        vectors, y = training_arrays(samples, options)
        return _fitted(estimator.fit, vectors, y, parts=samples.parts), choice


def _fitted(fit: Callable[..., Any], *arrays: Any, **settings: Any) -> Any:
    """Fit; vectors were checked before, so what scikit-learn refuses is a parameter."""
    try:
        return fit(*arrays, **settings)
    except (ValueError, TypeError) as error:
        raise UsageError(f"params: {' '.join(str(error).split())}", field="params") from error


def sequences_of(samples: Samples) -> Sequences:
    """The rows of samples, each sample's in the order of time."""
    return Sequences(samples.vectors, samples.first)


def training_arrays(
    samples: Samples, options: HeadOptions
) -> tuple[NDArray[np.float32] | Sequences, NDArray[np.int64]]:
    """The input of the fit: one pooled vector per sample, its rows in order, or every clip."""
    if options.of_sequences:
        return sequences_of(samples), samples.y
    if options.unit == "videos":
        return samples.pooled(), samples.y
    return samples.vectors, samples.y[samples.sample_of_clip]


def _held_out_logits(
    samples: Samples, options: HeadOptions, grid: Sequence[dict[str, Any]], folds: list[Split]
) -> list[list[NDArray[np.float64]]]:
    """Logits of all classes for each combination and fold, from heads that have not seen the fold.

    The vectors of a fold are standardised once, for all combinations.
    """
    pooled = None
    if options.unit == "videos" and not options.of_sequences:
        pooled = samples.pooled()
    result: list[list[NDArray[np.float64]]] = [[] for _ in grid]
    for train, test in folds:
        known: NDArray[np.float32] | Sequences
        asked: NDArray[np.float32] | Sequences
        if options.of_sequences:
            known, asked = (sequences_of(samples.take(part)) for part in (train, test))
            y = samples.y[train]
        elif pooled is not None:
            known, y, asked = pooled[train], samples.y[train], pooled[test]
        else:
            rows = samples.clips_of(train)
            known, y = samples.vectors[rows], samples.y[samples.sample_of_clip[rows]]
            asked = samples.vectors[samples.clips_of(test)]
        ready: dict[tuple[bool, bool], Prepared] = {}
        for place, params in enumerate(grid):
            estimator = options.estimator(params)
            how = bool(estimator.standardize), bool(estimator.normalize)
            if how not in ready:
                ready[how] = Prepared.of(known, *how, samples.parts)
            _fitted(estimator.fit_prepared, ready[how], y)
            logits = np.full((len(asked), len(samples.classes)), -np.inf)
            logits[:, estimator.classes_] = estimator.scorer_.logits(asked)
            result[place].append(logits)
    return result


def _sample_scores(
    samples: Samples, logits: list[NDArray[np.float64]], folds: list[Split], temperature: float
) -> NDArray[np.float64]:
    """Scores of the held-out samples, fold after fold; clip scores are averaged."""
    parts = []
    for (_, test), values in zip(folds, logits, strict=True):
        scores = softmax(values / temperature)
        counts = samples.counts[test]
        if len(scores) != len(test):
            first = np.concatenate([[0], np.cumsum(counts)[:-1]])
            scores = np.add.reduceat(scores, first, axis=0) / counts[:, None]
        parts.append(scores)
    return np.concatenate(parts)


def _fit_temperature(
    samples: Samples, logits: list[NDArray[np.float64]], folds: list[Split]
) -> float:
    """The temperature that minimises the held-out log loss, from 1/1000 to 1000.

    One number for all classes, as Guo et al. 2017 (arXiv 1706.04599) found to be enough.
    """
    from scipy.optimize import minimize_scalar

    y = np.concatenate([samples.y[test] for _, test in folds])

    def loss(log_temperature: float) -> float:
        scores = _sample_scores(samples, logits, folds, float(np.exp(log_temperature)))
        return log_loss(scores, y)

    limit = float(np.log(1000.0))
    found = minimize_scalar(loss, bounds=(-limit, limit), method="bounded", options={"xatol": 0.01})
    return float(np.exp(found.x))
