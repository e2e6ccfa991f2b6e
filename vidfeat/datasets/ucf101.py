"""UCF101: 13,320 videos of 101 classes, three official splits.

``classInd.txt`` numbers the classes from 1. ``trainlist0N.txt`` has ``Class/file.avi id`` lines,
``testlist0N.txt`` has no id. A trap: files and lists write ``HandStandPushups`` in the file's name
and ``HandstandPushups`` in the folder's, and copies of the data differ in this; names are therefore
matched without regard to case.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from vidfeat.datasets.base import Listed, PublishedLists, lists_folder, wrong_layout
from vidfeat.datasets.part_names import DatasetPart
from vidfeat.errors import DataError
from vidfeat.system.text_tables import read_lines

EXPECTED = "classInd.txt, trainlist01.txt to 03 and testlist01.txt to 03"
USUAL_FOLDERS = ("ucfTrainTestlist", "ucf101_splits", "splits", "annotations")
_BETWEEN = re.compile(r"[\s;]+")
_GROUP = re.compile(r"(.*_g\d+)_c\d+$", re.IGNORECASE)


def read_listing(root: Path, lists: Path | None = None, split: int = 1) -> PublishedLists:
    """Read one official split.

    Args:
        root: the folder of the videos; the lists are looked for in it unless given.
        lists: the folder of the split files.
        split: 1, 2 or 3.

    Raises:
        DataError: no lists, or lines that are not as published.
    """
    folder = lists_folder("UCF101", root, lists, "classInd.txt", EXPECTED, USUAL_FOLDERS)
    class_file = folder / "classInd.txt"
    numbered: dict[str, int] = {}
    for _, line in read_lines(class_file):
        fields = _BETWEEN.split(line)
        if len(fields) != 2 or not fields[0].isdigit():
            raise DataError(f"{class_file}: expected lines like '1 ApplyEyeMakeup', found {line!r}")
        numbered[fields[1]] = int(fields[0]) - 1
    classes = tuple(sorted(numbered, key=numbered.__getitem__))
    if [numbered[name] for name in classes] != list(range(len(classes))):
        raise DataError(f"{class_file}: class numbers do not run from 1 to {len(classes)}")
    index = {name.casefold(): number for name, number in numbered.items()}
    entries: list[Listed] = []
    for part, stem in (("train", "trainlist"), ("test", "testlist")):
        entries += _read_list(
            folder, f"{stem}0{split}.txt", "train" if part == "train" else "test", index
        )
    return PublishedLists("ucf101", classes, tuple(entries), ignore_case=True)


def _read_list(folder: Path, name: str, part: DatasetPart, index: dict[str, int]) -> list[Listed]:
    file = folder / name
    if not file.is_file():
        raise wrong_layout("UCF101's split files", folder, EXPECTED)
    entries = []
    for _, line in read_lines(file):
        video = PurePosixPath(_BETWEEN.split(line)[0])
        label = index.get(video.parent.name.casefold())
        if label is None:
            raise DataError(
                f"{file}: {line.strip()!r} names no class of classInd.txt; expected lines like "
                f"'ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1'"
            )
        matched = _GROUP.match(video.stem)
        entries.append(
            Listed(
                name=str(video),
                keys=(f"{video.parent.name}/{video.stem}", video.stem),
                labels=(label,),
                part=part,
                group=matched[1] if matched else video.stem,
            )
        )
    return entries
