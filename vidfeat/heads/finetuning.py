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
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidfeat.datasets.labels import Labels, as_labels, labels_from_split
from vidfeat.datasets.samples import Samples, collect, require_videos, summary
from vidfeat.errors import DataError, UsageError
from vidfeat.heads.copies import Copies, copies_across, find_copies
from vidfeat.heads.cross_validation import (
    Comparison,
    CrossValidation,
    compare_heads,
    cross_validate,
    options_by_kind,
)
from vidfeat.heads.head import check_target
from vidfeat.heads.multi_label import train_multi_label
from vidfeat.heads.multi_label_folder import write_multi_label
from vidfeat.heads.protocols import (
    FewShot,
    few_shot,
    leave_out_small_classes,
    split_parts,
    train_and_test,
)
from vidfeat.heads.results import FinetuneOptions, FinetuneResult, TrainedSplit
from vidfeat.heads.results_folder import RESULT_FILES, write_folder
from vidfeat.heads.selection import HeadOptions, require_two_classes
from vidfeat.store.reader import FeatureStore
from vidfeat.system.callbacks import Report, no_report


def finetune(
    features: str | os.PathLike[str],
    labels: Labels | Mapping[str, str] | str | os.PathLike[str] | None = None,
    options: FinetuneOptions | None = None,
    *,
    head: str | Sequence[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    report: Report | None = None,
) -> FinetuneResult:
    """Train a head on a feature file and test it.

    Args:
        features: the feature file.
        labels: a CSV, ``"folders"`` for folder names, a mapping of paths to classes, or the result
            of `read_labels`; None with ``options.dataset``.
        options: what is trained, and how it is tested.
        head: ``"linear"``, ``"svm"``, ``"knn"``, ``"mlp"`` or ``"attentive"``, in place of
            ``options.head.kind``; several (``"linear,svm"`` or a list) are compared, and the best
            is trained. ``"attentive"`` alone is compared with ``"linear"``, and trained.
        out: folder to write the head and its results to; None writes nothing.
        overwrite: replace an existing head at ``out``.
        report: called with a line on each step.

    Raises:
        DataError: labels and features do not fit each other, or do not suffice.
        StoreError: the feature file or the output cannot be used.
        UsageError: options that contradict each other.
    """
    options = _with_head(options or FinetuneOptions(), head)
    report = report or no_report
    if (labels is None) == (options.dataset is None):
        raise UsageError(
            "give labels (a CSV, or the word folders), or dataset with lists"
            if labels is None
            else "labels and dataset exclude each other: give one",
            field=("labels", "dataset", "lists") if labels is None else ("labels", "dataset"),
        )
    target = Path(out) if out is not None else None
    if target is not None:
        check_target(target, also=RESULT_FILES, overwrite=overwrite)
    with FeatureStore(features) as store:
        require_videos(store)
        parts = []
        copies = find_copies(store)
        for name, given in _label_sets(store, labels, options):
            report(f"{name or 'labels'}: reading")
            samples = collect(store, given, skip_bad_rows=options.skip_bad_rows)
            if given.several:
                return _multi_label(samples, given.notes, store, copies, options, target)
            parts.append(_train_part(name, samples, given.notes, store, copies, options, report))
        result = FinetuneResult(tuple(parts), _cross_validation(parts, options, report))
        if target is not None:
            report("writing")
            write_folder(result, target, store, options)
    return result


def _with_head(options: FinetuneOptions, head: str | Sequence[str] | None) -> FinetuneOptions:
    """The options with the heads of the argument, if given."""
    if head is None:
        return options
    kinds = [name.strip() for name in head.split(",")] if isinstance(head, str) else list(head)
    made = options_by_kind(kinds, options.head)
    return replace(options, head=made[0], compare=tuple(made) if len(made) > 1 else ())


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
    copies: Copies,
    options: FinetuneOptions,
    report: Report,
) -> TrainedSplit:
    lines = [*summary(samples), *notes]
    samples, small = leave_out_small_classes(samples, options.min_per_class)
    require_two_classes(samples, "labelled videos")
    train, test, more = split_parts(samples, test_share=options.test_share, seed=options.head.seed)
    report(f"{name or 'training'}: {len(train)} to train on, {len(test)} to test on")
    more += copies_across(copies, samples, train, test)
    chosen, comparison = options.head, None
    if options.compare:
        comparison = _compare(samples, train, options.compare, options, report)
        chosen = comparison.chosen
    elif chosen.of_sequences:
        try:
            comparison = _compare(samples, train, _beside_linear(chosen), options, report)
            comparison = replace(comparison, chosen=chosen)
        except DataError as error:
            more.append(f"not compared with a linear head: {error}")
    outcome = train_and_test(samples, train, test, chosen, store.identity)
    shots: list[FewShot] = []
    if options.shots and len(test):
        for row in few_shot(samples, train, test, options.shots, chosen, draws=options.draws):
            report(f"{row.shots} per class: {row.interval}")
            shots.append(row)
    if not outcome.converged:
        more.append("the solver did not converge: try stronger regularisation")
    return TrainedSplit(name, samples, outcome, tuple(shots), comparison, (*lines, *small, *more))


def _multi_label(
    samples: Samples,
    notes: Sequence[str],
    store: FeatureStore,
    copies: Copies,
    options: FinetuneOptions,
    target: Path | None,
) -> FinetuneResult:
    """Train and test a head for several labels per sample, and write its folder."""
    if options.compare or options.cross_validation or options.shots:
        raise UsageError(
            "several labels per sample are judged on one test part, by one classifier: leave out "
            "cross_validation and shots, and give head a single kind",
            field=("head", "cross_validation", "shots"),
        )
    names = sorted({name for row in samples.rows for name in row.labels})
    found = train_multi_label(
        samples,
        names,
        options.head,
        test_share=options.test_share,
        identity=store.identity,
    )
    lines = [*summary(samples), *notes, *found.notes]
    lines += copies_across(copies, samples, found.train, found.test)
    found = replace(found, notes=tuple(lines))
    if target is not None:
        write_multi_label(found, target, store, report=options.report)
    return FinetuneResult((), multi_label=found)


def _compare(
    samples: Samples,
    train: NDArray[np.int64],
    heads: Sequence[HeadOptions],
    options: FinetuneOptions,
    report: Report,
) -> Comparison:
    return compare_heads(
        samples.take(train),
        heads,
        folds=options.cross_validation or 5,
        repeats=options.repeats,
        report=report,
    )


def _beside_linear(attentive: HeadOptions) -> tuple[HeadOptions, HeadOptions]:
    """A linear head on the mean vectors of the same videos, and the attentive head itself."""
    linear = HeadOptions(folds=attentive.folds, calibrate=attentive.calibrate, seed=attentive.seed)
    return linear, attentive


def _cross_validation(
    parts: list[TrainedSplit], options: FinetuneOptions, report: Report
) -> CrossValidation | None:
    if not options.cross_validation or options.compare:
        return None
    return cross_validate(
        parts[0].samples,
        options.head,
        folds=options.cross_validation,
        repeats=options.repeats,
        report=report,
    )
