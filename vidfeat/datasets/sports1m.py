"""Sports-1M: a million YouTube videos of 487 classes, with one or more labels each.

``train_partition.txt`` and ``test_partition.txt`` have a line ``<url> <label ids, by commas>`` per
video; ``labels.txt`` has the class names in index order. The published repository has it at its
root and the partitions in ``original/``. Videos are files named by their YouTube id, in any
folders; many have since gone from the site, and are counted as missing.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from vidfeat.datasets.base import Listed, PublishedLists, lists_folder
from vidfeat.datasets.part_names import DatasetPart
from vidfeat.errors import DataError
from vidfeat.system.text_tables import read_lines, read_text

EXPECTED = "train_partition.txt, test_partition.txt and labels.txt"
_BETWEEN = re.compile(r"[\s;]+")
USUAL_FOLDERS = ("original", "annotations", "sports1m", "splits")


def read_listing(root: Path, lists: Path | None = None) -> PublishedLists:
    """Read the partition files.

    Raises:
        DataError: no partition files, or lines that are not as published.
    """
    folder = lists_folder("Sports-1M", root, lists, "*_partition.txt", EXPECTED, USUAL_FOLDERS)
    places = (folder, folder.parent) if folder.name in USUAL_FOLDERS else (folder,)
    label_file = next((f for place in places if (f := place / "labels.txt").is_file()), None)
    if label_file is None:
        raise DataError(
            f"{folder} has partition files, but neither it nor the folder above has labels.txt: "
            f"expected {EXPECTED}"
        )
    # one line per class: an empty one between them is a class without a name, and counts
    names = [name.strip().rstrip(";").rstrip() for name in read_text(label_file).splitlines()]
    while names and not names[-1]:
        names.pop()
    classes = tuple(names)
    entries: list[Listed] = []
    parts: tuple[tuple[DatasetPart, str], ...] = (("train", "train"), ("test", "test"))
    for part, stem in parts:
        file = folder / f"{stem}_partition.txt"
        if file.is_file():
            entries += _read_partition(file, part, len(classes))
    return PublishedLists("sports1m", classes, tuple(entries))


def _read_partition(file: Path, part: DatasetPart, num_classes: int) -> list[Listed]:
    entries = []
    for number, line in read_lines(file):
        url, *fields = _BETWEEN.split(line)
        identity = youtube_id(url)
        labels = tuple(int(x) for x in "".join(fields).split(",") if x.isdigit())
        if identity is None or not labels or max(labels) >= num_classes:
            raise DataError(
                f"{file}, line {number}: expected '<youtube url> <label ids, by commas>' with "
                f"ids below {num_classes}, found {line!r}"
            )
        entries.append(Listed(identity, (identity,), labels, part))
    return entries


def youtube_id(url: str) -> str | None:
    """The id in a video's address: ``v=`` of a watch page, or the end of a short address."""
    parsed = urlsplit(url)
    values = parse_qs(parsed.query).get("v")
    if values:
        return values[0]
    tail = parsed.path.rstrip("/").rpartition("/")[2]
    return tail or None
