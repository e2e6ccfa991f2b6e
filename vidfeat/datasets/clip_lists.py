"""Datasets of short videos with one label each, in their published lists.

- Something-Something v2: JSON of ``id`` and ``template`` (220,847 videos, 174 classes: 168,913 for
  training, 24,777 for validation, 27,157 without labels). v1 and Jester: CSV of ``id;label``
  (Jester: 118,562 and 14,787, 27 classes).
- Moments in Time: CSV of ``class/file.mp4,class,votes for,votes against`` (802,244 and 33,900, 339
  classes).
- Diving48 v2: JSON of ``vid_name`` and ``label``, an index of a vocabulary (15,027 and 1,970).
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from vidfeat.datasets.base import Listed, PublishedLists, wrong_layout
from vidfeat.datasets.part_names import PARTS, DatasetPart
from vidfeat.errors import DataError
from vidfeat.system.text_tables import read_lines, read_text

USUAL_FOLDERS = ("", "labels", "annotations", "lists", "splits")


def find_files(folders: Iterable[Path], pattern: str) -> list[Path]:
    """The files that match a pattern in the first folder that has any."""
    for folder in folders:
        files = sorted(folder.glob(pattern)) if folder.is_dir() else []
        if files:
            return files
    return []


def usual_folders(root: Path, lists: Path | None) -> list[Path]:
    """Where lists may be: the folder given, or the usual ones below the root."""
    base = root if lists is None else lists
    return [base / name for name in USUAL_FOLDERS]


def part_in_name(file: Path) -> DatasetPart | None:
    """The part that a word in a file name stands for."""
    words = re.findall(r"[a-z]+", file.stem.lower().replace("set", " "))
    return next((PARTS[word] for word in words if word in PARTS), None)


def read_json(file: Path, expected: str) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: it is not JSON.
    """
    try:
        return json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise DataError(f"{file}: expected {expected}, found no JSON: {error}") from None


def listing_of(
    name: str, rows: Sequence[tuple[str, str, DatasetPart]], classes: Sequence[str], *, where: str
) -> PublishedLists:
    """A listing of rows (video, class, part); classes are numbered in the order given.

    Raises:
        DataError: a row names a class that is not among them.
    """
    index = {label: number for number, label in enumerate(classes)}
    entries = []
    for video, label, part in rows:
        if label not in index:
            raise DataError(
                f"{where}: {video} has the class {label!r}, which is none of the {len(classes)} "
                f"of {name}"
            )
        pure = PurePosixPath(video)
        named = (f"{pure.parent.name}/{pure.stem}",) if pure.parent.name else ()
        entries.append(Listed(video, (*named, pure.stem), (index[label],), part))
    return PublishedLists(name, tuple(classes), tuple(entries))


# -- Something-Something and Jester -------------------------------------------------------------

_SOMETHING = "something-something-v2-train.json and -labels.json, or train.json and labels.json"


def read_something(root: Path, lists: Path | None = None) -> PublishedLists:
    """Something-Something v2: the class of a video is its template without the brackets.

    Raises:
        DataError: no lists, or lists that are not as published.
    """
    files = find_files(usual_folders(root, lists), "*.json")
    parts = {file: part_in_name(file) for file in files}
    label_file = next((file for file in files if "labels" in file.stem), None)
    if label_file is None or "train" not in parts.values():
        raise wrong_layout("something-something v2", lists or root, _SOMETHING)
    expected = 'one class with its number per line, {"Approaching something": "0"}'
    numbers = read_json(label_file, expected)
    if not isinstance(numbers, Mapping) or not all(str(n).isdigit() for n in numbers.values()):
        raise DataError(f"{label_file}: expected class names with their numbers")
    classes = sorted(numbers, key=lambda name: int(numbers[name]))
    rows: list[tuple[str, str, DatasetPart]] = []
    for file, part in parts.items():
        if part is None or file == label_file:
            continue
        for item in read_json(file, "a list of videos with id and template"):
            if not isinstance(item, Mapping) or "id" not in item:
                raise DataError(f"{file}: expected videos with an id and a template, found {item}")
            template = str(item.get("template", ""))
            if template:  # the test part has no labels
                label = template.replace("[", "").replace("]", "")
                rows.append((str(item["id"]), label, part))
    return listing_of("something_v2", rows, classes, where=str(label_file.parent))


def read_semicolons(root: Path, lists: Path | None = None, *, name: str) -> PublishedLists:
    """Jester and Something-Something v1: ``id;label`` lines without a header.

    Raises:
        DataError: no lists, or lines that are not as published.
    """
    stem = {"jester": "jester-v1", "something_v1": "something-something-v1"}[name]
    expected = f"{stem}-train.csv, -validation.csv and -labels.csv with lines like '100218;Swiping'"
    files = find_files(usual_folders(root, lists), f"{stem}-*.csv")
    label_file = next((file for file in files if "labels" in file.stem), None)
    if label_file is None:
        raise wrong_layout(name, lists or root, expected)
    classes = [line for _, line in read_lines(label_file)]
    rows: list[tuple[str, str, DatasetPart]] = []
    for file in files:
        part = part_in_name(file)
        if part is None or file == label_file:
            continue
        for number, line in read_lines(file):
            video, _, label = line.partition(";")
            if part == "test" and not label:
                continue
            if not video.strip() or not label.strip():
                raise DataError(f"{file}, line {number}: expected 'id;label', found {line!r}")
            rows.append((video.strip(), label.strip(), part))
    return listing_of(name, rows, classes, where=str(label_file.parent))


# -- Moments in Time ------------------------------------------------------------------------------

_MOMENTS = "trainingSet.csv and validationSet.csv, and moments_categories.txt"


def read_moments(root: Path, lists: Path | None = None) -> PublishedLists:
    """Moments in Time: ``class/file.mp4,class,votes for,votes against`` lines without a header.

    Raises:
        DataError: no lists, or lines that are not as published.
    """
    folders = usual_folders(root, lists)
    files = find_files(folders, "*Set.csv")
    names = find_files(folders, "moments_categories.txt")
    if not files or not names:
        raise wrong_layout("moments in time", lists or root, _MOMENTS)
    numbered = [line.rpartition(",") for _, line in read_lines(names[0])]
    if not all(number.strip().isdigit() for _, _, number in numbered):
        raise DataError(f"{names[0]}: expected lines like 'adult+female+singing,0'")
    classes = [name for name, _, number in sorted(numbered, key=lambda row: int(row[2]))]
    rows: list[tuple[str, str, DatasetPart]] = []
    for file in files:
        part = part_in_name(file)
        if part is None:
            continue
        for number, line in read_lines(file):
            fields = next(csv.reader([line]))
            if len(fields) < 2 or "/" not in fields[0]:
                raise DataError(
                    f"{file}, line {number}: expected 'class/file.mp4,class,votes,votes', found "
                    f"{line!r}"
                )
            rows.append((fields[0], fields[1], part))
    return listing_of("moments", rows, classes, where=str(files[0].parent))


# -- Diving48 -------------------------------------------------------------------------------------

_DIVING = "Diving48_V2_train.json, Diving48_V2_test.json and Diving48_vocab.json"


def read_diving48(root: Path, lists: Path | None = None) -> PublishedLists:
    """Diving48: videos with the number of a dive, and the parts of each dive as its name.

    Raises:
        DataError: no lists, or lists that are not as published.
    """
    files = find_files(usual_folders(root, lists), "Diving48*.json")
    vocabulary = next((file for file in files if "vocab" in file.stem), None)
    parts = {file: part_in_name(file) for file in files if file != vocabulary}
    if vocabulary is None or "train" not in parts.values():
        raise wrong_layout("Diving48", lists or root, _DIVING)
    words = read_json(vocabulary, "a list of dives")
    if not isinstance(words, list) or not all(isinstance(dive, list) for dive in words):
        raise DataError(f"{vocabulary}: expected a list of dives, each a list of words")
    classes = [" ".join(map(str, dive)) for dive in words]
    rows: list[tuple[str, str, DatasetPart]] = []
    for file, part in parts.items():
        if part is None:
            continue
        for item in read_json(file, "a list of videos with vid_name and label"):
            label = item.get("label") if isinstance(item, Mapping) else None
            if type(label) is not int or not 0 <= label < len(classes):
                raise DataError(
                    f"{file}: expected videos with vid_name and a label below {len(classes)}, "
                    f"found {item}"
                )
            rows.append((str(item["vid_name"]), classes[label], part))
    return listing_of("diving48", rows, classes, where=str(vocabulary.parent))
