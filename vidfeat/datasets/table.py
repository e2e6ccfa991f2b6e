"""A user's own CSV: ``path,label`` and optionally start_seconds, end_seconds, split and group.

It is read by the same reader as the labels of ``finetune`` (``labels.py``). Paths are relative to
the CSV's folder, or to the folder given. Without a split column a fifth of each class is held out,
in whole groups.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

from vidfeat.datasets.base import Sample, VideoDataset, describe_folder
from vidfeat.datasets.holdout import describe_hold_out, hold_out
from vidfeat.datasets.label_rows import LabelRow, shared_videos, without_doubles
from vidfeat.datasets.labels import read_labels, relative_to
from vidfeat.datasets.part_names import DatasetPart, part_of
from vidfeat.errors import DataError
from vidfeat.system.identities import (
    existing_spelling,
    identity_to_path,
    path_to_identity,
)
from vidfeat.system.wording import counted
from vidfeat.video.frame_names import frames_in

EXPECTED = "columns path,label and optionally start_seconds,end_seconds,split,group"


def read_table(
    file: Path,
    root: Path | None = None,
    *,
    name: str = "csv",
    holdout: float = 0.2,
    min_classes: int = 2,
    frames: bool = False,
) -> VideoDataset:
    """Read a table of labelled videos; rows whose file is absent are counted as missing.

    Args:
        file: the CSV, or a folder that holds it as ``labels.csv``.
        root: what the paths are relative to; the CSV's folder by default.
        name: what to call the dataset in messages.
        holdout: the share of each class held out if there is no split column.
        min_classes: how many classes there must be; 1 if a network defines the others.
        frames: whether a row may name a folder of frames.

    Raises:
        DataError: no such file, other columns, a row that cannot be read, rows that contradict
            each other, or no video there.
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
    labels = relative_to(read_labels(file, ignore_case=None), str(root.resolve()), str(root))
    rows = without_doubles(labels.rows, labels.source)
    classes = labels.classes
    if labels.several:
        classes = tuple(sorted({name for row in rows for name in row.labels}))
    index = {label: number for number, label in enumerate(classes)}
    has_parts = any(row.split for row in rows)
    notes: list[str] = []
    samples: list[Sample] = []
    missing: list[str] = []
    unassigned: list[str] = []
    for row in rows:
        part = _part_of(row, labels.source)
        own = tuple(index[name] for name in row.labels or (row.label,))
        sample = Sample(
            row.path, own, part or "train", row.group, row.start_seconds, row.end_seconds
        )
        there = Path(existing_spelling(str(root / identity_to_path(sample.path))))
        if not (there.is_file() or (frames and frames_in(there))):
            missing.append(sample.path)
            continue
        inside = there.relative_to(root) if there.is_relative_to(root) else there
        sample = replace(sample, path=path_to_identity(str(inside)))
        if has_parts and part is None:
            unassigned.append(sample.path)
        else:
            samples.append(sample)
    if len(classes) < min_classes or not samples:
        raise DataError(
            f"{file}: {len(samples)} of {len(rows)} rows have a video under {root}, in "
            f"{counted(len(classes), 'class', 'classes')}; expected two classes or "
            "more, paths relative to that folder"
        )
    if unassigned:
        notes.append(
            counted(len(unassigned), "row has no split and is", "rows have no split and are")
            + f" left out (the first: {unassigned[0]})"
        )
    if has_parts:
        notes += shared_videos(rows)
    else:
        samples = list(hold_out(samples, holdout))
        notes.append(describe_hold_out(samples, classes, holdout))
    return VideoDataset(name, root, classes, tuple(samples), tuple(missing), notes=tuple(notes))


def _part_of(row: LabelRow, source: str) -> DatasetPart | None:
    """The part of a row; None if its split is empty."""
    if ".." in PurePosixPath(row.path).parts:
        raise DataError(f"{source}, line {row.line}: the path {row.path!r} leaves its folder by ..")
    if not row.split:
        return None
    part = part_of(row.split)
    if part is None:
        raise DataError(
            f"{source}, line {row.line}: the split is {row.split!r}, expected train, val or test"
        )
    return part
