"""Shared state of the page's handlers: one index and everything that is shown about it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from vidfeat.errors import UsageError
from vidfeat.index import VideoIndex
from vidfeat.web.atlas import MapMaker
from vidfeat.web.cache import Cache
from vidfeat.web.catalog import Catalog, MediaFile
from vidfeat.web.label_book import LabelBook, labels_path
from vidfeat.web.teach_session import TeachSession
from vidfeat.web.transcode import browser_type
from vidfeat.web.uploads import Uploads


@dataclass
class Site:
    """State shared by the handlers."""

    index: VideoIndex
    catalog: Catalog
    cache: Cache
    uploads: Uploads
    read_only: bool = False
    work: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(2))
    """Limit on concurrent decoding and transcoding."""
    types: dict[str, str | None] = field(default_factory=dict)
    """Media types of examined files, by their keys."""

    def __post_init__(self) -> None:
        self.map = MapMaker(self.index, self.cache)
        self._teach: TeachSession | None = None
        self._teach_lock = threading.Lock()

    @property
    def teach(self) -> TeachSession:
        """The teaching session, started when the page first needs it.

        Raises:
            UsageError: the page is read-only.
            DataError: the label file cannot be read.
        """
        if self.read_only:
            raise UsageError("teaching is off: this page is read-only")
        with self._teach_lock:
            if self._teach is None:
                book = LabelBook(labels_path(self.index.path))
                self._teach = TeachSession(self.index, book)
            return self._teach

    def close(self) -> None:
        """Stop background work."""
        with self._teach_lock:
            if self._teach is not None:
                self._teach.close()
                self._teach = None

    def media_type(self, file: MediaFile) -> str | None:
        """The media type of a file that browsers play; None for other files."""
        if file.key not in self.types:
            if len(self.types) > 100_000:
                self.types.clear()
            self.types[file.key] = browser_type(file.path)
        return self.types[file.key]
