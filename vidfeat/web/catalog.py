"""What the page may show: the videos of the index with their files, folders and labels.

Files are reached by number only. A file is served if it lies below the root after following all
links: a link that leads out of the root counts as a missing file.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import StoreError
from vidfeat.index import VideoIndex
from vidfeat.system.urls import is_url, shown_path
from vidfeat.web.folders import TOP_FOLDER, FolderTree


@dataclass(frozen=True)
class MediaFile:
    """A file that may be served.

    Attributes:
        path: the path with all links resolved; or a URL, which may contain secrets.
        size_bytes: when it was checked; for a URL, as recorded in the index.
        mtime_ns: likewise.
    """

    path: Path | str
    size_bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path, status: os.stat_result) -> MediaFile:
        """A file on this machine."""
        return cls(path, status.st_size, status.st_mtime_ns)

    @property
    def key(self) -> str:
        """A cache key: it differs for other files and other states of the file."""
        return f"{shown_path(str(self.path))}\0{self.size_bytes}\0{self.mtime_ns}"


class Catalog:
    """The videos of an index as the page sees them.

    Args:
        index: the index.
        root: where the videos are, if they have moved: a folder, or a URL.
        labels: path to label, for the filter.
        follow_links: serve the targets of links in the root, wherever they are.
    """

    def __init__(
        self,
        index: VideoIndex,
        *,
        root: str | os.PathLike[str] | None = None,
        labels: Mapping[str, str] | None = None,
        follow_links: bool = False,
    ) -> None:
        self.index = index
        self.videos = index.videos
        self._url = os.fspath(root) if root is not None and is_url(root) else None
        self.root = Path(os.path.realpath(root or index.source_root))
        self.labels = dict(labels or {})
        self.follow_links = follow_links
        self.shown = np.flatnonzero(self.videos["alive"])
        self._order = sorted(self.shown.tolist(), key=lambda row: self.videos.paths[row])

    def has(self, video: int) -> bool:
        """Whether there is such a video."""
        return 0 <= video < len(self.videos) and bool(self.videos["alive"][video])

    def find(self, path: str) -> int | None:
        """The video at a path of the index, in any Unicode form; None if there is none."""
        found = self.videos.names.find(path)
        return None if found is None else self.videos.row_of[found]

    def path(self, video: int) -> str:
        """Path of a video in the index."""
        return self.videos.paths[video]

    def folder(self, video: int) -> str:
        """The folder of a video, ``.`` for the root itself."""
        head, _, _ = self.videos.paths[video].rpartition("/")
        return head or TOP_FOLDER

    def label(self, video: int) -> str:
        """The label of a video; empty for none."""
        return self.labels.get(self.videos.paths[video], "")

    @cached_property
    def _folders(self) -> NDArray[np.object_]:
        found = np.empty(len(self.videos), dtype=object)
        found[:] = [self.folder(row) for row in range(len(self.videos))]
        return found

    @cached_property
    def _labels(self) -> NDArray[np.object_]:
        found = np.empty(len(self.videos), dtype=object)
        found[:] = [self.label(row) for row in range(len(self.videos))]
        return found

    @cached_property
    def folders(self) -> FolderTree:
        """The folders of the videos shown, and their parents."""
        return FolderTree(self._folders[self.shown].tolist())

    def label_counts(self) -> list[tuple[str, int]]:
        """Labels with their numbers of videos, by name."""
        counted = Counter(self._labels[self.shown].tolist())
        counted.pop("", None)
        return sorted(counted.items())

    def groups(self) -> tuple[list[str], list[int]]:
        """Group names, and the group number of each video: by label if there are any, or folder."""
        column = self._labels if self.labels else self._folders
        names = sorted(set(column[self.shown].tolist()))
        number = {name: place for place, name in enumerate(names)}
        return [name or "no label" for name in names], [number.get(name, 0) for name in column]

    def allowed(self, folder: str, label: str, text: str = "") -> NDArray[np.bool_] | None:
        """Which videos pass the filters; None for all. A folder includes everything below it."""
        if not folder and not label and not text:
            return None
        mask = np.array(self.videos["alive"], dtype=bool)
        if folder:
            below = f"{folder}/"
            mask &= np.fromiter(
                (name == folder or name.startswith(below) for name in self._folders),
                dtype=bool,
                count=len(mask),
            )
        if label:
            mask &= self._labels == label
        if text:
            wanted = text.casefold()
            mask &= np.fromiter(
                (wanted in path.casefold() for path in self.videos.paths),
                dtype=bool,
                count=len(mask),
            )
        return mask

    def page(
        self, first: int, count: int, allowed: NDArray[np.bool_] | None
    ) -> tuple[int, list[int]]:
        """The number of videos that pass, and a page of them sorted by path."""
        rows = self._order
        if allowed is not None:
            rows = [row for row in rows if allowed[row]]
        return len(rows), rows[first : first + count]

    def describe(self, video: int) -> dict[str, Any]:
        """What the page shows about a video."""
        path = self.videos.paths[video]
        return {
            "id": video,
            "path": path,
            "name": path.rpartition("/")[2],
            "folder": self.folder(video),
            "label": self.label(video),
            "duration": round(float(self.videos["duration_seconds"][video]), 3),
            "width": int(self.videos["width"][video]),
            "height": int(self.videos["height"][video]),
        }

    def why_missing(self, video: int) -> str:
        """Why `file` returns None, and what to do about it, in a sentence."""
        recorded = self.index.head.source_root
        if is_url(recorded):
            return (
                f"this video is at {recorded}: start vidfeat serve with --root {recorded} to show "
                "it from there"
            )
        if not self.follow_links and self.has(video):
            try:
                wanted = self.index.local_path(self.videos.paths[video], self.root)
                found = Path(os.path.realpath(wanted))
                leads_out = found.is_file() and not found.is_relative_to(self.root)
            except (StoreError, OSError, ValueError):
                leads_out = False
            if leads_out:
                return (
                    "this video is a link that leads out of the folder of the videos: start the "
                    "page with --follow-links to show the targets of such links"
                )
        return "the file of this video is missing: start vidfeat serve with --root FOLDER"

    def file(self, video: int) -> MediaFile | None:
        """The file of a video; None if it is missing, not a file, or outside the root."""
        if not self.has(video):
            return None
        if self._url is not None:
            held = (int(self.videos[name][video]) for name in ("size_bytes", "mtime_ns"))
            return MediaFile(self.index.place(self.videos.paths[video], self._url), *held)
        try:
            wanted = self.index.local_path(self.videos.paths[video], self.root)
            found = Path(os.path.realpath(wanted))
            if not self.follow_links and not found.is_relative_to(self.root):
                return None
            status = found.stat()
        except (StoreError, OSError, ValueError):
            return None
        return MediaFile.of(found, status) if stat.S_ISREG(status.st_mode) else None
