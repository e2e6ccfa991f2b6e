"""Names of the frames in a folder, in numeric order."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

FRAME_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp"))
_NUMBER = re.compile(r"(\d+)$")


def number_of(name: str) -> int | None:
    """The number at the end of a frame's name, None for a name without one."""
    found = _NUMBER.search(os.path.splitext(name)[0])  # noqa: PTH122
    return int(found[1]) if found else None


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder; a link that leads nowhere, or to itself, is not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def missing_numbers(numbers: Sequence[int]) -> tuple[int, int]:
    """How many of the ascending numbers are missing, and after which the first one is.

    The most common step is taken as the regular one; without gaps, both results are 0.
    """
    steps = [after - before for before, after in pairwise(numbers)]
    if not steps:
        return 0, 0
    usual = min(Counter(steps).most_common(), key=lambda pair: (-pair[1], pair[0]))[0]
    gaps = [
        (max(step // usual - 1, 0), before) for step, before in zip(steps, numbers, strict=False)
    ]
    return sum(count for count, _ in gaps), next((at for count, at in gaps if count), 0)


def frames_in(folder: str | os.PathLike[str]) -> list[str]:
    """Names of the frames in a folder, in numeric order; empty if it holds anything else.

    Hidden files do not count. A folder of frames has no folders in it and nothing but pictures
    whose names end in a number.
    """
    found: list[tuple[int, str]] = []
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return []
    for entry in entries:
        if entry.name.startswith("."):
            continue
        number = number_of(entry.name)
        suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
        if suffix not in FRAME_SUFFIXES or number is None or is_folder(entry):
            return []
        found.append((number, entry.name))
    return [name for _, name in sorted(found)]
