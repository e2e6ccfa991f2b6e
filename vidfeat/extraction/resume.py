"""What an earlier run has done, and what is left to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from vidfeat.encoders.rows import RowLayout
from vidfeat.errors import StoreError
from vidfeat.extraction.places import Places
from vidfeat.store.parts import RUN_FILE, PartHeader, read_run
from vidfeat.store.parts_summary import PartsSummary, scan_parts
from vidfeat.store.reader import FeatureStore
from vidfeat.store.records import VideoFailure, VideoRecord
from vidfeat.system.urls import stored_root
from vidfeat.video.decode.tasks import VideoTask
from vidfeat.video.listing import ListedVideo

# Failures that may be due to the machine and not the file: tried once more automatically.
_TRIED_TWICE = frozenset({"timeout", "crashed", "memory"})
# Failures that do not predict the next attempt.
_TRIED_ALWAYS = frozenset({"gone", "network"})


@dataclass(frozen=True)
class Todo:
    """A video to decode."""

    video: ListedVideo
    task: VideoTask
    tries: int
    """How often it has been tried and failed before, unchanged."""
    carrier: PartHeader | None = None
    """The part with frames of it that are encoded already, for clips that are not finished."""


@dataclass(frozen=True)
class WorkPlan:
    """What a run has to do, and what it can reuse."""

    todo: tuple[Todo, ...]
    reused_videos: int = 0
    reused_clips: int = 0
    remembered: tuple[VideoFailure, ...] = field(default=())
    """Failures of unchanged files, which are not tried again."""


def plan_work(
    videos: Iterable[ListedVideo],
    summary: PartsSummary,
    existing: FeatureStore | None,
    *,
    retry_errors: bool = False,
    rows: RowLayout | None = None,
) -> WorkPlan:
    """Compare the videos of a run with existing results, by path, size and modification time.

    Args:
        videos: the videos of the run.
        summary: what its parts hold.
        existing: the existing feature file.
        retry_errors: try unchanged files again that failed before.
        rows: how clips become rows; None takes one row per clip.
    """
    rows = rows or RowLayout()
    done: dict[str, tuple[VideoRecord, int]] = {}
    failed: dict[str, VideoFailure] = {}
    if existing is not None:
        counts = existing.videos["count"].tolist()
        records = existing.records()
        done = {record.path: (record, n) for record, n in zip(records, counts, strict=True)}
        failed = {failure.path: failure for failure in existing.errors}
    for path, finished in summary.finished.items():
        done[path] = (finished.record, finished.count)
        failed.pop(path, None)
    failed |= summary.failures
    todo: list[Todo] = []
    remembered: list[VideoFailure] = []
    reused_videos = reused_clips = 0
    for video in videos:
        failure = failed.get(video.identity)
        if failure is not None and not failure.same_file(video.size_bytes, video.mtime_ns):
            failure = None
        again = failure is not None and (retry_errors or _worth_a_try(failure))
        had = done.get(video.identity)
        if had is not None and not again and had[0].same_file(video.size_bytes, video.mtime_ns):
            reused_videos += 1
            reused_clips += had[1]
        elif failure is None or again:
            todo.append(_todo(video, summary, failure, rows))
            continue
        if failure is not None:
            remembered.append(failure)
    return WorkPlan(tuple(todo), reused_videos, reused_clips, tuple(remembered))


def _worth_a_try(failure: VideoFailure) -> bool:
    return failure.kind in _TRIED_ALWAYS or (failure.kind in _TRIED_TWICE and failure.tries < 2)


def _todo(
    video: ListedVideo, summary: PartsSummary, failure: VideoFailure | None, rows: RowLayout
) -> Todo:
    tries = 0 if failure is None else failure.tries
    partial = summary.partial.get(video.identity)
    if partial is None or not partial.record.same_file(video.size_bytes, video.mtime_ns):
        return Todo(video, VideoTask.of(video), tries)
    carrier, first = partial.carrier, partial.next_clip // rows.rows_per_clip
    if rows.aggregate is not None:  # frames arrive instead of clips
        first = 0 if carrier is None or carrier.carried is None else carrier.carried.next_frame
    task = VideoTask.of(video, first_clip=first, first_attempt=partial.attempt)
    return Todo(video, task, tries, carrier)


def check_root(existing: FeatureStore | None, places: Places) -> None:
    """Refuse to resume a file from another root, unless its videos have moved to this one.

    Moved videos are all found below the new root, each with its old size and modification time;
    copies have other times, and count as the same if the old root is gone. Otherwise they are other
    videos, and a slip in the command would drop the videos of the file, or replace them with others
    of the same name.

    Raises:
        StoreError: the videos are different; the message names both roots and what to do.
    """
    if existing is None or existing.source_root in ("", stored_root(places.root)):
        return
    stamps = (existing.videos[name].tolist() for name in ("size_bytes", "mtime_ns"))
    videos = dict(zip(existing.paths, zip(*stamps, strict=True), strict=True))
    failures = {f.path: (f.size_bytes, f.mtime_ns) for f in existing.errors}
    _refuse_others(str(existing.path), existing.source_root, places, videos, failures)


def check_parts_root(folder: Path, places: Places) -> None:
    """Like :func:`check_root`, for the parts of an unfinished run.

    Raises:
        StoreError: as for :func:`check_root`; or the parts cannot be read.
    """
    if not (folder / RUN_FILE).is_file():
        return
    made_from = read_run(folder).source_root
    if made_from in ("", stored_root(places.root)):
        return
    summary = scan_parts(folder, sweep=False)
    videos = {
        path: (video.record.size_bytes, video.record.mtime_ns)
        for path, video in summary.finished.items()
    }
    failures = {path: (f.size_bytes, f.mtime_ns) for path, f in summary.failures.items()}
    _refuse_others(str(folder), made_from, places, videos, failures)


def _refuse_others(
    where: str,
    made_from: str,
    places: Places,
    videos: dict[str, tuple[int, int]],
    failures: dict[str, tuple[int, int]],
) -> None:
    """Raise if videos, by path with size and modification time, are not those below a root."""
    stamps = failures | videos
    places.look(stamps)
    missing = [name for name in videos if not places.has(name)]
    others = [name for name, stamp in stamps.items() if places.is_other(name, stamp, made_from)]
    if not missing and not others:
        return
    new = stored_root(places.root)
    reason = f"{len(missing)} of its {len(videos)} videos are not below {new}"
    if not missing:
        reason = f"{len(others)} of its {len(stamps)} videos are different ones below {new}"
        reason += f", such as {others[0]}"
    raise StoreError(
        f"{where} was made from {made_from}, and {reason}: give root={made_from} to add to it, "
        "another output, or overwrite=True"
    )
