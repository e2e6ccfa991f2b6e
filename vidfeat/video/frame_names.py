"""Names of the frames in a folder, in numeric order."""

from __future__ import annotations

import os
import re

FRAME_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp"))
_NUMBER = re.compile(r"(\d+)$")


def number_of(name: str) -> int | None:
    """The number at the end of a frame's name, None for a name without one."""
    found = _NUMBER.search(os.path.splitext(name)[0])  # noqa: PTH122
    return int(found[1]) if found else None


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
        if suffix not in FRAME_SUFFIXES or number is None or entry.is_dir():
            return []
        found.append((number, entry.name))
    return [name for _, name in sorted(found)]
