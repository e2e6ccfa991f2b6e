"""A stable id for each clip: the same in every export, table and database.

It is a hash of the video's path and the microseconds that the clip covers, and of nothing else:
rows keep their ids when the file is extracted again, merged, joined or sorted differently. It has
128 bits, so that no two of a billion clips share one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


class ClipIds:
    """Gives ids row by row, in the order of a feature file.

    Rows that follow each other and cover the same seconds of the same video (several views of one
    clip) are numbered.
    """

    def __init__(self) -> None:
        self._last: tuple[str, int, int] | None = None
        self._view = 0

    def of(
        self, paths: Iterable[str], start_seconds: Iterable[float], end_seconds: Iterable[float]
    ) -> list[str]:
        """Ids of consecutive rows, 32 hex digits each."""
        found = []
        for path, start, end in zip(paths, start_seconds, end_seconds, strict=True):
            key = (path, round(start * 1e6), round(end * 1e6))
            self._view = self._view + 1 if key == self._last else 0
            self._last = key
            text = f"{path}\0{key[1]}\0{key[2]}\0{self._view}"
            found.append(hashlib.blake2b(text.encode("utf-8"), digest_size=16).hexdigest())
        return found
