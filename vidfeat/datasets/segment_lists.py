"""Datasets of long videos with labelled segments, in their published annotations.

- Charades: CSV with ``actions`` such as ``c092 11.90 21.20;c147 0.00 12.60`` (7,985 videos for
  training and 1,863 for testing, 157 classes).
- EPIC-Kitchens-100: CSV with timestamps, a verb and a noun per segment (67,217 and 9,668 segments,
  97 verbs, 300 nouns).
- ActivityNet 1.3, and THUMOS14 in the same form: JSON of videos with ``annotations`` (10,024 and
  4,926 videos, 200 classes).
- THUMOS14 as published: a text file per class of ``video start end`` lines (200 and 213 videos, 20
  classes). Its validation part is what localisation trains on: here it is ``train``.

Every segment is a separate sample; a video's segments stay together when parts are drawn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from vidfeat.datasets.base import Listed, PublishedLists, wrong_layout
from vidfeat.datasets.clip_lists import find_files, part_in_name, read_json, usual_folders
from vidfeat.datasets.part_names import DatasetPart, part_of
from vidfeat.errors import DataError
from vidfeat.system.text_tables import read_lines, read_table


def _segment(
    video: str, keys: tuple[str, ...], label: int, part: DatasetPart, start: float, end: float
) -> Listed:
    name = f"{video} {start:g} to {end:g} s"
    return Listed(name, keys, (label,), part, video, start, end)


# -- Charades -------------------------------------------------------------------------------------

_CHARADES = "Charades_v1_train.csv, Charades_v1_test.csv and Charades_v1_classes.txt"


def read_charades(root: Path, lists: Path | None = None) -> PublishedLists:
    """Charades: the actions of a video as segments, which may overlap.

    Raises:
        DataError: no lists, or lists that are not as published.
    """
    folders = [*usual_folders(root, lists), (lists or root) / "Charades"]
    files = find_files(folders, "Charades_v1_t*.csv")
    class_files = find_files(folders, "Charades_v1_classes.txt")
    if not files or not class_files:
        raise wrong_layout("Charades", lists or root, _CHARADES)
    numbered = [line.partition(" ") for _, line in read_lines(class_files[0])]
    index = {code: number for number, (code, _, _) in enumerate(numbered)}
    entries = []
    for file in files:
        part = part_in_name(file)
        table = read_table(file)
        if part is None or not {"id", "actions"} <= set(table.columns):
            raise DataError(
                f"{file}: expected the columns id and actions, found {', '.join(table.columns)}"
            )
        for row in table.rows:
            for action in filter(None, row["actions"].split(";")):
                fields = action.split()
                if len(fields) != 3 or fields[0] not in index:
                    raise DataError(
                        f"{file}, line {row.line}: expected actions like 'c092 11.90 21.20', "
                        f"found {action!r}"
                    )
                start, end = float(fields[1]), float(fields[2])
                if end > start:  # some are empty
                    label = index[fields[0]]
                    entries.append(_segment(row["id"], (row["id"],), label, part, start, end))
    return PublishedLists("charades", tuple(name for _, _, name in numbered), tuple(entries))


# -- EPIC-Kitchens --------------------------------------------------------------------------------

_TIME = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")


def _seconds(text: str) -> float | None:
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    return 3600 * int(found[1]) + 60 * int(found[2]) + float(found[3])


def read_epic(root: Path, lists: Path | None = None, *, word: str = "verb") -> PublishedLists:
    """EPIC-Kitchens-100, by the verbs or the nouns of its segments.

    Args:
        root: the folder of the videos.
        lists: the folder of the annotations.
        word: ``verb`` or ``noun``.

    Raises:
        DataError: no lists, or lists that are not as published.
    """
    folders = usual_folders(root, lists)
    files = [f for f in find_files(folders, "EPIC_100_*.csv") if part_in_name(f) is not None]
    files = [f for f in files if "timestamps" not in f.stem and "pairs" not in f.stem]
    class_files = find_files(folders, f"EPIC_100_{word}_classes*.csv")
    if not files or not class_files:
        expected = f"EPIC_100_train.csv, EPIC_100_validation.csv, EPIC_100_{word}_classes.csv"
        raise wrong_layout("EPIC-Kitchens-100", lists or root, expected)
    known = {int(row["id"]): row["key"] for row in read_table(class_files[0]).rows}
    classes = tuple(known[number] for number in sorted(known))
    entries = []
    needed = {"video_id", "start_timestamp", "stop_timestamp", f"{word}_class"}
    for file in files:
        part, table = part_in_name(file), read_table(file)
        if part is None or not needed <= set(table.columns):
            raise DataError(
                f"{file}: expected the columns {', '.join(sorted(needed))}, found "
                f"{', '.join(table.columns)}"
            )
        for row in table.rows:
            start, end = _seconds(row["start_timestamp"]), _seconds(row["stop_timestamp"])
            label = row[f"{word}_class"]
            if start is None or end is None or not label.isdigit() or int(label) not in known:
                raise DataError(
                    f"{file}, line {row.line}: expected times like 00:01:02.34 and a {word}_class "
                    f"of {class_files[0].name}, found {row.values}"
                )
            video = row["video_id"]
            if end > start:
                entries.append(_segment(video, (video,), int(label), part, start, end))
    return PublishedLists(f"epic_{word}s", classes, tuple(entries))


# -- ActivityNet and THUMOS14 ---------------------------------------------------------------------

_ACTIVITYNET = "activity_net.v1-3.min.json: {'database': {id: {'subset', 'annotations'}}}"
_THUMOS = "annotation files such as Diving_val.txt and Diving_test.txt, or a JSON as ActivityNet's"


def read_activitynet(
    root: Path, lists: Path | None = None, *, name: str = "activitynet"
) -> PublishedLists:
    """Annotations in ActivityNet's JSON; videos are named by their id, with or without ``v_``.

    Raises:
        DataError: no such file, or one that is not as published.
    """
    pattern = "activity_net*.json" if name == "activitynet" else "*thumos*.json"
    files = find_files(usual_folders(root, lists), pattern)
    if not files:
        raise wrong_layout(name, lists or root, _ACTIVITYNET)
    content = read_json(files[0], _ACTIVITYNET)
    database = content.get("database") if isinstance(content, Mapping) else None
    if not isinstance(database, Mapping):
        raise DataError(f"{files[0]}: expected {_ACTIVITYNET}; it has no 'database'")
    found: list[tuple[str, str, DatasetPart, float, float]] = []
    for video, facts in database.items():
        part = part_of(str(facts.get("subset", "")))
        for item in facts.get("annotations", ()):
            try:
                start, end = (float(second) for second in item["segment"])
                label = str(item["label"])
            except (KeyError, TypeError, ValueError):
                raise DataError(
                    f"{files[0]}: {video} has the annotation {item}, expected a segment of two "
                    "numbers and a label"
                ) from None
            if part is None:
                raise DataError(
                    f"{files[0]}: {video} is of the subset {facts.get('subset')!r}, expected "
                    "training, validation or testing"
                )
            if name == "thumos14":
                part = "train" if part == "val" else part
            if end > start:
                found.append((str(video), label, part, start, end))
    classes = tuple(sorted({label for _, label, _, _, _ in found}))
    index = {label: number for number, label in enumerate(classes)}
    entries = tuple(
        _segment(video, (f"v_{video}", video), index[label], part, start, end)
        for video, label, part, start, end in found
    )
    return PublishedLists(name, classes, entries)


_LINE = re.compile(r"(\S+)\s+([\d.]+)\s+([\d.]+)")


def read_thumos14(root: Path, lists: Path | None = None) -> PublishedLists:
    """THUMOS14: a text file per class and part; ambiguous segments are left out.

    Raises:
        DataError: no annotations, or lines that are not as published.
    """
    base = root if lists is None else lists
    inside = [base / name for name in ("annotation", "Val", "val", "Test", "test")]
    files: list[Path] = []
    for folder in (*usual_folders(root, lists), *inside):
        if folder.is_dir():
            files += [*sorted(folder.glob("*_val.txt")), *sorted(folder.glob("*_test.txt"))]
    files = [file for file in dict.fromkeys(files) if not file.stem.startswith("Ambiguous")]
    if not files:
        if find_files(usual_folders(root, lists), "*thumos*.json"):
            return read_activitynet(root, lists, name="thumos14")
        raise wrong_layout("THUMOS14", base, _THUMOS)
    classes = tuple(sorted({file.stem.rpartition("_")[0] for file in files}))
    entries = []
    for file in files:
        label, _, word = file.stem.rpartition("_")
        part: DatasetPart = "train" if word == "val" else "test"
        for number, line in read_lines(file):
            matched = _LINE.fullmatch(line)
            if matched is None:
                raise DataError(
                    f"{file}, line {number}: expected 'video start end' in seconds, found {line!r}"
                )
            video, start, end = matched[1], float(matched[2]), float(matched[3])
            stem = PurePosixPath(video).stem
            if end > start:
                entries.append(_segment(video, (stem,), classes.index(label), part, start, end))
    return PublishedLists("thumos14", classes, tuple(entries))
