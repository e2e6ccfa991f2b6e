"""A CSV of one's own: ``path,label`` and optionally start_seconds, end_seconds, split and group.

Paths are relative to the CSV's folder, or to the folder given. Without a split column a fifth of
each class is held out, whole groups at a time.
"""

from __future__ import annotations

import csv
from pathlib import Path, PurePosixPath

from vidfeat.datasets.base import Part, Sample, VideoDataset, describe_folder
from vidfeat.datasets.folders import hold_out
from vidfeat.datasets.kinetics import PARTS
from vidfeat.errors import DataError
from vidfeat.system.identities import identity_to_path

EXPECTED = "columns path,label and optionally start_seconds,end_seconds,split,group"


def read_table(
    file: Path, root: Path | None = None, *, name: str = "csv", holdout: float = 0.2
) -> VideoDataset:
    """Read a table of labelled videos; rows whose file is absent are counted as missing.

    Args:
        file: the CSV, or a folder that holds it as ``labels.csv``.
        root: what the paths are relative to; the CSV's folder by default.
        name: what to call the dataset in messages.
        holdout: the share of each class held out where there is no split column.

    Raises:
        DataError: no such file, other columns, a row that cannot be read, or not one video there.
    """
    if file.is_dir():
        if not (file / "labels.csv").is_file():
            raise DataError(
                f"{file} has no labels.csv with {EXPECTED}; found {describe_folder(file)}"
            )
        file = file / "labels.csv"
    if not file.is_file():
        raise DataError(f"{file}: no such file; expected a CSV with {EXPECTED}")
    root = file.parent if root is None else root
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines)
        columns = [column.strip().lower() for column in reader.fieldnames or ()]
        reader.fieldnames = columns
        if not {"path", "label"} <= set(columns):
            raise DataError(f"{file}: expected {EXPECTED}; found columns {', '.join(columns)}")
        rows = [(number, row) for number, row in enumerate(reader, 2)]
    labels = {(row["label"] or "").strip() for _, row in rows}
    classes = tuple(sorted(labels))
    index = {label: number for number, label in enumerate(classes)}
    samples: list[Sample] = []
    missing: list[str] = []
    for number, row in rows:
        sample = _sample(file, number, row, index)
        if (root / identity_to_path(sample.path)).is_file():
            samples.append(sample)
        else:
            missing.append(sample.path)
    if len(classes) < 2 or not samples:
        raise DataError(
            f"{file}: {len(samples)} of {len(rows)} rows have a video under {root}, in "
            f"{len(classes)} classes; expected two classes or more, paths relative to that folder"
        )
    notes: tuple[str, ...] = ()
    if "split" not in columns:
        samples = list(hold_out(samples, holdout))
        notes = (f"{holdout:.0%} of each class held out for testing, by a hash of group or path",)
    return VideoDataset(name, root, classes, tuple(samples), tuple(missing), notes=notes)


def _sample(file: Path, number: int, row: dict[str, str], index: dict[str, int]) -> Sample:
    path = (row["path"] or "").strip()
    label = (row["label"] or "").strip()
    part: Part | None = "train"
    if "split" in row:
        part = PARTS.get((row["split"] or "").strip().lower())
    if not path or not label or part is None or ".." in PurePosixPath(path).parts:
        raise DataError(
            f"{file}, line {number}: expected a path, a label and a split of train, val or test; "
            f"found {row}"
        )
    try:
        start, end = (_seconds(row.get(name)) for name in ("start_seconds", "end_seconds"))
    except ValueError:
        raise DataError(
            f"{file}, line {number}: start_seconds and end_seconds are numbers"
        ) from None
    if end is not None and end <= (start or 0.0):
        raise DataError(f"{file}, line {number}: the stretch ends before it starts: {start}, {end}")
    group = (row.get("group") or "").strip()
    return Sample(path, (index[label],), part, group, start, end)


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.strip() else None
