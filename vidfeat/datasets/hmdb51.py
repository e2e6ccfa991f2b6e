"""HMDB51: 6,766 videos of 51 classes, three official splits.

A file per class and split, ``<class>_test_split<N>.txt``, whose lines are ``<file.avi> <use>`` with
use 1 for training, 2 for testing and 0 for a video that the split leaves out.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from vidfeat.datasets.base import Listed, PublishedLists, lists_folder
from vidfeat.datasets.part_names import DatasetPart
from vidfeat.errors import DataError
from vidfeat.system.text_tables import read_lines

EXPECTED = "<class>_test_split1.txt to _split3.txt for each class"
USUAL_FOLDERS = ("testTrainMulti_7030_splits", "test_train_splits", "hmdb51_splits", "splits")
_LINE = re.compile(r"(.*?)[\s;]+(\S)")
USES: dict[str, DatasetPart] = {"0": "unused", "1": "train", "2": "test"}


def read_listing(root: Path, lists: Path | None = None, split: int = 1) -> PublishedLists:
    """Read one official split.

    Args:
        root: the folder of the videos; the lists are looked for in it unless given.
        lists: the folder of the split files.
        split: 1, 2 or 3.

    Raises:
        DataError: no lists, or lines that are not as published.
    """
    ending = f"_test_split{split}.txt"
    folder = lists_folder("HMDB51", root, lists, f"*{ending}", EXPECTED, USUAL_FOLDERS)
    files = {file.name.removesuffix(ending): file for file in folder.glob(f"*{ending}")}
    classes = tuple(sorted(files))
    entries: list[Listed] = []
    for label, name in enumerate(classes):
        for _, line in read_lines(files[name]):
            matched = _LINE.fullmatch(line)
            file, use = matched.groups() if matched else ("", "")
            if use not in USES or not file:
                raise DataError(
                    f"{files[name]}: expected lines like 'file.avi 1' with 0, 1 or 2 at the end, "
                    f"found {line!r}"
                )
            stem = PurePosixPath(file.strip()).stem
            entries.append(
                Listed(
                    name=f"{name}/{file.strip()}",
                    keys=(f"{name}/{stem}", stem),
                    labels=(label,),
                    part=USES[use],
                    group=_movie(stem, name),
                )
            )
    return PublishedLists("hmdb51", classes, tuple(entries))


def _movie(stem: str, class_name: str) -> str:
    """The recording that a clip comes from: its name up to the class in it."""
    return re.split(f"_{re.escape(class_name)}_", stem, maxsplit=1)[0]
