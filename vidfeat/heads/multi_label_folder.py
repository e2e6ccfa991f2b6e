"""The folder of a head for several labels: the head, results, predictions, a report."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from vidfeat.heads.multi_label import LabelResult, MultiLabelResult
from vidfeat.heads.report import Table, percent, table_section
from vidfeat.heads.report_style import CSS
from vidfeat.heads.results import without_nan
from vidfeat.heads.settings_text import describe_params
from vidfeat.system.files import atomic_folder
from vidfeat.version import __version__

if TYPE_CHECKING:
    from vidfeat.store.reader import FeatureStore


def write_multi_label(
    result: MultiLabelResult, target: Path, store: FeatureStore, *, report: bool
) -> None:
    """Write head, results, predictions and report as one folder, completely or not at all."""
    head, found = result.head, result.mean_average_precision
    if found is not None:
        tested = {"mean_average_precision": found.to_dict(), "samples": len(result.test)}
        head = replace(head, training={**head.training, "test": tested})
    with atomic_folder(target) as folder:
        head.write_into(folder)
        values = {
            "vidfeat_version": __version__,
            "features": Path(store.path).name,
            "space_fingerprint": store.space_fingerprint,
            "run_fingerprint": store.run_fingerprint,
            **result.to_dict(),
        }
        text = json.dumps(without_nan(values), indent=2, ensure_ascii=False, allow_nan=False)
        (folder / "results.json").write_text(text + "\n", encoding="utf-8")
        if found is None:
            return
        _write_predictions(result, folder / "predictions.csv")
        if report:
            page = _page(result, f"{Path(store.path).stem}: {head.scorer.kind} head")
            (folder / "report.html").write_text(page, encoding="utf-8")


def multi_label_table(result: MultiLabelResult, most: int | None = None) -> Table:
    """Results by class; with more than ``most``, the ten with the lowest average precision."""
    rows: Sequence[LabelResult] = result.classes
    note = ""
    if most is not None and len(rows) > most:
        judged = [row for row in rows if row.count]
        rows = sorted(judged, key=lambda row: row.average_precision)[:10]
        note = f"the ten of {len(result.classes)} classes with the lowest average precision"
    return Table(
        "Class by class",
        ("class", "average precision", "guessing", "precision", "recall", "samples"),
        tuple(
            (
                row.name,
                percent(row.average_precision),
                percent(row.share),
                percent(row.precision),
                percent(row.recall),
                str(row.count),
            )
            for row in rows
        ),
        note,
    )


def summary_line(result: MultiLabelResult) -> str:
    """The mean average precision in a sentence."""
    found = result.mean_average_precision
    if found is None:
        return "no test part: nothing was tested"
    return (
        f"mAP {percent(found.value)}, 95 % interval {percent(found.low)} to {percent(found.high)} "
        f"({found.method}); guessing gets {percent(result.chance)}; "
        f"{len(result.train)} trained on, {len(result.test)} tested, "
        f"{describe_params(result.params)}"
    )


def _write_predictions(result: MultiLabelResult, path: Path) -> None:
    names = result.head.classes
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "start_seconds", "end_seconds", "labels", "predicted", *names])
        for place, scores in zip(result.test.tolist(), result.scores, strict=True):
            row = result.samples.rows[place]
            said = [name for name, score in zip(names, scores, strict=True) if score >= 0.5]
            writer.writerow(
                [
                    row.path,
                    "" if row.start_seconds is None else row.start_seconds,
                    "" if row.end_seconds is None else row.end_seconds,
                    row.label,
                    "|".join(said),
                    *(f"{score:.6f}" for score in scores),
                ]
            )


def _page(result: MultiLabelResult, title: str) -> str:
    found = result.mean_average_precision
    assert found is not None
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in result.notes)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}, several labels per sample</h1>\n"
        f'<p class="sub">{len(result.classes)} classes, one against the rest; trained on '
        f"{len(result.train)} samples, tested on {len(result.test)}</p>\n{notes}\n"
        '<div class="tiles"><div class="tile main"><span>mean average precision</span>'
        f"<b>{percent(found.value)}</b><span>95 % interval {percent(found.low)} to "
        f"{percent(found.high)} ({escape(found.method)})</span></div>"
        f'<div class="tile"><span>guessing</span><b>{percent(result.chance)}</b></div></div>\n'
        f"{table_section(multi_label_table(result))}\n"
        '<p class="note">Precision and recall count a class as predicted at 50 % or more.</p>\n'
        f"<footer>vidfeat {escape(__version__)}, {made}.</footer>\n</main>\n</body>\n</html>\n"
    )
