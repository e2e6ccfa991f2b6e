"""A folder of videos to one feature file: the main job.

list -> compare with what is there -> decode (processes) -> batches -> network -> parts -> merge

Whatever ends a run, finished parts stay, and the same command continues from them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from vidfeat.encoders.encoder import Encoder
from vidfeat.encoders.engines.base import Engine
from vidfeat.encoders.engines.batches import Pin
from vidfeat.encoders.engines.feeds import feed_of
from vidfeat.errors import NothingDoneError, StoppedError, StoreError, UsageError, VideoError
from vidfeat.extraction.assembly import Assembly, AssemblyStats, clips_in_journal
from vidfeat.extraction.report import ExtractProgress, ExtractReport, Meter
from vidfeat.extraction.resume import (
    Todo,
    WorkPlan,
    check_parts_root,
    check_root,
    is_there,
    plan_work,
)
from vidfeat.extraction.stopping import Stop
from vidfeat.store.merge import merge_parts
from vidfeat.store.parts import open_parts, parts_folder, remove_parts
from vidfeat.store.parts_summary import scan_parts, without_bad_rows
from vidfeat.store.reader import FeatureStore
from vidfeat.store.records import RunIdentity, VectorType, VideoFailure, require_same_run
from vidfeat.store.shards import joined
from vidfeat.system.identities import path_to_identity
from vidfeat.system.lock import OutputLock
from vidfeat.video.clip_plan import describe_behind_end, stretches_behind_end
from vidfeat.video.clips import Clip
from vidfeat.video.decode.decoder import Decoder, make_decoder
from vidfeat.video.decode.pool import DEFAULT_TIMEOUT_SECONDS
from vidfeat.video.decode.tasks import ClipSource, Event, Finished, Started
from vidfeat.video.listing import ListedVideo, Listing, list_videos, total_bytes
from vidfeat.video.reader import Limits, VideoInfo

_PART_SECONDS = 30.0
_PART_BYTES = 64 << 20
# Of small frames; a constant, so that two runs of one command cut the same parts.
DECODED_FRAMES_PER_WORKER = 1000.0
# A card's processes each make a CUDA context first: less than this is sooner done without.
_CARD_BYTES = 64 << 20
# Failures of videos of which the clips that could be made are in the file.
KEPT_KINDS = frozenset({"damaged", "segment"})


@dataclass(frozen=True)
class ExtractOptions:
    """How a run goes about it; none of these changes a vector."""

    workers: int | None = None
    """Decode processes; None takes one for each processor, 0 decodes in this process."""
    buffer_bytes: int | None = None
    """Memory for clips decoded ahead, over all processes; None takes 32 MB a process."""
    video_timeout: float = DEFAULT_TIMEOUT_SECONDS
    """Seconds without progress after which a video is given up."""
    limits: Limits = field(default_factory=Limits)
    dtype: VectorType = "float32"
    """Of the vectors in the file."""
    shard: tuple[int, int] | None = None
    """(k, n): only the k-th of n shards of the videos, counted from 1."""
    cards: tuple[int, ...] = ()
    """Numbers of cards whose video decoders (NVDEC) work beside the processors."""
    processes_per_card: int = 6
    """That feed a card's decoders; each takes part of a processor."""
    retry_errors: bool = False
    """Retry unchanged files that failed before."""
    overwrite: bool = False
    """Start again, even if the output exists."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 0:
            raise UsageError(f"workers must be 0 or more, not {self.workers}", field="workers")
        if self.buffer_bytes is not None and self.buffer_bytes < 1:
            raise UsageError("buffer_bytes must be above 0", field="buffer_bytes")
        if not self.video_timeout > 0:
            raise UsageError(
                f"video_timeout must be above 0, not {self.video_timeout}", field="video_timeout"
            )
        if self.processes_per_card < 1:
            raise UsageError(
                f"processes_per_card must be 1 or more, not {self.processes_per_card}",
                field="processes_per_card",
            )
        if self.cards and self.num_workers == 0:
            raise UsageError(
                "a card's decoders work beside decode processes: workers must be 1 or more",
                field="workers",
            )

    @property
    def num_workers(self) -> int:
        """Decode processes of this run."""
        return default_workers() if self.workers is None else self.workers


def default_workers() -> int:
    """One decode process for each processor that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


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

    A run on an output that is there continues it: videos that it has, unchanged, are not read
    again. Videos that have disappeared from below the root are dropped from it.

    Args:
        inputs: folders (searched through) and files, or what :func:`list_videos` made of them.
        output: the feature file.
        encoder: what turns clips into vectors, with the plan of the clips.
        root: what the paths in the file are relative to.
        segments: a CSV of stretches (path, start_seconds, end_seconds) to lay clips over.
        options: how to go about it.
        progress: called some times a second.
        on_failure: called for each video that could not be read.
        work: does what is to be done of a run, into a folder of parts, from a part number on;
            None does it in this process.
        stop: asks for the end at the next batch boundary.

    Returns:
        What was done, with the failures of this run and those remembered.

    Raises:
        UsageError: invalid inputs, or inputs without a video; or the encoder is at work for
            extract in another thread.
        StoreError: the output is no feature file, was made otherwise, or another run writes it.
        NothingDoneError: every video failed. (A shard writes its errors all the same: the others
            may hold videos.)
        StoppedError: ``stop`` was asked for; what was finished is in the parts, and the same call
            resumes to the same bits.
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
    target = Path(output)
    check_output(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    identity = replace(_identity(encoder, options, listing, segments), division=division)
    with ExitStack() as stack:
        stack.enter_context(encoder.claimed())
        stack.enter_context(OutputLock(target))
        existing = _existing(stack, target, identity, options, listing)
        if existing is not None:
            identity = replace(identity, shards=joined(existing.identity, identity))
        if not options.overwrite:
            check_parts_root(parts_folder(target), listing.root)
        folder = open_parts(target, identity, overwrite=options.overwrite)
        begun = scan_parts(folder)
        encoded_before = clips_in_journal(folder)
        plan = plan_work(listing.videos, begun, existing, retry_errors=options.retry_errors)
        run = Run(encoder, options, plan, progress, on_failure, stop)
        run.report.videos_listed = len(listing.videos)
        run.report.notes += [*listing.notes, *begun.warnings]
        run.report.clips_lost = max(0, encoded_before - sum(part.rows for part in begun.parts))
        for failure in plan.remembered:
            run.note_failure(failure)
        if plan.todo:
            try:
                (work or Run.work)(run, folder, begun.next_number)
            except OSError as error:
                raise _with_remedy(error, target, _part_bytes(encoder, options)) from error
            if run.stopped:
                raise StoppedError(f"stopped: {_kept_parts(folder)}", run.stop.signal_number)
        listed = {video.identity for video in listing.videos}
        done = scan_parts(folder)
        thinned = without_bad_rows(done)
        for path in sorted(thinned):
            if path in listed or is_there(listing.root, path):
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
                f"all {len(listing.videos)} videos failed, no file was written; the first: "
                f"{run.report.failures[0].path}: {run.report.failures[0].message}"
            )
        try:
            merged = merge_parts(
                target,
                folder,
                existing,
                keep=lambda name: name in listed or is_there(listing.root, name),
                summary=done,
            )
        except OSError as error:
            needed = sum(part.size_bytes for part in done.parts)
            needed += target.stat().st_size if target.exists() else 0
            raise _with_remedy(error, target, needed) from error
        run.report.finish(merged)
    return run.report


def check_output(target: Path) -> None:
    """Refuse an output that would have to be destroyed; quick, and before any work.

    Raises:
        StoreError: a folder, or a file that is no feature file: neither is ever replaced.
    """
    if target.is_dir():
        raise StoreError(f"{target} is a folder: name a file, as {target / 'features.h5'}")
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
        source_root=path_to_identity(listing.root),
    )


def _existing(
    stack: ExitStack,
    target: Path,
    identity: RunIdentity,
    options: ExtractOptions,
    listing: Listing,
) -> FeatureStore | None:
    """The feature file that is there and will be continued.

    Raises:
        StoreError: what is there is no feature file; it is never replaced.
    """
    if not target.exists():
        return None
    existing = stack.enter_context(FeatureStore(target))
    if options.overwrite:
        return None
    require_same_run(existing.identity, identity, str(target))
    check_root(existing, listing.root)
    return existing


def _kept(existing: FeatureStore | None, failure: VideoFailure) -> bool:
    """Whether a video that failed in part has clips in the file of an earlier run."""
    return failure.kind == "not_finite" and existing is not None and failure.path in existing.paths


def _with_remedy(error: OSError, target: Path, needed_bytes: int) -> Exception:
    """A full disk: how much is missing for what was to be written next, and what is kept."""
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


def _kept_parts(folder: Path) -> str:
    """What a later run finds."""
    progress = scan_parts(folder, sweep=False)
    clips = sum(part.rows for part in progress.parts)
    return (
        f"kept in {folder}: {len(progress.parts)} parts with {clips:,} clips, "
        f"{len(progress.finished):,} videos whole; the same command resumes from there"
    )


def _part_bytes(encoder: Encoder, options: ExtractOptions) -> int:
    """Of a full part, with its seconds and the names of its videos."""
    width = encoder.dimension * (2 if options.dtype == "float16" else 4)
    return part_clips(encoder, options) * (width + 16) + (64 << 10)


def lacking_bytes(target: Path, listing: Listing, clips: int, dimension: int, dtype: str) -> int:
    """Bytes that the disk of an output lacks for a run: its parts, and the file made of them.

    Args:
        target: the feature file.
        listing: the videos.
        clips: of them all, as estimated.
        dimension: of the vectors.
        dtype: of the vectors in the file.

    Returns:
        0 or less where there is room.
    """
    width = dimension * (2 if dtype == "float16" else 4)
    needed = 2 * (clips * (width + 24) + len(listing.videos) * 160)
    folder = target.parent if target.parent.is_dir() else Path.cwd()
    return needed - shutil.disk_usage(folder).free


class Run:
    """One run over what is to be done."""

    def __init__(
        self,
        encoder: Encoder,
        options: ExtractOptions,
        plan: WorkPlan,
        progress: Callable[[ExtractProgress], None] | None = None,
        on_failure: Callable[[VideoFailure], None] | None = None,
        stop: Stop | None = None,
    ) -> None:
        self.encoder = encoder
        self.stopped = False
        self.stop = stop or Stop()
        self.options = options
        self.todo = plan.todo
        planes = len(encoder.engines) == 1 and encoder.engine.takes_planes
        self.source = ClipSource(encoder.plan, encoder.preprocess, options.limits, planes)
        self.report = ExtractReport(
            videos_reused=plan.reused_videos,
            clips_reused=plan.reused_clips,
        )
        self.meter = Meter(len(plan.todo), total_bytes(item.video for item in plan.todo), progress)
        self._on_failure = on_failure
        self._info: VideoInfo | None = None  # of the video whose clips are coming

    def note_failure(self, failure: VideoFailure) -> None:
        """Report a failed video."""
        self.report.failures.append(failure)
        self.meter.failures += 1
        if self._on_failure is not None:
            self._on_failure(failure)

    def work(self, folder: Path, first_number: int) -> None:
        """Decode and encode all that is to be done, into parts."""
        for _ in self.steps(folder, first_number):
            pass

    def steps(
        self,
        folder: Path,
        first_number: int,
        *,
        name: str | None = None,
        decoder: Decoder | None = None,
    ) -> Iterator[AssemblyStats]:
        """The same step by step: yields after each event of the decoding.

        Args:
            folder: of the parts.
            first_number: of the first part.
            name: of the parts' files, in place of their numbers.
            decoder: decode processes that outlive this run; None starts and ends its own.
        """
        encoder = self.encoder
        feed = feed_of(encoder.engines, (encoder.batch_size, *self.source.clip_shape))
        assembly = Assembly(
            feed,
            folder,
            dimension=encoder.dimension,
            dtype=self.options.dtype,
            batch_size=encoder.batch_size,
            part_clips=part_clips(encoder, self.options),
            first_number=first_number,
            name=name,
        )
        began = time.monotonic()
        try:
            with ExitStack() as stack:
                for item, event in self._events(stack, decoder, feed.pin):
                    self._take(assembly, item, event)
                    self.meter.tick(assembly.stats)
                    if self.stop.asked and assembly.at_batch_boundary:
                        self.stopped = True
                        break
                    yield assembly.stats
                assembly.close()
        except BaseException:
            assembly.abort()
            raise
        self.meter.tick(assembly.stats, now=True)
        self.report.seconds = time.monotonic() - began
        self.report.assembly = asdict(assembly.stats)
        if self.report.decoding.card_trouble:
            self.report.notes.append(
                f"the card's video decoders were left out: {self.report.decoding.card_trouble}"
            )
        self.report.engine = engine_facts(encoder.engines)

    def decoder(self, tasks: int, pin: Pin | None = None) -> Decoder:
        """What decodes a number of videos, as the options say."""
        cards: tuple[int, ...] = ()
        if sum(max(0, item.video.size_bytes) for item in self.todo) >= _CARD_BYTES:
            cards = self.options.cards * self.options.processes_per_card
        return make_decoder(
            self.source,
            min(self.options.num_workers, max(2, tasks)),
            cards=cards,
            buffer_bytes=self.options.buffer_bytes,
            timeout_seconds=self.options.video_timeout,
            pin=pin,
        )

    def _events(
        self, stack: ExitStack, decoder: Decoder | None, pin: Pin | None
    ) -> Iterator[tuple[Todo, Event]]:
        """The events of all tasks, in order, each with what it belongs to."""
        tasks = [item.task for item in self.todo]
        if decoder is None:
            decoder = self.decoder(len(tasks), pin)
            stack.enter_context(decoder)
        self.report.decoding = decoder.stats
        place = 0
        for task, event in decoder.run(tasks):
            while self.todo[place].task is not task:
                place += 1
            yield self.todo[place], event

    def _take(self, assembly: Assembly, item: Todo, event: Event) -> None:
        if isinstance(event, Started):
            self._info = event.info
            assembly.start(item.video.identity, event.info, event.first_clip)
            self.meter.start(item.video.identity, event.info.num_frames, event.num_clips)
            self.report.remark(item.video.identity, event.info.remarks)
        elif isinstance(event, Clip):
            assembly.clip(event)
            self.meter.clip(self.source.plan.frames)
        else:
            failure = _failure_of(item, event, self._info)
            self._info = None
            assembly.finish(failure, keep=event.error is None)
            if failure is not None:
                self.note_failure(failure)
            self.meter.finish(max(0, item.video.size_bytes))


def _failure_of(item: Todo, event: Finished, info: VideoInfo | None) -> VideoFailure | None:
    error: VideoError | None = event.error
    if event.damage is not None:
        error = VideoError(event.damage.message, kind="damaged")
    elif error is None and info is not None:
        behind = stretches_behind_end(item.task.stretches, info.duration_seconds)
        if behind:
            error = VideoError(describe_behind_end(behind, info.duration_seconds), kind="segment")
    if error is None:
        return None
    video: ListedVideo = item.video
    return VideoFailure(
        path=video.identity,
        # listed, and not there from the start: it did not disappear
        message="no such file" if error.kind == "gone" and video.size_bytes < 0 else str(error),
        kind=error.kind,
        size_bytes=video.size_bytes,
        mtime_ns=video.mtime_ns,
        tries=item.tries + 1,
    )


def part_clips(encoder: Encoder, options: ExtractOptions) -> int:
    """Clips of a part: about half a minute of work, at most 64 MB, whole batches."""
    per_second = DECODED_FRAMES_PER_WORKER * max(1, options.num_workers) / encoder.plan.frames
    if encoder.spec.flops_per_clip:
        per_second = min(per_second, encoder.flops_per_second / encoder.spec.flops_per_clip)
    width = encoder.dimension * (2 if options.dtype == "float16" else 4)
    clips = min(int(per_second * _PART_SECONDS), _PART_BYTES // width)
    return max(1, clips // encoder.batch_size) * encoder.batch_size


def engine_facts(engines: Sequence[Engine]) -> dict[str, Any]:
    """What a report says of the engine, or of its replicas together."""
    errors = [e.precision_error for e in engines if e.precision_error is not None]
    batches = [e.largest_batch for e in engines if e.largest_batch is not None]
    return {
        "precision_error": max(errors, default=None),
        "largest_batch": min(batches, default=None),
        "execution": engines[0].execution,
        "batches_recomputed": sum(engine.batches_recomputed for engine in engines),
    }
