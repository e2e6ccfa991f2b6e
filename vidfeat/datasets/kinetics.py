"""Kinetics-400, -600 and -700: ten-second segments of YouTube videos.

The lists are CSV files with ``label,youtube_id,time_start,time_end,split``; files are named
``<youtube_id>_<start:06d>_<end:06d>.mp4`` or plainly ``<youtube_id>.mp4``, in a folder per class or
all in one. Some of the videos are gone from the site: missing ones are counted, not an error.
Copies without the lists, in folders per part and class, are read as such folders. The lists of
Kinetics-600 come as ``train.txt``, ``val.txt`` and ``test.csv``, all in the same format.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from vidfeat.datasets.base import Listed, PublishedLists, wrong_layout
from vidfeat.datasets.part_names import PARTS, DatasetPart, part_of
from vidfeat.errors import DataError
from vidfeat.system.text_tables import Row, read_bytes, read_lines, read_table

COLUMNS = ("label", "youtube_id", "time_start", "time_end")
# a label, a YouTube id, two times, and often a part: a list without a header line
_HEADLESS = re.compile(rb"(\"[^\"]+\"|[^,\"]+),[\w-]{11},[\d.]+,[\d.]+(,.*)?\s*")
USUAL_FOLDERS = ("", "annotations", "lists", "splits")
EXPECTED = (
    "CSV files with label,youtube_id,time_start,time_end,split (train.csv, val.csv), or folders "
    "train/<class>/ and val/<class>/"
)


def list_files(root: Path, lists: Path | None = None) -> list[Path]:
    """The files that are lists of Kinetics, in the given folder or the usual place."""
    folders = [lists] if lists is not None else [root / name for name in USUAL_FOLDERS]
    for folder in folders:
        if folder.is_dir():
            named = [file for file in folder.iterdir() if file.suffix in (".csv", ".txt")]
            files = [file for file in sorted(named) if _is_list(file)]
            if files:
                return files
    return []


def read_listing(
    root: Path, lists: Path | None = None, *, name: str = "kinetics400"
) -> PublishedLists:
    """Read the CSV lists.

    Raises:
        DataError: no lists, or rows that are not as published.
    """
    files = list_files(root, lists)
    if not files:
        raise wrong_layout(name, lists or root, EXPECTED)
    rows: list[tuple[str, str, str, str, DatasetPart]] = []
    for file in files:
        rows += _read_rows(file)
    classes = tuple(sorted({row[0] for row in rows}))
    index = {label: number for number, label in enumerate(classes)}
    entries: dict[tuple[str, str], Listed] = {}
    for label, identity, start, end, part in rows:
        keys = [identity]
        if start and end:
            keys.insert(0, f"{identity}_{int(float(start)):06d}_{int(float(end)):06d}")
        # one row per segment: some releases list it in two files (train.csv and an all.csv)
        entries.setdefault((keys[0], part), Listed(keys[0], tuple(keys), (index[label],), part))
    return PublishedLists(name, classes, tuple(entries.values()))


def _is_list(file: Path) -> bool:
    if b"youtube_id" in read_bytes(file).lower():
        return {"label", "youtube_id"} <= set(read_table(file).columns)
    first = read_bytes(file)[:1000].splitlines()[:1]  # may be any file, in any encoding
    return bool(first) and _HEADLESS.fullmatch(first[0]) is not None


def _rows_of(file: Path) -> tuple[Row, ...]:
    """The rows of a list, with or without a header line."""
    if b"youtube_id" in read_bytes(file).lower():
        return read_table(file).rows
    names = (*COLUMNS, "split")
    lines = [(number, next(csv.reader([line]))) for number, line in read_lines(file)]
    return tuple(
        Row(number, dict.fromkeys(names, "") | dict(zip(names, fields, strict=False)))
        for number, fields in lines
    )


def _read_rows(file: Path) -> list[tuple[str, str, str, str, DatasetPart]]:
    rows = []
    from_name = next((part for word, part in PARTS.items() if word in file.stem.lower()), None)
    for row in _rows_of(file):
        label, identity = row["label"], row["youtube_id"]
        part = part_of(row["split"]) or from_name
        if not label:
            continue  # the lists of test parts come without labels
        if not identity or part is None:
            raise DataError(
                f"{file}, line {row.line}: expected a youtube_id and a split (train, validate or "
                f"test, here or in the file's name), found {row.values}"
            )
        rows.append((label, identity, row["time_start"], row["time_end"], part))
    return rows
