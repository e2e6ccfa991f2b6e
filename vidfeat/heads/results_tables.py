"""The results of fine-tuning as tables, for the terminal and the report."""

from __future__ import annotations

import math

from vidfeat.evaluation.metrics import Evaluation, Interval
from vidfeat.heads.report import Table, percent
from vidfeat.heads.results import FinetuneResult, TrainedSplit
from vidfeat.heads.settings_text import describe_params

MOST_CLASSES = 20
"""With more, the terminal shows the ten with the lowest recall; the report shows all."""


def report_tables(result: FinetuneResult, part: TrainedSplit) -> list[Table]:
    """Tables that the report adds to its pictures."""
    tables = []
    if len(result.parts) > 1:
        columns, rows = splits_table(result)
        tables.append(Table("The official splits", columns, rows))
    if part.comparison is not None:
        tables.append(comparison_table(part))
    if part.outcome.evaluation is not None:
        tables.append(classes_table(part.outcome.evaluation))
    found = result.cross_validation
    if found is not None:
        low, high = percent(found.interval.low), percent(found.interval.high)
        accuracy = f"{percent(found.interval.value)} [{low}, {high}]"
        row = (accuracy, percent(found.spread), found.interval.method)
        repeats, folds = found.accuracies.shape
        times = "once" if repeats == 1 else f"{repeats} times"
        tables.append(
            Table(
                f"Cross-validation, {folds} folds, {times}",
                ("accuracy [95 % interval]", "deviation of folds", "interval"),
                (row,),
            )
        )
    return tables


def splits_table(
    result: FinetuneResult,
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Columns and rows of the table of parts, with their mean and spread below."""
    rows: list[tuple[str, ...]] = []
    methods: list[str] = []
    for part in result.parts:
        evaluation = part.outcome.evaluation
        if evaluation is not None:
            methods.append(evaluation.accuracy.method)
        rows.append(
            (
                part.name or "test part",
                percent(part.outcome.clip_accuracy),
                percent(evaluation.accuracy.value) if evaluation else "–",
                range_of(evaluation.accuracy) if evaluation else "–",
                percent(evaluation.topk(5)) if evaluation and len(evaluation.classes) > 5 else "–",
                f"{len(part.outcome.train)} / {len(part.outcome.test)}",
                describe_params(part.outcome.choice.params),
            )
        )
    if len(result.parts) > 1:
        told = [
            f"{percent(mean)} ± {100 * spread:.1f}"
            for mean, spread in (result.mean_and_spread("clip"), result.mean_and_spread("video"))
        ]
        rows.append(("mean ± deviation", *told, "", "", "", ""))
    method = f" ({methods[0]})" if len(set(methods)) == 1 else ""
    columns: tuple[str, ...] = ("", "clip", "video", f"95 % interval{method}")
    columns += ("video, top 5", "train / test", "chosen")
    if all(row[4] in ("–", "") for row in rows):  # five classes or fewer: top 5 is meaningless
        columns = columns[:4] + columns[5:]
        rows = [row[:4] + row[5:] for row in rows]
    return columns, tuple(rows)


def classes_table(evaluation: Evaluation, most: int | None = None) -> Table:
    """Precision and recall by class; with more than ``most``, the ten with the lowest recall."""
    rows = [row for row in evaluation.per_class if row.count or not math.isnan(row.precision)]
    note = ""
    if most is not None and len(rows) > most:
        rows = sorted(rows, key=lambda row: (row.recall if row.count else 1.0, row.name))[:10]
        note = f"the ten of {len(evaluation.classes)} classes with the lowest recall"
    return Table(
        "Precision and recall",
        ("class", "precision", "recall", "videos"),
        tuple(
            (row.name, percent(row.precision), percent(row.recall), str(row.count)) for row in rows
        ),
        note,
    )


def comparison_table(part: TrainedSplit, most: int | None = None) -> Table:
    """Heads side by side, the majority class first; rows are measures.

    Args:
        part: a part with a comparison.
        most: classes whose precision and recall are shown; None for all.
    """
    compared = part.comparison
    assert compared is not None
    found = compared.found
    first = next(iter(found.values()))
    evaluations = [one.evaluation for one in found.values()]
    repeats = first.accuracies.shape[0]
    rows: list[tuple[str, ...]] = [
        (
            "accuracy",
            percent(first.majority_accuracy),
            *(percent(one.interval.value) for one in found.values()),
        ),
        ("95 % interval", "", *(short_range(one.interval) for one in found.values())),
        ("deviation of folds", "", *(f"{100 * one.spread:.1f}" for one in found.values())),
        (
            "mean over classes",
            percent(1 / len(first.evaluation.classes)),
            *(percent(one.mean_class_accuracy) for one in evaluations),
        ),
    ]
    areas = [one.roc_auc for one in evaluations]
    if all(area is not None for area in areas):
        shown = [f"{area.value:.3f}" for area in areas if area is not None]
        rows.append(("ROC AUC", "0.500", *shown))
        spans = [f"{a.low:.3f} to {a.high:.3f}" for a in areas if a is not None]
        rows.append(("95 % interval", "", *spans))
    names = [row.name for row in evaluations[0].per_class]
    if most is None or len(names) <= most:
        for place, name in enumerate(names):
            results = [one.per_class[place] for one in evaluations]
            rows.append((f"{name}: precision", "", *(percent(one.precision) for one in results)))
            rows.append((f"{name}: recall", "", *(percent(one.recall) for one in results)))
    times = "" if repeats == 1 else f" x {repeats}"
    return Table(
        f"Heads on the same {compared.folds} folds{times} of the training part",
        ("", "majority", *found),
        tuple(rows),
        f"Intervals: {first.interval.method}. {compared.chosen.kind} is trained on the whole "
        "training part, and judged on the test part once.",
    )


def short_range(interval: Interval) -> str:
    """The ends of an interval, for a narrow column: ``79.7 to 95.3 %``."""
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f} %"


def range_of(interval: Interval) -> str:
    """The ends of an interval: ``79.7 % to 95.3 %``."""
    return f"{percent(interval.low)} to {percent(interval.high)}"
