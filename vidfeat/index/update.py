"""Change an index: add videos and remove them, completely or not at all.

Added videos go to a *tail*, a second pair of files that is compared exactly, so that the cost
depends only on what is added; removed videos are marked and skipped. When the tail or the removed
videos exceed a share of the whole, the first part is rebuilt from the stored vectors, which needs
neither the feature files nor the encoder.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import DataError, StoreError, UsageError
from vidfeat.index.arrays import RowWriter, save_npy
from vidfeat.index.build import RowFiles, finish_base, write_part
from vidfeat.index.folder import (
    FileEntry,
    IndexHeader,
    file_name,
    now,
    read_head,
    remove_leftovers,
    save_array,
    save_videos,
    undone,
    write_head,
    writing,
)
from vidfeat.index.opened import OpenIndex
from vidfeat.index.patterns import paths_that_fit
from vidfeat.index.videos import CLIP, Videos
from vidfeat.store.reader import FeatureStore
from vidfeat.system.callbacks import Report, no_report
from vidfeat.system.files import named_errors, temporary_name
from vidfeat.system.urls import is_url, root_of
from vidfeat.system.wording import counted

# The first part is rebuilt when a tail costs more than it saves, or when a share of its rows is
# skipped at every search.
TAIL_ROWS = 20_000
TAIL_SHARE = 0.10
REMOVED_SHARE = 0.30


@dataclass
class Change:
    """The result of a change.

    Attributes:
        added: videos that are new.
        updated: videos whose clips were replaced.
        unchanged: videos that were already there, with the same vectors.
        removed: videos removed.
        rebuilt: the first part was rebuilt.
        skipped: clips left out because their vector cannot be compared.
    """

    added: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    rebuilt: bool = False
    skipped: list[str] = field(default_factory=list)


def change_index(
    path: Path,
    *,
    add: Sequence[Path] = (),
    remove: Sequence[str] = (),
    skip_bad_rows: bool = False,
    rebuild: bool = False,
    report: Callable[[str], None] | None = None,
) -> Change:
    """Remove videos and add those of feature files, all of it or nothing.

    Args:
        path: the index.
        add: feature files; a video whose path is already there is replaced.
        remove: paths, folders (a slash at the end) or patterns (``*``).
        skip_bad_rows: leave out vectors that cannot be compared.
        rebuild: rebuild the first part in any case.
        report: called with a line on each step.

    Raises:
        FingerprintError: a feature file of another encoder.
        StoreError: no index, or a video to remove that does not exist.
        LockedError: another run is changing the index.
        DataError: vectors that cannot be compared, or nothing would be left.
    """
    report = report or no_report
    read_head(path)
    with named_errors(path), writing(path), undone(path):
        index = OpenIndex(path)
        remove_leftovers(path, index.head)
        writer = _Writer(index, report)
        if remove:
            writer.remove(remove)
        for features in add:
            with FeatureStore(features) as store:
                writer.add(store, skip_bad_rows=skip_bad_rows)
        if writer.touched or rebuild:
            writer.commit(rebuild=rebuild)
        return writer.change


class _Writer:
    """Collects a change and writes it as the next state."""

    def __init__(self, index: OpenIndex, report: Report) -> None:
        self.index = index
        self.report = report
        self.change = Change()
        self.videos = index.videos
        self.removed: set[int] = set()
        self.parts: list[tuple[NDArray[Any], NDArray[Any]]] = []
        self.new: list[Videos] = []
        self.num_new = 0
        self.touched = False

    def remove(self, wanted: Sequence[str]) -> None:
        """Mark videos as removed."""
        row_of = self.videos.row_of
        for text in wanted:
            for path in paths_that_fit(self.videos, text, self.index.path):
                if row_of[path] not in self.removed:
                    self.removed.add(row_of[path])
                    self.change.removed.append(path)
        self.touched = self.touched or bool(self.removed)

    def add(self, store: FeatureStore, *, skip_bad_rows: bool) -> None:
        """Take the videos of a feature file that are new or have other vectors."""
        head = self.index.head
        self.index.require_space(store.space_fingerprint, str(store.path))
        if store.dimension != head.dimension:
            raise DataError(
                f"{store.path} has vectors of {store.dimension} dimensions, {self.index.path} of "
                f"{head.dimension}"
            )
        if store.run_fingerprint != head.run_fingerprint:
            warnings.warn(
                f"{store.path} was extracted with another hop, precision or engine than "
                f"{self.index.path}: the vectors can be compared, their spacing may differ",
                stacklevel=3,
            )
        if store.source_root != head.source_root:
            warnings.warn(
                f"the videos of {store.path} lie below {store.source_root}, those of "
                f"{self.index.path} below {head.source_root}: pictures and playback look for all "
                "of them below one root, so extract with root=FOLDER where both lie",
                stacklevel=3,
            )
        taken: dict[str, int] = {}
        for number, table in enumerate(self.new):
            taken |= dict.fromkeys(table.row_of, number)
        chosen: list[int] = []
        for row, path in enumerate(store.paths):
            if not store.videos["count"][row]:
                continue
            old = self.videos.row_of.get(path)
            if path in taken:
                raise UsageError(f"{path} is in two of the feature files to add: give it once")
            if old is None or old in self.removed:
                self.change.added.append(path)
            elif self._same(store, row, old, skip_bad_rows=skip_bad_rows):
                self.change.unchanged.append(path)
                continue
            else:
                self._refuse_another_root(store, row, old)
                self.removed.add(old)
                self.change.updated.append(path)
            chosen.append(row)
        if chosen:
            self._take(store, np.array(chosen), skip_bad_rows=skip_bad_rows)

    def _refuse_another_root(self, store: FeatureStore, row: int, old: int) -> None:
        """Refuse a path below another root, unless the file is plainly the same.

        It is the same if its size and time of change are equal; if the old root no longer exists,
        an equal size is enough.
        """
        ours, theirs = self.index.head.source_root, store.source_root
        if not ours or not theirs or ours == theirs:
            return
        compared = ["size_bytes"]
        both_urls = is_url(ours) and is_url(theirs)
        if both_urls or Path(root_of(ours)).is_dir():
            compared.append("mtime_ns")
        if all(int(self.videos[name][old]) == int(store.videos[name][row]) for name in compared):
            return  # the videos have moved
        raise StoreError(
            f"{store.paths[row]} is a video below {theirs} in {store.path}, and another one below "
            f"{ours} in {self.index.path}: extract both with one root=FOLDER above them, or "
            "remove the old ones first"
        )

    def _same(self, store: FeatureStore, row: int, old: int, *, skip_bad_rows: bool) -> bool:
        """Whether a video already has exactly these clips and vectors."""
        start, count = int(store.videos["offset"][row]), int(store.videos["count"][row])
        rows = self.videos.rows(old)
        if rows.stop - rows.start != count and not skip_bad_rows:
            return False
        given = store.read_rows(slice(start, start + count))
        normal, bad = self.index.normalisation.apply_to_good(given.vectors)
        if len(bad) and not skip_bad_rows:
            return False
        good = np.setdiff1d(np.arange(count), bad, assume_unique=True)
        if rows.stop - rows.start != len(good):
            return False
        if not len(good):
            return True
        clips = self.index.searcher.clips[rows]
        if not np.array_equal(clips["start_seconds"], given.start_seconds[good]):
            return False
        held = self.index.searcher.engine.take_slice(rows)
        return bool(np.allclose(normal[good], held, rtol=0, atol=1e-3))

    def _take(self, store: FeatureStore, chosen: NDArray[np.int64], *, skip_bad_rows: bool) -> None:
        head = self.index.head
        # In the folder of the index, where there must be room for the result anyway.
        files = RowFiles(
            temporary_name(self.index.path / "add_vectors.npy"),
            temporary_name(self.index.path / "add_clips.npy"),
        )
        try:
            part = write_part(
                store,
                chosen,
                self.index.normalisation,
                files,
                first_row=head.num_base + self.num_new,
                first_video=len(self.videos) + sum(len(table) for table in self.new),
                skip_bad_rows=skip_bad_rows,
            )
            self.parts.append((np.load(files.vectors), np.load(files.clips)))
        finally:
            files.vectors.unlink(missing_ok=True)
            files.clips.unlink(missing_ok=True)
        self.num_new += part.num_rows
        self.new.append(part.videos)
        self.change.skipped += part.skipped
        self.touched = True

    # ------------------------------------------------------------------ the next state

    def commit(self, *, rebuild: bool) -> None:
        """Write the next state and make it the current one."""
        videos, vectors, clips = self._gather()
        head = self.index.head
        alive = videos["alive"]
        num_clips = int(videos["count"][alive].sum())
        if not num_clips:
            raise DataError(f"{self.index.path} would have no clip left: remove the folder instead")
        base = head.num_base
        base_alive = int(videos["count"][alive & (videos["offset"] < base)].sum())
        grown = len(vectors) > max(TAIL_ROWS, TAIL_SHARE * base)
        holed = base - base_alive > REMOVED_SHARE * base
        generation = head.generation + 1
        head = replace(head, generation=generation)
        if rebuild or grown or holed:
            self.change.rebuilt = True
            head = self._rebuild(head, videos, vectors, clips)
        else:
            folder = self.index.path
            files = {name: entry for name, entry in head.files.items() if "tail" not in name}
            files["videos"] = save_videos(folder, generation, videos)
            if len(vectors):
                for role, values in (("tail_vectors", vectors), ("tail_clips", clips)):
                    files[role] = save_array(folder / file_name(role, generation), values)
            head = replace(
                head,
                num_tail=len(vectors),
                num_clips=num_clips,
                num_videos=int(alive.sum()),
                files=files,
                created=now(),
            )
        write_head(self.index.path, head)
        remove_leftovers(self.index.path, head)

    def _gather(self) -> tuple[Videos, NDArray[Any], NDArray[Any]]:
        """The next table of videos, and the next tail: the rest of the old one, then new clips."""
        head, searcher = self.index.head, self.index.searcher
        videos = self.videos.without(sorted(self.removed))
        vectors, clips = [], []
        row = head.num_base
        offset, count = videos["offset"].copy(), videos["count"].copy()
        for video in np.flatnonzero(videos["offset"] >= head.num_base).tolist():
            span = videos.rows(video)
            if not videos["alive"][video]:
                offset[video] = count[video] = 0
                continue
            vectors.append(np.asarray(searcher.engine.tail)[_shifted(span, -head.num_base)])
            clips.append(searcher.clips[span])
            offset[video] = row
            row += int(count[video])
        videos = Videos(videos.paths, {**videos.columns, "offset": offset, "count": count})
        shift = row - head.num_base
        for table, (new_vectors, new_clips) in zip(self.new, self.parts, strict=True):
            columns = {**table.columns, "offset": table["offset"] + shift}
            videos = videos.extended(Videos(table.paths, columns))
            vectors.append(new_vectors)
            clips.append(new_clips)
        dtype = searcher.engine.vectors.dtype
        empty = np.empty((0, head.dimension), dtype=dtype)
        return (
            videos,
            np.concatenate([empty, *vectors]).astype(dtype),
            np.concatenate([np.empty(0, dtype=CLIP), *clips]),
        )

    def _rebuild(
        self, head: IndexHeader, videos: Videos, tail: NDArray[Any], tail_clips: NDArray[Any]
    ) -> IndexHeader:
        """Write everything as a new first part, and index it."""
        folder, base = self.index.path, head.num_base
        engine, all_clips = self.index.searcher.engine, self.index.searcher.clips
        alive = np.flatnonzero(videos["alive"])
        counts = videos["count"][alive]
        total = int(counts.sum())
        self.report(
            f"rebuilding the index: {counted(len(alive), 'video')}, {counted(total, 'clip')}"
        )
        files = RowFiles(
            folder / file_name("vectors", head.generation),
            folder / file_name("clips", head.generation),
        )
        clips = np.empty(total, dtype=CLIP)
        row = 0
        with RowWriter(files.vectors, engine.vectors.dtype, (head.dimension,)) as out:
            for number, video in enumerate(alive.tolist()):
                span = videos.rows(video)
                end = row + span.stop - span.start
                late = span.start >= base
                source, times = (tail, tail_clips) if late else (engine.vectors, all_clips)
                taken = _shifted(span, -base) if late else span
                out.append(source[taken])
                clips[row:end] = times[taken]
                clips["video"][row:end] = number
                row = end
        save_npy(files.clips, clips)
        columns = {name: column[alive] for name, column in videos.columns.items()}
        columns["offset"] = np.cumsum(counts) - counts
        table = Videos([videos.paths[video] for video in alive], columns)
        kept: dict[str, FileEntry] = {
            role: head.files[role] for role in ("mean", "whitening") if role in head.files
        }
        return finish_base(folder, head, files, table, kept, self.report)


def _shifted(span: slice, by: int) -> slice:
    return slice(span.start + by, span.stop + by)
