"""``labels.csv`` of the page: the labels of one index, complete on disk after every change.

The server owns the file. A change is written (temporary name, fsync, rename) before it is
confirmed, so that nothing that a page showed as saved is lost, whatever kills the server. A change
names only its own clips: if two pages label different clips, both labels are kept, and the later
label of one clip wins. ``vidfeat finetune FEATURES --labels labels.csv`` reads the file.
"""

from __future__ import annotations

import csv
import math
import os
import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from vidfeat.datasets.label_rows import LabelRow
from vidfeat.datasets.labels import normal_path, read_labels
from vidfeat.errors import UsageError
from vidfeat.index.folder import TAUGHT
from vidfeat.system.files import atomic_write
from vidfeat.system.lock import OutputLock
from vidfeat.system.text_tables import read_table

MOST_NAME_LENGTH = 80
MOST_CHANGES_KEPT = 2000
MOST_ROWS = 500_000
_TRIES = 3


class Span(NamedTuple):
    """The segment of a label, in milliseconds; None for the start or end of the video."""

    path: str
    start_ms: int | None
    end_ms: int | None

    @classmethod
    def of(cls, path: str, start_seconds: float | None, end_seconds: float | None) -> Span:
        """From seconds, rounded to milliseconds."""
        start = None if start_seconds is None else round(start_seconds * 1000)
        end = None if end_seconds is None else round(end_seconds * 1000)
        return cls(path, start, end)

    @property
    def ends(self) -> tuple[float, float]:
        """Start and end in milliseconds; 0 and infinity for the whole video."""
        start = 0.0 if self.start_ms is None else float(self.start_ms)
        return start, math.inf if self.end_ms is None else float(self.end_ms)

    def holds(self, other: Span) -> bool:
        """Whether another segment of the same video lies within this one."""
        start, end = self.ends
        low, high = other.ends
        return start <= low and high <= end

    def contains(self, second: float) -> bool:
        """Whether a moment lies in the segment: the rule that assigns labels to clips."""
        start, end = self.ends
        return start <= second * 1000 < end


class Held(NamedTuple):
    """A label in the book: its segment, its row, and its rank by when it was first given."""

    span: Span
    row: LabelRow
    place: int


@dataclass(frozen=True)
class _Change:
    """The effect of a change, for undo."""

    revision: int
    author: str
    before: Mapping[Span, LabelRow | None]
    after: Mapping[Span, LabelRow | None]
    made_by: Mapping[Span, int]
    """The revisions that had made the labels in ``before``."""


class LabelBook:
    """The labels of an index and their file.

    Args:
        path: the file; it need not exist.

    Attributes:
        path: the file.
        revision: counts the changes since this process opened the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.revision = 0
        self._rows: dict[Span, LabelRow] = {}
        self._by_video: dict[str, dict[Span, LabelRow]] = {}
        self._counts: Counter[str] = Counter()
        self._changed_in: dict[Span, int] = {}
        self._made_by: dict[Span, int] = {}
        self._video_changed: dict[str, int] = {}
        self._places: dict[Span, int] = {}
        self._next_place = 0
        self._read_at = 0
        self._history: deque[_Change] = deque(maxlen=MOST_CHANGES_KEPT)
        self._lock = threading.RLock()
        self._file_lock: OutputLock | None = None
        self._seen: tuple[int, ...] | None = None
        self._read()

    # ------------------------------------------------------------------ contents

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def classes(self) -> list[tuple[str, int]]:
        """Classes in the order of their first label, with the number of labels of each."""
        with self._lock:
            return list(self._counts.items())

    def rows(self) -> list[LabelRow]:
        """All labels, in the order in which their clips were first labelled."""
        with self._lock:
            return list(self._rows.values())

    def videos(self) -> list[str]:
        """The videos that have labels."""
        with self._lock:
            return list(self._by_video)

    def videos_changed_since(self, revision: int) -> list[str] | None:
        """The videos with changes after a revision; None if all may have changed."""
        with self._lock:
            if revision < self._read_at:
                return None
            return [path for path, when in self._video_changed.items() if when > revision]

    def rows_of(self, path: str) -> list[Held]:
        """The labels of one video."""
        with self._lock:
            held = self._by_video.get(path, {})
            return [Held(span, row, self._places[span]) for span, row in held.items()]

    def get(self, span: Span) -> LabelRow | None:
        """The label of exactly this segment."""
        with self._lock:
            return self._rows.get(span)

    def changed_since(self, span: Span, revision: int) -> bool:
        """Whether the label of a segment was changed after a revision."""
        with self._lock:
            return self._changed_in.get(span, 0) > revision

    def undoable(self, author: str) -> bool:
        """Whether an author has a change that can be undone."""
        with self._lock:
            return any(change.author == author for change in self._history)

    # ------------------------------------------------------------------ changes

    def change(self, spans: Sequence[Span], label: str | None, author: str) -> int:
        """Label segments, or remove their labels, and return the revision.

        Earlier labels within a segment are replaced.

        Args:
            spans: the segments.
            label: the class; None removes labels.
            author: who makes the change, for undo.

        Raises:
            UsageError: an invalid class name, or a path that no CSV can hold.
            LockedError: another server has the labels of this index open.
            DataError: the file was edited and can no longer be read.
            OSError: the file could not be written; then nothing has changed.
        """
        with self._lock:
            self._hold()
            name = None if label is None else self._spelled(checked_class(label))
            before: dict[Span, LabelRow | None] = {}
            after: dict[Span, LabelRow | None] = {}
            for span in spans:
                check_path(span.path)
                inside = [s for s in self._by_video.get(span.path, ()) if span.holds(s)]
                for one in inside:
                    before.setdefault(one, self._rows[one])
                    after[one] = None
                before.setdefault(span, self._rows.get(span))
                after[span] = None if name is None else self._row(span, name)
            made_by = {span: self._made_by.get(span, 0) for span in after}
            self._apply(after)
            self._history.append(_Change(self.revision, author, before, after, made_by))
            return self.revision

    def undo(self, author: str) -> list[Span]:
        """Undo the author's last change, except where others have labelled since.

        Returns:
            The segments whose label has changed; empty if there is nothing to undo.

        Raises:
            LockedError, DataError, OSError: as `change`.
        """
        with self._lock:
            self._hold()
            change = next((c for c in reversed(self._history) if c.author == author), None)
            if change is None:
                return []
            back = {
                span: row
                for span, row in change.before.items()
                if self._rows.get(span) == change.after[span]
                and self._made_by.get(span, 0) == change.revision
            }
            if back:
                self._apply(back)
                self._made_by.update({span: change.made_by[span] for span in back})
            self._history.remove(change)
            return list(back)

    def refresh(self) -> bool:
        """Read the file again if another program has written it; return whether it has."""
        with self._lock:
            if self._signature() == self._seen:
                return False
            self._read()
            self.revision += 1
            self._read_at = self.revision
            return True

    def close(self) -> None:
        """Release the file for other servers."""
        with self._lock:
            if self._file_lock is not None:
                self._file_lock.__exit__(None, None, None)
                self._file_lock = None

    # ------------------------------------------------------------------ internals

    def _spelled(self, name: str) -> str:
        """The existing spelling of a name: finetune refuses names that differ only in case."""
        folded = name.casefold()
        return next((one for one in self._counts if one.casefold() == folded), name)

    def _row(self, span: Span, name: str) -> LabelRow:
        old = self._rows.get(span)
        if old is not None:
            return replace(old, label=name, line=0)
        start = None if span.start_ms is None else span.start_ms / 1000
        end = None if span.end_ms is None else span.end_ms / 1000
        group = next((row.group for row in self._by_video.get(span.path, {}).values()), "")
        return LabelRow(span.path, name, start, end, group=group)

    def _apply(self, after: Mapping[Span, LabelRow | None]) -> None:
        rows = dict(self._rows)
        for span, row in after.items():
            if row is None:
                rows.pop(span, None)
            else:
                rows[span] = row
        if len(rows) > MOST_ROWS:
            raise UsageError(f"{self.path} would have more than {MOST_ROWS} labels")
        self._write(rows)
        self.revision += 1
        self._take(rows, {span.path for span in after})
        for span in after:
            self._changed_in[span] = self._made_by[span] = self.revision
            self._video_changed[span.path] = self.revision

    def _take(self, rows: dict[Span, LabelRow], paths: set[str] | None) -> None:
        """Replace the state by rows; only the videos at ``paths`` have changed, or all for None."""
        self._rows = rows
        if paths is None:
            self._by_video = {}
        else:
            for path in paths:
                self._by_video.pop(path, None)
        for span, row in rows.items():
            if paths is None or span.path in paths:
                self._by_video.setdefault(span.path, {})[span] = row
                if span not in self._places:
                    self._places[span] = self._next_place
                    self._next_place += 1
        counts = Counter(row.label for row in rows.values())
        # Classes keep their positions, and so their keys, as long as they have labels.
        order = [name for name in self._counts if name in counts]
        order += [name for name in counts if name not in self._counts]
        self._counts = Counter({name: counts[name] for name in order})

    def _hold(self) -> None:
        """Lock the file against other servers, and read it again if it was edited."""
        if self._file_lock is None:
            lock = OutputLock(self.path)
            lock.__enter__()
            self._file_lock = lock
        self.refresh()

    def _signature(self) -> tuple[int, ...] | None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _read(self) -> None:
        seen = self._signature()
        found: dict[Span, LabelRow] = {}
        if seen is not None and read_table(self.path).rows:
            for row in read_labels(self.path).rows:
                found[Span.of(row.path, row.start_seconds, row.end_seconds)] = row
        self._counts = Counter()
        self._places.clear()
        self._take(found, None)
        self._history.clear()
        self._changed_in.clear()
        self._made_by.clear()
        self._seen = seen

    def _write(self, rows: Mapping[Span, LabelRow]) -> None:
        for attempt in range(_TRIES):
            try:
                with atomic_write(self.path) as temporary:
                    write_label_rows(temporary, list(rows.values()))
                break
            except FileNotFoundError:
                # A change of the index removes temporary files that it does not know.
                if attempt == _TRIES - 1 or not self.path.parent.is_dir():
                    raise
        self._seen = self._signature()


def write_label_rows(path: Path, rows: Sequence[LabelRow]) -> None:
    """Write labels in the format that `vidfeat.datasets.labels.read_labels` reads."""
    more = [name for name in ("split", "group") if any(getattr(row, name) for row in rows)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "start_seconds", "end_seconds", "label", *more])
        writer.writerows(
            [row.path, seconds(row.start_seconds), seconds(row.end_seconds), row.label]
            + [getattr(row, name) for name in more]
            for row in rows
        )


def seconds(value: float | None) -> str:
    """Seconds as text for a table, to the millisecond; empty for None."""
    if value is None:
        return ""
    return f"{value:.3f}".rstrip("0").rstrip(".")


def checked_class(name: str) -> str:
    """Check a class name, and return it with normalised spaces.

    Raises:
        UsageError: it is empty, too long, or contains unprintable characters.
    """
    name = " ".join(name.split())
    if not name or len(name) > MOST_NAME_LENGTH or not name.isprintable():
        raise UsageError(
            f"{name[:MOST_NAME_LENGTH]!r} is not a valid class name: expected 1 to "
            f"{MOST_NAME_LENGTH} printable characters"
        )
    return name


def check_path(path: str) -> None:
    """Refuse a path that a label file cannot hold.

    Raises:
        UsageError: it has leading or trailing spaces, or a line break.
    """
    if normal_path(path) != path or len(path.splitlines()) != 1:
        raise UsageError(
            f"the name {path!r} has leading or trailing spaces, or characters that a label file "
            "cannot hold: rename the video, and extract it again"
        )


def labels_path(index_folder: str | os.PathLike[str]) -> Path:
    """The label file of an index."""
    return Path(index_folder) / TAUGHT[0]
