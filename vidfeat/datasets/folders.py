"""A folder per class: ``<class>/video.mp4``, or ``train/<class>/`` and ``val/<class>/``.

Without folders for the parts, a fifth of each class is held out for testing, chosen by a hash of
the path, so that the choice does not move when videos are added.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from vidfeat.datasets.base import Part, Sample, VideoDataset, find_videos, wrong_layout
from vidfeat.datasets.kinetics import PARTS

EXPECTED = "a folder per class with videos in it, or train/ and val/ (or test/) with such folders"


def read_folders(root: Path, *, name: str = "folder", holdout: float = 0.2) -> VideoDataset:
    """Read a folder per class.

    Args:
        root: the folder.
        name: what to call the dataset in messages.
        holdout: the share of each class held out where there are no folders for the parts.

    Raises:
        DataError: no such folders, or only one class.
    """
    paths = find_videos(root)
    tops = {PurePosixPath(path).parts[0] for path in paths if len(PurePosixPath(path).parts) > 1}
    parted = bool(tops) and all(top.lower() in PARTS for top in tops)
    found: list[tuple[str, str, Part]] = []
    loose: list[str] = []
    for path in paths:
        parts = PurePosixPath(path).parts
        if len(parts) < (3 if parted else 2):
            loose.append(path)
        elif parted:
            found.append((path, parts[1], PARTS[parts[0].lower()]))
        else:
            found.append((path, parts[0], "train"))
    classes = tuple(sorted({label for _, label, _ in found}))
    if len(classes) < 2:
        raise wrong_layout(name, root, EXPECTED)
    index = {label: number for number, label in enumerate(classes)}
    samples = tuple(Sample(path, (index[label],), part) for path, label, part in found)
    notes: tuple[str, ...] = ()
    if len({sample.part for sample in samples}) == 1:
        samples = hold_out(samples, holdout)
        notes = (f"{holdout:.0%} of each class held out for testing, by a hash of the path",)
    return VideoDataset(name, root, classes, samples, unlisted=tuple(loose), notes=notes)


def hold_out(samples: Sequence[Sample], share: float) -> tuple[Sample, ...]:
    """Mark a share of each class as its test part; whole groups where samples have them."""
    members: dict[int, dict[str, str]] = defaultdict(dict)
    for sample in samples:
        unit = sample.group or sample.path
        members[sample.labels[0]][unit] = hashlib.sha256(unit.encode()).hexdigest()
    chosen: set[str] = set()
    for units in members.values():
        count = min(max(1, round(share * len(units))), len(units) - 1)
        chosen |= set(sorted(units, key=units.__getitem__)[:count])
    return tuple(
        replace(sample, part="test" if (sample.group or sample.path) in chosen else "train")
        for sample in samples
    )
