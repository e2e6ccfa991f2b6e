"""The folders of an index as a tree: one level at a time, or those whose path has a text."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

TOP_FOLDER = "."


class FolderTree:
    """All folders of an index with their parents; a parent also counts the videos below it.

    Args:
        folders: the folder of each video, with ``/`` as separator; ``.`` is the root itself.
    """

    def __init__(self, folders: Iterable[str]) -> None:
        self._videos = Counter(folders)
        for path, number in list(self._videos.items()):
            while "/" in path:
                path = path.rpartition("/")[0]
                self._videos[path] += number
        self._below: defaultdict[str, list[str]] = defaultdict(list)
        for path in sorted(self._videos, key=str.casefold):
            self._below[path.rpartition("/")[0]].append(path)
        self._folded = [(path.casefold(), path) for path in sorted(self._videos)]

    def __len__(self) -> int:
        return len(self._videos)

    def level(self, parent: str) -> list[dict[str, Any]]:
        """The folders directly below a folder; those of the top level for an empty text."""
        return [self._describe(path) for path in self._below.get(parent, [])]

    def matching(self, text: str, most: int) -> tuple[int, list[dict[str, Any]]]:
        """The number of folders whose path contains a text, and the first of them.

        Folders whose own name contains it come before those that are only below such a folder.
        """
        wanted = text.casefold()
        found = [pair for pair in self._folded if wanted in pair[0]]
        found.sort(key=lambda pair: wanted not in pair[0].rpartition("/")[2])
        return len(found), [self._describe(path) for _, path in found[:most]]

    def _describe(self, path: str) -> dict[str, Any]:
        return {
            "path": path,
            "name": path.rpartition("/")[2],
            "videos": self._videos[path],
            "folders": len(self._below.get(path, [])),
        }
