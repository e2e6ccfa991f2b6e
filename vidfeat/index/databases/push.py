"""Write the videos of a feature file to a database, replace changed ones, remove named ones.

The order makes a killed push harmless: clips are added first, under row numbers that no reader
knows; then their videos; then the head, which records the number of rows. Old clips of replaced and
removed videos are deleted last. Rows that a killed push left beyond the head's numbers are deleted
by the next push. One process pushes at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidfeat.errors import DataError, FingerprintError, StoreError, UsageError
from vidfeat.index.build import empty_head
from vidfeat.index.databases.address import connect
from vidfeat.index.databases.base import FORMAT, VIDEO_COLUMNS, ClipBlock, Database
from vidfeat.index.databases.engine import DatabaseEngine, spans_of
from vidfeat.index.databases.state import State, read_state, read_videos
from vidfeat.index.engine import TUNED_NEIGHBOURS
from vidfeat.index.folder import IndexHeader, now
from vidfeat.index.patterns import paths_that_fit
from vidfeat.index.recall import RECALL_TARGET, sample_rows
from vidfeat.index.update import Change
from vidfeat.index.vectors import Normalisation
from vidfeat.index.videos import Videos
from vidfeat.store.clip_ids import ClipIds
from vidfeat.store.reader import FeatureStore
from vidfeat.system.callbacks import Report, no_report

_BLOCK_ROWS = 50_000
_BLOCK_BYTES = 64 << 20
_RECALL_QUERIES = 100
_REMEDY = "extract it again, or leave such clips out with skip_bad_rows"


def push(
    features: Path | None,
    address: str,
    *,
    remove: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    overwrite: bool = False,
    skip_bad_rows: bool = False,
    report: Report | None = None,
) -> Change:
    """Bring a database to the state of a feature file, video by video.

    Args:
        features: the feature file; None to only remove.
        address: see `vidfeat.index.databases`.
        remove: paths, folders (a slash at the end) or patterns (``*``).
        labels: path to label, stored with the clips for filters.
        overwrite: start again, even if there is data.
        skip_bad_rows: leave out vectors that cannot be compared; otherwise they are an error.
        report: called with a line on each step.

    Raises:
        FingerprintError: the database's vectors come from another encoder.
        StoreError: the database cannot be reached, or a video to remove does not exist.
        DataError: vectors that cannot be compared.
        MissingExtraError: the database's package is not installed.
    """
    database = connect(address)
    try:
        return push_into(
            database,
            features,
            remove=remove,
            labels=labels,
            overwrite=overwrite,
            skip_bad_rows=skip_bad_rows,
            report=report,
        )
    finally:
        database.close()


def push_into(
    database: Database,
    features: Path | None,
    *,
    remove: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    overwrite: bool = False,
    skip_bad_rows: bool = False,
    report: Report | None = None,
) -> Change:
    """Like `push`, for a database that is open."""
    if features is None and not remove:
        raise UsageError("give a feature file to push, or videos to remove")
    if features is None:
        return _Push(database, None, report, labels or {}, skip_bad_rows).run(remove, overwrite)
    with FeatureStore(features) as store:
        return _Push(database, store, report, labels or {}, skip_bad_rows).run(remove, overwrite)


@dataclass(frozen=True, eq=False)
class _Source:
    """Rows ``low`` to ``high`` of the concatenated rows of some videos of a feature file."""

    videos: NDArray[np.int64]
    offset: NDArray[np.int64]
    count: NDArray[np.int64]
    low: int
    high: int

    def rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which of the videos each row belongs to, and its number in the file."""
        ends = np.cumsum(self.count)
        at = np.arange(self.low, self.high)
        which = np.searchsorted(ends, at, side="right")
        return which, self.offset[which] + at - (ends - self.count)[which]


class _Push:
    def __init__(
        self,
        database: Database,
        store: FeatureStore | None,
        report: Report | None,
        labels: Mapping[str, str],
        skip_bad_rows: bool,
    ) -> None:
        self.database = database
        self.store = store
        self.tell = report or no_report
        self.labels = labels
        self.skip_bad_rows = skip_bad_rows
        self.change = Change()
        self.normalisation = Normalisation()

    def run(self, remove: Sequence[str], overwrite: bool) -> Change:
        state = None if overwrite else read_state(self.database)
        if state is None:
            state = State(self._begin(), 0)
        else:
            self._check(state.head)
        self.database.remove_from(state.head.num_base, state.next_video)
        videos, labels = read_videos(self.database, state.next_video)
        gone = self._to_remove(videos, remove)
        chosen = self._to_add(state.head, videos, labels, gone)
        # Videos that a killed push has replaced, but not deleted.
        dead = set(np.flatnonzero((videos["count"] > 0) & ~videos["alive"]).tolist())
        if state.finished and not len(chosen) and not gone | dead:
            return self.change
        if len(chosen):  # visible before the old ones are deleted: nothing is ever missing
            state = self._add(chosen, state)
            self.database.write_head(state.to_dict())
        if gone | dead:
            removed = sorted(gone | dead)
            spans = [(s.start, s.stop) for s in map(videos.rows, removed) if s.stop > s.start]
            self.database.remove(removed, spans)
        self._finish(state)
        return self.change

    # ------------------------------------------------------------------ planning

    def _begin(self) -> IndexHeader:
        store = self.store
        if store is None:
            raise StoreError(f"{self.database.address} holds no index: there is nothing to remove")
        if not store.num_clips:
            raise DataError(f"{store.path} has no clip to push: extract some videos first")
        self.database.create(store.dimension, store.num_clips)
        return replace(empty_head(store, self.database.kind), format=FORMAT)

    def _check(self, head: IndexHeader) -> None:
        if self.store is None:
            return
        if self.store.space_fingerprint != head.space_fingerprint:
            raise FingerprintError(
                f"{self.store.path} has vectors of another encoder than {self.database.address} "
                f"({head.encoder.get('model', 'unknown model')}): push to another place, or give "
                "overwrite to start again",
                field="overwrite",
            )

    def _to_remove(self, videos: Videos, wanted: Sequence[str]) -> set[int]:
        found: set[int] = set()
        for text in wanted:
            for path in paths_that_fit(videos, text, self.database.address):
                if videos.row_of[path] not in found:
                    found.add(videos.row_of[path])
                    self.change.removed.append(path)
        return found

    def _to_add(
        self, head: IndexHeader, videos: Videos, labels: NDArray[np.object_], gone: set[int]
    ) -> NDArray[np.int64]:
        """Rows of ``/videos`` that are new or changed; replaced videos are added to ``gone``."""
        store = self.store
        if store is None:
            return np.empty(0, dtype=np.int64)
        chosen = []
        removed = {videos.paths[row] for row in gone}
        facts = {name: store.videos[name].tolist() for name in ("count", "size_bytes", "mtime_ns")}
        same_run = head.run_fingerprint == store.run_fingerprint
        for row, path in enumerate(store.paths):
            if not facts["count"][row] or path in removed:
                continue
            old = videos.row_of.get(path)
            if old is None:
                self.change.added.append(path)
            elif (
                same_run
                and all(videos[name][old] == facts[name][row] for name in facts)
                and (not self.labels or labels[old] == self.labels.get(path, ""))
            ):
                self.change.unchanged.append(path)
                continue
            else:
                gone.add(old)
                self.change.updated.append(path)
            chosen.append(row)
        return np.array(chosen, dtype=np.int64)

    # ------------------------------------------------------------------ writing

    def _add(self, chosen: NDArray[np.int64], state: State) -> State:
        """Add the clips of some videos, then the videos, and return the new state."""
        store = self.store
        assert store is not None
        first_row, first = state.head.num_base, state.next_video
        offset, count = store.videos["offset"][chosen], store.videos["count"][chosen]
        kept = np.zeros(len(chosen), dtype=np.int64)
        step = max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // (4 * store.dimension)))
        ids, row, total = ClipIds(), first_row, int(count.sum())
        for low in range(0, total, step):
            source = _Source(chosen, offset, count, low, min(low + step, total))
            row = self._add_block(source, ids, kept, row, first)
            self.tell(f"pushed {min(low + step, total):,} of {total:,} clips")
        table: dict[str, list[object]] = {
            name: store.videos[name][chosen].tolist()
            for name in VIDEO_COLUMNS
            if name not in ("video", "path", "label", "offset", "count")
        }
        paths = [store.paths[video] for video in chosen.tolist()]
        numbers: list[object] = list(range(first, first + len(chosen)))
        counts: list[object] = [*kept.tolist()]
        table |= {
            "video": numbers,
            "path": list(paths),
            "label": [self.labels.get(path, "") for path in paths],
            "offset": (first_row + np.cumsum(kept) - kept).tolist(),
            "count": counts,
        }
        self.database.add_videos(table)
        head = replace(
            state.head,
            generation=state.head.generation + 1,
            num_base=row,
            run_fingerprint=store.run_fingerprint,
            created=now(),
        )
        return State(head, first + len(chosen), finished=False)

    def _add_block(
        self, source: _Source, ids: ClipIds, kept: NDArray[np.int64], row: int, first: int
    ) -> int:
        """Add some rows of the chosen videos, and return the next row's number.

        Args:
            source: the rows.
            ids: makes their clip ids.
            kept: (videos,) counts the rows of each video that were added.
            row: number of the first row.
            first: number of the first video.
        """
        store = self.store
        assert store is not None
        which, rows = source.rows()
        parts = [store.read_rows(slice(*part)) for part in spans_of(rows)]
        vectors = np.concatenate([part.vectors for part in parts])
        start = np.concatenate([part.start_seconds for part in parts])
        end = np.concatenate([part.end_seconds for part in parts])
        paths = [store.paths[video] for video in source.videos[which].tolist()]

        def name(number: int) -> str:
            return f"{paths[number]}, clip at {start[number]:.2f} s"

        if self.skip_bad_rows:
            vectors, bad = self.normalisation.apply_to_good(vectors)
            self.change.skipped += [name(int(number)) for number in bad]
        else:
            vectors, bad = (
                self.normalisation.apply(vectors, name, _REMEDY),
                np.empty(0, dtype=np.int64),
            )
        clip_ids = ids.of(paths, start.tolist(), end.tolist())
        good = np.setdiff1d(np.arange(len(rows)), bad, assume_unique=True)
        kept += np.bincount(which[good], minlength=len(kept))
        chosen_paths = [paths[number] for number in good.tolist()]
        self.database.add_clips(
            ClipBlock(
                np.arange(row, row + len(good)),
                [clip_ids[number] for number in good.tolist()],
                first + which[good],
                chosen_paths,
                [self.labels.get(path, "") for path in chosen_paths],
                start[good],
                end[good],
                vectors[good],
            )
        )
        return row + len(good)

    def _finish(self, state: State) -> None:
        """Index the vectors, choose search settings, and write the head."""
        videos, _ = read_videos(self.database, state.next_video)
        alive = videos["alive"]
        clips = int(videos["count"][alive].sum())
        if not clips:
            raise DataError(f"{self.database.address} has no clip left: delete it instead")
        head = replace(
            state.head,
            generation=state.head.generation + 1,
            num_clips=clips,
            num_videos=int(alive.sum()),
            factory=self.database.index_clips(clips),
            created=now(),
        )
        head = _tuned(self.database, head, videos)
        self.tell(
            f"recall@10 {head.recall['at_10']:.3f} on {head.recall['queries']} clips, "
            f"{head.search or 'every vector compared'}"
        )
        self.database.write_head(State(head, state.next_video).to_dict())


def _tuned(database: Database, head: IndexHeader, videos: Videos) -> IndexHeader:
    """Set the fastest search settings whose recall@10 on stored clips reaches the target."""
    engine = DatabaseEngine(head, database, videos)
    rows = np.flatnonzero(engine.video_of >= 0)
    sample = rows[sample_rows(len(rows), _RECALL_QUERIES)]
    vectors, own = engine.take(sample), engine.video_of[sample]
    ladder = database.ladder(head.num_clips)
    if not ladder:
        return replace(head, search={}, recall=_as_recall(1.0, len(sample)))
    truth = _neighbours(engine, vectors, own, None)
    best: tuple[float, dict[str, int]] = (-1.0, {})
    for settings in ladder:
        found = _neighbours(engine, vectors, own, settings)
        shared = sum(len(a & b) for a, b in zip(found, truth, strict=True))
        recall = shared / max(1, sum(map(len, truth)))
        if recall > best[0] + 1e-9:
            best = (recall, settings)
        if recall >= RECALL_TARGET:
            break
    return replace(head, search=best[1], recall=_as_recall(best[0], len(sample)))


def _neighbours(
    engine: DatabaseEngine,
    vectors: NDArray[np.float32],
    own: NDArray[np.int32],
    settings: dict[str, int] | None,
) -> list[set[int]]:
    """The ten nearest rows of each query, in other videos."""
    most = int(engine.videos["count"].max(initial=0)) + TUNED_NEIGHBOURS
    scores, rows = engine.database.nearest(
        vectors, min(most, engine.head.num_clips), None, settings
    )
    found = []
    for line, values, video in zip(rows, scores, own.tolist(), strict=True):
        good = line[(line >= 0) & np.isfinite(values)]
        found.append(set(good[engine.video_of[good] != video][:TUNED_NEIGHBOURS].tolist()))
    return found


def _as_recall(value: float, queries: int) -> dict[str, object]:
    measured_on = "stored clips, their own videos left out, against exact search"
    return {"at_10": round(value, 4), "queries": queries, "measured_on": measured_on}
