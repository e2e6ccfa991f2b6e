"""What an earlier run has done already, and what is left to do."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from vidfeat.errors import StoreError
from vidfeat.store.parts_summary import Progress
from vidfeat.store.reader import FeatureStore
from vidfeat.store.records import VideoFailure, VideoRecord
from vidfeat.system.identities import identity_to_path, path_to_identity
from vidfeat.video.decode.tasks import VideoTask
from vidfeat.video.listing import ListedVideo

# Failures that may have been the machine's and not the file's: tried once more by themselves.
_TRIED_TWICE = frozenset({"timeout", "crashed", "memory"})
# Failures that say nothing about the next time.
_TRIED_ALWAYS = frozenset({"gone"})


@dataclass(frozen=True)
class Todo:
    """A video that is to be decoded."""

    video: ListedVideo
    task: VideoTask
    tries: int
    """How often it has been tried and failed before, unchanged."""


@dataclass(frozen=True)
class WorkPlan:
    """What a run has to do, and what it may leave."""

    todo: tuple[Todo, ...]
    reused_videos: int = 0
    reused_clips: int = 0
    remembered: tuple[VideoFailure, ...] = field(default=())
    """Failures of unchanged files, which are not tried again."""


def plan_work(
    videos: Iterable[ListedVideo],
    progress: Progress,
    existing: FeatureStore | None,
    *,
    retry_errors: bool = False,
) -> WorkPlan:
    """Compare the videos of a run with what is there, by path, size and time of change."""
    done: dict[str, tuple[VideoRecord, int]] = {}
    failed: dict[str, VideoFailure] = {}
    if existing is not None:
        counts = existing.videos["count"].tolist()
        records = existing.records()
        done = {record.path: (record, n) for record, n in zip(records, counts, strict=True)}
        failed = {failure.path: failure for failure in existing.errors}
    for path, finished in progress.finished.items():
        done[path] = (finished.record, finished.count)
        failed.pop(path, None)
    failed |= progress.failures
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
            todo.append(_todo(video, progress, failure))
            continue
        if failure is not None:
            remembered.append(failure)
    return WorkPlan(tuple(todo), reused_videos, reused_clips, tuple(remembered))


def _worth_a_try(failure: VideoFailure) -> bool:
    return failure.kind in _TRIED_ALWAYS or (failure.kind in _TRIED_TWICE and failure.tries < 2)


def _todo(video: ListedVideo, progress: Progress, failure: VideoFailure | None) -> Todo:
    task = VideoTask(video.path, video.stretches)
    partial = progress.partial.get(video.identity)
    if partial is not None and partial.record.same_file(video.size_bytes, video.mtime_ns):
        task = VideoTask(video.path, video.stretches, partial.next_clip, partial.attempt)
    return Todo(video, task, 0 if failure is None else failure.tries)


def check_root(existing: FeatureStore | None, root: str) -> None:
    """Refuse to go on with a file from another root whose videos are not below this one.

    The file may have moved with its videos: then they are all found. If not, the run would take
    them for gone, and drop hours of work for a slip in the command.

    Raises:
        StoreError: names both roots and what to do.
    """
    if existing is None or existing.source_root in ("", path_to_identity(root)):
        return
    missing = [name for name in existing.paths if not is_there(root, name)]
    if missing:
        raise StoreError(
            f"{existing.path} was made from {existing.source_root}, and {len(missing)} of its "
            f"{len(existing.paths)} videos are not below {path_to_identity(root)}: give "
            f"--root {existing.source_root} to add to it, another output with -o, or --overwrite"
        )


def is_there(root: str, identity: str) -> bool:
    """Whether a video of the file still exists below the root."""
    return os.path.lexists(os.path.join(root, identity_to_path(identity)))  # noqa: PTH118
