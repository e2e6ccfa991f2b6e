"""Summary of a folder of parts: which videos are finished, begun, or failed."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from vidfeat.store.parts import DamagedPartError, PartHeader, read_header, read_run
from vidfeat.store.records import RunIdentity, VideoFailure, VideoRecord
from vidfeat.system.files import TEMPORARY_MARK


class RowRange(NamedTuple):
    """Consecutive rows of one file."""

    source: int
    """Index in ``PartsSummary.parts``."""
    first_row: int
    num_rows: int


@dataclass(slots=True)  # not frozen: creating a million of them would take three times as long
class FinishedVideo:
    """A video all of whose clips are in parts."""

    attempt: str
    count: int
    """Clips."""
    pieces: tuple[RowRange, ...]
    """Its rows, in time order."""
    header: PartHeader
    """The part with its last segment."""
    index: int
    """Index of that segment there."""

    @property
    def record(self) -> VideoRecord:
        """The video, as it was read."""
        return self.header.record(self.index)


@dataclass(frozen=True, slots=True)
class PartialVideo:
    """A video whose first clips are in parts."""

    attempt: str
    record: VideoRecord
    next_clip: int
    """Number of the first clip that is missing."""
    carrier: PartHeader | None = None
    """The part that carries over the frames that its clips from there on need."""


@dataclass(frozen=True)
class PartsSummary:
    """What a folder of parts holds."""

    finished: dict[str, FinishedVideo] = field(default_factory=dict)
    partial: dict[str, PartialVideo] = field(default_factory=dict)
    """The newest attempts that did not finish; a path may be finished (by an older
    attempt) and started again."""
    failures: dict[str, VideoFailure] = field(default_factory=dict)
    """The newest failure of each path, unless the video was finished since."""
    parts: tuple[PartHeader, ...] = ()
    warnings: tuple[str, ...] = ()
    """One line for each damaged part that was dropped."""

    @property
    def next_number(self) -> int:
        """The number for the next part."""
        return max((part.number for part in self.parts), default=-1) + 1

    @property
    def num_clips(self) -> int:
        """Clips of the finished videos."""
        return sum(video.count for video in self.finished.values())


@contextmanager
def collector_paused() -> Iterator[None]:
    """Disable the cycle collector while millions of lasting small objects are created.

    It would traverse all of them again and again, which takes longer than creating them.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def scan_parts(folder: Path, *, sweep: bool = True) -> PartsSummary:
    """Read the headers of all parts.

    Args:
        folder: folder of the parts; a missing one counts as empty.
        sweep: remove temporary files and damaged parts; only for the holder of the output's lock.

    Raises:
        StoreError: the folder has no ``run.json`` that can be read.
        OSError: a part cannot be read.
    """
    if not folder.is_dir():
        return PartsSummary()
    with collector_paused():
        headers, warnings = _read_headers(folder, read_run(folder), sweep)
        return summarize(headers, warnings)


def _read_headers(
    folder: Path, run: RunIdentity, sweep: bool
) -> tuple[list[PartHeader], list[str]]:
    """The headers of the complete parts, oldest first, and one line for each other one."""
    headers, warnings = [], []
    for file in sorted(folder.iterdir()):
        if TEMPORARY_MARK in file.name:
            if sweep:
                file.unlink(missing_ok=True)
            continue
        if file.suffix != ".part":
            continue
        try:
            header = read_header(file)
            if (header.dimension, header.dtype) != (run.dimension, run.dtype):
                raise DamagedPartError(
                    f"{file} has vectors of {header.dimension} {header.dtype}, the run of "
                    f"{run.dimension} {run.dtype}"
                )
        except DamagedPartError as error:
            warnings.append(f"{error}: dropped, its videos will be read again")
            if sweep:
                file.unlink(missing_ok=True)
            continue
        headers.append(header)
    headers.sort(key=lambda header: (header.number, header.file.name))
    return headers, warnings


class _Placed(NamedTuple):
    """A segment, and its place."""

    order: int
    """Index of its part: newer parts have higher ones."""
    row: int
    """Its first row there."""
    number: int
    """Its number among the segments there."""
    attempt: str
    first_clip: int
    clips: int
    complete: bool


def summarize(headers: Iterable[PartHeader], warnings: Iterable[str] = ()) -> PartsSummary:
    """The state of every video, from the headers of the parts, oldest first."""
    summary = PartsSummary(parts=tuple(headers), warnings=tuple(warnings))
    failures: dict[str, tuple[int, VideoFailure]] = {}
    for order, part in enumerate(summary.parts):
        for failure in part.failures:
            failures[failure.path] = (order, failure)

    for path, segments in _by_path(summary.parts).items():
        ended, finished, partial = _resolve(summary.parts, segments)
        if finished is not None and path in failures:
            failed, failure = failures[path]
            if failed < ended:
                del failures[path]  # read since
            elif failed > ended and not finished.record.same_file(
                failure.size_bytes, failure.mtime_ns
            ):
                finished = None  # the file changed since, and what it is now cannot be read
        if finished is not None:
            summary.finished[path] = finished
        if partial is not None:
            summary.partial[path] = partial
    summary.failures.update({path: failure for path, (_, failure) in failures.items()})
    return summary


def _by_path(parts: Iterable[PartHeader]) -> dict[str, list[_Placed]]:
    """The segments of each video, oldest first."""
    placed: dict[str, list[_Placed]] = {}
    for order, part in enumerate(parts):
        row = 0
        columns = [part.columns[name] for name in ("path", "attempt", "first_clip", "count")]
        rows = zip(*columns, part.columns["complete"], strict=True)
        for index, (path, attempt, first, clips, complete) in enumerate(rows):
            here = _Placed(order, row, index, attempt, first, clips, complete)
            if path not in placed or (complete and not first):
                placed[path] = [here]  # earlier ones no longer matter
            else:
                placed[path].append(here)
            row += clips
    return placed


def _resolve(
    parts: Sequence[PartHeader], segments: list[_Placed]
) -> tuple[int, FinishedVideo | None, PartialVideo | None]:
    """The part that finished a video, its rows, and what a newer attempt has so far."""
    last = segments[-1]
    if len(segments) == 1 and last.complete and not last.first_clip:  # nearly every video
        whole = (RowRange(last.order, last.row, last.clips),) if last.clips else ()
        header = parts[last.order]
        return last.order, FinishedVideo(last.attempt, last.clips, whole, header, last.number), None
    finished = None
    ended = -1
    newest = next((placed for placed in reversed(segments) if placed.complete), None)
    if newest is not None:
        total = newest.first_clip + newest.clips
        pieces, reached = _chain(segments, newest.attempt, total)
        if reached == total:  # no part between has been lost
            ended = newest.order
            finished = FinishedVideo(newest.attempt, total, pieces, parts[ended], newest.number)
            if last.attempt == newest.attempt:
                return ended, finished, None
    _, reached = _chain(segments, last.attempt, None)
    record = parts[last.order].record(last.number)
    carrier = _carrier(parts, segments, (record.path, last.attempt, reached))
    return ended, finished, PartialVideo(last.attempt, record, reached, carrier)


def _carrier(
    parts: Sequence[PartHeader], segments: list[_Placed], wanted: tuple[str, str, int]
) -> PartHeader | None:
    """The newest part that carries frames of a video on to the clip that it has reached."""
    for placed in reversed(segments):
        carried = parts[placed.order].carried
        if carried and (carried.path, carried.attempt, carried.next_clip) == wanted:
            return parts[placed.order]
    return None


def _chain(
    segments: list[_Placed], attempt: str, total: int | None
) -> tuple[tuple[RowRange, ...], int]:
    """Rows of one attempt from clip 0 on without a gap, up to ``total``, and the clip reached.

    Where segments overlap (work that was done twice), the newest one that has the clip counts.
    """
    own = [placed for placed in segments if placed.attempt == attempt]
    pieces: list[RowRange] = []
    reached = 0
    while total is None or reached < total:
        best: _Placed | None = None
        for placed in own:
            if placed.first_clip <= reached < placed.first_clip + placed.clips:
                best = placed  # the last is the newest
        if best is None:
            break
        skip = reached - best.first_clip
        clips = best.clips - skip
        if total is not None:
            clips = min(clips, total - reached)
        pieces.append(RowRange(best.order, best.row + skip, clips))
        reached += clips
    return tuple(pieces), reached


@dataclass(frozen=True)
class Thinned:
    """A video without the clips whose vectors are not finite."""

    pieces: tuple[RowRange, ...]
    """Its other rows; empty if there are none."""
    failure: VideoFailure
    """The failure that reports the clips left out."""


def without_bad_rows(summary: PartsSummary) -> dict[str, Thinned]:
    """The finished videos with vectors that hold NaN or infinity, as they go into the feature file.

    The parts record which rows these are, and keep them, so that a resumed run makes the same
    batches.
    """
    bad = {order: part.not_finite for order, part in enumerate(summary.parts) if part.not_finite}
    found: dict[str, Thinned] = {}
    for path, video in summary.finished.items() if bad else ():
        pieces = tuple(good for piece in video.pieces for good in _good_rows(piece, bad))
        kept = sum(piece.num_rows for piece in pieces)
        if kept == video.count:
            continue
        message = (
            f"the vectors of {video.count - kept} of {video.count} clips are NaN or infinite and "
            "are left out: the network's weights are damaged, or the precision does not suffice"
        )
        known = summary.failures.get(path)
        record = video.record
        failure = VideoFailure(
            path=path,
            message=message if known is None else f"{known.message}; {message}",
            kind="not_finite",
            size_bytes=record.size_bytes,
            mtime_ns=record.mtime_ns,
            tries=1 if known is None else known.tries,
        )
        found[path] = Thinned(pieces, failure)
    return found


def _good_rows(piece: RowRange, bad: dict[int, tuple[int, ...]]) -> Iterator[RowRange]:
    """A piece cut around its bad rows."""
    first, stop = piece.first_row, piece.first_row + piece.num_rows
    for row in bad.get(piece.source, ()):
        if first <= row < stop:
            if row > first:
                yield RowRange(piece.source, first, row - first)
            first = row + 1
    if stop > first:
        yield RowRange(piece.source, first, stop - first)
