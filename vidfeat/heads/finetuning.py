"""From a feature file and labels to a trained head, its accuracy, and a folder of results.

::

    vidfeat.finetune("features.h5", "labels.csv", out="head/")

The folder holds the head (``head.json``, ``head.safetensors``), ``results.json``,
``predictions.csv`` and ``report.html``. With all three official splits it holds a folder each,
``split1`` to ``split3``, and ``results.json`` with their mean and spread.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from vidfeat.datasets.labels import Labels, as_labels, labels_from_split
from vidfeat.datasets.samples import Samples, collect, require_videos, summary
from vidfeat.errors import UsageError
from vidfeat.heads.head import check_target
from vidfeat.heads.protocols import (
    CrossValidation,
    FewShot,
    cross_validate,
    few_shot,
    leave_out_small_classes,
    split_parts,
    train_and_test,
)
from vidfeat.heads.results import FinetuneOptions, FinetuneResult, Part, Progress
from vidfeat.heads.results_folder import RESULT_FILES, write_folder
from vidfeat.heads.selection import HeadOptions, require_two_classes
from vidfeat.store.reader import FeatureStore


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
            "give labels (a CSV, or the word folders), or dataset with lists"
            if labels is None
            else "labels and dataset exclude each other: give one",
            field=("labels", "dataset", "lists") if labels is None else ("labels", "dataset"),
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
            parts.append(_train_part(name, samples, given.notes, store, options, tell))
        beside = linear_beside(options.head)
        result = FinetuneResult(
            tuple(parts),
            _cross_validation(parts, options, options.head, tell),
            None if beside is None else _cross_validation(parts, options, beside, tell),
        )
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
    return [("", as_labels(labels, store.paths, ignore_case=options.ignore_case))]


def _train_part(
    name: str,
    samples: Samples,
    notes: Sequence[str],
    store: FeatureStore,
    options: FinetuneOptions,
    tell: Progress,
) -> Part:
    lines = [*summary(samples), *notes]
    samples, small = leave_out_small_classes(samples, options.min_per_class)
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
    beside = linear_beside(options.head)
    linear = None
    if beside is not None and len(test):
        tell("a linear head on the same samples")
        linear = train_and_test(samples, train, test, beside, store.identity)
    return Part(name, samples, outcome, tuple(shots), (*lines, *small, *more), linear)


def linear_beside(head: HeadOptions) -> HeadOptions | None:
    """The linear head, on mean vectors, that an attentive one is compared with."""
    if not head.of_sequences:
        return None
    return HeadOptions(folds=head.folds, calibrate=head.calibrate, seed=head.seed)


def _cross_validation(
    parts: list[Part], options: FinetuneOptions, head: HeadOptions, tell: Progress
) -> CrossValidation | None:
    if not options.cross_validation:
        return None
    return cross_validate(
        parts[0].samples,
        head,
        folds=options.cross_validation,
        repeats=options.repeats,
        progress=tell,
    )
