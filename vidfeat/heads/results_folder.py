"""The folder that fine-tuning writes: heads, reports, predictions, results."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vidfeat.heads.report import ReportOptions, write_head_report
from vidfeat.heads.results import FinetuneOptions, FinetuneResult, TrainedSplit
from vidfeat.heads.results_tables import report_tables
from vidfeat.system.files import atomic_folder
from vidfeat.version import __version__

if TYPE_CHECKING:
    from vidfeat.store.reader import FeatureStore

RESULT_FILES = ("results.json", "split1", "split2", "split3")


def write_folder(
    result: FinetuneResult, target: Path, store: FeatureStore, options: FinetuneOptions
) -> None:
    """Write heads, reports, predictions and results as one folder, completely or not at all."""
    with atomic_folder(target) as folder:
        for part in result.parts:
            place = folder
            if len(result.parts) > 1:
                place = folder / part.name.replace(" ", "")
                place.mkdir()
            _write_part(part, place, result, store, options)
        _write_results(result, folder, store, options)


def _write_part(
    part: TrainedSplit,
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
        write_head_report(
            place / "report.html",
            part.samples,
            part.outcome,
            ReportOptions(
                title=f"{title}, {part.name}" if part.name else title,
                map=options.map,
                locate=lambda path: store.place(path, options.root),
                tables=report_tables(result, part),
                few_shots=part.few_shots,
                notes=part.notes,
            ),
        )


def _write_predictions(part: TrainedSplit, path: Path) -> None:
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
