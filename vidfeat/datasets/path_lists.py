"""Lists of paths and labels, one video per line: those of mmaction2, TimeSformer, VideoMAE and VMZ.

``some/video.mp4 3``, or ``some/folder 120 3`` with the number of frames in between. Labels are
numbers, or names without spaces; the names of numbers are in ``labels.txt``, ``classes.txt`` or
``label_map*.txt`` next to the list. VMZ's lists are CSV with
``org_video,label,start_frm,video_id``. The name of a list gives its part (``train.txt``,
``kinetics400_val_list_videos.txt``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from vidfeat.datasets.base import Listed, PublishedLists, wrong_layout
from vidfeat.datasets.clip_lists import find_files, part_in_name, usual_folders
from vidfeat.datasets.part_names import DatasetPart
from vidfeat.errors import DataError
from vidfeat.system.text_tables import read_lines, read_table

EXPECTED = (
    "a list such as train.txt with lines 'video.mp4 3' or 'folder 120 3', or VMZ's CSV with "
    "org_video,label,start_frm,video_id"
)
VMZ_COLUMNS = {"org_video", "label"}
_CLASS_FILES = ("labels.txt", "classes.txt", "label_map*.txt")
_BY_COMMA = re.compile(r",[^,\s]+$")


def read_listing(root: Path, lists: Path | None = None) -> PublishedLists:
    """Read a list, or all lists of a folder.

    Args:
        root: the folder of the videos, or a list itself.
        lists: a list, or the folder of the lists, if different.

    Raises:
        DataError: no list, or invalid lines.
    """
    place = root if lists is None else lists
    if place.is_file():
        files, folder = [place], place.parent
    else:
        found = [
            *find_files(usual_folders(root, lists), "*.txt"),
            *find_files(usual_folders(root, lists), "*.csv"),
        ]
        files = [file for file in found if part_in_name(file) is not None]
        folder = files[0].parent if files else place
    if not files:
        raise wrong_layout("a list of videos", place, EXPECTED)
    rows: list[tuple[str, str, DatasetPart]] = []
    for file in files:
        part = part_in_name(file) or "train"
        rows += [(video, label, part) for video, label in _rows_of(file)]
    if not rows:
        raise DataError(f"{files[0]}: no video in it; expected {EXPECTED}")
    labels = {label for _, label, _ in rows}
    classes = _classes(labels, folder)
    index = {label: number for number, label in enumerate(classes)}
    if all(label.isdigit() for label in labels):
        index = {str(number): number for number in range(len(classes))}
        largest = max(map(int, labels))
        if largest >= len(classes):
            raise DataError(
                f"{files[0]}: the label {largest} has no name: {len(classes)} classes are named "
                f"in {folder}"
            )
    entries: dict[tuple[str, DatasetPart], Listed] = {}
    for video, label, part in rows:
        number = index[str(int(label))] if label.isdigit() else index[label]
        pure = PurePosixPath(video)
        named = (f"{pure.parent.name}/{pure.stem}",) if pure.parent.name else ()
        entry = Listed(video, (*named, pure.stem), (number,), part)
        other = entries.setdefault((video, part), entry)
        if other.labels != entry.labels:
            raise DataError(f"{files[0]}: {video} has two labels, {other.labels[0]} and {number}")
    return PublishedLists("list", classes, tuple(entries.values()))


def _rows_of(file: Path) -> list[tuple[str, str]]:
    """Videos and labels of a list, or of VMZ's table."""
    lines = list(read_lines(file))
    if lines and "org_video" in lines[0][1]:
        table = read_table(file)
        if not set(table.columns) >= VMZ_COLUMNS:
            raise DataError(f"{file}: expected org_video,label,start_frm,video_id")
        # the table has a row per clip: keep one per video
        return list(dict.fromkeys((row["org_video"], row["label"]) for row in table.rows))
    rows = []
    by_comma = all(_BY_COMMA.search(line) for _, line in lines)
    counted = not by_comma and _have_counts([line for _, line in lines])
    for number, line in lines:
        parts = line.rsplit(",", 1) if by_comma else line.rsplit(maxsplit=2 if counted else 1)
        if len(parts) < 2 or not parts[-1].strip():
            raise DataError(f"{file}, line {number}: expected {EXPECTED}; found {line!r}")
        rows.append((parts[0].strip(), parts[-1].strip()))
    return rows


def _have_counts(lines: Sequence[str]) -> bool:
    """Whether every line has a number of frames before its label."""
    fields = [line.split() for line in lines]
    return bool(fields) and all(len(own) >= 3 and own[-2].isdigit() for own in fields)


def _classes(labels: set[str], folder: Path) -> tuple[str, ...]:
    """Class names: from a file next to the list, else the numbers or the names themselves."""
    if not all(label.isdigit() for label in labels):
        return tuple(sorted(labels))
    for pattern in _CLASS_FILES:
        for file in sorted(folder.glob(pattern)):
            return tuple(line for _, line in read_lines(file))
    return tuple(str(number) for number in range(1 + max(map(int, labels))))
