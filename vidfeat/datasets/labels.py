"""Labels of videos, and of segments of videos: from a CSV, from folders, from official splits.

``Labels`` are labels as given, ``Samples`` are what can be trained on: the labelled videos or
segments that have vectors, each with its rows. A sample is a whole video or one labelled segment of
it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vidfeat.datasets.base import match_listing
from vidfeat.datasets.label_rows import LabelRow, refuse_twin_names, without_doubles
from vidfeat.datasets.part_names import understand_folders
from vidfeat.datasets.published import read_listing
from vidfeat.datasets.samples import collect
from vidfeat.errors import DataError
from vidfeat.system.identities import one_spelling
from vidfeat.system.text_tables import Row, read_table
from vidfeat.system.wording import counted
from vidfeat.system.written_names import below, written_identity

if TYPE_CHECKING:
    from vidfeat.store.arrays import RowLabels
    from vidfeat.store.reader import FeatureStore

COLUMNS = ("path", "label", "start_seconds", "end_seconds", "split", "group")


@dataclass(frozen=True)
class Labels:
    """Labels and where they came from.

    Attributes:
        rows: the labels.
        source: a name for messages (``labels.csv``, ``ucf101 split 1``).
        ignore_case: paths that differ from a feature file's only in case are the same.
        classes: all classes in index order; empty for those that occur, sorted.
        missing: videos that the source names and that were not found.
        notes: how the source was understood, as sentences.
    """

    rows: tuple[LabelRow, ...]
    source: str
    ignore_case: bool = False
    classes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.rows:
            raise DataError(f"{self.source}: no label in it")
        alike = one_spelling({row.label for row in self.rows})
        if any(name != spelling for name, spelling in alike.items()):
            rows = tuple(replace(row, label=alike[row.label]) for row in self.rows)
            object.__setattr__(self, "rows", rows)
        if not self.classes:
            object.__setattr__(self, "classes", tuple(sorted({row.label for row in self.rows})))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def several(self) -> bool:
        """Whether rows may have several labels: the table has a column ``labels``."""
        return any(row.labels for row in self.rows)

    def resolve(self, store: FeatureStore) -> RowLabels:
        """The labelled rows of a feature file, for ``FeatureStore.to_arrays(labels)``.

        Raises:
            DataError: no label fits a video of the file.
        """
        from vidfeat.store.arrays import RowLabels

        found = collect(store, self)
        owner = found.sample_of_clip
        return RowLabels(found.store_rows, found.labels()[owner], found.group_names()[owner])


@dataclass(frozen=True)
class FolderLabels(Labels):
    """The folder of each video as its class, for any feature file.

    There are no rows until :meth:`of` makes them.
    """

    rows: tuple[LabelRow, ...] = ()
    source: str = "folder names"

    def __post_init__(self) -> None:
        """There is nothing to check yet."""

    def of(self, paths: Iterable[str]) -> Labels:
        """The labels of some videos; see `labels_from_folders`."""
        return labels_from_folders(paths, ignore_case=self.ignore_case)

    def resolve(self, store: FeatureStore) -> RowLabels:
        """The labelled rows of a feature file, for ``FeatureStore.to_arrays(labels)``."""
        return self.of(store.paths).resolve(store)


def read_labels(path: str | os.PathLike[str], *, ignore_case: bool | None = False) -> Labels:
    """Read ``labels.csv``: path, label, and optionally start_seconds, end_seconds, split, group.

    Args:
        path: the CSV, UTF-8, with a header line; other columns are ignored. Or the word
            ``folders``: each video's folder in the feature file is its class.
        ignore_case: paths and classes that differ only in case are the same. None: they are not,
            and no error suggests this option.

    Raises:
        DataError: there is no such file, a column is missing, a value is invalid, a video has
            two labels, or classes differ only in case; the message names the line.
    """
    if path == "folders":
        return FolderLabels(ignore_case=bool(ignore_case))
    name = os.fspath(path)
    table = read_table(
        path,
        purpose="labels are a CSV with the columns path,label, or the word folders",
    )
    several = "labels" in table.columns
    if several and "label" in table.columns:
        raise DataError(
            f"{name} has a column label and a column labels: keep label for one class per row, or "
            "labels for several with | between them"
        )
    column = "labels" if several else "label"
    for needed in ("path", column):
        if needed not in table.columns:
            raise DataError(
                f"{name}: no column {needed!r} in its first line "
                f"({','.join(table.columns)[:80] or 'empty'}); expected path,label"
                "[,start_seconds,end_seconds][,split][,group], or labels with | between several"
            )
    rows = [_parse(name, row, column) for row in table.rows]
    piped = 0 if several else sum("|" in row.label for row in rows)
    notes = (
        f"{counted(piped, 'label has', 'labels have')} a |, which is literal here: in a column "
        "named labels it separates the classes of a sample",
    )
    labels = Labels(
        rows=tuple(rows),
        source=name,
        ignore_case=bool(ignore_case),
        notes=notes if piped else (),
    )
    labels = _with_one_case(labels, ignore_case)
    return replace(labels, rows=without_doubles(labels.rows, labels.source))


def _parse(name: str, row: Row, label: str) -> LabelRow:
    line = row.line
    parts = sorted({part.strip() for part in row[label].split("|")} - {""})
    for column in ("path", label):
        if not row[column] or (column == "labels" and not parts):
            raise DataError(f"{name}, line {line}: the column {column} is empty")
    if len(row[label].splitlines()) > 1:
        raise DataError(
            f"{name}, line {line}: the label {row[label][:60]!r} spans lines: is a quotation mark "
            "missing?"
        )
    seconds: list[float | None] = []
    for column in ("start_seconds", "end_seconds"):
        try:
            value = row.seconds(column)
        except ValueError:
            value = -1.0
        if value is not None and value < 0:
            raise DataError(
                f"{name}, line {line}: {column} is {row[column]!r}, expected seconds like 12.5"
            )
        seconds.append(value)
    start, end = seconds
    if end is not None and end <= (start or 0.0):
        raise DataError(f"{name}, line {line}: the segment {start or 0:g} to {end:g} s is empty")
    return LabelRow(
        path=normal_path(row["path"]),
        label="|".join(parts) if label == "labels" else row["label"],
        start_seconds=start,
        end_seconds=end,
        split=row["split"].lower(),
        group=row["group"],
        line=line,
        labels=tuple(parts) if label == "labels" else (),
    )


def normal_path(path: str) -> str:
    """A path as the feature file writes it: ``/`` between parts, no ``./`` before it."""
    return written_identity(path)


def relative_to(labels: Labels, *roots: str) -> Labels:
    """The same labels, with absolute paths below one of the roots made relative to it."""

    def shortened(path: str) -> str:
        return next((own for root in roots if (own := below(path, root)) != path), path)

    rows = tuple(replace(row, path=shortened(row.path)) for row in labels.rows)
    return replace(labels, rows=rows)


def _with_one_case(labels: Labels, ignore_case: bool | None) -> Labels:
    """One spelling per class: the most common one, or an error that says which differ."""
    counts = Counter(name for row in labels.rows for name in row.labels or (row.label,))
    if not ignore_case:
        refuse_twin_names(
            counts,
            labels.source,
            "row",
            "write them alike" + (", or give ignore_case" if ignore_case is False else ""),
            field=() if ignore_case is None else "ignore_case",
        )
        return labels
    spelling: dict[str, str] = {}
    for label, count in sorted(counts.items()):
        if count > counts[spelling.setdefault(label.casefold(), label)]:
            spelling[label.casefold()] = label

    def spelt(row: LabelRow) -> LabelRow:
        if not row.labels:
            return replace(row, label=spelling[row.label.casefold()])
        names = tuple(sorted({spelling[name.casefold()] for name in row.labels}))
        return replace(row, labels=names, label="|".join(names))

    rows = tuple(map(spelt, labels.rows))
    return replace(labels, rows=rows, classes=())


def labels_from_folders(
    paths: Iterable[str], *, source: str = "folder names", ignore_case: bool = False
) -> Labels:
    """Take each video's folder as its class: ``fight/fi001.mp4`` is a ``fight``.

    Folders named after parts, above the classes or below them, assign the part:
    ``train/fight/fi001.mp4``, ``fight/test/fi002.mp4`` (see ``part_names.py``). Videos that are in
    no folder get no label.

    Raises:
        DataError: no video lies in a folder, folders for the parts are next to others, or classes
            differ only in case.
    """
    layout = understand_folders(paths)
    rows = []
    for video in layout.videos:
        if video.part is None:
            folders = video.above
        else:
            folders = video.below if layout.classes_below else video.above
        if folders:
            split = video.part or ""
            rows.append(LabelRow(path=video.path, label=folders[-1], split=split))
    if not rows:
        raise DataError(
            f"{source}: no video is in a folder that could name its class: put each class in a "
            "folder of its own, extract the folder above them, or give a CSV as labels",
            field="labels",
        )
    labels = Labels(tuple(rows), source, ignore_case=ignore_case, notes=layout.notes)
    return _with_one_case(labels, ignore_case)


def labels_from_split(
    dataset: str,
    lists: str | Path,
    split: int,
    paths: Sequence[str],
) -> Labels:
    """One official split of UCF101 or HMDB51, matched with the existing videos.

    Args:
        dataset: ``ucf101`` or ``hmdb51``.
        lists: the folder of the split files.
        split: 1, 2 or 3.
        paths: the videos of a feature file; their suffix does not count.

    Raises:
        DataError: no lists there, or none of their videos among the paths.
        UsageError: an unknown dataset or split.
    """
    listing = read_listing(dataset, lists, lists=lists, split=split)
    found = match_listing(listing, paths, Path("the feature file"))
    rows = tuple(
        LabelRow(
            path=sample.path,
            label=found.classes[sample.labels[0]],
            split=sample.part,
            group=sample.group,
        )
        for sample in found.samples
        if sample.part != "unused"
    )
    return Labels(
        rows=rows,
        source=f"{dataset} split {split}",
        classes=found.classes,
        missing=found.missing,
    )


def as_labels(
    labels: Labels | Mapping[str, str] | str | os.PathLike[str],
    paths: Sequence[str] = (),
    *,
    ignore_case: bool = False,
) -> Labels:
    """Labels from any source: a CSV's path, ``"folders"``, a mapping path -> class."""
    if isinstance(labels, FolderLabels):
        return labels.of(paths)
    if isinstance(labels, Labels):
        return labels
    if isinstance(labels, Mapping):
        rows = tuple(LabelRow(normal_path(path), label) for path, label in labels.items())
        return Labels(rows=rows, source="the mapping of labels")
    if labels == "folders":
        return labels_from_folders(paths, ignore_case=ignore_case)
    return read_labels(labels, ignore_case=ignore_case)
