"""From parts, or from shards, to one feature file: streamed, sorted, complete or not at all."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from vidfeat.errors import StoreError, UsageError
from vidfeat.store.embeddings import Embeddings
from vidfeat.store.parts import (
    ABOUT,
    PartHeader,
    PartReader,
    read_run,
    remove_parts,
    sweep_leftovers,
)
from vidfeat.store.parts_summary import (
    PartsSummary,
    RowRange,
    collector_paused,
    scan_parts,
    without_bad_rows,
)
from vidfeat.store.reader import FeatureStore
from vidfeat.store.records import RunIdentity, VideoFailure, VideoRecord, require_same_run
from vidfeat.store.shards import Shards, describe_missing, of_other_lists
from vidfeat.store.writer import writing_store
from vidfeat.system.lock import OutputLock

_BLOCK_BYTES = 8 << 20
_OPEN_PARTS = 32


@dataclass(frozen=True)
class MergeReport:
    """What a merged file holds."""

    videos: int
    clips: int
    failures: int
    dropped: int
    """Videos and failures that were left out, because their files are gone."""


class _Video(NamedTuple):
    """A video of the new file; its pieces come from parts, or from stores that are merged."""

    about: tuple[Any, ...]
    """Its record without the path, in the order of `ABOUT`."""
    pieces: tuple[RowRange, ...]


class Rows:
    """Rows of several files by number: the parts first, then the stores."""

    def __init__(self, parts: Sequence[PartHeader], stores: Sequence[FeatureStore]) -> None:
        self._parts = parts
        self._stores = stores
        self._open: OrderedDict[int, PartReader] = OrderedDict()

    def read(self, source: int, first: int, count: int) -> Embeddings:
        """Consecutive rows of one file."""
        if source >= len(self._parts):
            return self._stores[source - len(self._parts)].read_rows(slice(first, first + count))
        header = self._parts[source]
        reader = self._open.pop(source, None) or PartReader(header)
        if len(self._open) >= _OPEN_PARTS:
            self._open.popitem(last=False)[1].close()
        self._open[source] = reader
        block = reader.read(first, count)
        if first + count == header.rows:  # mostly read from the first row to the last
            self._open.pop(source).close()
        return block

    def close(self) -> None:
        """Close the parts."""
        for reader in self._open.values():
            reader.close()
        self._open.clear()


def merge_parts(
    output: str | os.PathLike[str],
    folder: Path,
    existing: FeatureStore | None = None,
    keep: Callable[[str], bool] | None = None,
    summary: PartsSummary | None = None,
) -> MergeReport:
    """Write the feature file from its parts, and remove them. Hold `OutputLock` first.

    Parts take precedence over ``existing``, and newer parts over older ones.
    Rows that are not finite are left out, and their videos become failures.
    If the process is killed, either the old file with all parts remains, or the new one.

    Args:
        output: the feature file; an existing one is replaced.
        folder: folder of the parts, with ``run.json``.
        existing: the file of an earlier run, whose videos are kept.
        keep: which paths go into the file; all by default.
        summary: summary of the folder, if it has just been scanned.

    Raises:
        FingerprintError: ``existing`` and the parts were made with different settings.
        StoreError: a part or the file is damaged.
        OSError: writing failed, on a full disk for example.
    """
    output = Path(output)
    identity = read_run(folder)
    if existing is not None:
        require_same_run(existing.identity, identity, str(existing.path))
    with collector_paused():
        summary = summary or scan_parts(folder)
        videos, failures = _newest(existing, summary)
        known = {*videos, *failures}
        wanted = known if keep is None else {path for path in known if keep(path)}
        chosen = {path: videos[path] for path in sorted(wanted & videos.keys())}
        failed = [failures[path] for path in sorted(wanted & failures.keys())]
        rows = Rows(summary.parts, [] if existing is None else [existing])
        with closing(rows):
            clips = _write(output, identity, chosen, failed, rows)
    remove_parts(folder)
    return MergeReport(len(chosen), clips, len(failed), len(known) - len(wanted))


def _newest(
    existing: FeatureStore | None, summary: PartsSummary
) -> tuple[dict[str, _Video], dict[str, VideoFailure]]:
    """What is known about each path, from the newest source that has it."""
    videos: dict[str, _Video] = {}
    failures: dict[str, VideoFailure] = {}
    if existing is not None:
        videos = _videos_of(existing, len(summary.parts))
        failures = {failure.path: failure for failure in existing.errors}
    for path, failure in summary.failures.items():
        failures[path] = failure
        old = videos.get(path)
        if old is not None and not VideoRecord(path, *old.about).same_file(
            failure.size_bytes, failure.mtime_ns
        ):
            del videos[path]  # the file has changed since, and cannot be read now
    thinned = without_bad_rows(summary)
    for path, video in summary.finished.items():
        if path in thinned:
            failures[path] = thinned[path].failure
            if thinned[path].pieces:
                videos[path] = _Video(video.header.about(video.index), thinned[path].pieces)
            else:
                videos.pop(path, None)
            continue
        videos[path] = _Video(video.header.about(video.index), video.pieces)
        if path not in summary.failures:
            failures.pop(path, None)
    return videos, failures


def _videos_of(store: FeatureStore, source: int) -> dict[str, _Video]:
    columns = [store.videos[name].tolist() for name in ABOUT]
    offsets, counts = (store.videos[name].tolist() for name in ("offset", "count"))
    return {
        path: _Video(tuple(about), (RowRange(source, offset, count),) if count else ())
        for path, offset, count, *about in zip(store.paths, offsets, counts, *columns, strict=True)
    }


def _write(
    output: Path,
    identity: RunIdentity,
    videos: Mapping[str, _Video],
    failures: Sequence[VideoFailure],
    rows: Rows,
) -> int:
    counts = [sum([piece.num_rows for piece in video.pieces]) for video in videos.values()]
    about = [list(column) for column in zip(*[v.about for v in videos.values()], strict=True)]
    table: dict[str, Sequence[Any]] = {name: [] for name in ABOUT}
    table |= dict(zip(ABOUT, about, strict=False)) | {"path": list(videos)}
    step = max(1, _BLOCK_BYTES // (identity.dimension * 4))
    wanted = (
        (source, at, min(step, stop - at))
        for source, first, stop in _runs(videos.values())
        for at in range(first, stop, step)
    )
    with writing_store(output, identity, table, counts, failures) as writer:
        for block in _read_ahead(rows, wanted):
            writer.append(block.vectors, block.start_seconds, block.end_seconds)
    return sum(counts)


def _read_ahead(rows: Rows, wanted: Iterator[tuple[int, int, int]]) -> Iterator[Embeddings]:
    """The blocks in order; the next one is read while one is written."""
    with ThreadPoolExecutor(1, "vidfeat-merge") as reader:
        ahead = None
        for block in wanted:
            following = reader.submit(rows.read, *block)
            if ahead is not None:
                yield ahead.result()
            ahead = following
        if ahead is not None:
            yield ahead.result()


def _runs(videos: Iterable[_Video]) -> Iterator[tuple[int, int, int]]:
    """Source, first row and the row after the last, with adjacent pieces taken together."""
    source, first, stop = -1, 0, 0
    for video in videos:
        for piece in video.pieces:
            if piece.source == source and piece.first_row == stop:
                stop += piece.num_rows
                continue
            if stop > first:
                yield source, first, stop
            source, first = piece.source, piece.first_row
            stop = first + piece.num_rows
    if stop > first:
        yield source, first, stop


# ---------------------------------------------------------------------- shards


def merge_stores(
    inputs: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    allow_missing: bool = False,
) -> MergeReport:
    """Merge the feature files of the shards of one run.

    Args:
        inputs: the files, in any order.
        output: the new file.
        overwrite: replace an existing file.
        allow_missing: merge even if shards are missing; the file records which it holds.

    Raises:
        FingerprintError: a file was made with other settings than the first.
        StoreError: a path is in several files, a shard is missing, the shards are of several
            divisions, or the output already exists.
        UsageError: no input, or an output that is one of them.
        LockedError: another run is writing the output.
        OSError: writing failed; nothing is changed.
    """
    output = Path(output)
    if not inputs:
        raise UsageError("no feature file to merge: give those of all shards")
    if any(Path(path).resolve() == output.resolve() for path in inputs):
        raise UsageError(f"{output} is one of the files to merge: choose another output")
    with ExitStack() as stack:
        stores = [stack.enter_context(FeatureStore(path)) for path in inputs]
        identity = stores[0].identity
        for store in stores[1:]:
            require_same_run(
                store.identity,
                identity,
                f"{store.path} (compared with {stores[0].path})",
                "merge the shards of one run only",
            )
        identity = replace(identity, shards=_shards_of(stores, allow_missing=allow_missing))
        stack.enter_context(OutputLock(output))
        if output.exists() and not overwrite:
            raise StoreError(
                f"{output} already exists: give overwrite=True to replace it, or choose "
                "another output"
            )
        sweep_leftovers(output)
        _refuse_duplicates(stores)
        stack.enter_context(collector_paused())
        videos: dict[str, _Video] = {}
        failures: list[VideoFailure] = []
        for source, store in enumerate(stores):
            videos |= _videos_of(store, source)
            failures += store.errors
        chosen = {path: videos[path] for path in sorted(videos)}
        clips = _write(output, identity, chosen, failures, Rows((), stores))
        return MergeReport(len(chosen), clips, len(failures), 0)


def _shards_of(stores: Sequence[FeatureStore], *, allow_missing: bool) -> str:
    """The shards that some files hold together; empty if these are all."""
    together: Shards | None = None
    first = next((store for store in stores if store.shards), None)
    for store in stores:
        if not store.shards:
            continue
        own = Shards.parse(store.shards)
        if first is not None and of_other_lists(first.identity, store.identity):
            if not allow_missing:
                raise _other_lists(first, store)
            return ""
        if together is not None and own.count != together.count:
            raise StoreError(
                f"{store.path} is of {own.count} shards, and others are of {together.count}: "
                "merge shards of one division"
            )
        together = own if together is None else together.with_others(own.numbers)
    if together is None or not together.missing:
        return ""
    if not allow_missing:
        error = StoreError(
            f"{describe_missing(together)}, and its videos with it: give all files, or merge "
            "without them with allow_missing"
        )
        error.fields = ("allow_missing",)
        raise error
    return str(together)


def _other_lists(one: FeatureStore, other: FeatureStore) -> StoreError:
    error = StoreError(
        f"{one.path} (of {one.source_root}) and {other.path} (of {other.source_root}) are shards "
        "of different lists of videos, so videos may be missing: run all shards over the "
        "same videos, or merge what exists with allow_missing"
    )
    error.fields = ("allow_missing",)
    return error


def _refuse_duplicates(stores: Sequence[FeatureStore]) -> None:
    """Refuse shards that share a path: they are not of one division of the videos."""
    owner: dict[str, FeatureStore] = {}
    twice: list[str] = []
    for store in stores:
        paths = {*store.paths, *(failure.path for failure in store.errors)}
        twice += [
            f"{path!r} in {owner[path].path} and {store.path}"
            for path in sorted(paths & owner.keys())
        ]
        owner |= dict.fromkeys(paths, store)
    if twice:
        more = f" and {len(twice) - 3} more" if len(twice) > 3 else ""
        raise StoreError(
            f"videos are in several files: {', '.join(twice[:3])}{more}; merge only shards K/N of "
            "the same list, with the same N"
        )
