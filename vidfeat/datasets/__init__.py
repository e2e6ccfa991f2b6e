"""Labelled videos in their published formats.

``open_dataset("ucf101", "UCF-101/", split=1)`` reads lists and folder and returns a
:class:`VideoDataset`; ``read_listing`` reads only the lists, for use on a feature file.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from vidfeat.datasets import folders, kinetics, synthetic_motion, table
from vidfeat.datasets.base import (
    Listed,
    PublishedLists,
    Sample,
    VideoDataset,
    find_videos,
    match_listing,
)
from vidfeat.datasets.part_names import DatasetPart
from vidfeat.datasets.published import read_listing
from vidfeat.errors import UsageError

__all__ = [
    "DATASETS",
    "DatasetPart",
    "Listed",
    "PublishedLists",
    "Sample",
    "VideoDataset",
    "find_videos",
    "match_listing",
    "open_dataset",
    "read_listing",
]

# name -> classes of the complete dataset (None: whatever is there)
DATASETS: dict[str, int | None] = {
    "kinetics400": 400,
    "kinetics600": 600,
    "kinetics700": 700,
    "sports1m": 487,
    "ucf101": 101,
    "hmdb51": 51,
    "something_v2": 174,
    "something_v1": 174,
    "jester": 27,
    "moments": 339,
    "diving48": 48,
    "charades": 157,
    "epic_verbs": 97,
    "epic_nouns": 300,
    "activitynet": 200,
    "thumos14": 20,
    synthetic_motion.NAME: len(synthetic_motion.CLASSES),
    "folder": None,
    "list": None,
    "csv": None,
}


def open_dataset(
    name: str,
    root: str | Path,
    *,
    lists: str | Path | None = None,
    split: int = 1,
    holdout: float = 0.2,
    min_classes: int = 2,
    frames_fps: Fraction | None = None,
) -> VideoDataset:
    """Read a dataset: its labels, its parts, and which of its videos exist.

    Args:
        name: one of ``DATASETS``, or ``auto``: a CSV file or a folder with a labels.csv is a
            table, any other folder has a folder per class. ``list`` is a list of paths and labels,
            or a folder with such lists.
        root: the folder of the videos; for ``csv`` the table itself may be given;
            ``synthetic_motion`` has none.
        lists: the folder of the split files, if different.
        split: 1, 2 or 3, for UCF101 and HMDB51.
        holdout: the share held out for testing by ``folder`` and ``csv`` without parts.
        min_classes: fewest classes of ``folder`` and ``csv``; 1 for a network that knows more.
        frames_fps: rate of folders of frames, which are then videos too.

    Raises:
        UsageError: an unknown name or split.
        DataError: a layout that is not the dataset's; the message says what was found.
    """
    frames = frames_fps is not None
    dataset = _open(
        name, Path(root), lists, split, holdout=holdout, min_classes=min_classes, frames=frames
    )
    return dataset if frames_fps is None else replace(dataset, frames_fps=frames_fps)


def _open(
    name: str,
    root: Path,
    lists: str | Path | None,
    split: int,
    *,
    holdout: float,
    min_classes: int,
    frames: bool,
) -> VideoDataset:
    if name == "auto":
        name = "csv" if root.is_file() or (root / "labels.csv").is_file() else "folder"
    if name not in DATASETS:
        raise UsageError(f"no dataset {name!r}: there are auto, {', '.join(DATASETS)}")
    if name == synthetic_motion.NAME:
        return synthetic_motion.read_scenes()
    if name == "csv":
        file = Path(lists) if lists is not None else root
        where = root if lists is not None else None
        return table.read_table(
            file, where, holdout=holdout, min_classes=min_classes, frames=frames
        )
    if name == "folder" or (
        name.startswith("kinetics") and not kinetics.list_files(root, _folder(lists))
    ):
        return folders.read_folders(
            root, name=name, holdout=holdout, min_classes=min_classes, frames=frames
        )
    listing = read_listing(name, root, lists=lists, split=split)
    folder = root.parent if root.is_file() else root
    return match_listing(listing, find_videos(folder, frames=frames), folder)


def _folder(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)
