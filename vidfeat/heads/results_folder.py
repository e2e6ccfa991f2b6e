"""What fine-tuning leaves on the disk: heads, reports, predictions, results."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vidfeat.evaluation.metrics import Interval
from vidfeat.heads.protocols import CrossValidation
from vidfeat.heads.report import ReportOptions, Table, describe_params, percent, write_report
from vidfeat.heads.results import FinetuneOptions, FinetuneResult, Part
from vidfeat.system.files import atomic_folder
from vidfeat.version import __version__

if TYPE_CHECKING:
    from vidfeat.store.reader import FeatureStore

RESULT_FILES = ("results.json", "split1", "split2", "split3")


def write_folder(
    result: FinetuneResult, target: Path, store: FeatureStore, options: FinetuneOptions
) -> None:
    """Write heads, reports, predictions and results as one folder, whole or not at all."""
    with atomic_folder(target) as folder:
        for part in result.parts:
            place = folder
            if len(result.parts) > 1:
                place = folder / part.name.replace(" ", "")
                place.mkdir()
            _write_part(part, place, result, store, options)
        _write_results(result, folder, store, options)


def _write_part(
    part: Part,
    place: Path,
    result: FinetuneResult,
    store: FeatureStore,
    options: FinetuneOptions,
) -> None:
    evaluation = part.outcome.evaluation
    head = part.outcome.head
    if evaluation is not None:
        tested = {
            "accuracy": evaluation.accuracy.to_dict(),
            "clip_accuracy": part.outcome.clip_accuracy,
            "samples": len(part.outcome.test),
        }
        head = replace(head, training={**head.training, "test": tested})
    head.write_into(place)
    if evaluation is None:
        return
    _write_predictions(part, place / "predictions.csv")
    if options.report:
        title = f"{Path(store.path).stem}: {head.scorer.kind} head"
        write_report(
            place / "report.html",
            part.samples,
            part.outcome,
            ReportOptions(
                title=f"{title}, {part.name}" if part.name else title,
                map=options.map,
                locate=lambda path: store.local_path(path, options.root),
                tables=[*_beside_linear(part), *_tables(result)],
                few_shots=part.few_shots,
                notes=part.notes,
            ),
        )


def _tables(result: FinetuneResult) -> list[Table]:
    tables = []
    if len(result.parts) > 1:
        columns, rows = splits_table(result)
        tables.append(Table("The official splits", columns, rows))
    found = result.cross_validation
    if found is not None:
        validated = [_validated(result.parts[0].outcome.head.scorer.kind, found)]
        if result.linear_cross_validation is not None:
            validated.append(_validated("linear", result.linear_cross_validation))
        repeats, folds = found.accuracies.shape
        times = "once" if repeats == 1 else f"{repeats} times"
        tables.append(
            Table(
                f"Cross-validation, {folds} folds, {times}",
                ("head", "accuracy [95 % interval]", "spread of folds", "interval"),
                tuple(validated),
            )
        )
    return tables


def _validated(kind: str, found: CrossValidation) -> tuple[str, ...]:
    return kind, _with_interval(found.interval), percent(found.spread), found.interval.method


def _with_interval(interval: Interval) -> str:
    return f"{percent(interval.value)} [{percent(interval.low)}, {percent(interval.high)}]"


def _beside_linear(part: Part) -> list[Table]:
    """An attentive head and a linear one on the same samples."""
    if part.linear is None or part.linear.evaluation is None:
        return []
    rows = []
    for outcome in (part.outcome, part.linear):
        assert outcome.evaluation is not None
        kind, chosen = outcome.head.scorer.kind, describe_params(outcome.choice.params)
        rows.append((kind, _with_interval(outcome.evaluation.accuracy), chosen))
    return [
        Table(
            "Beside a linear head",
            ("head", "accuracy [95 % interval]", "chosen"),
            tuple(rows),
            "The linear head has seen the mean vectors of the same videos, which say nothing of "
            "their order.",
        )
    ]


def splits_table(
    result: FinetuneResult,
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Columns and rows of the table of parts, with their mean and spread below."""
    rows: list[tuple[str, ...]] = []
    for part in result.parts:
        evaluation = part.outcome.evaluation
        rows.append(
            (
                part.name or "test part",
                percent(part.outcome.clip_accuracy),
                percent(evaluation.accuracy.value) if evaluation else "–",
                f"{percent(evaluation.accuracy.low)} to {percent(evaluation.accuracy.high)}"
                if evaluation
                else "–",
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
    columns: tuple[str, ...] = ("", "clip", "video", "95 % interval")
    columns += ("video, top 5", "train / test", "chosen")
    if all(row[4] in ("–", "") for row in rows):  # of five classes or fewer: nothing to say
        columns = columns[:4] + columns[5:]
        rows = [row[:4] + row[5:] for row in rows]
    return columns, tuple(rows)


def _write_predictions(part: Part, path: Path) -> None:
    evaluation = part.outcome.evaluation
    assert evaluation is not None
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["path", "start_seconds", "end_seconds", "label", "predicted", "score", "correct"]
        )
        for i, sample in enumerate(part.outcome.test):
            row = part.samples.rows[int(sample)]
            said = int(evaluation.predicted[i])
            writer.writerow(
                [
                    row.path,
                    "" if row.start_seconds is None else row.start_seconds,
                    "" if row.end_seconds is None else row.end_seconds,
                    row.label,
                    evaluation.classes[said],
                    f"{evaluation.scores[i, said]:.6f}",
                    int(evaluation.correct[i]),
                ]
            )


def _write_results(
    result: FinetuneResult, folder: Path, store: FeatureStore, options: FinetuneOptions
) -> None:
    values = {
        "vidfeat_version": __version__,
        "features": Path(store.path).name,
        "space_fingerprint": store.space_fingerprint,
        "run_fingerprint": store.run_fingerprint,
        "dataset": options.dataset,
        "seed": options.head.seed,
        **result.to_dict(),
    }
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / "results.json").write_text(text + "\n", encoding="utf-8")
