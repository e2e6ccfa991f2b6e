"""A folder of videos to one feature file: the main job.

list -> compare with existing results -> decode (processes) -> batches -> network -> parts -> merge

Whatever ends a run, finished parts stay, and the same command continues from them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidfeat.encoders.encoder import Encoder
from vidfeat.errors import NothingDoneError, StoppedError, StoreError
from vidfeat.extraction.journal import inputs_in_journal
from vidfeat.extraction.options import ExtractOptions
from vidfeat.extraction.places import Places
from vidfeat.extraction.report import ExtractProgress, ExtractReport
from vidfeat.extraction.resume import (
    check_parts_root,
    check_root,
    plan_work,
)
from vidfeat.extraction.steps import Run, part_inputs
from vidfeat.extraction.stopping import Stop
from vidfeat.store.merge import merge_parts
from vidfeat.store.parts import open_parts, parts_folder, remove_parts
from vidfeat.store.parts_summary import scan_parts, without_bad_rows
from vidfeat.store.reader import FeatureStore
from vidfeat.store.records import RunIdentity, VideoFailure, require_same_run
from vidfeat.store.shards import joined
from vidfeat.system.lock import OutputLock
from vidfeat.system.urls import stored_root
from vidfeat.system.wording import counted
from vidfeat.video.listing import Listing, list_videos

# Failures of videos whose readable clips are in the file.
KEPT_KINDS = frozenset({"damaged", "segment"})


def extract(
    inputs: Listing | str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    encoder: Encoder,
    *,
    root: str | os.PathLike[str] | None = None,
    segments: str | os.PathLike[str] | None = None,
    options: ExtractOptions | None = None,
    progress: Callable[[ExtractProgress], None] | None = None,
    on_failure: Callable[[VideoFailure], None] | None = None,
    work: Callable[[Run, Path, int], None] | None = None,
    stop: Stop | None = None,
) -> ExtractReport:
    """Write the embeddings of all clips of all videos to a feature file.

    A run on an existing output continues it: its unchanged videos are not read again. Videos that
    have disappeared from below the root are dropped from it.

    Args:
        inputs: folders (searched through) and files, or what :func:`list_videos` made of them.
        output: the feature file.
        encoder: what turns clips into vectors, with the plan of the clips.
        root: what the paths in the file are relative to.
        segments: a CSV of segments (path, start_seconds, end_seconds) to lay clips over.
        options: how to do the work.
        progress: called a few times a second.
        on_failure: called for each video that could not be read.
        work: does the work of a run, into a folder of parts, from a part number on; None does it in
            this process.
        stop: ends the run at the next batch boundary when asked.

    Returns:
        What was done, with the failures of this run and those remembered.

    Raises:
        UsageError: invalid inputs, or inputs without a video; or the encoder is in use by extract
            in another thread.
        StoreError: the output is not a feature file, was made with other settings, or is being
            written by another run.
        NothingDoneError: every video failed. (A shard writes its errors nevertheless: other shards
            may have readable videos.)
        StoppedError: ``stop`` was asked; finished work is in the parts, and the same call resumes
            to the same bits.
    """
    options = options or ExtractOptions()
    if isinstance(inputs, (str, os.PathLike)):
        inputs = [inputs]
    frames = encoder.plan.frames_fps is not None
    listing = (
        inputs
        if isinstance(inputs, Listing)
        else list_videos(inputs, root, segments, frames=frames)
    )
    division = ""
    if options.shard is not None:
        division = listing.digest
        listing = listing.shard(*options.shard)
    places = Places(listing)
    target = Path(output)
    check_output(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    identity = replace(_identity(encoder, options, listing, segments), division=division)
    with ExitStack() as stack:
        stack.enter_context(encoder.claimed())
        stack.enter_context(OutputLock(target))
        existing = _existing(stack, target, identity, options, places)
        if existing is not None:
            identity = replace(identity, shards=joined(existing.identity, identity))
        if not options.overwrite:
            check_parts_root(parts_folder(target), places)
        folder = open_parts(target, identity, overwrite=options.overwrite)
        begun = scan_parts(folder)
        encoded_before = inputs_in_journal(folder)
        plan = plan_work(
            listing.videos,
            begun,
            existing,
            retry_errors=options.retry_errors,
            rows=encoder.spec.rows,
        )
        run = Run(encoder, options, plan, progress, on_failure, stop)
        run.report.videos_listed = len(listing.videos)
        run.report.notes += [*listing.notes, *begun.warnings]
        run.report.clips_lost = max(0, encoded_before - sum(part.inputs for part in begun.parts))
        for failure in plan.remembered:
            run.note_failure(failure)
        if plan.todo:
            try:
                (work or Run.work)(run, folder, begun.next_number)
            except OSError as error:
                raise _with_remedy(error, target, _part_bytes(encoder, options)) from error
            run.note_traffic()
            if run.stopped:
                raise StoppedError(f"stopped: {_kept_parts(folder)}", run.stop.signal_number)
        listed = {video.identity for video in listing.videos}
        done = scan_parts(folder)
        thinned = without_bad_rows(done)
        places.look([*thinned, *done.finished, *(existing.paths if existing else ())])
        for path in sorted(thinned):
            if path in listed or places.has(path):
                run.note_failure(thinned[path].failure)
        failed = {failure.path for failure in run.report.failures}
        good = sum(video.identity not in failed for video in listing.videos)
        good += sum(
            failure.kind in KEPT_KINDS and failure.path not in thinned
            for failure in run.report.failures
        )
        good += sum(bool(video.pieces) for video in thinned.values())
        good += sum(_kept(existing, failure) for failure in plan.remembered)
        if listing.videos and not good and options.shard is None:
            remove_parts(folder)
            raise NothingDoneError(
                f"{_all(len(listing.videos))} failed, no file was written; the first: "
                f"{run.report.failures[0].path}: {run.report.failures[0].message}"
            )
        try:
            merged = merge_parts(
                target,
                folder,
                existing,
                keep=lambda name: name in listed or places.has(name),
                summary=done,
            )
        except OSError as error:
            needed = sum(part.size_bytes for part in done.parts)
            needed += target.stat().st_size if target.exists() else 0
            raise _with_remedy(error, target, needed) from error
        run.report.finish(merged)
    return run.report


def check_output(target: Path) -> None:
    """Refuse an output that would have to be destroyed; fast, and before any work.

    Raises:
        StoreError: a folder, or a file that is not a feature file: neither is ever replaced.
    """
    if target.is_dir():
        raise StoreError(f"{target} is a folder: name a file, such as {target / 'features.h5'}")
    if target.exists():
        FeatureStore(target).close()


def _identity(
    encoder: Encoder, options: ExtractOptions, listing: Listing, segments: Any
) -> RunIdentity:
    described = encoder.describe()
    laid = None
    if segments is not None:
        laid = hashlib.sha256(Path(segments).read_bytes()).hexdigest()
        described["segments_sha256"] = laid
    elif listing.laid_by:
        laid = hashlib.sha256(listing.laid_by.encode()).hexdigest()
        described["clips_by"] = listing.laid_by
    shard = options.shard
    return RunIdentity(
        shards="" if shard is None else f"{shard[0]}/{shard[1]}",
        encoder=described,
        space_fingerprint=encoder.space_fingerprint,
        run_fingerprint=encoder.spec.run_fingerprint_with(laid),
        dimension=encoder.dimension,
        dtype=options.dtype,
        source_root=stored_root(listing.root),
    )


def _existing(
    stack: ExitStack,
    target: Path,
    identity: RunIdentity,
    options: ExtractOptions,
    places: Places,
) -> FeatureStore | None:
    """The existing feature file that will be continued.

    Raises:
        StoreError: it is not a feature file; it is never replaced.
    """
    if not target.exists():
        return None
    existing = stack.enter_context(FeatureStore(target))
    if options.overwrite:
        return None
    require_same_run(existing.identity, identity, str(target))
    check_root(existing, places)
    return existing


def _kept(existing: FeatureStore | None, failure: VideoFailure) -> bool:
    """Whether a video that failed partly has clips in the file of an earlier run."""
    return failure.kind == "not_finite" and existing is not None and failure.path in existing.paths


def _with_remedy(error: OSError, target: Path, needed_bytes: int) -> Exception:
    """The error for a full disk: how much is missing for the next write, and what is kept."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return error
    folder = parts_folder(target)
    missing = ""
    if error.errno == errno.ENOSPC:
        lacking = needed_bytes - shutil.disk_usage(folder.parent).free
        if lacking > 0:
            missing = f" ({lacking:,} bytes more are needed for the next step)"
    return StoreError(
        f"{folder.parent}: {error.strerror}{missing}: make room and run the same command again; "
        f"{_kept_parts(folder)}"
    )


def _all(count: int) -> str:
    return "the only video" if count == 1 else f"all {count:,} videos"


def _kept_parts(folder: Path) -> str:
    """What is kept for a later run, in words."""
    progress = scan_parts(folder, sweep=False)
    clips = sum(part.rows for part in progress.parts)
    return (
        f"kept in {folder}: {counted(len(progress.parts), 'part')} with {counted(clips, 'clip')}, "
        f"{counted(len(progress.finished), 'whole video')}; the same command resumes from there"
    )


def _part_bytes(encoder: Encoder, options: ExtractOptions) -> int:
    """Bytes of a full part, with its seconds and the names of its videos."""
    width = encoder.dimension * (2 if options.dtype == "float16" else 4)
    return part_inputs(encoder, options) * (width * encoder.spec.time_steps + 16) + (64 << 10)


def lacking_bytes(target: Path, listing: Listing, clips: int, dimension: int, dtype: str) -> int:
    """Bytes that the disk of an output lacks for a run: its parts, and the file made from them.

    Args:
        target: the feature file.
        listing: the videos.
        clips: the estimated number of clips of all videos.
        dimension: length of a vector.
        dtype: type of the vectors in the file.

    Returns:
        0 or less if there is room.
    """
    width = dimension * (2 if dtype == "float16" else 4)
    needed = 2 * (clips * (width + 24) + len(listing.videos) * 160)
    folder = target.parent if target.parent.is_dir() else Path.cwd()
    return needed - shutil.disk_usage(folder).free
