"""A folder per class: ``<class>/video.mp4``, or ``train/<class>/`` and ``val/<class>/``.

Folders for the parts may be above or below those of the classes, under any of the names in
``part_names.py``. Without them, a fifth of each class is held out for testing (``holdout.py``).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from vidfeat.datasets.base import Sample, VideoDataset, find_videos, wrong_layout
from vidfeat.datasets.holdout import describe_hold_out, hold_out
from vidfeat.datasets.label_rows import refuse_twin_names
from vidfeat.datasets.part_names import FolderLayout, Placed, understand_folders
from vidfeat.system.identities import one_spelling

EXPECTED = "a folder per class with videos in it, or train/ and val/ (or test/) with such folders"


def read_folders(
    root: Path,
    *,
    name: str = "folder",
    holdout: float = 0.2,
    min_classes: int = 2,
    frames: bool = False,
) -> VideoDataset:
    """Read a folder per class.

    Args:
        root: the folder.
        name: what to call the dataset in messages.
        holdout: the share of each class held out if there are no folders for the parts.
        min_classes: how many classes there must be; 1 if a network defines the others.
        frames: whether folders of frames are videos.

    Raises:
        DataError: no such folders, too few classes, or folders for the parts next to others.
    """
    layout = understand_folders(find_videos(root, frames=frames))
    labels = {video.path: _class_of(video, layout) for video in layout.videos}
    alike = one_spelling(labels.values())
    labels = {path: alike[label] for path, label in labels.items()}
    found = [video for video in layout.videos if labels[video.path]]
    counts = Counter(labels[video.path] for video in found)
    refuse_twin_names(counts, str(root), "video", "rename one of the folders")
    classes = tuple(sorted(counts))
    if len(classes) < min_classes:
        raise wrong_layout(name, root, EXPECTED)
    index = {label: number for number, label in enumerate(classes)}
    samples = tuple(
        Sample(video.path, (index[labels[video.path]],), video.part or "train") for video in found
    )
    notes = layout.notes
    if not layout.has_parts:
        samples = hold_out(samples, holdout)
        notes = (*notes, describe_hold_out(samples, classes, holdout))
    loose = tuple(video.path for video in layout.videos if not labels[video.path])
    return VideoDataset(name, root, classes, samples, unlisted=loose, notes=notes)


def _class_of(video: Placed, layout: FolderLayout) -> str:
    """The class that a video's folders name; empty if they name none."""
    if not layout.has_parts:
        return video.above[0] if video.above else ""
    if video.part is None:
        return ""
    if layout.classes_below:
        return video.below[0] if video.below else ""
    return video.above[-1] if video.above else ""
