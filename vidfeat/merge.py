"""From parts, or from shards, to one feature file: streamed, sorted, whole or not at all."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from vidfeat.embeddings import Embeddings
from vidfeat.errors import StoreError, UsageError
from vidfeat.lock import OutputLock
from vidfeat.parts import PartHeader, PartReader, read_run, remove_parts, sweep_leftovers
from vidfeat.progress import Piece, Progress, scan_parts
from vidfeat.records import RunIdentity, VideoFailure, VideoRecord, require_same_run
from vidfeat.store import FeatureStore
from vidfeat.store_write import writing_store

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
    """A video of the new file; its pieces are of a part, or of a store that is merged."""

    record: VideoRecord
    pieces: tuple[Piece, ...]


class Rows:
    """Rows of several files by number: the stores first, then the parts."""

    def __init__(self, stores: Sequence[FeatureStore], parts: Sequence[PartHeader] = ()) -> None:
        self._stores = stores
        self._parts = parts
        self._open: OrderedDict[int, PartReader] = OrderedDict()

    def read(self, source: int, first: int, count: int) -> Embeddings:
        """Consecutive rows of one file."""
        if source < len(self._stores):
            return self._stores[source].read_rows(slice(first, first + count))
        reader = self._open.get(source)
        if reader is None:
            if len(self._open) >= _OPEN_PARTS:
                self._open.popitem(last=False)[1].close()
            reader = self._open[source] = PartReader(self._parts[source - len(self._stores)])
        self._open.move_to_end(source)
        return reader.read(first, count)

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
    progress: Progress | None = None,
) -> MergeReport:
    """Write the feature file from its parts, and remove them. Hold `OutputLock` first.

    What parts say of a path stands over what ``existing`` says, and newer parts over older ones.
    Whatever kills the process, the old file with all parts is there, or the new one.

    Args:
        output: the feature file; one that is there is replaced.
        folder: of the parts, with ``run.json``.
        existing: the file of an earlier run, whose videos are kept.
        keep: which paths go into the file; all by default.
        progress: of the folder, where it has just been scanned.

    Raises:
        FingerprintError: ``existing`` was made otherwise than the parts.
        StoreError: a part or the file was damaged since.
        OSError: as writing does, a full disk among them.
    """
    output = Path(output)
    identity = read_run(folder)
    if existing is not None:
        require_same_run(existing.identity, identity, str(existing.path))
    if progress is None:
        progress = scan_parts(folder)
    videos, failures = _newest(existing, progress)
    wanted = {path for path in {*videos, *failures} if keep is None or keep(path)}
    dropped = len({*videos, *failures}) - len(wanted)
    chosen = [videos[path] for path in sorted(wanted & videos.keys())]
    failed = [failures[path] for path in sorted(wanted & failures.keys())]
    rows = Rows([] if existing is None else [existing], progress.parts)
    try:
        clips = _write(output, identity, chosen, failed, rows)
    finally:
        rows.close()
    remove_parts(folder)
    return MergeReport(len(chosen), clips, len(failed), dropped)


def _newest(
    existing: FeatureStore | None, progress: Progress
) -> tuple[dict[str, _Video], dict[str, VideoFailure]]:
    """What is known of each path, by the newest that tells of it."""
    videos: dict[str, _Video] = {}
    failures: dict[str, VideoFailure] = {}
    base = 0
    if existing is not None:
        base = 1
        videos = _videos_of(existing, 0)
        failures = {failure.path: failure for failure in existing.errors}
    for path, failure in progress.failures.items():
        failures[path] = failure
        old = videos.get(path)
        if old is not None and not old.record.same_file(failure.size_bytes, failure.mtime_ns):
            del videos[path]  # the file changed since, and what it is now cannot be read
    for path, video in progress.finished.items():
        pieces = tuple(piece._replace(source=piece.source + base) for piece in video.pieces)
        videos[path] = _Video(video.record, pieces)
        if path not in progress.failures:
            failures.pop(path, None)
    return videos, failures


def _videos_of(store: FeatureStore, source: int) -> dict[str, _Video]:
    offsets, counts = (store.videos[name].tolist() for name in ("offset", "count"))
    return {
        record.path: _Video(record, (Piece(source, offset, count),) if count else ())
        for record, offset, count in zip(store.records(), offsets, counts, strict=True)
    }


def _write(
    output: Path,
    identity: RunIdentity,
    videos: Sequence[_Video],
    failures: Sequence[VideoFailure],
    rows: Rows,
) -> int:
    counts = [sum(piece.num_rows for piece in video.pieces) for video in videos]
    records = [video.record for video in videos]
    step = max(1, _BLOCK_BYTES // (identity.dimension * 4))
    with writing_store(output, identity, records, counts, failures) as writer:
        for source, first, count in _runs(piece for video in videos for piece in video.pieces):
            for at in range(first, first + count, step):
                block = rows.read(source, at, min(step, first + count - at))
                writer.append(block.vectors, block.start_seconds, block.end_seconds)
    return sum(counts)


def _runs(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Pieces that follow each other in one file, as one."""
    run: Piece | None = None
    for piece in pieces:
        if run and run.source == piece.source and run.first_row + run.num_rows == piece.first_row:
            run = run._replace(num_rows=run.num_rows + piece.num_rows)
            continue
        if run:
            yield run
        run = piece
    if run:
        yield run


# ---------------------------------------------------------------------- shards


def merge_stores(
    inputs: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    overwrite: bool = False,
) -> MergeReport:
    """Put the feature files of the shards of one run into one file.

    Args:
        inputs: the files; their order is of no consequence.
        output: the new file.
        overwrite: replace a file that is there.

    Raises:
        FingerprintError: the files were made otherwise than the first.
        StoreError: a path is in several files, or the output is there already.
        UsageError: no input, or the output is one of them.
        LockedError: another run is writing the output.
        OSError: as writing does; nothing is then changed.
    """
    output = Path(output)
    if not inputs:
        raise UsageError("no feature file to merge: give those of all shards")
    if any(Path(path).resolve() == output.resolve() for path in inputs):
        raise UsageError(f"{output} is one of the files to merge: choose another output with -o")
    with ExitStack() as stack:
        stores = [stack.enter_context(FeatureStore(path)) for path in inputs]
        identity = stores[0].identity
        for store in stores[1:]:
            require_same_run(
                store.identity,
                identity,
                f"{store.path} (beside {stores[0].path})",
                "merge the shards of one run only",
            )
        stack.enter_context(OutputLock(output))
        if output.exists() and not overwrite:
            raise StoreError(
                f"{output} is there already: give --overwrite to replace it, or another output "
                "with -o"
            )
        sweep_leftovers(output)
        _refuse_duplicates(stores)
        videos: dict[str, _Video] = {}
        failures: list[VideoFailure] = []
        for source, store in enumerate(stores):
            videos |= _videos_of(store, source)
            failures += store.errors
        chosen = [videos[path] for path in sorted(videos)]
        clips = _write(output, identity, chosen, failures, Rows(stores))
        return MergeReport(len(chosen), clips, len(failures), 0)


def _refuse_duplicates(stores: Sequence[FeatureStore]) -> None:
    """A path in two shards means that they are not of one division of the videos."""
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
            f"videos are in several files: {', '.join(twice[:3])}{more}; merge shards that were "
            "divided by one --shard K/N over one list"
        )
