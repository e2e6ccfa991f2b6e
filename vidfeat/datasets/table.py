"""A CSV of one's own: ``path,label`` and optionally start_seconds, end_seconds, split and group.

Paths are relative to the CSV's folder, or to the folder given. Without a split column a fifth of
each class is held out, whole groups at a time.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

from vidfeat.datasets.base import Part, Sample, VideoDataset, describe_folder
from vidfeat.datasets.folders import hold_out
from vidfeat.datasets.kinetics import PARTS
from vidfeat.errors import DataError
from vidfeat.system.identities import (
    existing_spelling,
    identity_to_path,
    path_to_identity,
    written_identity,
)
from vidfeat.system.text_tables import Row
from vidfeat.system.text_tables import read_table as read_text_table

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
    table = read_text_table(file)
    columns, rows = table.columns, table.rows
    if not {"path", "label"} <= set(columns):
        raise DataError(f"{file}: expected {EXPECTED}; found columns {', '.join(columns)}")
    labels = {row["label"] for row in rows}
    classes = tuple(sorted(labels))
    index = {label: number for number, label in enumerate(classes)}
    samples: list[Sample] = []
    missing: list[str] = []
    base = path_to_identity(str(root.absolute()))
    for row in rows:
        sample = _sample(file, row, index, base)
        there = existing_spelling(str(root / identity_to_path(sample.path)))
        if Path(there).is_file():
            path = path_to_identity(str(Path(there).relative_to(root)))
            samples.append(replace(sample, path=path))
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


def _sample(file: Path, row: Row, index: dict[str, int], root: str) -> Sample:
    number = row.line
    path, label = written_identity(row["path"], root), row["label"]
    part: Part | None = "train"
    if "split" in row.values:
        part = PARTS.get(row["split"].lower())
    if not path or not label or part is None or ".." in PurePosixPath(path).parts:
        raise DataError(
            f"{file}, line {number}: expected a path, a label and a split of train, val or test; "
            f"found {row.values}"
        )
    try:
        start, end = (row.seconds(name) for name in ("start_seconds", "end_seconds"))
    except ValueError:
        raise DataError(
            f"{file}, line {number}: start_seconds and end_seconds are numbers"
        ) from None
    if end is not None and end <= (start or 0.0):
        raise DataError(f"{file}, line {number}: the stretch ends before it starts: {start}, {end}")
    return Sample(path, (index[label],), part, row["group"], start, end)
