"""From a feature file and labels to a trained head, its accuracy, and a folder of results.

::

    vidfeat.finetune("features.h5", "labels.csv", out="head/")

The folder holds the head (``head.json``, ``head.safetensors``), ``results.json``,
``predictions.csv`` and ``report.html``. With all three official splits it holds a folder each,
``split1`` to ``split3``, and ``results.json`` with their mean and spread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vidfeat.errors import UsageError
from vidfeat.finetune_output import RESULT_FILES, write_folder
from vidfeat.heads.head import check_target
from vidfeat.heads.protocols import (
    CrossValidation,
    FewShot,
    Outcome,
    cross_validate,
    few_shot,
    leave_out_small_classes,
    split_parts,
    train_and_test,
)
from vidfeat.heads.selection import HeadOptions, require_two_classes
from vidfeat.labels import Labels, as_labels, labels_from_split, read_labels
from vidfeat.samples import Samples, collect, require_videos, summary
from vidfeat.store import FeatureStore

Split = Literal["1", "2", "3", "all"]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class FinetuneOptions:
    """What is trained, and how it is judged.

    Attributes:
        head: kind, hyper-parameters and seed.
        test_share: of each class held out where the labels have no split column; 0 for no test.
        dataset: ``ucf101`` or ``hmdb51``, in place of labels.
        lists: the folder of its official split files.
        split: which of them, or all three.
        shots: numbers of training samples a class to try as well.
        draws: how often each is drawn.
        cross_validation: folds of a cross-validation over all samples; 0 for none.
        repeats: how often it is repeated with other folds.
        min_per_class: classes with fewer samples are left out.
        ignore_case: paths and classes of the CSV that differ only in case are the same.
        skip_bad_rows: leave out clips whose vectors are not finite.
        root: folder of the videos for thumbnails; None for the one that the feature file names.
        map: how the report lays the vectors on a plane.
        report: write ``report.html``.
    """

    head: HeadOptions = field(default_factory=HeadOptions)
    test_share: float = 0.2
    dataset: str | None = None
    lists: str | None = None
    split: Split = "1"
    shots: tuple[int, ...] = ()
    draws: int = 10
    cross_validation: int = 0
    repeats: int = 1
    min_per_class: int = 1
    ignore_case: bool = False
    skip_bad_rows: bool = False
    root: str | None = None
    map: Literal["tsne", "pca", "none"] = "tsne"
    report: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.test_share <= 0.5:
            raise UsageError(f"--test-share is from 0 to 0.5, not {self.test_share:g}")
        if self.split not in ("1", "2", "3", "all"):
            raise UsageError(f"--split is 1, 2, 3 or all, not {self.split!r}")
        if self.dataset is not None and self.lists is None:
            raise UsageError(f"--dataset {self.dataset} needs --splits, the folder of its lists")
        if self.lists is not None and self.dataset is None:
            raise UsageError("--splits belongs to --dataset ucf101 or hmdb51: give that too")
        if self.draws < 2 and self.shots:
            raise UsageError(f"--draws must be 2 or more, not {self.draws}")
        if self.cross_validation == 1 or self.cross_validation < 0 or self.repeats < 1:
            raise UsageError("--cross-validate takes 2 folds or more, --repeats 1 or more")
        if self.min_per_class < 1:
            raise UsageError(f"--min-per-class must be 1 or more, not {self.min_per_class}")


@dataclass(frozen=True)
class Part:
    """One head with the samples it was trained and judged on.

    Attributes:
        name: ``split 1`` and the like; empty for the only one.
        samples: all labelled samples.
        outcome: the head and its evaluation.
        few_shots: accuracies with few training samples.
        notes: sentences for a person.
    """

    name: str
    samples: Samples = field(repr=False)
    outcome: Outcome
    few_shots: tuple[FewShot, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FinetuneResult:
    """What came out.

    Attributes:
        parts: one, or one for each official split.
        cross_validation: over all samples, where asked for.
    """

    parts: tuple[Part, ...]
    cross_validation: CrossValidation | None = None

    def mean_and_spread(self, what: Literal["video", "clip"]) -> tuple[float, float]:
        """Mean accuracy over the parts and its standard deviation (0 for one part)."""
        values = [
            part.outcome.clip_accuracy
            if what == "clip" or part.outcome.evaluation is None
            else part.outcome.evaluation.accuracy.value
            for part in self.parts
        ]
        return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """All numbers as JSON."""
        values: dict[str, Any] = {"parts": [_part_dict(part) for part in self.parts]}
        if len(self.parts) > 1:
            for what in ("video", "clip"):
                mean, spread = self.mean_and_spread("video" if what == "video" else "clip")
                values[f"{what}_accuracy"] = {"mean": mean, "standard_deviation": spread}
        if self.cross_validation is not None:
            values["cross_validation"] = {
                "accuracy": self.cross_validation.interval.to_dict(),
                "spread_over_folds": self.cross_validation.spread,
                "folds": self.cross_validation.accuracies.tolist(),
            }
        return {name: _without_nan(value) for name, value in values.items()}


def finetune(
    features: str | os.PathLike[str],
    labels: Labels | Mapping[str, str] | str | os.PathLike[str] | None = None,
    options: FinetuneOptions | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> FinetuneResult:
    """Train a head on a feature file and judge it.

    Args:
        features: the feature file.
        labels: a CSV, ``"folders"`` for folder names, a mapping of paths to classes, or Labels;
            None with ``options.dataset``.
        options: what is trained, and how it is judged.
        out: folder to write the head and its results to; None writes nothing.
        progress: told what is being done, a line at a time.

    Raises:
        DataError: labels and features do not fit each other, or do not suffice.
        StoreError: the feature file or the output cannot be used.
        UsageError: options that contradict each other.
    """
    options = options or FinetuneOptions()
    tell = progress or (lambda _: None)
    if (labels is None) == (options.dataset is None):
        raise UsageError(
            "give --labels labels.csv, --labels folders, or --dataset with --splits"
            if labels is None
            else "--labels and --dataset exclude each other: give one"
        )
    target = Path(out) if out is not None else None
    if target is not None:
        check_target(target, also=RESULT_FILES)
    with FeatureStore(features) as store:
        require_videos(store)
        parts = []
        for name, given in _label_sets(store, labels, options):
            tell(f"{name or 'labels'}: reading")
            samples = collect(store, given, skip_bad_rows=options.skip_bad_rows)
            parts.append(_train_part(name, samples, store, options, tell))
        result = FinetuneResult(tuple(parts), _cross_validation(parts, options, tell))
        if target is not None:
            tell("writing")
            write_folder(result, target, store, options)
    return result


def _label_sets(
    store: FeatureStore,
    labels: Labels | Mapping[str, str] | str | os.PathLike[str] | None,
    options: FinetuneOptions,
) -> list[tuple[str, Labels]]:
    if options.dataset is not None:
        assert options.lists is not None
        numbers = (1, 2, 3) if options.split == "all" else (int(options.split),)
        return [
            (
                f"split {number}",
                labels_from_split(options.dataset, options.lists, number, store.paths),
            )
            for number in numbers
        ]
    assert labels is not None
    if isinstance(labels, str | os.PathLike) and labels != "folders":
        return [("", read_labels(labels, ignore_case=options.ignore_case))]
    return [("", as_labels(labels, store.paths))]


def _train_part(
    name: str, samples: Samples, store: FeatureStore, options: FinetuneOptions, tell: Progress
) -> Part:
    lines = summary(samples)
    samples, notes = leave_out_small_classes(samples, options.min_per_class)
    require_two_classes(samples, "labelled videos")
    train, test, more = split_parts(samples, test_share=options.test_share, seed=options.head.seed)
    tell(f"{name or 'training'}: {len(train)} to train on, {len(test)} to test on")
    outcome = train_and_test(samples, train, test, options.head, store.identity)
    shots: list[FewShot] = []
    if options.shots and len(test):
        for row in few_shot(samples, train, test, options.shots, options.head, draws=options.draws):
            tell(f"{row.shots} a class: {row.interval}")
            shots.append(row)
    if not outcome.converged:
        more.append("the solver stopped before its tolerance: try stronger regularisation")
    return Part(name, samples, outcome, tuple(shots), (*lines, *notes, *more))


def _cross_validation(
    parts: list[Part], options: FinetuneOptions, tell: Progress
) -> CrossValidation | None:
    if not options.cross_validation:
        return None
    return cross_validate(
        parts[0].samples,
        options.head,
        folds=options.cross_validation,
        repeats=options.repeats,
        progress=tell,
    )


def _part_dict(part: Part) -> dict[str, Any]:
    outcome = part.outcome
    return {
        "name": part.name,
        "head": outcome.head.scorer.kind,
        "train": len(outcome.train),
        "test": len(outcome.test),
        "video": outcome.evaluation.to_dict() if outcome.evaluation else None,
        "clip_accuracy": outcome.clip_accuracy,
        "params": dict(outcome.choice.params),
        "temperature": outcome.choice.temperature,
        "trials": [trial.to_dict() for trial in outcome.choice.trials],
        "few_shot": [
            {
                "shots": row.shots,
                "accuracy": row.interval.to_dict(),
                "draws": list(row.accuracies),
            }
            for row in part.few_shots
        ],
        "notes": list(part.notes),
    }


def _without_nan(value: Any) -> Any:
    """NaN as null: JSON has no NaN."""
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
